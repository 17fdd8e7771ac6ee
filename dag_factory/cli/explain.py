"""`dataops explain`: the resolved row, and where each value came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dag_factory.cli.report import Code, Context, Report, UsageError, inventory_problems
from dag_factory.cli.source import open_inventory
from dag_factory.inventory.provenance import explained
from dag_factory.pipeline import unknown_source

if TYPE_CHECKING:
    from rich.console import Console


def explain(context: Context, source: str, table: str | None) -> Report:
    """Every field with value and origin; exit code 1 when the row has an error (it is shown all the same)."""
    inventory = open_inventory(context)
    row = inventory.all_rows.get(source)
    if row is None:
        raise UsageError(str(unknown_source(inventory, source)))
    problems = tuple(p for p in inventory.problems if p.row in (source, "") and p.file in {row.file, *_files(source, row.tree)})
    fields = explained(row, table)
    spec = inventory.get(source)

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        console.print(Text(f"{source}  {row.file}:{row.line}", style="bold"), soft_wrap=True)
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("field", "value", "from"):
            shown.add_column(title, overflow="fold")
        for f in fields:
            shown.add_row(Text(f.field), Text(_text(f.value)), Text(str(f.origin), style="" if f.origin.file else "dim"))
        console.print(shown)
        for problem in problems:
            console.print(Text(str(problem), style="red" if problem.severity == "error" else "yellow"), soft_wrap=True)

    return Report(
        data={
            "source": source, "dag_id": f"ingest__{source.replace('.', '__')}", "file": row.file, "line": row.line, "table": table,
            "fingerprint": spec.fingerprint if spec else None, "fields": [f.to_json() for f in fields],
        },
        problems=inventory_problems(problems),
        code=Code.GOOD if spec is not None else Code.PROBLEMS,
        show=show,
    )  # fmt: skip


def _files(source: str, tree: object) -> set[str]:
    from dag_factory.inventory.merge import leaves

    return {leaf.origin.file for _, leaf in leaves(tree)} if isinstance(tree, dict) else set()


def _text(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
