"""Compaction (DESIGN §5.5): the files of a partition written again, because they are many and small, or because engines do not read
their types under the table's by now. Rows stay as they are, and that is proved before readers see anything of it.

No claim is taken. The files are written beside the standing ones, and the partition is decided anew only if no batch is at work on
it and none was decided since; otherwise the new files are thrown away. What is large enough and readable is linked, not rewritten.
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.errors import BusyError, ConflictError, DataOpsError, FencedError, InventoryError, ProofError, told
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints, same_kinds
from airflow_dataops.core.readers import Reader, unreadable
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import Decision, DecisionPlan, Place
from airflow_dataops.steps.build import BASE, footing
from airflow_dataops.steps.publish import refuse_foreign
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.show import show_decided
from airflow_dataops.steps.stage import PartitionFiles, hidden_under, stamped_anew
from airflow_dataops.steps.target import table_root

log = logging.getLogger(__name__)

FEWEST_FILES = 5
"""Fewer small files are left as they are: the next load may bring the others."""

SMALL_SHARE = 0.75
"""A file below this share of `target.file_bytes` is small."""

Why = Literal["small_files", "old_types"]


@dataclass(frozen=True, slots=True)
class StandingFile:
    """A data file of a partition as it stands. `hidden`: how its columns are hidden, absent ones included: rows of files that
    differ in it stay apart, because what hides a value decides with what it may be compared."""

    path: str
    bytes: int
    hidden: str
    unreadable: bool


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """One partition: which files become which. It assumes `decision` to be the current one. `groups` are written again, each into
    files of its own; `kept` are linked."""

    decision: Decision
    why: Why
    groups: tuple[tuple[StandingFile, ...], ...]
    kept: tuple[StandingFile, ...]
    columns: Mapping[str, frozenset[Reader]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What has to be read and written."""
        return sum(file.bytes for group in self.groups for file in group)

    @property
    def files(self) -> int:
        return sum(len(group) for group in self.groups) + len(self.kept)


@dataclass(frozen=True, slots=True)
class PartitionCompacted:
    """How it went for one partition. `busy`: a batch is at work on it; `overtaken`: one was decided meanwhile; both come again.
    `left`: it cannot be done as the row is. `planned`: it would be done."""

    partition: str
    outcome: Literal["compacted", "planned", "busy", "overtaken", "left", "failed"]
    why: Why
    rows: int = 0
    bytes: int = 0
    files_before: int = 0
    files_after: int = 0
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    error: str | None = None
    error_code: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_compaction(
    table: TableSpec, decision: Decision, files: Sequence[StandingFile], columns: Mapping[str, frozenset[Reader]]
) -> CompactionPlan | None:
    """What is to be written again of one partition; None when nothing is. `columns`: which of them some files hold unreadably."""
    small = {f for f in files if f.bytes < SMALL_SHARE * table.target.file_bytes}
    if len(small) < FEWEST_FILES:
        small = set()
    groups: dict[str, list[StandingFile]] = defaultdict(list)
    for file in files:
        if file.unreadable or file in small:
            groups[file.hidden].append(file)
    taken = []
    for group in groups.values():
        fewer = math.ceil(sum(f.bytes for f in group) / table.target.file_bytes) < len(group)
        if any(f.unreadable for f in group) or fewer:
            taken.append(tuple(group))
    if not taken:
        return None
    written = {file for group in taken for file in group}
    why: Why = "old_types" if any(f.unreadable for f in written) else "small_files"
    return CompactionPlan(decision, why, tuple(taken), tuple(f for f in files if f not in written), columns)


def look(
    table: TableSpec, decision: Decision, shown: TableSchema, readers: frozenset[Reader], edges: Edges
) -> CompactionPlan | None:
    """Reads the footers of a partition's files and plans."""
    files, columns = [], dict[str, frozenset[Reader]]()
    for entry in edges.lake.list(decision.location):
        footer = edges.lake.footer(entry.path)
        bad = unreadable(TableSchema.of_arrow(footer.schema), shown, readers)
        columns |= {name: columns.get(name, frozenset()) | fail for name, fail in bad.items()}
        files.append(
            StandingFile(entry.path, entry.bytes, json.dumps(hidden_under(footer, shown.names), sort_keys=True), bool(bad))
        )
    return plan_compaction(table, decision, files, columns)


def compact_partition(table: TableSpec, plan: CompactionPlan, shown: CatalogTable, edges: Edges) -> PartitionCompacted:
    """Never raises for what the product knows: the next round comes again."""
    done = PartitionCompacted(
        plan.decision.name, "compacted", plan.why, plan.decision.rows, plan.bytes, plan.files, 0,
        {name: sorted(fail) for name, fail in plan.columns.items()},
    )  # fmt: skip
    try:
        after = apply_compaction(table, plan, shown, edges)
    except BusyError as error:
        return _not(done, "busy", error)
    except (ConflictError, FencedError) as error:
        return _not(done, "overtaken", error)
    except InventoryError as error:
        return _not(done, "left", error)
    except DataOpsError as error:
        log.warning("partition %s of %s could not be compacted: %s", plan.decision.name, table.name, error)
        return _not(done, "failed", error)
    return replace(done, files_after=after)


def _not(done: PartitionCompacted, outcome: Any, error: DataOpsError) -> PartitionCompacted:
    text, code = told(error)
    return replace(done, outcome=outcome, error=text, error_code=code)


