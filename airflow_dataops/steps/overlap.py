"""The re-read zone of a watermark read: rows tied with (or shortly below) the watermark that are stored already, or wait in a
held batch. Each of them is recognised once, whatever happened to the row's rules and the table's columns since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from airflow_dataops.core.batch_id import origin_of
from airflow_dataops.core.comparison import Comparison, compare
from airflow_dataops.core.continued import Rename
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.fingerprint import row_fingerprints
from airflow_dataops.core.fingerprint_mix import Words
from airflow_dataops.core.fit import fit
from airflow_dataops.core.offset import CursorRange, Scalar, ends_below
from airflow_dataops.core.privacy import Action
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import AtLeast, FileFooter
from airflow_dataops.ledger.base import Claim
from airflow_dataops.steps.build import is_compacted
from airflow_dataops.steps.continued_rows import StoredColumns
from airflow_dataops.steps.ranges import overlap_low
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.stage import hidden_columns

Mask = NDArray[np.bool_]


def read_range(table: TableSpec, claimed: CursorRange) -> CursorRange:
    """What is really read for the claimed (low, high]: from the watermark on, itself included, because a row with the
    same cursor value may have come after it was read (A10), or from `overlap_seconds` before it."""
    if table.read.mode != "watermark" or claimed.low is None or claimed.low_inclusive:
        return claimed
    return CursorRange(claimed.cursor, overlap_low(claimed, table), claimed.high, True, claimed.high_inclusive)


@dataclass(slots=True)
class KnownRows:
    """Rows that are stored or wait, by how they can be compared with those that are read. Ask batch by batch (`sift`), then for
    what could only be told at the end (`rest`).

    Rows that are compared in part (a column came, a mask went) wait for the end, because of two that look the same one may
    be told apart by its other values: the one that has some is the new one. Only they are kept in memory.
    """

    privacy_key: bytes | None = field(default=None, repr=False)
    found: dict[Comparison, Counter[bytes]] = field(default_factory=dict)
    _waiting: list[pa.RecordBatch] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.found.values())

    def sift(self, rows: pa.RecordBatch, prints: Words) -> tuple[Mask, int]:
        """Which of the rows are new for certain, and how many are known for certain. `prints`: their fingerprints."""
        new = np.ones(rows.num_rows, bool)
        for counts in (counts for comparison, counts in self.found.items() if comparison.is_whole):
            _strike(counts, prints, _candidates(prints, counts), new)  # all that such a row has is compared
        known = int((~new).sum())
        perhaps = np.zeros(rows.num_rows, bool)
        for comparison, counts in self.found.items():
            if counts and not comparison.is_whole:
                perhaps[_candidates(comparison.of_read(rows, self.privacy_key), counts)] = True
        perhaps &= new
        if perhaps.any():
            self._waiting.append(rows.filter(pa.array(perhaps)))
        return new & ~perhaps, known

    def rest(self) -> tuple[pa.RecordBatch | None, int]:
        """Of the rows that waited: those that are new after all, and how many are known. Empties what waited."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None, 0
        rows = pa.concat_batches(waiting)
        new = np.ones(rows.num_rows, bool)
        for comparison in sorted((c for c in self.found if not c.is_whole), key=lambda c: -len(c.columns)):
            more = comparison.says_more(rows).to_numpy(zero_copy_only=False)
            # Those with nothing else to say come first: they are the stored ones.
            _strike(self.found[comparison], comparison.of_read(rows, self.privacy_key), np.argsort(more, kind="stable"), new)
        return rows.filter(pa.array(new)), int((~new).sum())


def known_rows(
    table: TableSpec, claim: Claim, plan: DriftPlan, actions: Mapping[str, Action], edges: Edges, *, held: bool,
    renames: Sequence[Rename] = (),
) -> KnownRows:  # fmt: skip
    """What the claim's range reads again; nothing unless it follows a watermark. `held`: the rows that are read will wait."""
    claimed = claim.range
    if table.read.mode != "watermark" or not isinstance(claimed, CursorRange) or claimed.low is None or claimed.low_inclusive:
        return KnownRows()
    low = overlap_low(claimed, table)
    return stored_since(table, claimed.cursor, low, plan, actions, edges, but_batch=claim.batch_id, held=held, renames=renames)


