"""Source against lake: what the source holds now is read again and compared with what readers see, row by row where they differ.

Sums of row identities by bucket come first (flat memory, one pass over each side); only rows of buckets that differ are looked at
singly, in a second pass, to name their keys. Nothing is written.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from airflow_dataops.core.approval import renames_of
from airflow_dataops.core.buckets import BucketSums, buckets_of, fitting, placed
from airflow_dataops.core.continued import privacy_under
from airflow_dataops.core.errors import DriftHeldError, ProofError
from airflow_dataops.core.fingerprint import key_fingerprints, row_fingerprints
from airflow_dataops.core.fingerprint_mix import Words
from airflow_dataops.core.offset import CursorRange, Everything, FileSet, Letters, OffsetRange
from airflow_dataops.core.partition import partition_name, split
from airflow_dataops.core.partition_age import partition_age, retention_floor
from airflow_dataops.core.privacy import privacy_schema
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, table_spec
from airflow_dataops.ledger.base import Decision
from airflow_dataops.sources.base import Batch, ReadRequest, SchemaMoved
from airflow_dataops.steps.alone import Alone
from airflow_dataops.steps.attempt import MAX_RESTARTS
from airflow_dataops.steps.continued_rows import continued
from airflow_dataops.steps.run import Edges, Progress
from airflow_dataops.steps.shape import Shaper
from airflow_dataops.steps.target import current_table, data_schema, expected_schema, staging_plan

log = logging.getLogger(__name__)

COLLECTED_ROWS = 200_000
SHOWN = 20
_MOST_BATCHES = 1_000_000

SOURCE, LAKE, BOTH = "only in the source", "only in the lake", "differs"


@dataclass(frozen=True, slots=True)
class RowDifference:
    """`how`: only in the source, only in the lake, or differs (one key, other values). `key` as `column=value` of the row's
    keys, as they are stored; the row's fingerprint where it has none."""

    how: str
    key: str


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One range of the source against the partitions that hold it. The numbers of rows that differ are exact unless `at_least`:
    then so many differ that not all were looked at. Not compared: `dead_lettered` rows of the source, which cannot be in the lake,
    and those of partitions that are `expired`."""

    partitions: tuple[str, ...]
    source_rows: int
    lake_rows: int
    dead_lettered: int = 0
    expired: int = 0
    only_in_source: int = 0
    only_in_lake: int = 0
    differing: int = 0
    at_least: bool = False
    differences: tuple[RowDifference, ...] = ()

    @property
    def ok(self) -> bool:
        return not (self.only_in_source or self.only_in_lake or self.differing)

    def __str__(self) -> str:
        most = "at least " if self.at_least else ""
        counts = f"{self.only_in_source} rows {SOURCE}, {self.only_in_lake} {LAKE}, {self.differing} differ"
        keys = "; ".join(f"{one.key} ({one.how})" for one in self.differences)
        return f"{most}{counts}, of {self.source_rows} and {self.lake_rows}: {keys}"


@dataclass(frozen=True, slots=True)
class TableReconciled:
    source_table: str
    target: str
    spans: tuple[Reconciled, ...] = ()
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and all(span.ok for span in self.spans)

    def to_json(self) -> dict[str, Any]:
        return {
            "source_table": self.source_table, "target": self.target, "ok": self.ok, "error": self.error,
            "spans": [asdict(span) | {"ok": span.ok} for span in self.spans],
        }  # fmt: skip


def reconcile(spec: PipelineSpec, edges: Edges, tables: Sequence[str]) -> tuple[TableReconciled, ...]:
    """The named source tables, each by itself: one that cannot be compared says why in `error`."""
    return tuple(_reconcile(table_spec(spec, name, edges.state_id), edges) for name in tables)


def raise_for_differences(source: str, tables: Sequence[TableReconciled]) -> None:
    """ProofError that names what differs; nothing when all is equal."""
    problems = [f"{t.target}: {t.error}" for t in tables if t.error]
    problems += [f"{t.target}: {span}" for t in tables for span in t.spans if not span.ok]
    if problems:
        raise ProofError(
            f"Cannot prove {source} against its source: {'; '.join(problems)} -> the same rows. What changed at the source since "
            "the last run differs too: run the source, then compare again. If it still differs, load the period again."
        )


def _reconcile(table: TableSpec, edges: Edges) -> TableReconciled:
    with Alone(log, f"table {table.name} could not be compared with its source") as failed:
        spans = tuple(_Span(table, edges, read, decisions).compare() for read, decisions in _spans(table, edges))
        return TableReconciled(table.source_table, table.name, spans)
    return TableReconciled(table.source_table, table.name, error=failed.why["error"])


def _spans(table: TableSpec, edges: Edges) -> Iterator[tuple[OffsetRange, list[Decision]]]:
    """Ranges of the source, and the decisions whose partitions hold their rows."""
    decisions = list(edges.ledger.decisions.current(table.key).values())
    if not decisions:
        return
    history = edges.ledger.batches.history(table_key=table.key, limit=_MOST_BATCHES)
    read = sorted((r for r in history if r.state == "committed" and not isinstance(r.range, Letters)), key=lambda r: r.sequence)
    by = table.target.partition_by
    match table.read.mode:
        case "full":
            if read and any(p.column is None for p in by):  # a snapshot for each period: only the newest is of today
                newest = read[-1]
                of_period = [d for d in decisions if d.name == newest.scope]
                decisions = of_period or [d for d in decisions if d.batch_id == newest.batch_id]
            yield Everything(), decisions
        case "window" if by and all(p.column is None for p in by):
            windows = {r.scope: r.range for r in read}
            for decision in sorted(decisions, key=lambda d: d.name):
                window = windows.get(decision.name)
                if not isinstance(window, CursorRange):
                    raise ProofError(
                        f"Cannot compare partition {decision.name} of {table.name}: no window was loaded into it -> one. The row's "
                        "mode was changed; load the period again."
                    )
                yield window, [decision]
        case "new_files":
            seen = edges.ledger.offsets.seen_files(table.key)
            yield FileSet(tuple(sorted(identities[-1] for identities in seen.values()))), decisions
        case _:
            yield _hull([r.range for r in read if isinstance(r.range, CursorRange)]), decisions


def _hull(ranges: Sequence[CursorRange]) -> CursorRange:
    """From the lowest to the highest value that was read."""
    if not ranges:
        raise ProofError("Cannot compare: no range of the cursor was ever committed -> one. Run the source first.")
    lowest = None if any(r.low is None for r in ranges) else min(ranges, key=lambda r: (r.low, not r.low_inclusive))
    highest = max((r for r in ranges if r.high is not None), key=lambda r: (r.high, r.high_inclusive))
    low = {"low": None} if lowest is None else {"low": lowest.low, "low_inclusive": lowest.low_inclusive}
    return replace(highest, **low)


@dataclass(slots=True)
class _Rows:
    records: pa.RecordBatch
    prints: Words
    buckets: NDArray[np.int64]


@dataclass
class _Side:
    """What one side has of the rows that are looked at singly."""

    counts: Counter[bytes] = field(default_factory=Counter)
    keys: dict[bytes, str] = field(default_factory=dict)


def _named(found: Reconciled, source: _Side, lake: _Side, *, has_keys: bool) -> Reconciled:
    """With the rows that one side has more of, and those of them that are one key with two contents."""
    more, less = source.counts - lake.counts, lake.counts - source.counts
    differ = {source.keys[one] for one in more} & {lake.keys[one] for one in less} if has_keys else set()
    left = [(SOURCE, source.keys[one], n) for one, n in more.items() if source.keys[one] not in differ]
    right = [(LAKE, lake.keys[one], n) for one, n in less.items() if lake.keys[one] not in differ]
    shown = [RowDifference(BOTH, key) for key in differ] + [RowDifference(how, key) for how, key, _ in left + right]
    return replace(
        found,
        only_in_source=sum(n for *_, n in left),
        only_in_lake=sum(n for *_, n in right),
        differing=len(differ),
        differences=tuple(sorted(shown, key=lambda one: (one.key, one.how))[:SHOWN]),
    )


class _Span:
    """One comparison. Where the rows themselves tell their partition, or there is only one, a row in a wrong one differs."""

    def __init__(self, table: TableSpec, edges: Edges, read: OffsetRange, decisions: Sequence[Decision]) -> None:
        self.table, self.edges, self.read, self.decisions = table, edges, read, decisions
        by = table.target.partition_by
        self.only = decisions[0].name if len(decisions) == 1 else None
        self.splits = self.only is None and all(p.column is not None for p in by)
        self.names = [p.name for p in by]
        self.dead = self.expired = 0
        self.schema = TableSchema()

    def compare(self) -> Reconciled:
        inferred: TableSchema | None = None
        for _ in range(MAX_RESTARTS):
            try:
                return self._compare(inferred)
            except SchemaMoved as moved:
                inferred = moved.schema
        raise ProofError(f"Cannot compare {self.table.name}: its schema moved {MAX_RESTARTS} times -> at rest. Try again later.")

    def _compare(self, inferred: TableSchema | None) -> Reconciled:
        source, lake = BucketSums(), BucketSums()
        for rows in self._source(inferred):
            source.add(rows.prints, rows.buckets)
        for rows in self._lake():
            lake.add(rows.prints, rows.buckets)
        found = Reconciled(
            tuple(d.name for d in self.decisions), int(source.rows.sum()), int(lake.rows.sum()), self.dead, self.expired
        )
        differing = source.differing(lake)
        if not len(differing):
            return found
        looked_at = fitting(differing, source.rows + lake.rows, COLLECTED_ROWS)
        ours, theirs = self._collect(self._lake(), looked_at), self._collect(self._source(inferred), looked_at)
        return replace(_named(found, theirs, ours, has_keys=bool(self._keys())), at_least=len(looked_at) < len(differing))

    def _collect(self, batches: Iterator[_Rows], buckets: np.ndarray) -> _Side:
        side, keys = _Side(), self._keys()
        for rows in batches:
            at = np.flatnonzero(np.isin(rows.buckets, buckets))
            if not len(at):
                continue
            taken = rows.records.select(keys).take(pa.array(at)) if keys else None
            named = [taken.column(k).to_pylist() for k in keys] if taken is not None else []
            for number, row in enumerate(at):
                one = rows.prints[row].tobytes()
                side.counts[one] += 1
                text = ", ".join(f"{k}={values[number]}" for k, values in zip(keys, named, strict=True))
                side.keys[one] = text or f"row {rows.prints[row, 0]:016x}{rows.prints[row, 1]:016x}"
        return side

    def _keys(self) -> list[str]:
        """Lake columns that name a row: of the row's `write.keys`, else the source's declared keys."""
        wanted = [self.plan.names.get(k, k) for k in self.table.write.keys] or list(self.schema.keys)
        return wanted if wanted and all(k in self.schema for k in wanted) else []

    def _source(self, inferred: TableSchema | None) -> Iterator[_Rows]:
        table, edges = self.table, self.edges
        current = current_table(edges, table)
        have = data_schema(current)
        approved = edges.ledger.holds.approvals(table.key)
        renames = renames_of(approved)
        reading = edges.source.read(
            ReadRequest(
                table.source_table, self.read, table.read.batch_rows, table.read.query,
                inferred or expected_schema(have, edges.ledger.drift.schema(table.key), table, renames), table.read.isolation,
            )
        )  # fmt: skip
        try:
            reading = continued(reading, renames)
            actions = privacy_under(reading.schema.names, table.privacy, renames)
            drift, self.plan = staging_plan(table, current, privacy_schema(reading.schema, actions), approved)
            if drift.hold:
                what = "; ".join(str(change) for change in drift.hold)
                raise DriftHeldError(
                    f"Cannot compare {table.name} with its source: {what} -> a shape that the table has. "
                    "Decide about the drift first."
                )
            self.schema = self.plan.schema
            shaper = Shaper(table, self.plan, actions, edges.privacy_key, "", 0)
            self.expired = 0
            for batch in reading:
                yield from self._shaped(batch, shaper)
            self.dead = shaper.rows_dead_lettered
        finally:
            reading.close()

    def _shaped(self, batch: Batch, shaper: Shaper) -> Iterator[_Rows]:
        rows, _ = shaper.shape(batch)
        self.edges.progress(Progress(self.table.source_table, "reconcile", shaper.rows_read))
        for name, part in self._parts(rows):
            yield self._rows(part, name)

    def _parts(self, rows: pa.RecordBatch) -> Iterator[tuple[str | None, pa.RecordBatch]]:
        if not self.splits or not self.names:
            yield self.only, rows
            return
        by, target = self.table.target.partition_by, self.table.target
        age = partition_age(by, self.schema, self.table.timezone, lambda _: None)
        floor = retention_floor(self.edges.clock(), target.retention_days)
        for values, part in split(rows, by, None):
            if age.is_over(values, floor):
                self.expired += part.num_rows
            else:
                yield partition_name(self.names, values), part

    def _lake(self) -> Iterator[_Rows]:
        """Under the table's schema, so that numbers that are text by now are compared as text."""
        for decision in self.decisions:
            paths = [entry.path for entry in self.edges.lake.list(decision.location)]
            for rows in self.edges.lake.read(paths, self.schema.to_arrow()):
                yield self._rows(rows, decision.name if self.splits else self.only)

    def _rows(self, records: pa.RecordBatch, partition: str | None) -> _Rows:
        prints, keys = row_fingerprints(records), self._keys()
        buckets = buckets_of(key_fingerprints(records, keys) if keys else prints)
        return _Rows(records, placed(prints, partition) if partition else prints, buckets)
