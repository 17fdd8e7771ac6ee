"""One attempt at one batch, from an open claim to a frozen one (DESIGN §5.2–5.3)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift_plan import DriftPlan, plan_drift
from airflow_dataops.core.errors import LimitError, ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, Fingerprint
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.core.partition import split
from airflow_dataops.core.period import Period
from airflow_dataops.core.privacy import plan_privacy, privacy_schema
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.standards import standard_columns
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent, Claim, StagedPartition
from airflow_dataops.sources.base import Batch, ReadRequest, SchemaMoved
from airflow_dataops.steps.keys import KeyedRows
from airflow_dataops.steps.overlap import known_rows
from airflow_dataops.steps.ranges import overlap_low
from airflow_dataops.steps.run import Edges, Progress
from airflow_dataops.steps.shape import Shaper
from airflow_dataops.steps.stage import DeadLetterFile, PartitionFiles
from airflow_dataops.steps.target import current_table, data_schema, plan_table

FREE_DEAD_LETTERS = 10
"""A share says nothing about a handful: `max_share` is judged beyond this many dead letters, or when no row was good."""

MAX_RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Staged:
    """What an attempt has staged and proved, ready to freeze. `held` is the reason to hold, when there is one."""

    content: BatchContent
    dead_letters: tuple[DeadLetter, ...]
    held: DriftPlan | None


def stage(table: TableSpec, claim: Claim, period: Period, edges: Edges) -> Staged:
    """Reads the claim's range into files of the attempt's directory. When a late value shows that an inferred schema
    was too narrow, stages again from the start (in a sub-directory of the same attempt)."""
    expected: TableSchema | None = None
    for restart in range(MAX_RESTARTS):
        try:
            return _stage_once(table, claim, period, edges, expected, restart)
        except SchemaMoved as moved:
            expected = moved.schema
    raise ProofError(f"Cannot read {table.key}: its inferred schema moved {MAX_RESTARTS} times -> at rest. The files keep changing.")


def _stage_once(
    table: TableSpec, claim: Claim, period: Period, edges: Edges, expected: TableSchema | None, restart: int
) -> Staged:
    current = current_table(edges, table)
    request = ReadRequest(
        table=table.source_table,
        range=_read_range(table, claim),
        batch_rows=table.read.batch_rows,
        query=table.read.query,
        expected=expected or _expected(current_schema := data_schema(current)) if current or expected else None,
        isolation=table.read.isolation,
    )
    reading = edges.source.read(request)
    try:
        actions = plan_privacy(reading.schema.names, table.privacy)
        observed = privacy_schema(reading.schema, actions)
        plan = plan_table(table, current, observed)
        held = plan if plan.hold else None
        if held is not None:  # keep the source's own shape: a person decides later what it becomes
            plan = plan_drift(None, observed, table.contract.model_copy(update={"tables": "evolve", "columns": "evolve", "types": "evolve"}))
        shaper = Shaper(
            table, plan, actions, edges.privacy_key, claim.batch_id, int(edges.clock() * 1e6),
            overlap=Counter() if held else known_rows(table, claim, plan, edges),
        )  # fmt: skip
        return _write(table, claim, period, edges, reading, shaper, held, restart)
    finally:
        reading.close()


def _write(
    table: TableSpec, claim: Claim, period: Period, edges: Edges, reading: object, shaper: Shaper, held: DriftPlan | None, restart: int
) -> Staged:
    directory = claim.directory if not restart else f"{claim.directory}/r{restart}"
    letters = DeadLetterFile(edges.dead_letters, f"{claim.directory}/dead-{restart:03d}.parquet", table, claim.batch_id)
    files: PartitionFiles | None = None
    keyed = KeyedRows(table) if table.write.mode == "merge" and held is None else None
    renewed = edges.clock()
    by = table.target.partition_by
    try:
        for batch in _batches(reading):
            if files is None:
                files = _files(table, claim, directory, shaper, batch, edges, held)
            rows, prints, dead = shaper.shape(batch)
            letters.write(dead)
            for values, part in split(rows, by, period) if rows.num_rows else []:
                part_prints = prints if part.num_rows == rows.num_rows else _prints_of(part)
                files.write(values, part.select(files_schema(shaper, table, batch).names), part_prints)
                if keyed is not None:
                    keyed.add(values, part)
            edges.progress(Progress(table.source_table, "read", shaper.rows_read))
            if edges.clock() - renewed > edges.lease_seconds / 3:
                edges.ledger.batches.renew(claim, edges.lease_seconds)
                renewed = edges.clock()
        if files is None:
            files = _files(table, claim, directory, shaper, None, edges, held)
        if by and all(p.column is None for p in by):
            files.partition((period.key,) * len(by))
        elif not by:
            files.partition(())
        closed = files.close()
        letters.close()
    except BaseException:
        if files is not None:
            files.abort()
        letters.abort()
        raise
    return Staged(BatchContent((), TableSchema(), Accounting(), "", ""), (), held)
