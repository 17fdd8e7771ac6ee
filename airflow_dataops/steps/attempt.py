"""One attempt at one batch, from an open claim to content ready to freeze (DESIGN §5.2–5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.comparison import hiding
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift import TableCreated
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.errors import LimitError, ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, Fingerprint
from airflow_dataops.core.offset import CursorRange, Letters
from airflow_dataops.core.partition import period_value, split
from airflow_dataops.core.period import Period
from airflow_dataops.core.privacy import Action, plan_privacy, privacy_schema
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.standards import BATCH_ID, standard_columns
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent, Claim, Decision, LetterFile, StagedPartition
from airflow_dataops.sources.base import Batch, Reading, ReadRequest, SchemaMoved
from airflow_dataops.steps.arrivals import Arrivals, late_letters
from airflow_dataops.steps.build import refuse_mixed
from airflow_dataops.steps.keys import KeyedRows
from airflow_dataops.steps.lease import Lease
from airflow_dataops.steps.letter_file import DeadLetterFile
from airflow_dataops.steps.letters import LettersReading, read_again, text_source
from airflow_dataops.steps.overlap import KnownRows, known_rows, read_range, stored_since
from airflow_dataops.steps.rename_evidence import RenameEvidence
from airflow_dataops.steps.run import Edges, Progress
from airflow_dataops.steps.shape import Shaper
from airflow_dataops.steps.stage import PartitionFiles, Values, WrittenPartition
from airflow_dataops.steps.staged_as import staged_traits
from airflow_dataops.steps.target import (
    current_table,
    data_schema,
    expected_schema,
    keys_fix_partition,
    refuse_hidden,
    staging_plan,
)

FREE_DEAD_LETTERS = 10
"""A share says nothing about a handful: `max_share` is judged beyond this many dead letters, or when no row was good."""

MAX_RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Staged:
    """What an attempt has staged and proved, ready to freeze. `drift` is what was planned from the data itself; with
    `drift.hold` the rows are kept in the source's own shape until a person decides."""

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


