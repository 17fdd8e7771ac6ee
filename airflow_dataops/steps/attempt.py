"""One attempt at one batch, from an open claim to content ready to freeze (DESIGN §5.2–5.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift_plan import DriftPlan, plan_drift
from airflow_dataops.core.errors import LimitError, ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, Fingerprint
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.core.partition import period_value, split
from airflow_dataops.core.period import Period
from airflow_dataops.core.privacy import plan_privacy, privacy_schema
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.standards import standard_columns
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent, Claim, Decision, StagedPartition
from airflow_dataops.sources.base import Batch, Reading, ReadRequest, SchemaMoved
from airflow_dataops.steps.keys import KeyedRows
from airflow_dataops.steps.overlap import known_rows, read_range
from airflow_dataops.steps.run import Edges, Progress
from airflow_dataops.steps.shape import Shaper
from airflow_dataops.steps.stage import DeadLetterFile, PartitionFiles, WrittenPartition
from airflow_dataops.steps.target import EVERYTHING_EVOLVES, current_table, data_schema, plan_table

FREE_DEAD_LETTERS = 10
"""A share says nothing about a handful: `max_share` is judged beyond this many dead letters, or when no row was good."""

MAX_RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Staged:
    """What an attempt has staged and proved, ready to freeze. `drift` is what was planned from the data itself; with
    `drift.hold` the rows are kept in the source's own shape until a person decides."""

    content: BatchContent
    dead_letters: tuple[DeadLetter, ...]
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
        self.letters = DeadLetterFile(edges.dead_letters, f"{claim.directory}/dead-{restart:03d}.parquet", table, claim.batch_id)
        self.files: PartitionFiles | None = None
        self.keyed: KeyedRows | None = None
        self.renewed = edges.clock()

    def stage(self, inferred: TableSchema | None) -> Staged:
        table, edges = self.table, self.edges
        current = current_table(edges, table)
        request = ReadRequest(
            table=table.source_table,
            range=read_range(table, self.claim.range) if isinstance(self.claim.range, CursorRange) else self.claim.range,
            batch_rows=table.read.batch_rows,
            query=table.read.query,
            expected=inferred or _expected(data_schema(current), edges.ledger.drift.schema(table.key), table),
            isolation=table.read.isolation,
        )
        reading = edges.source.read(request)
        try:
            actions = plan_privacy(reading.schema.names, table.privacy)
            observed = privacy_schema(reading.schema, actions)
            drift = plan_table(table, current, observed)
            plan = drift
            if drift.hold:
                plan = plan_drift(None, observed, table.contract.model_copy(update=EVERYTHING_EVOLVES))
            shaper = Shaper(table, plan, actions, edges.privacy_key, self.claim.batch_id, int(edges.clock() * 1_000_000))
            if not drift.hold:
                shaper.overlap = known_rows(table, self.claim, plan, edges)
                if table.write.mode == "merge":
                    self.keyed = KeyedRows(table, plan.names)
            self._write(reading, shaper)
            written = self._deduplicated(shaper)
            _check_limits(table, shaper)
            content = self._prove(reading, shaper, written, held=bool(drift.hold))
            return Staged(content, tuple(self.letters.kept), drift, observed)
        except BaseException:
            self._abort()
            raise
        finally:
            reading.close()

    def _write(self, reading: Reading, shaper: Shaper) -> None:
        by = self.table.target.partition_by
        for batch in reading:
            files = self.files or self._open(shaper, _has_origin(batch))
            rows, dead = shaper.shape(batch)
            self.letters.write(dead)
            if self.table.dead_letters.max_rows is not None:
                _check_limits(self.table, shaper, final=False)
            if rows.num_rows:
                for values, part in split(rows, by, self.period):
                    files.write(values, part)
                    if self.keyed is not None:
                        self.keyed.add(values, part)
            self.edges.progress(Progress(self.table.source_table, "read", shaper.rows_read))
            if self.edges.clock() - self.renewed > self.edges.lease_seconds / 3:
                self.edges.ledger.batches.renew(self.claim, self.edges.lease_seconds)
                self.renewed = self.edges.clock()
        files = self.files or self._open(shaper, self.edges.source.kind == "files")
        if all(p.column is None for p in by):  # the partition is known without a row: an empty one is a fact too
            files.partition(tuple(period_value(p, self.period) for p in by))
        self.letters.close()

    def _open(self, shaper: Shaper, has_origin: bool) -> PartitionFiles:
        data = tuple(c for c in shaper.plan.schema if not pa.types.is_null(c.type))
        self.schema = TableSchema((*data, *standard_columns(self.table.standards, has_origin)))
        self.files = PartitionFiles(self.edges.lake, self.directory, self.claim.object_name, self.table, self.schema.to_arrow())
        return self.files

    def _deduplicated(self, shaper: Shaper) -> list[WrittenPartition]:
        """Closes the files; where several rows of a merge's delta share a key, rewrites those partitions without the
        older ones."""
        if self.files is None:
            raise ProofError(f"Cannot stage {self.table.key}: no file place was opened -> one. This is a defect.")
        written = self.files.close()
        losers = self.keyed.losers() if self.keyed is not None else {}
        if not losers:
            return written
        again = PartitionFiles(self.edges.lake, f"{self.directory}/d", self.claim.object_name, self.table, self.schema.to_arrow())
        try:
            for part in written:
                if part.values in losers:
                    again.partition(part.values)
                    _rewrite(self.edges, part, self.schema, losers[part.values], again)
            replaced = {part.values: part for part in again.close()}
        except BaseException:
            again.abort()
            raise
        shaper.rows_deduplicated += sum(len(rows) for rows in losers.values())
        return [replaced.get(part.values, part) for part in written]

    def _prove(self, reading: Reading, shaper: Shaper, written: list[WrittenPartition], *, held: bool) -> BatchContent:
        """The accounting equation, with `rows_written` from the files' own footers."""
        table, decisions = self.table, {}
        if not held:
            decisions = self.edges.ledger.decisions.current(table.key, [part.name for part in written])
        staged, total, rows_written, rows_unchanged = [], Fingerprint.EMPTY, 0, 0
        for part in written:
            print_ = part.fingerprint
            same = _is_unchanged(table, self.claim, part, decisions.get(part.name), self.schema)
            total += print_
            rows_unchanged += part.rows if same else 0
            rows_written += 0 if same else part.rows
            staged.append(
                StagedPartition(
                    part.name, part.values, part.directory,
                    tuple({"path": f.path, "rows": f.rows, "bytes": f.bytes, "fingerprint": f.fingerprint} for f in part.files),
                    part.rows, str(print_), same,
                )
            )  # fmt: skip
        accounting = Accounting(
            rows_read=shaper.rows_read,
            rows_written=0 if held else rows_written,
            rows_unchanged=rows_unchanged,
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
            traits=dict(reading.traits),
        )

    def _abort(self) -> None:
        if self.files is not None:
            self.files.abort()
        self.letters.abort()


