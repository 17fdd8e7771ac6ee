"""The rows of a held batch, from its own frozen files into the shape that the table has, or may have, by now (DESIGN §5).

The source is never asked again: what was read is what is published. Masked values are masked already, and the standard columns
stay as they were stamped; only the fingerprint follows the new shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.approval import Approval, renames_of
from airflow_dataops.core.conform import conform
from airflow_dataops.core.continued import Rename, fold, lake_named, plan_folding
from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.errors import ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, as_binary, row_fingerprints
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.offset import Letters
from airflow_dataops.core.row_json import rows_to_json
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.standards import BATCH_ID, ROW_FINGERPRINT, SOURCE_FILE, SOURCE_OFFSET
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent, Claim, LetterFile, StagedPartition
from airflow_dataops.steps.arrivals import Arrivals, late_letters
from airflow_dataops.steps.build import refuse_mixed
from airflow_dataops.steps.continued_rows import StoredColumns
from airflow_dataops.steps.keys import KeyedRows
from airflow_dataops.steps.lease import Lease
from airflow_dataops.steps.letter_file import DeadLetterFile
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.stage import PartitionFiles, hidden_columns
from airflow_dataops.steps.staged_as import released_traits
from airflow_dataops.steps.staged_rows import Proved, StagedRows
from airflow_dataops.steps.target import current_table, plan_table

REJECTED = "rejected_drift"
"""Why the rows of a rejected batch are dead letters."""


@dataclass(frozen=True, slots=True)
class Reshaped:
    """The batch as it can be decided, proved again, and what did not fit the new shape."""

    content: BatchContent
    dead_letters: tuple[DeadLetter, ...]
    letter_file: LetterFile | None


@dataclass(slots=True)
class _Counts:
    rows_read: int
    rows_filtered: int
    rows_deduplicated: int
    rows_unchanged: int
    rows_dead_lettered: int
    values_discarded: int


def plan_held(table: TableSpec, content: BatchContent, approved: Sequence[Approval], edges: Edges) -> DriftPlan:
    """What the batch means for the table as it is now, under all that was approved of it. With `hold` it still has to wait."""
    shown = plan_folding(held_schema(content), lake_named(renames_of(approved))).schema
    return plan_table(table, current_table(edges, table), shown, approved)


def held_schema(content: BatchContent) -> TableSchema:
    """The columns of the frozen files, by their lake names, and those of the source that had no value yet. Names in the lake's
    form stay what they are."""
    data = [c for c in content.schema if c.name not in STANDARD_COLUMNS]
    known = {c.name for c in data}
    untyped = [sanitise(c.name) for c in content.source_schema or () if pa.types.is_null(c.type)]
    return TableSchema((*data, *(Column(name, pa.null()) for name in untyped if name not in known)))


def reshape(
    table: TableSpec, claim: Claim, content: BatchContent, plan: DriftPlan, renames: Sequence[Rename], edges: Edges
) -> Reshaped:
    """The rows under `plan`, in files of the claim's own directory. Each row read is in them, was counted before, or is one of the
    new dead letters; LimitError when those are more than the row allows."""
    return _Reshaping(table, claim, content, plan, renames, edges).done()


class _Reshaping(StagedRows):
    def __init__(
        self, table: TableSpec, claim: Claim, content: BatchContent, plan: DriftPlan, renames: Sequence[Rename], edges: Edges
    ) -> None:
        super().__init__(table, claim, edges)
        self.content, self.plan, self.renames = content, plan, renames
        stamped = tuple(c for c in content.schema if c.name in STANDARD_COLUMNS)
        self.schema = TableSchema((*(c for c in plan.schema if not pa.types.is_null(c.type)), *stamped))
        data = TableSchema(tuple(c for c in self.schema if c.name not in STANDARD_COLUMNS))
        self.arrivals = Arrivals.of(table, data, claim.range, None, edges.clock())
        before = content.accounting
        in_files = sum(part.rows for part in content.partitions if part.unchanged)
        self.counts = _Counts(
            before.rows_read, before.rows_filtered, before.rows_deduplicated, before.rows_unchanged - in_files,
            before.rows_dead_lettered, before.values_discarded,
        )  # fmt: skip
        self.stored: StoredColumns | None = None
        hidden: dict[str, str] = {}
        for path in [str(file["path"]) for part in content.partitions for file in part.files[:1]]:
            footer = edges.lake.footer(path)
            hidden |= hidden_columns(footer)
            if renames:
                self.stored = StoredColumns(footer, renames, table, edges.privacy_key)
                hidden |= self.stored.hidden
        self.hidden = {plan.names.get(name, name): how for name, how in hidden.items()}

    def done(self) -> Reshaped:
        table = self.table
        refuse_mixed(table, self.claim, self.plan.schema.with_column(BATCH_ID), self.edges)
        if table.write.mode == "merge":
            self.keyed = KeyedRows(table, self.plan.names)
        self.files = self.place(self.directory)
        try:
            for part in self.content.partitions:
                self._let_in(part, self.files)
            self.letters.close()
            written = self.deduplicated(self.counts)
            if not isinstance(self.claim.range, Letters):  # what fails again has been counted before
                self.check_limits(self.counts)
            return Reshaped(self._proved(self.proved(written, waits=False)), tuple(self.letters.kept), self.letters.indexed)
        except BaseException:
            self.abort()
            self.letters.abort()
            raise

    def _let_in(self, part: StagedPartition, files: PartitionFiles) -> None:
        """One partition: its rows, which waited whole, unless they are older than the row keeps by now, or came too late."""
        expired, late = self.arrivals.is_expired(part.values), self.arrivals.is_late(part.values)
        if not expired and not late:
            files.partition(part.values)
        for rows in frozen_rows(self.content, part, self.edges):
            shaped = self._shaped(rows)
            if expired:
                self.counts.rows_filtered += shaped.num_rows
            elif late:
                self.counts.rows_dead_lettered += shaped.num_rows
                self.letters.write(late_letters(shaped, {}, self.hidden))
            else:
                self.store(part.values, shaped, files)
            self.lease.keep()

    def _shaped(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of one file's origin under the plan, with their standard columns."""
        data = rows.select([name for name in rows.schema.names if name not in STANDARD_COLUMNS])
        file, offsets = origin(rows)
        if self.stored is not None:
            folding = plan_folding(TableSchema.of_arrow(data.schema), lake_named(self.renames))
            folded = fold(data, folding, source_file=file, source_offsets=offsets)
            self.letters.write(folded.dead_letters)
            self.counts.rows_dead_lettered += len(folded.dead_letters)
            data = self.stored.hide(folded.records)
            if folded.kept is not None:
                rows = rows.take(pa.array(folded.kept))
                offsets = None if offsets is None else offsets.take(pa.array(folded.kept))
        done = conform(data, self.plan, self.table.contract, source_file=file, source_offsets=offsets)
        self.letters.write(done.dead_letters)
        self.counts.rows_dead_lettered += sum(letter.rows for letter in done.dead_letters)
        self.counts.values_discarded += done.values_discarded
        kept = rows if done.kept is None else rows.take(pa.array(done.kept))
        shaped = done.records
        for column in self.schema:
            if column.name in STANDARD_COLUMNS and column.name != ROW_FINGERPRINT.name:
                shaped = shaped.append_column(pa.field(column.name, column.type), kept.column(column.name))
        prints = as_binary(row_fingerprints(done.records))
        return shaped.append_column(pa.field(ROW_FINGERPRINT.name, ROW_FINGERPRINT.type), prints)

    def _proved(self, proved: Proved) -> BatchContent:
        """The accounting equation over what was read then and what became of it now."""
        accounting = Accounting(
            rows_read=self.counts.rows_read,
            rows_written=proved.written,
            rows_unchanged=self.counts.rows_unchanged + proved.unchanged,
            rows_filtered=self.counts.rows_filtered,
            rows_deduplicated=self.counts.rows_deduplicated,
            rows_dead_lettered=self.counts.rows_dead_lettered,
            values_discarded=self.counts.values_discarded,
        )
        accounting.prove(f"{self.claim.object_name} of {self.table.key}")
        return replace(
            self.content, partitions=proved.partitions, schema=self.schema, accounting=accounting,
            fingerprint=str(proved.fingerprint), traits=released_traits(self.content),
        )  # fmt: skip


