"""Cascade (DESIGN §5.4): after a table's columns changed, those of its old partitions follow, so that what is loaded into one
again is not NULL to readers. Each is a decision: same place, same rows, other columns. Nothing is read from the catalog to be
written back (A18), and nothing is stored beside: what is left are the partitions whose decided columns are behind.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.errors import DataOpsError
from airflow_dataops.core.promotion import is_widening
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.core.types_text import type_to_text
from airflow_dataops.ledger.base import Decision, PartitionName
from airflow_dataops.steps.publish import refuse_foreign
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.show import show_decided
from airflow_dataops.steps.target import current_table

log = logging.getLogger(__name__)

BATCH = 500
"""Partitions of one decision and one call to the catalog."""

FEW = 100
"""As many a run cascades itself; the rest is the maintenance's."""


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """These partitions get these columns; it assumes that their epochs are still those."""

    schema: TableSchema
    built_on: Mapping[PartitionName, int]
    values: Mapping[PartitionName, tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class Cascaded:
    """Partitions whose columns were changed, and those that a batch kept us from: they come again."""

    partitions: int = 0
    left: int = 0


def is_behind(shown: TableSchema, table: CatalogTable) -> bool:
    """Whether a partition with these columns lacks some of its table's, or has narrower ones. One that has more is ahead of what
    was read of the table, and stays as it is. Comments do not count."""
    now = {c.name: c.type for c in table.columns}
    if [(c.name, type_to_text(c.type)) for c in shown] == [(name, type_to_text(kind)) for name, kind in now.items()]:
        return False
    return all(c.name in now and is_widening(c.type, now[c.name]) for c in shown)


def plan_cascade(table: CatalogTable, decisions: Mapping[PartitionName, Decision]) -> CascadePlan:
    """Nothing for a table without partitions: its columns are the partition's."""
    behind = {n: d for n, d in decisions.items() if is_behind(d.schema, table)} if table.partition_columns else {}
    return CascadePlan(
        TableSchema(table.columns), {n: d.epoch for n, d in behind.items()}, {n: d.values for n, d in behind.items()}
    )  # fmt: skip


def apply_cascade(table: TableSpec, plan: CascadePlan, edges: Edges) -> Cascaded:
    """Decides, then shows. A partition that is claimed, or was decided since, is left."""
    if not plan.built_on:
        return Cascaded()
    refuse_foreign(table, dict(plan.values), edges)
    work_id = f"cascade-{edges.nonce()}"
    decided = edges.ledger.maintenance.recolumn(table.key, work_id, edges.writer, plan.built_on, plan.schema)
    if decided:
        show_decided(table, [d.name for d in decided], edges)
        names = sorted(d.name for d in decided)
        edges.ledger.drift.record_ddl(
            {
                "table_key": table.key, "target": table.name, "statement": "cascade_columns", "who": edges.writer, "why": work_id,
                "before": None, "after": [f"{c.name} {type_to_text(c.type)}" for c in plan.schema],
                "partitions": len(names), "first": names[0], "last": names[-1],
            }
        )  # fmt: skip
    return Cascaded(len(decided), len(plan.built_on) - len(decided))


def cascade(table: TableSpec, edges: Edges, *, most: int | None = None) -> Cascaded:
    """All partitions that are behind, in batches; those beyond `most` are left. Killed anywhere, the next one goes on."""
    shown = current_table(edges, table)
    if shown is None or not shown.partition_columns:
        return Cascaded()
    done, after = Cascaded(), None
    while found := edges.ledger.maintenance.shown(table.key, lambda schema: is_behind(schema, shown), after, BATCH):
        room = len(found) if most is None else min(len(found), most - done.partitions)
        taken = dict(list(found.items())[:room])
        batch = apply_cascade(table, plan_cascade(shown, taken), edges)
        done = Cascaded(done.partitions + batch.partitions, done.left + batch.left + len(found) - len(taken))
        if room < len(found):
            break
        after = list(found)[-1]
    return done


def cascade_few(table: TableSpec, edges: Edges) -> None:
    """At the end of a run: nothing when more than a few partitions are behind. Whether any can be is asked of the ledger alone, so
    a run that changes nothing does not ask the catalog for it. The rows are published whatever comes of this: what fails here is
    left to the maintenance, which reports it."""
    try:
        if not table.target.partition_by or not edges.ledger.maintenance.differ(table.key):
            return
        shown = current_table(edges, table)
        if shown is None:
            return
        found = edges.ledger.maintenance.shown(table.key, lambda schema: is_behind(schema, shown), None, FEW + 1)
        if len(found) <= FEW:
            apply_cascade(table, plan_cascade(shown, found), edges)
    except DataOpsError as error:
        log.warning("columns of old partitions of %s do not follow yet, the maintenance comes to it: %s", table.name, error)
