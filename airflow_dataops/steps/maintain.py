"""What the maintenance does for a table beside sweeping it: columns of old partitions follow, files that engines cannot read under
the table's types and many small files are written again. From the ledger: which tables, and which of their partitions. No source
has to be up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.readers import READERS, Reader, parse_readers
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import FileFacts, KnownTable, Ledger, PartitionName
from airflow_dataops.steps.alone import Alone
from airflow_dataops.steps.cascade import cascade
from airflow_dataops.steps.compact import CompactionPlan, PartitionCompacted, candidates, compact_partition, look
from airflow_dataops.steps.continue_renamed import Moved, continue_renamed
from airflow_dataops.steps.held import known_table
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import current_table

log = logging.getLogger(__name__)

LEARNED_PER_ROUND = 200
"""Partitions of a table whose files are looked at, because they were decided before anybody counted."""


@dataclass(slots=True)
class Limits:
    """What one round may do. `bytes`: of files that are written again, of all tables together; the first partition of a round is
    taken whatever its size. `rewrite`: whether files that one of `readers` does not read are written again, or only named."""

    bytes: int = 1 << 30
    rewrite: bool = True
    readers: frozenset[Reader] = READERS
    spent: int = 0

    def allows(self, plan: CompactionPlan) -> bool:
        return not self.spent or self.spent + plan.bytes <= self.bytes


def limits_of(settings: MaintenanceSettings) -> Limits:
    """As the `[dataops]` settings say. InventoryError for words that they do not know."""
    if settings.old_types not in ("rewrite", "list"):
        raise InventoryError(
            f"Cannot use setting [dataops] old_types: {settings.old_types!r} -> rewrite or list. It says what becomes of files "
            "that an engine cannot read under the table's types. Correct it."
        )
    return Limits(settings.compaction_bytes, settings.old_types == "rewrite", parse_readers(settings.readers))


class MaintenanceSettings(Protocol):
    """Those of the settings that this is about."""

    @property
    def compaction_bytes(self) -> int: ...

    @property
    def old_types(self) -> str: ...

    @property
    def readers(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TableMaintained:
    """What was done for one table. `cascaded`: partitions whose columns followed; `renamed`: those
    whose values of a new column went into the one that it continues. `more`: something is left for the next round."""

    source_id: str
    target: str
    cascaded: int = 0
    partitions: tuple[PartitionCompacted, ...] = ()
    more: bool = False
    error: str | None = None
    error_code: str | None = None
    renamed: int = 0

    @property
    def changed(self) -> bool:
        return bool(self.cascaded or self.partitions or self.renamed)

    @property
    def failed(self) -> bool:
        return self.error is not None or any(p.outcome == "failed" for p in self.partitions)

    @property
    def why_failed(self) -> str:
        """One line; never a value of a record."""
        if self.error is not None:
            return f"{self.error_code}: {self.error}"
        return "; ".join(f"{p.error_code}: {p.error}" for p in self.partitions if p.outcome == "failed")


@dataclass(frozen=True, slots=True)
class MaintainResult:
    """All tables with a commit since the last round, as far as the limits went."""

    tables: tuple[TableMaintained, ...] = field(default=())

    @property
    def failures(self) -> tuple[TableMaintained, ...]:
        return tuple(t for t in self.tables if t.failed)

    def to_json(self) -> dict[str, Any]:
        return {"tables": [asdict(t) for t in self.tables]}


def maintain(
    specs: Iterable[PipelineSpec], ledger: Ledger, opened: Callable[[PipelineSpec], AbstractContextManager[Edges]], limits: Limits
) -> MaintainResult:
    """Every table of these rows with a commit since the last round. A failing table, or a source whose edges cannot be opened,
    never stops others: it is reported, and comes again."""
    rows = {spec.id: spec for spec in specs}
    by_source: dict[str, list[KnownTable]] = {}
    for known in ledger.maintenance.due():
        if known.source_id in rows:
            by_source.setdefault(known.source_id, []).append(known)
    done: list[TableMaintained] = []
    for source_id, tables in by_source.items():
        with Alone(log, f"source {source_id} could not be maintained") as failed, opened(rows[source_id]) as edges:
            done += [_maintain_known(rows[source_id], known, edges, limits) for known in tables]
            continue
        done += [TableMaintained(known.source_id, known.target, **failed.why) for known in tables]
    return MaintainResult(tuple(done))


def _maintain_known(spec: PipelineSpec, known: KnownTable, edges: Edges, limits: Limits) -> TableMaintained:
    with Alone(log, f"table {known.target} could not be maintained") as failed:
        done = maintain_table(known_table(spec, known), edges, limits)
        if not done.more and not done.failed:
            edges.ledger.maintenance.done(known)
        return replace(done, source_id=known.source_id)
    return TableMaintained(known.source_id, known.target, **failed.why)


def maintain_table(table: TableSpec, edges: Edges, limits: Limits, only: Sequence[PartitionName] | None = None) -> TableMaintained:
    """Columns first: files are written under the table's. `only`: files of these partitions alone."""
    shown = current_table(edges, table)
    if shown is None:
        return TableMaintained(table.source_id, table.name)
    moved = continue_renamed(table, edges) if only is None else Moved()
    followed = cascade(table, edges)
    more = learn(table, edges) or bool(followed.left or moved.left)
    partitions: list[PartitionCompacted] = []
    for plan in plans(table, shown, edges, limits, only):
        if not _is_wanted(plan, limits):
            partitions.append(told_only(plan))
            continue
        if not limits.allows(plan):
            more = True
            break
        limits.spent += plan.bytes
        partitions.append(compact_partition(table, plan, shown, edges))
    more = more or any(p.outcome in ("busy", "overtaken") for p in partitions)
    return TableMaintained(
        table.source_id, table.name, followed.partitions, tuple(partitions), more, moved.error, moved.error_code,
        len(moved.partitions),
    )  # fmt: skip


def plans(
    table: TableSpec, shown: CatalogTable, edges: Edges, limits: Limits, only: Sequence[PartitionName] | None = None
) -> Iterable[CompactionPlan]:
    """Partition by partition, unreadable ones first; their footers are read as they come."""
    schema = TableSchema(shown.columns)
    for _, decision in candidates(table, schema, limits.readers, edges, only):
        plan = look(table, decision, schema, limits.readers, edges)
        if plan is not None:
            yield plan


def _is_wanted(plan: CompactionPlan, limits: Limits) -> bool:
    return limits.rewrite or plan.why != "old_types"


def told_only(plan: CompactionPlan) -> PartitionCompacted:
    """What would be done."""
    columns = {name: sorted(fail) for name, fail in plan.columns.items()}
    return PartitionCompacted(
        plan.decision.name, "planned", plan.why, plan.decision.rows, plan.bytes, plan.files, 0, columns
    )  # fmt: skip


def learn(table: TableSpec, edges: Edges) -> bool:
    """Looks at files of partitions that were decided before the ledger kept what they are. Whether some are left."""
    unknown = edges.ledger.maintenance.without_facts(table.key, LEARNED_PER_ROUND)
    found = {}
    for name, decision in unknown.items():
        footers = [edges.lake.footer(entry.path) for entry in edges.lake.list(decision.location)]
        found[name] = (decision.epoch, FileFacts.of(len(footers), (TableSchema.of_arrow(f.schema) for f in footers)))
    if found:
        edges.ledger.maintenance.learn(table.key, found)
    return len(unknown) == LEARNED_PER_ROUND