def _rewrite(edges: Edges, part: WrittenPartition, schema: TableSchema, lost: np.ndarray, into: PartitionFiles) -> None:
    start = 0
    for rows in edges.lake.read([f.path for f in part.files], schema.to_arrow()):
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[lost[(lost >= start) & (lost < start + rows.num_rows)] - start] = False
        start += rows.num_rows
        if keep.any():
            into.write(part.values, rows.filter(pa.array(keep)))


def _expected(have: TableSchema | None, last: TableSchema | None, table: TableSpec) -> TableSchema | None:
    """What a text format should try first, in source names: the lake's types, and for columns whose stored form is not
    the source's (masked, hashed) the source type of last time."""
    if have is None:
        return last
    by_origin = {c.origin: c for c in have}
    actions = plan_privacy([*by_origin, *(last.names if last else ())], table.privacy)
    columns = [Column(origin, c.type) for origin, c in by_origin.items() if actions.get(origin, "keep") == "keep"]
    columns += [c for c in last or () if actions.get(c.name, "keep") != "keep"]
    return TableSchema(tuple(columns))


def _is_unchanged(
    table: TableSpec, claim: Claim, part: WrittenPartition, decision: Decision | None, schema: TableSchema
) -> bool:
    """Whether publishing this partition would change nothing: it equals the current decision (overwrite), or brings no
    row and takes none away (append and merge)."""
    if decision is None:
        return False
    if table.write.mode == "overwrite_partition":
        return decision.fingerprint == str(part.fingerprint) and _holds(decision.schema, schema)
    return part.rows == 0 and (table.write.mode == "merge" or claim.generation == 1)


def _holds(have: TableSchema, new: TableSchema) -> bool:
    """Whether every data column of the new files is in the standing ones, so that equal fingerprints mean equal rows
    (a new column that is all NULL does not count)."""
    return {c.name for c in new} - STANDARD_COLUMNS >= {c.name for c in have} - STANDARD_COLUMNS or have == new


def _has_origin(batch: Batch) -> bool:
    return batch.source_file is not None or batch.source_offsets is not None


def _check_limits(table: TableSpec, shaper: Shaper, *, final: bool = True) -> None:
    """LimitError when more records failed than the row allows: nothing is published then."""
    dead, read = shaper.rows_dead_lettered, shaper.rows_read
    limits = table.dead_letters
    if limits.max_rows is not None and dead > limits.max_rows:
        raise LimitError(
            f"Cannot load {table.key}: {dead} dead letters -> at most {limits.max_rows} (`dead_letters.max_rows`). Nothing was "
            "published. Look at `dataops dead-letters`; fix the source, or raise the limit."
        )
    share_allows = math.ceil(limits.max_share * read)
    free = 0 if limits.max_share == 0 or dead == read else FREE_DEAD_LETTERS
    if final and dead > max(share_allows, free):
        raise LimitError(
            f"Cannot load {table.key}: {dead} of {read} records are dead letters -> at most {limits.max_share:.2%} "
            "(`dead_letters.max_share`). Nothing was published. Fix the source, or raise the limit."
        )
