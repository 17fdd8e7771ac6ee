"""Sweep and expire (DESIGN §5.9–5.10): what others left unfinished is finished, what nobody needs is deleted. From the
ledger alone: no source has to be up.

A run of a table sweeps that table first; the maintenance sweeps every table that the ledger knows to be not at rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow_dataops.core.errors import ConflictError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import KnownTable, Ledger, PartitionName
from airflow_dataops.steps.alone import Alone
from airflow_dataops.steps.held import drain, known_table
from airflow_dataops.steps.publish import TRIES, against_catalog, finish, project
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import current_table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TableSwept:
    """What was done for one table: batches `finished` (published and committed), `held` (they wait for a person), `left` to
    the live run that holds them; of those that waited, `released` (published as was decided) and `rejected`; partitions
    `projected` because the catalog differed from the decision; directories `expired`.
    """

    source_id: str
    target: str
    finished: int = 0
    held: int = 0
    left: int = 0
    projected: int = 0
    expired: int = 0
    released: int = 0
    rejected: int = 0
    error: str | None = None
    error_code: str | None = None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.finished or self.held or self.projected or self.expired or self.released or self.rejected)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """All tables that had work. `strangers` are ids of sources with work that no row stands for any more: nobody can say
    where their lake is, so nothing was done for them."""

    tables: tuple[TableSwept, ...] = ()
    strangers: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[TableSwept, ...]:
        return tuple(t for t in self.tables if t.error is not None)

    def to_json(self) -> dict[str, Any]:
        return {"tables": [asdict(t) for t in self.tables], "strangers": list(self.strangers)}


def sweep(
    specs: Iterable[PipelineSpec], ledger: Ledger, opened: Callable[[PipelineSpec], AbstractContextManager[Edges]]
) -> SweepResult:
    """Every table of these rows that the ledger knows to have work. `opened` gives the edges of a row; they need no source.

    A batch of a live run is left alone until its lease is over. A failing table, or a source whose edges cannot be opened,
    never stops others: it is reported.
    """
    rows = {spec.id: spec for spec in specs}
    by_source: dict[str, list[KnownTable]] = {}
    for known in ledger.tables.with_work():
        by_source.setdefault(known.source_id, []).append(known)
    swept: list[TableSwept] = []
    for source_id, tables in by_source.items():
        if source_id in rows:
            swept += _sweep_source(rows[source_id], tables, opened)
    return SweepResult(tuple(swept), tuple(source_id for source_id in by_source if source_id not in rows))


def _sweep_source(
    spec: PipelineSpec, tables: list[KnownTable], opened: Callable[[PipelineSpec], AbstractContextManager[Edges]]
) -> list[TableSwept]:
    with Alone(log, f"source {spec.id} could not be swept") as failed, opened(spec) as edges:
        return [_sweep_known(spec, known, edges) for known in tables]
    return [TableSwept(known.source_id, known.target, **failed.why) for known in tables]


def _sweep_known(spec: PipelineSpec, known: KnownTable, edges: Edges) -> TableSwept:
    with Alone(log, f"table {known.target} could not be swept") as failed:
        table = known_table(spec, known)
        done = sweep_table(table, edges, leave_live=True)
        return replace(done, expired=expire_table(table, edges))
    return TableSwept(known.source_id, known.target, **failed.why)


def sweep_table(table: TableSpec, edges: Edges, *, leave_live: bool = False) -> TableSwept:
    """Finishes frozen and decided batches in order, then what waited and may go on by now, then projects partitions with pending
    marks. `leave_live`: only batches whose lease is over; else all of them, because a run that comes may finish what stands
    before it. A released batch that cannot go on says so in `error` and stops nothing: it keeps its place."""
    finished = held = left = 0
    for record in edges.ledger.batches.unfinished(table.key):
        claim = edges.ledger.batches.adopt(
            table.key, record.batch_id, record.generation, edges.writer, edges.nonce(), edges.lease_seconds, leave_live=leave_live
        )
        if claim is None:  # by now somebody else is at it, or has done it
            left += 1
            continue
        done = finish(table, claim, edges)
        finished, held = finished + (done is not None), held + (done is None)
    drained = drain(table, edges)
    projected = 0
    if edges.ledger.decisions.marked(table.key) and current_table(edges, table) is not None:
        projected = project_marked(table, edges)
    return TableSwept(
        table.source_id, table.name, finished, held + len(drained.asked), left, projected, 0, len(drained.published),
        len(drained.rejected), drained.error, drained.error_code,
    )  # fmt: skip


def show_standing(table: TableSpec, names: Sequence[PartitionName], edges: Edges) -> None:
    """An unchanged batch publishes nothing, but readers must be shown what stands: where the catalog shows something else of
    ours, or nothing, it is projected again. ForeignChangeError when it shows a place that was never ours."""
    _, differing = against_catalog(table, names, edges)
    if differing:
        log.warning("table %s: the catalog did not show what is decided; shown again: %s", table.name, [d.name for d in differing])
        edges.ledger.decisions.mark(table.key, [d.name for d in differing], edges.writer)
        project_marked(table, edges)


def project_marked(table: TableSpec, edges: Edges) -> int:
    """Returns how many partitions showed something else than what is decided."""
    names = sorted({name for _, name, _, _ in edges.ledger.decisions.marked(table.key)})
    projected = 0
    for _ in range(TRIES):
        decisions, differing = against_catalog(table, names, edges)
        if differing:
            projected = max(projected, len(differing))
            project(table, edges.ledger.decisions.mark(table.key, names, edges.writer), edges)
            continue
        verified = {name: d.epoch for name, d in decisions.items()}
        edges.ledger.decisions.clear_marks(table.key, edges.writer, verified)
        edges.ledger.decisions.clear_stale_marks(table.key, edges.dead_after_seconds, verified)
        return projected
    raise ConflictError(f"Cannot project {table.name}: the catalog differed {TRIES} times -> the decisions. Try again later.")


def expire_table(table: TableSpec, edges: Edges) -> int:
    """Deletes directories that the ledger, and only the ledger, says nobody can need (DESIGN §5.10). Returns how many."""
    gone = 0
    for directory in edges.ledger.directories.expirable(table.key, edges.grace_seconds, edges.dead_after_seconds):
        edges.lake.delete_directory(directory)
        edges.ledger.directories.forget(table.key, directory)
        gone += 1
    return gone