def apply_compaction(table: TableSpec, plan: CompactionPlan, shown: CatalogTable, edges: Edges) -> int:
    """Writes, proves, decides, shows; returns how many files there are now. BusyError and ConflictError when a batch was there
    first: nothing has changed then."""
    decision = plan.decision
    if edges.ledger.maintenance.claimed(table.key, [decision.name]):  # asked again at the decision; this spares the work
        raise BusyError(
            f"Cannot compact partition {decision.name!r} of {table.key}: a batch is at work on it -> none. The next round looks."
        )
    refuse_foreign(table, {decision.name: decision.values}, edges)
    root = edges.ledger.batches.root(table.key) or table_root(table, shown, edges)
    place = edges.ledger.maintenance.place(table.key, "compact", root, edges.nonce())
    try:
        made = _Rewrite(table, plan, TableSchema(shown.columns), place, edges).plan()
        edges.ledger.maintenance.move(place, edges.writer, made)
    except DataOpsError:
        edges.lake.delete_directory(place.directory)  # not decided, so nobody ever looked there
        edges.ledger.maintenance.give_up(place)
        raise
    show_decided(table, [decision.name], edges)
    return made.files.count if made.files is not None else 0


class _Rewrite:
    def __init__(self, table: TableSpec, plan: CompactionPlan, shown: TableSchema, place: Place, edges: Edges) -> None:
        self.table, self.standing, self.groups, self.kept = table, plan.decision, plan.groups, plan.kept
        self.shown, self.place, self.edges, self.lake = shown, place, edges, edges.lake
        self.schema = shown.to_arrow()
        self.directory = f"{place.directory}/{self.standing.name}" if self.standing.name else place.directory
        shared = any(_name(f.path).startswith(BASE) for group in self.groups for f in group)
        self.name = (BASE if table.write.mode == "merge" or shared else "") + place.work_id

    def plan(self) -> DecisionPlan:
        expected = Fingerprint.parse(self.standing.fingerprint)
        self.lake.make_directory(self.directory)
        for number, group in enumerate(self.groups):
            expected += self._group(number, group)
        for file in self.kept:
            self.lake.link(file.path, f"{self.directory}/{_name(file.path)}")
        rows, size, print_, profile, files = footing(self.lake, self.directory)
        if rows != self.standing.rows or print_ != expected:
            raise ProofError(
                f"Cannot prove compaction of {self.table.key} {self.standing.name!r}: {rows} rows {print_} -> "
                f"{self.standing.rows} rows {expected}, as they stand. "
                "Files were changed or lost. Nothing was decided; ask `dataops verify`."
            )
        return DecisionPlan(
            self.standing.name, self.standing.values, self.standing.epoch, self.directory, rows, size, str(print_), self.shown,
            profile, files,
        )  # fmt: skip

    def _group(self, number: int, group: tuple[StandingFile, ...]) -> Fingerprint:
        """Writes one group, and reads it back. Returns by how much the partition's fingerprint changes: by nothing, unless values
        became others (numbers that are text by now); then the standing files are read for what they are taken to be."""
        hidden = json.loads(group[0].hidden)
        files = PartitionFiles(self.lake, self.place.directory, f"{self.name}-{number}", self.table, self.schema, hidden)
        became = Fingerprint.EMPTY
        try:
            for file in group:
                other = not same_kinds(self.lake.footer(file.path).schema, self.schema)
                if other:
                    became -= self._read_back([file.path])
                for rows in self.lake.read([file.path], self.schema):
                    self._refuse_untold(rows)
                    rows = stamped_anew(rows) if other else rows
                    if other:
                        became += Fingerprint.of(row_fingerprints(rows))
                    files.write(self.standing.values, rows)
            written = [f for part in files.close() for f in part.files]
        except BaseException:
            files.abort()
            raise
        told_ = sum((Fingerprint.parse(f.fingerprint) for f in written), Fingerprint.EMPTY)
        found = self._read_back([f.path for f in written])
        if found != told_:
            raise ProofError(
                f"Cannot prove compaction of {self.table.key} {self.standing.name!r}: {found} when read back -> {told_} "
                "as written. Nothing was changed."
            )
        return became

    def _read_back(self, paths: Sequence[str]) -> Fingerprint:
        """Over the values as they are stored, not over what metadata says."""
        return sum(self.lake.scan(paths, _print), Fingerprint.EMPTY)

    def _refuse_untold(self, rows: pa.RecordBatch) -> None:
        index = rows.schema.get_field_index("_batch_id")
        if self.table.write.mode == "append" and (index < 0 or rows.column(index).null_count):
            raise InventoryError(
                f"Cannot compact partition {self.standing.name!r} of {self.table.key}: rows without `_batch_id` -> in each. When "
                "a batch of an append runs again, its rows must be told from others. They stay in files of their own batch."
            )


def _print(rows: pa.RecordBatch) -> Fingerprint:
    return Fingerprint.of(row_fingerprints(rows))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def candidates(
    table: TableSpec, shown: TableSchema, readers: frozenset[Reader], edges: Edges, only: Sequence[str] | None = None
) -> Iterator[tuple[str, Decision]]:
    """Partitions that may have something to be written again, by the ledger alone; those with unreadable files first."""
    maintenance, seen = edges.ledger.maintenance, set[str]()

    def old(schemas: tuple[TableSchema, ...]) -> bool:
        return any(unreadable(schema, shown, readers) for schema in schemas)

    below = int(SMALL_SHARE * table.target.file_bytes)
    for page in (
        lambda after: maintenance.written(table.key, old, after),
        lambda after: maintenance.scattered(table.key, FEWEST_FILES, below, after),
    ):
        after: str | None = None
        while found := page(after):
            for name, decision in found.items():
                if name not in seen and (only is None or name in only):
                    seen.add(name)
                    yield name, decision
            after = max(found, key=lambda name: name.encode())
