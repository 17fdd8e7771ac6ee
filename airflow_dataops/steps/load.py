"""The `load` step: each table's new range is claimed, staged, proved, decided, published and committed (DESIGN §5).

One table's failure never stops its siblings: every table is reported, the caller fails at the end, and a retry does
only what the ledger does not show as done."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.errors import BusyError, DataOpsError, FencedError, ProofError, StaleError
from airflow_dataops.core.offset import CursorRange, Everything, FileSet, OffsetRange, is_cut
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, table_spec
from airflow_dataops.ledger.base import BatchRecord, Claim, ClaimRequest
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.arrivals import refuse_expired
from airflow_dataops.steps.attempt import stage
from airflow_dataops.steps.cascade import cascade_few
from airflow_dataops.steps.continue_renamed import continue_few
from airflow_dataops.steps.held import drain
from airflow_dataops.steps.publish import finish
from airflow_dataops.steps.ranges import requests_of
from airflow_dataops.steps.run import Edges, LoadResult, Outcome, Progress, Run, TableResult
from airflow_dataops.steps.staged_as import hold_reason
from airflow_dataops.steps.sweep import expire_table, show_standing, sweep_table
from airflow_dataops.steps.ties import late_ties

log = logging.getLogger(__name__)

MAX_PLANS = 100
"""How often a run plans anew because others were faster, before it leaves the table to its retry."""


def load(spec: PipelineSpec, edges: Edges, run: Run, tables: Sequence[str]) -> LoadResult:
    """Loads the named source tables. Never raises for one table; see `LoadResult.failures`."""
    return LoadResult.of(load_table(spec, edges, run, name) for name in tables)


def load_table(spec: PipelineSpec, edges: Edges, run: Run, source_table: str) -> TableResult:
    """One table, whatever happens to it. Unexpected errors are reported as such, with their traceback in the log."""
    started = time.perf_counter()
    table: TableSpec | None = None
    try:
        table = table_spec(spec, source_table, edges.state_id)
        edges.progress(Progress(source_table, "start"))
        result = _load(table, edges, run)
    except DataOpsError as error:
        log.warning("table %s failed: %s", source_table, error)
        result = TableResult.of_error(table, source_table, error)
    except Exception as error:
        log.exception("table %s failed unexpectedly", source_table)
        result = TableResult.of_error(table, source_table, error)
    result = _recorded(replace(result, seconds=time.perf_counter() - started), spec, edges, run)
    edges.progress(Progress(source_table, result.outcome, result.accounting.rows_read))
    return result


def _recorded(result: TableResult, spec: PipelineSpec, edges: Edges, run: Run) -> TableResult:
    """The result, told to the ledger. A table that could not be told of has failed, whatever is published of it: `verify` would
    miss it, and its retry finds it done and tells. An error that it had before says more and stays."""
    try:
        edges.ledger.runs.record(run.token, spec.id, f"{spec.id}:{result.source_table}", result.to_json())
    except Exception as error:
        log.exception("the result of table %s (%s) could not be recorded", result.source_table, result.outcome)
        if result.outcome == "failed":
            return result
        failed = TableResult.of_error(None, result.source_table, error)
        return replace(failed, target=result.target, accounting=result.accounting, seconds=result.seconds)
    return result


def _load(table: TableSpec, edges: Edges, run: Run) -> TableResult:
    sweep_table(table, edges)
    repeats_files = table.read.mode == "new_files" and run.period.backfill  # several batches: each claim tells if it is done
    results, is_all = ([], False) if repeats_files else _taken_up(table, edges, run)
    if not is_all:
        refuse_expired(table, run.period, edges.clock())
        declared = edges.source.describe(table.source_table, table.read.query)
        results += _do_all(table, declared, edges, run)
        if any(result.outcome == "held" for result in results):
            results = _let_go(table, results, edges)
        continue_few(table, edges)
        cascade_few(table, edges)
        expire_table(table, edges)
    return _together(table, results)


def _let_go(table: TableSpec, results: list[TableResult], edges: Edges) -> list[TableResult]:
    """What was held, but needs no answer by now (somebody gave it while it was read), is published at once (C3)."""
    if not drain(table, edges).published:
        return results
    records = {(r.batch_id, r.generation): r for r in edges.ledger.batches.history(table_key=table.key)}
    return [_released(table, result, records.get((result.batch_id or "", result.generation or 0)), edges) for result in results]


def _released(table: TableSpec, result: TableResult, record: BatchRecord | None, edges: Edges) -> TableResult:
    if result.outcome != "held" or record is None or record.state != "committed":
        return result
    mine = edges.ledger.decisions.current(table.key).values()
    names = tuple(sorted(d.name for d in mine if (d.batch_id, d.generation) == (record.batch_id, record.generation)))
    return replace(
        result, outcome="loaded", accounting=record.accounting or Accounting(), fingerprint=record.fingerprint, reason=None,
        partitions=names,
    )  # fmt: skip


def _do_all(table: TableSpec, declared: SourceTable, edges: Edges, run: Run) -> list[TableResult]:
    """Plans and does the run's batches. What was planned is stale when another run has committed since, or when another's
    batch had to be finished first: then what is left is planned anew, on what is there now."""
    done: dict[str, TableResult] = {}
    for _ in range(MAX_PLANS):
        try:
            for request in requests_of(table, declared, run, edges):
                if request.batch_id not in done and (result := _do(table, request, edges, run)) is not None:
                    done[request.batch_id] = result
            return list(done.values())
        except StaleError as error:
            log.info("table %s is planned again: %s", table.source_table, error)
    raise BusyError(f"Cannot claim {table.key}: other runs were faster {MAX_PLANS} times -> its turn. Try again later.")


def _taken_up(table: TableSpec, edges: Edges, run: Run) -> tuple[list[TableResult], bool]:
    """What this run has done before, and whether that is all of it. A retry of a run that died while its batch was open takes up
    that very batch: its range was fixed at its claim."""
    done = edges.ledger.batches.committed_by(run.token, table.key)
    results = [] if done is None else [_of_record(table, done)]
    if done is not None and not is_cut(done.range):
        return results, True
    claim = edges.ledger.batches.reclaim(table.key, run.token, edges.writer, edges.nonce(), edges.lease_seconds)
    if claim is None:
        return results, False
    if not _is_read_so(table, claim.range):  # the row was edited since: the range means nothing to it
        edges.ledger.batches.abandon(claim)
        return results, False
    return [*results, _perform(table, claim, edges, run)], not is_cut(claim.range)


def _is_read_so(table: TableSpec, read: OffsetRange) -> bool:
    """Whether the row, as it is now, reads ranges of this kind."""
    match table.read.mode:
        case "full":
            return isinstance(read, Everything)
        case "new_files":
            return isinstance(read, FileSet)
        case "window":
            return isinstance(read, CursorRange) and read.cursor == table.read.cursor and read.low_inclusive
        case _:
            return isinstance(read, CursorRange) and read.cursor == table.read.cursor


def _do(table: TableSpec, request: ClaimRequest, edges: Edges, run: Run) -> TableResult | None:
    """One batch; None when there is nothing new in it. StaleError: plan again."""
    if request.follows_watermark and isinstance(request.range, CursorRange) and request.range.low == request.range.high:
        tied = late_ties(table, request, edges)
        if tied is None:
            return None
        request = tied
    claim = edges.ledger.batches.claim(request)
    if claim.asked:
        return _perform(table, claim, edges, run)
    finish(table, claim, edges)
    raise StaleError(
        f"Cannot claim batch {request.batch_id} of {table.key}: {claim.object_name} stood before it and is finished now -> a plan "
        "made after that. It is planned again."
    )


def _perform(table: TableSpec, claim: Claim, edges: Edges, run: Run) -> TableResult:
    if claim.state in ("committed", "held", "rejected"):
        counts = claim.content.accounting if claim.content else Accounting()
        if claim.state == "held":
            return _held(table, claim)
        return _result(table, claim, "done_before", counts, ())
    if claim.state == "open":
        try:
            staged = stage(table, claim, run.period, edges)
        except FencedError:
            raise
        except BaseException:
            edges.ledger.batches.abandon(claim)
            raise
        claim = edges.ledger.batches.freeze(
            claim, staged.content, staged.dead_letters, edges.lease_seconds, staged.letter_file
        )
    partitions = finish(table, claim, edges)
    if partitions is None:
        return _held(table, claim)
    content = claim.content
    if content is None:
        raise ProofError(f"Cannot report batch {claim.batch_id}: no content -> frozen content. This is a defect.")
    if partitions:
        return _result(table, claim, "loaded", content.accounting, partitions)
    standing = tuple(sorted(part.name for part in content.partitions))
    show_standing(table, standing, edges)
    return _result(table, claim, "unchanged", content.accounting, standing)


def _held(table: TableSpec, claim: Claim) -> TableResult:
    """With what has to be decided."""
    counts = claim.content.accounting if claim.content else Accounting()
    waiting = counts.rows_held + counts.rows_written + counts.rows_unchanged
    counts = replace(counts, rows_held=waiting, rows_written=0, rows_unchanged=0)
    reason = hold_reason(claim.content) if claim.content else None
    why = "an earlier batch of the table waits for a decision" if reason is None else reason.get("why")
    return replace(_result(table, claim, "held", counts, ()), reason=why)


def _of_record(table: TableSpec, record: BatchRecord) -> TableResult:
    return TableResult(
        table.source_table, table.name, "held" if record.state == "held" else "done_before", record.accounting or Accounting(),
        record.batch_id, record.generation, record.fingerprint,
    )  # fmt: skip


def _result(table: TableSpec, claim: Claim, outcome: Outcome, counts: Accounting, partitions: tuple[str, ...]) -> TableResult:
    fingerprint = claim.content.fingerprint if claim.content else None
    return TableResult(table.source_table, table.name, outcome, counts, claim.batch_id, claim.generation, fingerprint, partitions)


def _together(table: TableSpec, done: list[TableResult]) -> TableResult:
    if not done:
        return TableResult(table.source_table, table.name, "nothing_new")
    if len(done) == 1:
        return done[0]
    last = done[-1]
    outcome: Outcome = (
        "held" if any(r.outcome == "held" for r in done) else "loaded" if any(r.outcome == "loaded" for r in done) else last.outcome
    )
    return TableResult(
        table.source_table, table.name, outcome, sum((r.accounting for r in done), Accounting()), last.batch_id,
        last.generation, last.fingerprint, tuple(sorted({p for r in done for p in r.partitions})),
    )  # fmt: skip