def frozen_rows(content: BatchContent, part: StagedPartition, edges: Edges) -> Iterator[pa.RecordBatch]:
    """The rows of one partition as they were frozen, those of one batch from one source file. ProofError when the files have not
    as many as was proved then."""
    found = 0
    for rows in edges.lake.read([str(file["path"]) for file in part.files], content.schema.to_arrow()):
        found += rows.num_rows
        yield from _by_file(rows)
    if found != part.rows:
        raise ProofError(
            f"Cannot read held rows of partition {part.name!r}: {found} rows in its files -> {part.rows}, as was proved when they "
            "were frozen. Somebody changed files that nobody may change. Nothing was published; find out who did."
        )


def _hidden(part: StagedPartition, edges: Edges) -> dict[str, str]:
    """How the columns of a partition's files are hidden."""
    return {k: v for file in part.files[:1] for k, v in hidden_columns(edges.lake.footer(str(file["path"]))).items()}


def origin(rows: pa.RecordBatch) -> tuple[str | None, pa.Array | None]:
    """The one file that the rows came from and their places in it, where they are kept."""
    if SOURCE_FILE.name not in rows.schema.names or not rows.num_rows:
        return None, None
    return rows.column(SOURCE_FILE.name)[0].as_py(), rows.column(SOURCE_OFFSET.name)


