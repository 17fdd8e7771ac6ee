"""The `drift_sync` step: creates and evolves tables from what the source *declares*, before any row is read.

`load` plans again from what the data shows; both use the same plan. Sources that declare nothing (text files) are left
to `load`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_dataops.core.approval import renames_of
from airflow_dataops.core.continued import plan_folding, privacy_under
from airflow_dataops.core.drift import TableCreated
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.core.privacy import privacy_schema
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.standards import standard_columns
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.ledger.base import Noticed
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.notice import notice_declared
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import current_table, ensure_table, plan_table

UNDECLARED_KINDS = frozenset({"files"})


@dataclass(frozen=True, slots=True)
class DriftSyncResult:
    """Names of target tables by what happened; `held` and `failed` with the reason."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "created": list(self.created), "changed": list(self.changed), "same": list(self.same),
            "held": [list(h) for h in self.held], "failed": [list(f) for f in self.failed],
        }  # fmt: skip


def drift_sync(spec: PipelineSpec, edges: Edges, tables: Sequence[SourceTable]) -> DriftSyncResult:
    """Never raises for one table: a failed one is reported here, and again by `load`, which then fails for it."""
    if spec.kind in UNDECLARED_KINDS:
        return DriftSyncResult()
    found: dict[str, list[Any]] = {"created": [], "changed": [], "same": [], "held": [], "failed": []}
    for declared in tables:
        try:
            outcome, entry = _sync(spec, edges, declared)
        except DataOpsError as error:
            outcome, entry = "failed", (declared.name, str(error))
        found[outcome].append(entry)
    return DriftSyncResult(**{name: tuple(entries) for name, entries in found.items()})


def _sync(spec: PipelineSpec, edges: Edges, declared: SourceTable) -> tuple[str, Any]:
    if "problem" in declared.traits:
        raise InventoryError(declared.traits["problem"])
    table = table_spec(spec, declared.name, edges.state_id)
    approved = edges.ledger.holds.approvals(table.key)
    shown = plan_folding(declared.schema, renames_of(approved)).schema
    observed = privacy_schema(shown, privacy_under(shown.names, table.privacy, renames_of(approved)))
    current = current_table(edges, table)
    plan = plan_table(table, current, observed, approved)
    noticed = notice_declared(table, declared, plan, edges) if current is not None else Noticed()
    if plan.hold:
        return "held", (table.name, "; ".join(str(change) for change in plan.hold))
    if any(isinstance(change, TableCreated) for change in plan.dead_letter):
        return "same", table.name  # `contract.tables: discard_row`: a table made here would let the rows in
    wanted = TableSchema((*plan.schema.columns, *standard_columns(table.standards, False)))
    why, comment = "drift_sync: declared schema", declared.comment
    after = ensure_table(edges, table, wanted, why=why, comment=comment, retired=noticed.retired if current else None)
    if current is None:
        return "created", table.name
    return ("changed" if after.version != current.version else "same"), table.name
