"""An approved rename, for what landed before it was approved: values of the new column go into the old one, file by file, each
under its own name. A partition is decided anew as by a compaction (`compact`): beside the standing files, proved, only if no
batch is at work on it and none was decided since. What is left are the partitions whose profiles still have values of the new
column, so a kill anywhere needs no record of progress.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.approval import renames_of
from airflow_dataops.core.continued import Rename
from airflow_dataops.core.errors import BusyError, ConflictError, DataOpsError, FencedError, InventoryError, ProofError, told
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.fit import fit
from airflow_dataops.core.profile import Profile
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.core.types_text import type_to_text
from airflow_dataops.lake.base import FileFooter
from airflow_dataops.ledger.base import Decision, DecisionPlan, PartitionName, Place
from airflow_dataops.steps.build import footing
from airflow_dataops.steps.continued_rows import StoredColumns
from airflow_dataops.steps.publish import refuse_foreign
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.show import show_decided
from airflow_dataops.steps.stage import PartitionFiles, stamped_anew
from airflow_dataops.steps.target import current_table, ensure_table, table_root

log = logging.getLogger(__name__)

FEW = 20
"""As many partitions a run writes again itself; the rest is the maintenance's."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Partitions whose values were moved, and those that a batch kept us from: they come again. `error`: of the first partition
    that cannot be moved as it is; it stays as it was."""

    partitions: tuple[PartitionName, ...] = ()
    left: int = 0
    error: str | None = None
    error_code: str | None = None


def plan_moves(
    renames: Sequence[Rename], decisions: Mapping[PartitionName, Decision], profiles: Mapping[PartitionName, Profile | None]
) -> tuple[PartitionName, ...]:
    """The partitions that hold, or may hold, values of a column that goes on as another."""
    held = []
    for name, decision in sorted(decisions.items()):
        profile = profiles.get(name)
        if decision.rows and any(profile is None or profile.nulls(one.after) != decision.rows for one in renames):
            held.append(name)
    return tuple(held)


def continue_renamed(table: TableSpec, edges: Edges, most: int | None = None) -> Moved:
    """All partitions that are left, at most so many. Nothing when nothing was renamed."""
    renames = renames_of(edges.ledger.holds.approvals(table.key))
    if not renames:
        return Moved()
    names = _left(table, renames, edges)
    shown = _widened(table, renames, edges) if names else None
    if shown is None:
        return Moved()
    moved: list[PartitionName] = []
    left, failed = max(0, len(names) - most) if most is not None else 0, Moved()
    for name in names[:most]:
        try:
            if _move(table, name, renames, shown, edges):
                moved.append(name)
        except (BusyError, ConflictError, FencedError) as error:
            log.info("partition %s of %s is moved later: %s", name, table.name, error)
            left += 1
        except DataOpsError as error:
            log.warning("values of renamed columns stay where they are in partition %s of %s: %s", name, table.name, error)
            failed = Moved(error=failed.error or str(error), error_code=failed.error_code or told(error)[1])
    if moved:
        pairs = ", ".join(f"{one.after} -> {one.before}" for one in renames)
        edges.ledger.drift.record_ddl(
            {
                "table_key": table.key, "target": table.name, "statement": "continue_renamed", "who": edges.writer,
                "why": f"approved rename: {pairs}", "before": None,
                "after": [f"{c.name} {type_to_text(c.type)}" for c in shown.columns],
                "partitions": len(moved), "first": moved[0], "last": moved[-1],
            }
        )  # fmt: skip
    return Moved(tuple(moved), left, failed.error, failed.error_code)


def continue_few(table: TableSpec, edges: Edges) -> None:
    """At the end of a run. What fails here is left to the maintenance, which reports it."""
    try:
        continue_renamed(table, edges, FEW)
    except DataOpsError as error:
        log.warning("values of renamed columns of %s are not moved yet, the maintenance comes to it: %s", table.name, error)


def _left(table: TableSpec, renames: Sequence[Rename], edges: Edges) -> tuple[PartitionName, ...]:
    decisions = edges.ledger.decisions.current(table.key)
    return plan_moves(renames, decisions, edges.ledger.decisions.profiles(table.key, list(decisions)))


def _widened(table: TableSpec, renames: Sequence[Rename], edges: Edges) -> CatalogTable | None:
    """The table, its old columns wide enough for what landed in the new ones. None when it has none of the new ones."""
    shown = current_table(edges, table)
    if shown is None:
        return None
    schema = TableSchema(shown.columns)
    wanted = schema
    for one in renames:
        old, new = wanted.get(one.before), schema.get(one.after)
        wider = promote(old.type, new.type) if old is not None and new is not None else None
        if old is not None and wider is not None and wider.how == "widen":
            wanted = wanted.with_column(Column(old.name, wider.type, old.nullable, old.comment, old.source_name))
    if not any(one.after in schema for one in renames):
        return None
    return shown if wanted == schema else ensure_table(edges, table, wanted, why="an approved rename")


def _move(table: TableSpec, name: PartitionName, renames: Sequence[Rename], shown: CatalogTable, edges: Edges) -> bool:
    """Writes, proves, decides, shows. False when there was nothing to move after all. BusyError and ConflictError when a batch was
    there first: nothing has changed then."""
    decision = edges.ledger.decisions.current(table.key, [name]).get(name)
    if decision is None:
        return False
    if edges.ledger.maintenance.claimed(table.key, [name]):  # asked again at the decision; this spares the work
        raise BusyError(f"Cannot move values in partition {name!r} of {table.key}: a batch is at work on it -> none. Later again.")
    footers = [edges.lake.footer(entry.path) for entry in edges.lake.list(decision.location)]
    concerned = [f for f in footers if any(f.profile.nulls(one.after) != f.rows for one in renames if one.after in f.schema.names)]
    if not concerned:
        return False
    refuse_foreign(table, {name: decision.values}, edges)
    root = edges.ledger.batches.root(table.key) or table_root(table, shown, edges)
    place = edges.ledger.maintenance.place(table.key, "rename", root, edges.nonce())
    try:
        plan = _Moving(table, decision, renames, shown, place, edges).plan(footers, {f.path for f in concerned})
        edges.ledger.maintenance.move(place, edges.writer, plan)
    except DataOpsError:
        edges.lake.delete_directory(place.directory)  # not decided, so nobody ever looked there
        edges.ledger.maintenance.give_up(place)
        raise
    show_decided(table, [name], edges)
    return True


class _Moving:
    def __init__(
        self, table: TableSpec, standing: Decision, renames: Sequence[Rename], shown: CatalogTable, place: Place, edges: Edges
    ) -> None:
        self.table, self.standing, self.renames, self.edges, self.lake = table, standing, renames, edges, edges.lake
        self.shown, self.place = TableSchema(shown.columns), place
        self.directory = f"{place.directory}/{standing.name}" if standing.name else place.directory

    def plan(self, footers: Sequence[FileFooter], concerned: set[str]) -> DecisionPlan:
        expected, standing = Fingerprint.parse(self.standing.fingerprint), self.standing
        self.lake.make_directory(self.directory)
        for footer in footers:
            if footer.path in concerned:
                expected += self._file(footer)
            else:
                self.lake.link(footer.path, f"{self.directory}/{footer.path.rsplit('/', 1)[-1]}")
        rows, size, print_, profile, files = footing(self.lake, self.directory)
        if rows != standing.rows or print_ != expected:
            raise ProofError(
                f"Cannot prove the move of renamed columns in {self.table.key} {standing.name!r}: {rows} rows {print_} -> "
                f"{standing.rows} rows {expected}, as they stand. Files were changed or lost. Nothing was decided; ask `dataops "
                "verify`."
            )
        return DecisionPlan(
            standing.name, standing.values, standing.epoch, self.directory, rows, size, str(print_), self.shown, profile, files
        )

    def _file(self, footer: FileFooter) -> Fingerprint:
        """The file again, by its own name: it says whose rows they are. Returns by how much the partition's fingerprint changes."""
        stored = StoredColumns(footer, self.renames, self.table, self.edges.privacy_key)
        olds = {one.before for one in self.renames}
        columns = [self.shown.get(c.name) or c if c.name in olds else c for c in stored.folding.schema]
        schema = TableSchema(tuple(columns)).to_arrow()
        stem = footer.path.rsplit("/", 1)[-1].removesuffix(".parquet")
        files = PartitionFiles(self.lake, self.place.directory, stem, self.table, schema, stored.hidden)
        before, after = Fingerprint.EMPTY, Fingerprint.EMPTY
        try:
            for rows in self.lake.read([footer.path], footer.schema.remove_metadata()):
                moved = self._moved(rows, stored, schema, footer.path)
                before += _print(rows)
                after += _print(moved)
                files.write(self.standing.values, moved)
            written = [f.path for part in files.close() for f in part.files]
        except BaseException:
            files.abort()
            raise
        found = sum(self.lake.scan(written, _print), Fingerprint.EMPTY)
        if found != after:
            raise ProofError(
                f"Cannot prove the move of renamed columns of {footer.path}: {found} when read back -> {after} as written. Nothing "
                "was changed."
            )
        return after - before

    def _moved(self, rows: pa.RecordBatch, stored: StoredColumns, schema: pa.Schema, path: str) -> pa.RecordBatch:
        folded = stored.fold(rows)
        if folded.dead_letters:
            raise self._cannot(path, f"{len(folded.dead_letters)} rows with another value in each", "one value in a row")
        hidden = stored.hide(folded.records)
        fitted = [fit(array, kind) for array, kind in zip(hidden.columns, schema.types, strict=True)]
        if any(one.unfit is not None for one in fitted):
            raise self._cannot(path, "values that the old column does not hold", "values of its type")
        moved = stamped_anew(pa.RecordBatch.from_arrays([one.values for one in fitted], schema=schema))
        for name, parts in zip(stored.folding.schema.names, stored.folding.parts, strict=True):
            had = sum((rows.column(part).is_valid().to_numpy(zero_copy_only=False) for part in parts), np.zeros(rows.num_rows)) > 0
            if name not in stored.emptied and int(had.sum()) != rows.num_rows - moved.column(name).null_count:
                raise ProofError(
                    f"Cannot prove the move of renamed columns of {path}: column {name!r} has values in "
                    f"{rows.num_rows - moved.column(name).null_count} rows -> {int(had.sum())}, as before. Nothing was changed; "
                    "report this as a defect."
                )
        return moved

    def _cannot(self, path: str, found: str, expected: str) -> InventoryError:
        return InventoryError(
            f"Cannot continue renamed columns of {self.table.name} in {path}: {found} -> {expected}. Nothing was changed in this "
            "partition: it shows both columns. Run its period again, or take the rename back (`dataops drift revoke`)."
        )


def _print(rows: pa.RecordBatch) -> Fingerprint:
    return Fingerprint.of(row_fingerprints(rows))
