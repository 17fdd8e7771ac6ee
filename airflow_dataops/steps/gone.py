"""Tables that the source does not list any more, and those that are back: told once, marked in the catalog, never dropped."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from airflow_dataops.core.errors import ConflictError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, is_selected, table_spec
from airflow_dataops.ledger.base import Observation
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.discover import MISSING
from airflow_dataops.steps.drift_sync import UNDECLARED_KINDS
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import record_ddl

GONE = "dataops.gone"
"""Table parameter with the day (UTC) since which the source does not list the table."""
TRIES = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GoneResult:
    """Target tables: `gone` now, `held` of them (`contract.tables: freeze`: somebody has to look), and those that `returned`."""

    gone: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


def notice_tables(spec: PipelineSpec, edges: Edges, listed: Iterable[SourceTable]) -> GoneResult:
    """Compares what `discover` found with the tables that the row has loaded before and still takes. Sources that declare
    nothing are left alone: an emptied folder is no table that is gone."""
    if spec.kind in UNDECLARED_KINDS:
        return GoneResult()
    there = {one.name for one in listed if MISSING not in one.traits}
    before = edges.ledger.drift.gone(spec.id)
    found: dict[str, list[str]] = {"gone": [], "held": [], "returned": []}
    for known in edges.ledger.tables.of_source(spec.id):
        table = table_spec(spec, known.source_table, edges.state_id)
        if known.committed_at is None or not is_selected(spec, known.source_table) or table.key != known.table_key:
            continue
        if known.source_table in there:
            if known.table_key in before:
                mark_gone(table, edges, None)
                edges.ledger.drift.observe_table(_observation(table), present=True)
                found["returned"].append(table.name)
        else:
            event_id = edges.ledger.drift.observe_table(_observation(table), present=False)
            mark_gone(table, edges, event_id, gone=True)
            for outcome in ("gone", "held") if table.contract.tables == "freeze" else ("gone",):
                found[outcome].append(table.name)
    return GoneResult(**{name: tuple(tables) for name, tables in found.items()})


def mark_gone(table: TableSpec, edges: Edges, event_id: int | None, *, gone: bool = False) -> None:
    """Sets or takes away the mark in the catalog; nothing when it is so already."""
    for _ in range(TRIES):
        shown = edges.catalog.get_table(table.database, table.table)
        if shown is None or (GONE in shown.parameters) is gone:
            return
        parameters = {key: value for key, value in shown.parameters.items() if key != GONE}
        if gone:
            parameters[GONE] = time.strftime("%Y-%m-%d", time.gmtime(edges.clock()))
        try:
            after = edges.catalog.alter_table(shown, replace(shown, parameters=parameters))
        except ConflictError as error:
            log.info("table %s was changed by somebody else meanwhile: %s", table.name, error)
            continue
        why = "the source does not list the table" if gone else "the source lists the table again"
        record_ddl(edges, table, "alter_table", why, shown, after, event_id)
        return
    raise ConflictError(
        f"Cannot mark table {table.name}: it was changed {TRIES} times meanwhile -> a quiet moment. The next run tries."
    )


def _observation(table: TableSpec) -> Observation:
    return Observation(table.key, table.source_id, table.source_table, table.name, None, contract=table.contract)
