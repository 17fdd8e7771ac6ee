"""`dataops discover`: the source's blueprint, and a row one could begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import is_selected
from dag_factory.cli.report import Context, Report
from dag_factory.cli.source import matching, new_writer, open_row
from dag_factory.inventory.yaml_text import list_item
from dag_factory.proposal import proposed_row

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.sources.base import SourceTable


def discover(context: Context, source: str, table: str | None) -> Report:
    """All tables the source shows, the ones its row takes marked, with a proposed row. Reads no data (files: their heads)."""
    from airflow_dataops.open_edges import open_edges

    spec, inventory = open_row(context, source)
    with (
        context.progress.status(f"Looking at {source} …"),
        open_edges(spec, context.settings, writer=new_writer(), platform=inventory.platform) as edges,
    ):
        found = edges.source.discover()
    wanted = set(matching([t.name for t in found], table, "the source's tables"))
    tables = [t for t in found if t.name in wanted]
    proposed = proposed_row(inventory.all_rows[spec.id].tree, spec, tables)

    def show(console: Console) -> None:
        _show(console, spec, tables)
        console.print("\nA row one could begin with:\n")
        console.print("\n".join(list_item(proposed)), markup=False, soft_wrap=True, emoji=False)

    return Report(
        data={"source": source, "tables": [_json(spec, t) for t in tables], "proposed": proposed},
        show=show,
    )


def _json(spec: PipelineSpec, table: SourceTable) -> dict[str, Any]:
    from airflow_dataops.core.types_text import type_to_text

    return {
        "name": table.name,
        "selected": is_selected(spec, table.name),
        "columns": [
            {"name": c.name, "type": type_to_text(c.type), "nullable": c.nullable, "comment": c.comment} for c in table.schema
        ],
        "keys": list(table.schema.keys),
        "rows_estimate": table.rows_estimate,
        "bytes_estimate": table.bytes_estimate,
        "comment": table.comment,
        "traits": dict(table.traits),
    }


def _show(console: Console, spec: PipelineSpec, tables: Sequence[SourceTable]) -> None:
    from rich.table import Table
    from rich.text import Text

    from airflow_dataops.core.types_text import type_to_text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("table", "taken", "columns", "keys"):
        shown.add_column(title, overflow="fold")
    shown.add_column("rows about", justify="right")
    for t in tables:
        columns = ", ".join(f"{c.name} {type_to_text(c.type)}" for c in t.schema)
        rows = "" if t.rows_estimate is None else f"{t.rows_estimate:,}"
        taken = "yes" if is_selected(spec, t.name) else "no"
        shown.add_row(Text(t.name), taken, Text(columns), Text(", ".join(t.schema.keys)), rows)
    console.print(shown)
