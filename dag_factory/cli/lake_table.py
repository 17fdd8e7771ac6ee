"""From a lake table's name to the row that loads it, and its opened edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dag_factory.cli.report import Context, UsageError
from dag_factory.cli.source import new_writer, open_inventory
from dag_factory.pipeline import UnknownSourceError, pipeline

if TYPE_CHECKING:
    from airflow_dataops.core.spec import PipelineSpec
    from airflow_dataops.core.table_spec import TableSpec
    from airflow_dataops.ledger.base import KnownTable
    from airflow_dataops.steps.run import Edges


@contextmanager
def open_lake_table(context: Context, table: str) -> Iterator[tuple[PipelineSpec, TableSpec, Edges]]:
    """The row that loads this lake table, the row narrowed to it, and the edges without the source. UsageError without one."""
    from airflow_dataops.ledger import open_ledger
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.steps.held import known_table

    ledger = open_ledger(context.settings.ledger)
    try:
        known = ledger.tables.of_target(table)
    finally:
        ledger.close()
    inventory = open_inventory(context)
    for one in known:
        try:
            spec = pipeline(inventory, one.source_id)
        except UnknownSourceError:
            continue
        with open_edges(
            spec, context.settings, writer=new_writer(), platform=inventory.platform, with_source=False
        ) as edges:  # fmt: skip
            yield spec, known_table(spec, one), edges
        return
    raise UsageError(_no_table(table, known))


def _no_table(table: str, known: Sequence[KnownTable]) -> str:
    if known:
        return (
            f"Cannot look at table {table}: it belongs to {known[0].source_id}, which has no row any more -> a row. Nobody says "
            "where its lake is."
        )
    return (
        f"Cannot look at table {table}: nothing was loaded into it -> <database>.<table> of a loaded table. `dataops status` names "
        "them."
    )