def _by_file(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if SOURCE_FILE.name not in rows.schema.names:
        yield rows
        return
    ends = pc.run_end_encode(rows.column(SOURCE_FILE.name)).run_ends.to_pylist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield rows.slice(start, end - start)


def reject(
    table: TableSpec, claim: Claim, content: BatchContent, why: str, edges: Edges
) -> tuple[Accounting, list[DeadLetter], LetterFile | None]:
    """All waiting rows as dead letters in the restricted place: what is counted of the batch then, and the first letters for the
    ledger's index. `why`: what was rejected. The letters of a replay are open again instead, so they are not written twice."""
    letters = DeadLetterFile(table, claim, edges, "dead-000")
    lease, rejected = Lease(claim, edges), 0
    message = f"Cannot store the row: {why} -> a drift that is approved. It was rejected. Correct it at the source."
    try:
        for part in content.partitions:
            for rows in frozen_rows(content, part, edges):
                data = rows.select([name for name in rows.schema.names if name not in STANDARD_COLUMNS])
                file, offsets = origin(rows)
                places = [None] * rows.num_rows if offsets is None else offsets.to_pylist()
                form = replace(LetterForm.of_row(data.schema), hidden=_hidden(part, edges))
                if not isinstance(claim.range, Letters):
                    letters.write(
                        [
                            DeadLetter(REJECTED, message, raw, file, place, stage="conform", form=form)
                            for raw, place in zip(rows_to_json(data), places, strict=True)
                        ]
                    )
                rejected += rows.num_rows
                lease.keep()
        letters.close()
    except BaseException:
        letters.abort()
        raise
    before = content.accounting
    waiting = before.rows_held + before.rows_written + before.rows_unchanged
    if rejected != waiting:
        raise ProofError(
            f"Cannot reject batch {claim.object_name} of {table.key}: {rejected} rows in its files -> {waiting} that wait. Nothing "
            "was changed; report this as a defect."
        )
    dead = before.rows_dead_lettered + rejected
    return replace(before, rows_held=0, rows_written=0, rows_unchanged=0, rows_dead_lettered=dead), letters.kept, letters.indexed
