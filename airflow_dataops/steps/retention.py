"""`target.retention_days`: partitions whose time was over for long enough are dropped, and their files go after the grace.

A drop is a decision of the ledger like any other (docs/partitions.md): decided, then taken from the catalog, then verified; what
stood there is superseded, and expires like every directory that was replaced. What dies in between is finished by the sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.partition_age import PartitionAge, PeriodEnd, partition_age, refuse_ageless, retention_floor
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec, TableEntry
from airflow_dataops.core.table_spec import TableSpec, is_selected, table_spec
from airflow_dataops.ledger.base import Decision, KnownTable, Ledger, PartitionRecord
from airflow_dataops.steps.alone import Alone
from airflow_dataops.steps.drop_limits import DropLimits
from airflow_dataops.steps.held import known_table
from airflow_dataops.steps.publish import foreign_partitions
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.sweep import project_marked

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Partitions of one decision: what one transaction, and one call of a metastore, can take."""


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """What of a table is over its retention: `drop` in order of age, each assumed to stand at its epoch. `standing` counts all of
    its partitions that stand, `undated` those of them that name no time (NULL, or a text that is none) and never expire."""

    table: TableSpec
    over_before: float
    drop: tuple[Decision, ...] = ()
    standing: int = 0
    undated: int = 0


@dataclass(frozen=True, slots=True)
class TableExpired:
    """What became of a plan: partitions `dropped`, `left` for later (somebody is loading them), `foreign` ones that the catalog
    shows at a place that was never ours, and that nobody touches."""

    source_id: str
    target: str
    dropped: tuple[str, ...] = ()
    rows: int = 0
    left: int = 0
    foreign: tuple[str, ...] = ()
    undated: int = 0
    error: str | None = None
    error_code: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ExpiryResult:
    """All tables of rows with a retention that had something to drop, or failed."""

    tables: tuple[TableExpired, ...] = field(default=())

    @property
    def failures(self) -> tuple[TableExpired, ...]:
        return tuple(t for t in self.tables if t.error is not None)


def plan_expiry(table: TableSpec, records: Iterable[PartitionRecord], now: float, period_end: PeriodEnd | None) -> ExpiryPlan:
    """`records`: all of the table's partitions. InventoryError when the row sets no retention, or no partition column tells the
    time."""
    floor = retention_floor(now, table.target.retention_days)
    if floor is None:
        raise InventoryError(
            f"Cannot expire partitions of {table.name}: `target.retention_days` is unset -> a number of days. Nothing says how "
            "long they are kept. Set it in the row."
        )
    ages: dict[int, tuple[TableSchema, PartitionAge]] = {}  # by the schema's identity: thousands of partitions share a handful
    drop: list[tuple[float, Decision]] = []
    standing = undated = 0
    for record in records:
        decision = record.decision
        if decision.dropped:
            continue
        standing += 1
        if id(decision.schema) not in ages:
            by = table.target.partition_by
            age = partition_age(by, decision.schema, table.timezone, period_end)
            refuse_ageless(table.name, "target.retention_days", by, decision.schema, age)
            ages[id(decision.schema)] = decision.schema, age
        end = ages[id(decision.schema)][1].end(decision.values)
        undated += end is None
        if end is not None and end <= floor:
            drop.append((end, decision))
    drop.sort(key=lambda found: (found[0], found[1].name))
    return ExpiryPlan(table, floor, tuple(decision for _, decision in drop), standing, undated)


def check_expiry(plan: ExpiryPlan, limits: DropLimits) -> None:
    """LimitError when more would be dropped at once than may be without a person's word."""
    limits.check(
        f"expire partitions of {plan.table.name}",
        len(plan.drop),
        plan.standing,
        f"A `retention_days` that was just set, or set wrong, does this. Look with `dataops partitions expire {plan.table.name} "
        "--dry-run`; with `--limit` so many are dropped.",
    )


def apply_expiry(plan: ExpiryPlan, edges: Edges) -> TableExpired:
    """Drops what was planned, oldest first, some hundreds at a time. Partitions that moved on since, or that a batch is working
    on, are left."""
    table = plan.table
    dropped: list[Decision] = []
    foreign: list[str] = []
    for start in range(0, len(plan.drop), AT_ONCE):
        some = plan.drop[start : start + AT_ONCE]
        strange = {p.values for p in foreign_partitions(table, {d.name: d.values for d in some}, edges)}
        foreign += [d.name for d in some if d.values in strange]
        built_on = {d.name: d.epoch for d in some if d.values not in strange}
        if not built_on:
            continue
        audit = {
            "target": table.name, "statement": "drop_partitions", "who": edges.writer,
            "retention_days": table.target.retention_days,
        }  # fmt: skip
        dropped += edges.ledger.partitions.drop(table.key, built_on, "retention", edges.writer, audit)
        project_marked(table, edges)
    names = tuple(d.name for d in dropped)
    rows = sum(d.rows for d in plan.drop if d.name in set(names))
    left = len(plan.drop) - len(names) - len(foreign)
    return TableExpired(table.source_id, table.name, names, rows, left, tuple(foreign), plan.undated)


def all_partitions(ledger: Ledger, table_key: str, page_rows: int = 1000) -> Iterator[PartitionRecord]:
    """Page by page."""
    after: str | None = None
    while page := ledger.partitions.page(table_key, after, page_rows):
        yield from page
        if len(page) < page_rows:
            return
        after = page[-1].decision.name


def expire(
    specs: Iterable[PipelineSpec], ledger: Ledger, opened: Callable[[PipelineSpec], AbstractContextManager[Edges]],
    period_end: Callable[[PipelineSpec], PeriodEnd], limits: DropLimits, now: float,
) -> ExpiryResult:  # fmt: skip
    """Every table of these rows with a retention. Lake and catalog of a row are opened only when something is to be dropped. A
    failing table never stops others: it is reported."""
    found: list[TableExpired] = []
    for spec in specs:
        if not _has_retention(spec):
            continue
        for known in ledger.tables.of_source(spec.id):
            done = _expire_known(spec, known, ledger, opened, period_end, limits, now)
            if done is not None:
                found.append(done)
    return ExpiryResult(tuple(found))


def _has_retention(spec: PipelineSpec) -> bool:
    """Whether the row, or an entry of its tables, sets one."""
    entries = [entry.target or {} for entry in spec.tables if isinstance(entry, TableEntry)]
    return spec.target.retention_days is not None or any(target.get("retention_days") is not None for target in entries)


def keeps_to(spec: PipelineSpec, known: KnownTable) -> bool:
    """Whether the row still loads this table, and into this target. Another one is left as it is."""
    return is_selected(spec, known.source_table) and table_spec(spec, known.source_table).name == known.target


def _expire_known(
    spec: PipelineSpec, known: KnownTable, ledger: Ledger, opened: Callable[[PipelineSpec], AbstractContextManager[Edges]],
    period_end: Callable[[PipelineSpec], PeriodEnd], limits: DropLimits, now: float,
) -> TableExpired | None:  # fmt: skip
    with Alone(log, f"partitions of {known.target} could not be expired") as failed:
        if not keeps_to(spec, known):
            return None
        table = known_table(spec, known)
        if table.target.retention_days is None:
            return None
        plan = plan_expiry(table, all_partitions(ledger, table.key), now, period_end(spec))
        if not plan.drop:
            return None
        check_expiry(plan, limits)
        with opened(spec) as edges:
            return apply_expiry(plan, edges)
    return TableExpired(known.source_id, known.target, **failed.why)
