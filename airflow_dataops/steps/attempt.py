"""One attempt at one batch, from an open claim to content ready to freeze (DESIGN §5.2–5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.approval import renames_of
from airflow_dataops.core.comparison import hiding
from airflow_dataops.core.continued import Rename, privacy_under
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift import TableCreated
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.errors import LimitError, ProofError
from airflow_dataops.core.offset import CursorRange, Letters
from airflow_dataops.core.partition import period_value, split
from airflow_dataops.core.period import Period
from airflow_dataops.core.privacy import Action, privacy_schema
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.standards import BATCH_ID, standard_columns
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent, Claim, LetterFile
from airflow_dataops.sources.base import Batch, Reading, ReadRequest, SchemaMoved
from airflow_dataops.steps.arrivals import Arrivals, late_letters
from airflow_dataops.steps.build import refuse_mixed
from airflow_dataops.steps.continued_rows import continued
from airflow_dataops.steps.keys import KeyedRows
from airflow_dataops.steps.letters import LettersReading, read_again, text_source
from airflow_dataops.steps.overlap import KnownRows, known_rows, read_range, stored_since
from airflow_dataops.steps.rename_evidence import RenameEvidence
from airflow_dataops.steps.run import Edges, Progress
from airflow_dataops.steps.shape import Shaper
from airflow_dataops.steps.stage import PartitionFiles, WrittenPartition
from airflow_dataops.steps.staged_as import staged_traits
from airflow_dataops.steps.staged_rows import StagedRows
from airflow_dataops.steps.target import (
    current_table,
    data_schema,
    expected_schema,
    refuse_hidden,
    staging_plan,
)

MAX_RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Staged:
    """What an attempt has staged and proved, ready to freeze. `drift` is what was planned from the data itself; with
    `drift.hold` the rows are kept in the source's own shape until a person decides. Behind a held batch they are kept whole,
    compared with nothing: the table may be another when it is their turn."""

    content: BatchContent
    dead_letters: tuple[DeadLetter, ...]
    letter_file: LetterFile | None
    drift: DriftPlan
    observed: TableSchema


def stage(table: TableSpec, claim: Claim, period: Period, edges: Edges) -> Staged:
    """Reads the claim's range into files of the attempt's own directory. When a late value shows that an inferred
    schema was too narrow, stages again from the start, in another sub-directory of the attempt."""
    inferred: TableSchema | None = None
    for restart in range(MAX_RESTARTS):
        attempt = _Attempt(table, claim, period, edges, restart)
        try:
            return attempt.stage(inferred)
        except SchemaMoved as moved:
            inferred = moved.schema
    raise ProofError(
        f"Cannot read {table.key}: its inferred schema moved {MAX_RESTARTS} times -> at rest. The files keep changing."
    )


class _Attempt(StagedRows):
    def __init__(self, table: TableSpec, claim: Claim, period: Period, edges: Edges, restart: int) -> None:
        super().__init__(table, claim, edges, restart)
        self.period = period
        self.again: list[DeadLetter] = []
        self.arrivals: Arrivals | None = None
        self.source_schema = TableSchema()

    def stage(self, inferred: TableSchema | None) -> Staged:
        table, edges = self.table, self.edges
        current = current_table(edges, table)
        approved = edges.ledger.holds.approvals(table.key)
        renames = renames_of(approved)
        reading = self._reading(current, inferred, renames)
        self.source_schema = reading.schema
        try:
            if not isinstance(reading, LettersReading):
                reading = continued(reading, renames)
            actions = privacy_under(reading.schema.names, table.privacy, renames)
            refuse_hidden(table, actions)
            is_hidden = isinstance(reading, LettersReading)
            observed = reading.schema if is_hidden else privacy_schema(reading.schema, actions)
            drift, plan = staging_plan(table, current, observed, approved)
            waits = bool(drift.hold) or edges.ledger.holds.is_ahead(self.claim)
            shaper = Shaper(
                table, plan, dict.fromkeys(actions, "keep") if is_hidden else actions, edges.privacy_key, self.claim.batch_id,
                int(edges.clock() * 1_000_000), text_source(edges.source),
            )  # fmt: skip
            self.letters.schema_fingerprint = self.source_schema.fingerprint
            given = {plan.names[name]: action for name, action in actions.items() if name in plan.names}
            self.hidden = hiding(plan.schema.names, given, edges.privacy_key)
            shaper.known = self._known(reading, plan, actions, renames, held=bool(drift.hold))
            if current is not None and not is_hidden:
                shaper.evidence = RenameEvidence(table, data_schema(current), observed, drift, actions, renames, edges)
            if not drift.hold:
                refuse_mixed(table, self.claim, plan.schema.with_column(BATCH_ID), edges)
                if table.write.mode == "merge" and not waits:  # behind others the table of today says nothing about a row
                    self.keyed = KeyedRows(table, plan.names)
            self._write(reading, shaper, is_held=bool(drift.hold))
            written = self.deduplicated(shaper)
            if self._is_limited(drift):
                self.check_limits(shaper)
            if shaper.evidence is not None:
                drift = shaper.evidence.judged(edges, drift)
            content = self._prove(reading, shaper, written, drift, waits=waits)
            return Staged(content, (*self.letters.kept, *self.again), self.letters.indexed, drift, observed)
        except LimitError:
            self.letters.close()  # what failed is what a person now wants to see
            self.abort()
            raise
        except BaseException:
            self.abort()
            self.letters.abort()
            raise
        finally:
            reading.close()

    def _reading(self, current: CatalogTable | None, inferred: TableSchema | None, renames: Sequence[Rename]) -> Reading:
        table, edges, claimed = self.table, self.edges, self.claim.range
        if isinstance(claimed, Letters):
            return read_again(table, claimed, current, edges, self.lease.keep)
        return edges.source.read(
            ReadRequest(
                table=table.source_table,
                range=read_range(table, claimed) if isinstance(claimed, CursorRange) else claimed,
                batch_rows=table.read.batch_rows,
                query=table.read.query,
                expected=inferred or expected_schema(data_schema(current), edges.ledger.drift.schema(table.key), table, renames),
                isolation=table.read.isolation,
            )
        )

    def _known(
        self, reading: Reading, plan: DriftPlan, actions: Mapping[str, Action], renames: Sequence[Rename], *, held: bool
    ) -> KnownRows:
        """A watermark is read again, so a record near it may have died twice: the second of the two letters brings a row that is
        there by the first."""
        table = self.table
        if not isinstance(reading, LettersReading):
            return known_rows(table, self.claim, plan, actions, self.edges, held=held, renames=renames)
        if table.read.mode != "watermark" or table.read.cursor is None or table.write.mode != "append":
            return KnownRows()
        low = reading.lowest(table.read.cursor)
        return stored_since(table, table.read.cursor, low, plan, actions, self.edges, renames=renames)

    def _is_limited(self, drift: DriftPlan) -> bool:
        """Whether limits of dead letters speak of this batch. What fails again in a replay has been counted before."""
        return not _discards_table(drift) and not isinstance(self.claim.range, Letters)

    def _write(self, reading: Reading, shaper: Shaper, *, is_held: bool) -> None:
        by = self.table.target.partition_by
        for batch in reading:
            files = self.files or self._open(shaper, _has_origin(batch), is_held)
            rows, dead = shaper.shape(batch)
            self.again += [letter for letter in dead if letter.letter is not None]
            self.letters.write([letter for letter in dead if letter.letter is None])
            self._split(rows, files, shaper)
            if self.table.dead_letters.max_rows is not None and self._is_limited(shaper.plan):
                self.check_limits(shaper, final=False)
            self.edges.progress(Progress(self.table.source_table, "read", shaper.rows_read))
            self.lease.keep()
        files = self.files or self._open(shaper, self.edges.source.kind == "files", is_held)
        if isinstance(reading, LettersReading):
            shaper.values_discarded += reading.values_discarded
        rest = shaper.rest()
        if rest is not None:
            self._split(rest, files, shaper)
        # The partition is known without a row: an empty one is a fact too.
        if all(p.column is None for p in by) and not _discards_table(shaper.plan):
            files.partition(tuple(period_value(p, self.period) for p in by))
        self.letters.close()

    def _split(self, rows: pa.RecordBatch, files: PartitionFiles, shaper: Shaper) -> None:
        for values, part in split(rows, self.table.target.partition_by, self.period):
            if self.arrivals is not None and self.arrivals.is_expired(values):
                shaper.rows_filtered += part.num_rows
                continue
            if self.arrivals is not None and self.arrivals.is_late(values):
                shaper.rows_dead_lettered += part.num_rows
                self.letters.write(late_letters(part, shaper.plan.names, self.hidden))
                continue
            self.store(values, part, files)

    def _open(self, shaper: Shaper, has_origin: bool, is_held: bool) -> PartitionFiles:
        """What is held is kept whole: the contract under which it will be let in may make another partition of it."""
        data = tuple(c for c in shaper.plan.schema if not pa.types.is_null(c.type))
        self.schema = TableSchema((*data, *standard_columns(self.table.standards, has_origin)))
        if not is_held and not _discards_table(shaper.plan):
            claimed, now = self.claim.range, self.edges.clock()
            self.arrivals = Arrivals.of(self.table, TableSchema(data), claimed, self.period, now)
        self.files = self.place(self.directory)
        return self.files

    def _prove(
        self, reading: Reading, shaper: Shaper, written: list[WrittenPartition], drift: DriftPlan, *, waits: bool
    ) -> BatchContent:
        """The accounting equation, with `rows_written` from the files' own footers."""
        table, proved = self.table, self.proved(written, waits=waits)
        accounting = Accounting(
            rows_read=shaper.rows_read,
            rows_written=0 if waits else proved.written,
            rows_unchanged=shaper.rows_unchanged + proved.unchanged,
            rows_filtered=shaper.rows_filtered,
            rows_deduplicated=shaper.rows_deduplicated,
            rows_dead_lettered=shaper.rows_dead_lettered,
            rows_held=proved.written if waits else 0,
            values_discarded=shaper.values_discarded,
        )
        accounting.prove(f"{self.claim.batch_id} of {table.key}")
        by = table.target.partition_by
        return BatchContent(
            partitions=proved.partitions,
            schema=self.schema,
            accounting=accounting,
            fingerprint=str(proved.fingerprint),
            source_fingerprint=str(shaper.source),
            source_schema=self.source_schema,
            complete=table.read.mode == "full"
            and table.write.mode == "overwrite_partition"
            and any(p.column is not None for p in by),
            traits=staged_traits(
                reading.traits,
                table,
                drift,
                waits=waits,
                tells_nothing=self.edges.source.kind == "files" and not shaper.rows_read,
            ),
        )


def _discards_table(plan: DriftPlan) -> bool:
    """`contract.tables: discard_row` met a new table. Its rows did not fail, so no limit of dead letters speaks of them."""
    return any(isinstance(change, TableCreated) for change in plan.dead_letter)


def _has_origin(batch: Batch) -> bool:
    return batch.source_file is not None or batch.source_offsets is not None