def stored_since(
    table: TableSpec, cursor: str, low: Scalar | None, plan: DriftPlan, actions: Mapping[str, Action], edges: Edges,
    *, but_batch: str | None = None, held: bool = False, renames: Sequence[Rename] = (),
) -> KnownRows:  # fmt: skip
    """The rows of the table, and of its held batches, whose cursor (source name) is at or above `low`; not those of `but_batch`:
    an earlier generation of the batch at work is about to be replaced, its rows are no reason to leave rows out. `actions`
    are the privacy rules of the rows that are read, by source name.

    An append must not bring a row again because it would be stored otherwise today. A merge may: it replaces what it finds
    under its key, so there only rows that are stored exactly as they would be now are known.
    """
    known = KnownRows(edges.privacy_key)
    column = plan.names.get(cursor, cursor)
    if low is None or column not in plan.schema:
        return known
    paths = [e.path for d in edges.ledger.decisions.current(table.key).values() for e in edges.lake.list(d.location)]
    # What nearly all batches of a table have read is below the zone: their files are not even opened.
    left_out = {but_batch, *edges.ledger.batches.ended_below(table.key, cursor, low)}
    paths = [path for path in paths if _writer_of(path) not in left_out]
    waiting = [str(f["path"]) for c in edges.ledger.batches.held(table.key) for part in c.partitions for f in part.files]
    if table.write.mode == "merge" and not held:
        schema, as_is = plan.schema.to_arrow(), Counter[bytes]()
        for rows in edges.lake.read(paths, schema, where=AtLeast(column, low)):
            as_is.update(p.tobytes() for p in row_fingerprints(rows))
        known.found[_everything(schema)] = as_is
        paths = []
    now = {plan.names[name]: action for name, action in actions.items() if name in plan.names}
    read = pa.schema([f for f in plan.schema.to_arrow() if f.name in now])
    for path in (*paths, *waiting):
        footer = edges.lake.footer(path)
        of = footer.profile.columns.get(column)
        if of is not None and ends_below(of.high, low):  # the file itself says that no row of it is in the zone
            continue
        stored = StoredColumns(footer, renames, table, edges.privacy_key)
        shape = stored.folding.schema.to_arrow() if stored.is_concerned else footer.schema
        hidden = stored.as_stored if stored.is_concerned else hidden_columns(footer)
        comparison = compare(shape, hidden, read, now, edges.privacy_key, table.contract)
        if column not in comparison.columns:  # its position has no common type: such a batch is refused, long before
            continue
        counts = known.found.setdefault(comparison, Counter())
        schema = comparison.schema
        shared = but_batch is not None and is_compacted(path)  # its name does not tell whose rows it has
        schema = schema.append(pa.field("_batch_id", pa.string())) if shared else schema
        for rows in _under(schema, path, footer, stored, AtLeast(column, low), edges):
            if shared:
                rows = rows.filter(pc.not_equal(rows.column("_batch_id"), but_batch)).drop_columns(["_batch_id"])
            counts.update(p.tobytes() for p in comparison.of_stored(rows, edges.privacy_key))
    return known


def _under(
    schema: pa.Schema, path: str, footer: FileFooter, stored: StoredColumns, where: AtLeast, edges: Edges
) -> Iterator[pa.RecordBatch]:
    """The file's rows under `schema`, whose columns are named as the table's. One with two values for a column is like no row that
    is read, and is left out."""
    if not stored.is_concerned:
        yield from edges.lake.read([path], schema, where=where)
        return
    for rows in edges.lake.read([path], footer.schema.remove_metadata(), where=where):
        folded = stored.fold(rows).records
        arrays = [fit(folded.column(f.name), f.type).values for f in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _everything(schema: pa.Schema) -> Comparison:
    return Comparison(tuple(schema.names), tuple(schema.types), (), (), ())


def _candidates(prints: Words, counts: Counter[bytes]) -> NDArray[np.intp]:
    """The rows that may be counted. Found vectorised, because only the zone's rows are, and those are few."""
    counted = np.frombuffer(b"".join(counts), dtype=np.uint64).reshape(-1, 2)
    return np.flatnonzero(np.isin(prints[:, 0], counted[:, 0])) if len(counted) else np.empty(0, np.intp)


def _strike(counts: Counter[bytes], prints: Words, rows: NDArray[np.intp], new: Mask) -> None:
    """Each of these rows that is new so far and still counted is known, and uses up one of the count."""
    for row in rows:
        identity = prints[row].tobytes()
        if new[row] and identity in counts:
            counts[identity] -= 1
            if not counts[identity]:
                del counts[identity]
            new[row] = False


def _writer_of(path: str) -> str:
    """The batch that first read a file's rows; what begins the name of a file with the rows of several is no batch's id."""
    return origin_of(path.rsplit("/", 1)[-1])