class _Attempt:
    def __init__(self, table: TableSpec, claim: Claim, period: Period, edges: Edges, restart: int) -> None:
        self.table, self.claim, self.period, self.edges = table, claim, period, edges
        self.directory = claim.directory if not restart else f"{claim.directory}/r{restart}"
        self.letters = DeadLetterFile(table, claim, edges, f"dead-{restart:03d}")
        self.again: list[DeadLetter] = []
        self.files: PartitionFiles | None = None
        self.keyed: KeyedRows | None = None
        self.arrivals: Arrivals | None = None
        self.hidden: Mapping[str, str] = {}
        self.lease = Lease(claim, edges)

    def stage(self, inferred: TableSchema | None) -> Staged:
        table, edges = self.table, self.edges
        current = current_table(edges, table)
        reading = self._reading(current, inferred)
        try:
            actions = plan_privacy(reading.schema.names, table.privacy)
            refuse_hidden(table, actions)
            is_hidden = isinstance(reading, LettersReading)
            observed = reading.schema if is_hidden else privacy_schema(reading.schema, actions)
            drift, plan = staging_plan(table, current, observed)
            shaper = Shaper(
                table, plan, dict.fromkeys(actions, "keep") if is_hidden else actions, edges.privacy_key, self.claim.batch_id,
                int(edges.clock() * 1_000_000), text_source(edges.source),
            )  # fmt: skip
            self.letters.schema_fingerprint = reading.schema.fingerprint
            given = {plan.names[name]: action for name, action in actions.items() if name in plan.names}
            self.hidden = hiding(plan.schema.names, given, edges.privacy_key)
            shaper.known = self._known(reading, plan, actions, held=bool(drift.hold))
            if current is not None and not is_hidden:
                shaper.evidence = RenameEvidence(table, data_schema(current), observed, drift, actions)
            if not drift.hold:
                refuse_mixed(table, self.claim, plan.schema.with_column(BATCH_ID), edges)
                if table.write.mode == "merge":
                    self.keyed = KeyedRows(table, plan.names)
            self._write(reading, shaper, is_held=bool(drift.hold))
            written = self._deduplicated(shaper)
            if self._is_limited(drift):
                self._check_limits(shaper)
            if shaper.evidence is not None:
                drift = shaper.evidence.judged(edges, drift)
            content = self._prove(reading, shaper, written, drift)
            return Staged(content, (*self.letters.kept, *self.again), self.letters.indexed, drift, observed)
        except LimitError:
            self.letters.close()  # what failed is what a person now wants to see
            self._abort()
            raise
        except BaseException:
            self._abort()
            self.letters.abort()
            raise
        finally:
            reading.close()

    def _reading(self, current: CatalogTable | None, inferred: TableSchema | None) -> Reading:
        table, edges, claimed = self.table, self.edges, self.claim.range
        if isinstance(claimed, Letters):
            return read_again(table, claimed, current, edges, self.lease.keep)
        return edges.source.read(
            ReadRequest(
                table=table.source_table,
                range=read_range(table, claimed) if isinstance(claimed, CursorRange) else claimed,
                batch_rows=table.read.batch_rows,
                query=table.read.query,
                expected=inferred or expected_schema(data_schema(current), edges.ledger.drift.schema(table.key), table),
                isolation=table.read.isolation,
            )
        )

    def _known(self, reading: Reading, plan: DriftPlan, actions: Mapping[str, Action], *, held: bool) -> KnownRows:
        """A watermark is read again, so a record near it may have died twice: the second of the two letters brings a row that is
        there by the first."""
        table = self.table
        if not isinstance(reading, LettersReading):
            return known_rows(table, self.claim, plan, actions, self.edges, held=held)
        if table.read.mode != "watermark" or table.read.cursor is None or table.write.mode != "append":
            return KnownRows()
        return stored_since(table, table.read.cursor, reading.lowest(table.read.cursor), plan, actions, self.edges)

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
            self._store(rows, files, shaper)
            if self.table.dead_letters.max_rows is not None and self._is_limited(shaper.plan):
                self._check_limits(shaper, final=False)
            self.edges.progress(Progress(self.table.source_table, "read", shaper.rows_read))
            self.lease.keep()
        files = self.files or self._open(shaper, self.edges.source.kind == "files", is_held)
        if isinstance(reading, LettersReading):
            shaper.values_discarded += reading.values_discarded
        rest = shaper.rest()
        if rest is not None:
            self._store(rest, files, shaper)
        # The partition is known without a row: an empty one is a fact too.
        if all(p.column is None for p in by) and not _discards_table(shaper.plan):
            files.partition(tuple(period_value(p, self.period) for p in by))
        self.letters.close()

    def _store(self, rows: pa.RecordBatch, files: PartitionFiles, shaper: Shaper) -> None:
        for values, part in split(rows, self.table.target.partition_by, self.period):
            if self.arrivals is not None and self.arrivals.is_expired(values):
                shaper.rows_filtered += part.num_rows
                continue
            if self.arrivals is not None and self.arrivals.is_late(values):
                shaper.rows_dead_lettered += part.num_rows
                self.letters.write(late_letters(part, shaper.plan.names, self.hidden))
                continue
            files.write(values, part)
            if self.keyed is not None:
                self.keyed.add(values, part)

    def _open(self, shaper: Shaper, has_origin: bool, is_held: bool) -> PartitionFiles:
        """What is held is kept whole: the contract under which it will be let in may make another partition of it."""
        data = tuple(c for c in shaper.plan.schema if not pa.types.is_null(c.type))
        self.schema = TableSchema((*data, *standard_columns(self.table.standards, has_origin)))
        if not is_held and not _discards_table(shaper.plan):
            claimed, now = self.claim.range, self.edges.clock()
            self.arrivals = Arrivals.of(self.table, TableSchema(data), claimed, self.period, now)
        self.files = self._place(self.directory)
        return self.files

    def _place(self, directory: str) -> PartitionFiles:
        return PartitionFiles(self.edges.lake, directory, self.claim.object_name, self.table, self.schema.to_arrow(), self.hidden)

    def _deduplicated(self, shaper: Shaper) -> list[WrittenPartition]:
        """Closes the files; in a merge, rewrites the partitions with rows that are not to be stored: a newer one of their key
        is in the delta or in the table, or the table has that very row."""
        if self.files is None:
            raise ProofError(f"Cannot stage {self.table.key}: no file place was opened -> one. This is a defect.")
        written = self.files.close()
        if self.keyed is None:
            return written
        settled = self.keyed.settle(self._base(self.keyed, written))
        if not settled.lost:
            return written
        again = self._place(f"{self.directory}/d")
        try:
            for part in written:
                if part.values in settled.lost:
                    again.partition(part.values)
                    self._rewrite(part, settled.lost[part.values], again)
            replaced = {part.values: part for part in again.close()}
        except BaseException:
            again.abort()
            raise
        shaper.rows_deduplicated += settled.deduplicated
        shaper.rows_unchanged += settled.unchanged
        return [replaced.get(part.values, part) for part in written]

    def _base(self, keyed: KeyedRows, written: list[WrittenPartition]) -> Iterator[tuple[Values, pa.RecordBatch]]:
        """The rows of the table that may share a key with the delta. The claim keeps them as they are until the decision."""
        decisions = self.edges.ledger.decisions.current(self.table.key)
        if keys_fix_partition(self.table):
            decisions = {part.name: decisions[part.name] for part in written if part.name in decisions}
        schema = self.schema.to_arrow()
        wanted = {*keyed.keys, *([keyed.order] if keyed.order else ()), "_row_fingerprint"}
        columns = [name for name in schema.names if name in wanted]
        for decision in decisions.values():
            paths = [entry.path for entry in self.edges.lake.list(decision.location)]
            for rows in self.edges.lake.read(paths, schema, columns):
                self.lease.keep()
                yield decision.values, rows

    def _rewrite(self, part: WrittenPartition, lost: np.ndarray, into: PartitionFiles) -> None:
        """The rows of a written partition but the `lost` ones, into new files."""
        start = 0
        for rows in self.edges.lake.read([f.path for f in part.files], self.schema.to_arrow()):
            self.lease.keep()
            keep = np.ones(rows.num_rows, dtype=bool)
            keep[lost[(lost >= start) & (lost < start + rows.num_rows)] - start] = False
            start += rows.num_rows
            if keep.any():
                into.write(part.values, rows.filter(pa.array(keep)))

    def _is_unchanged(self, part: WrittenPartition, decision: Decision | None) -> bool:
        """Whether overwriting this partition would change nothing: it equals the current decision, and the lake still holds
        what was decided (files that somebody deleted are written again)."""
        if decision is None or self.table.write.mode != "overwrite_partition":
            return False
        if decision.fingerprint != str(part.fingerprint) or not _holds(decision.schema, self.schema):
            return False
        return sum(entry.bytes for entry in self.edges.lake.list(decision.location)) == decision.bytes

    def _prove(self, reading: Reading, shaper: Shaper, written: list[WrittenPartition], drift: DriftPlan) -> BatchContent:
        """The accounting equation, with `rows_written` from the files' own footers."""
        table, decisions, held = self.table, dict[str, Decision](), bool(drift.hold)
        if not held:
            decisions = self.edges.ledger.decisions.current(table.key, [part.name for part in written])
        staged, total, rows_written, rows_unchanged = [], Fingerprint.EMPTY, 0, shaper.rows_unchanged
        for part in written:
            if not held and not part.rows and self._brings_nothing(part, decisions):
                continue
            print_ = part.fingerprint
            same = not held and self._is_unchanged(part, decisions.get(part.name))
            total += print_
            rows_unchanged += part.rows if same else 0
            rows_written += 0 if same else part.rows
            staged.append(
                StagedPartition(
                    part.name, part.values, part.directory,
                    tuple({"path": f.path, "rows": f.rows, "bytes": f.bytes, "fingerprint": f.fingerprint} for f in part.files),
                    part.rows, str(print_), same, part.profile,
                )
            )  # fmt: skip
        accounting = Accounting(
            rows_read=shaper.rows_read,
            rows_written=0 if held else rows_written,
            rows_unchanged=rows_unchanged,
            rows_filtered=shaper.rows_filtered,
            rows_deduplicated=shaper.rows_deduplicated,
            rows_dead_lettered=shaper.rows_dead_lettered,
            rows_held=rows_written if held else 0,
            values_discarded=shaper.values_discarded,
        )
        accounting.prove(f"{self.claim.batch_id} of {table.key}")
        by = table.target.partition_by
        return BatchContent(
            partitions=tuple(staged),
            schema=self.schema,
            accounting=accounting,
            fingerprint=str(total),
            source_fingerprint=str(shaper.source),
            source_schema=reading.schema,
            complete=table.read.mode == "full"
            and table.write.mode == "overwrite_partition"
            and any(p.column is not None for p in by),
            traits=staged_traits(
                reading.traits, table, drift, tells_nothing=self.edges.source.kind == "files" and not shaper.rows_read
            ),
        )

    def _brings_nothing(self, part: WrittenPartition, decisions: Mapping[str, Decision]) -> bool:
        """An empty delta of a partition that is there, or that only rows would bring into being. (An overwritten one becomes
        empty by it.)"""
        if self.table.write.mode == "overwrite_partition":
            return False
        return part.name in decisions or any(p.column is not None for p in self.table.target.partition_by)

    def _check_limits(self, shaper: Shaper, *, final: bool = True) -> None:
        """LimitError when more records failed than the row allows: nothing is published then."""
        dead, read = shaper.rows_dead_lettered, shaper.rows_read
        limits = self.table.dead_letters
        why = f"({self.letters.reasons()}) Nothing was published. The records are in {self.letters.uri}"
        if limits.max_rows is not None and dead > limits.max_rows:
            raise LimitError(
                f"Cannot load {self.table.key}: {dead} dead letters -> at most {limits.max_rows} (`dead_letters.max_rows`). {why}. "
                "Fix the source, or raise the limit."
            )
        share_allows = math.ceil(limits.max_share * read)
        free = 0 if limits.max_share == 0 or dead == read else FREE_DEAD_LETTERS
        if final and dead > max(share_allows, free):
            raise LimitError(
                f"Cannot load {self.table.key}: {dead} of {read} records are dead letters -> at most {limits.max_share:.2%} "
                f"(`dead_letters.max_share`). {why}. Fix the source, or raise the limit."
            )

    def _abort(self) -> None:
        if self.files is not None:
            self.files.abort()


def _holds(have: TableSchema, new: TableSchema) -> bool:
    """Whether every data column of the new files is in the standing ones, so that equal fingerprints mean equal rows
    (a new column that is all NULL does not count)."""
    return {c.name for c in new} - STANDARD_COLUMNS >= {c.name for c in have} - STANDARD_COLUMNS or have == new


def _discards_table(plan: DriftPlan) -> bool:
    """`contract.tables: discard_row` met a new table. Its rows did not fail, so no limit of dead letters speaks of them."""
    return any(isinstance(change, TableCreated) for change in plan.dead_letter)


def _has_origin(batch: Batch) -> bool:
    return batch.source_file is not None or batch.source_offsets is not None
