"""Decisions that no batch stands behind, shown to readers: mark, project, verify, clear (DESIGN §5.6–5.7)."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_dataops.core.errors import ConflictError
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import PartitionName
from airflow_dataops.steps.publish import TRIES, against_catalog, project
from airflow_dataops.steps.run import Edges


def show_decided(table: TableSpec, names: Sequence[PartitionName], edges: Edges) -> None:
    """Until the catalog shows what is decided for these partitions. Whoever dies in here leaves marks: the sweep goes on."""
    for _ in range(TRIES):
        project(table, edges.ledger.decisions.mark(table.key, names, edges.writer), edges)
        current, differing = against_catalog(table, names, edges)
        if not differing:
            edges.ledger.decisions.clear_marks(table.key, edges.writer, {name: d.epoch for name, d in current.items()})
            return
    raise ConflictError(f"Cannot show {table.name}: the catalog differed {TRIES} times -> the decisions. The sweep tries again.")
