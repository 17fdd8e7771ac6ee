"""`dataops plan`: what an edit of the inventory does to DAGs and tables, and what of it is dangerous."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dag_factory.cli.report import Code, Context, Report, UsageError, inventory_problems, problem
from dag_factory.cli.source import open_inventory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dag_factory.inventory_plan import InventoryPlan, SourcePlan

MARKS = {"add": ("+", "green"), "change": ("~", "yellow"), "rename": (">", "yellow"), "retire": ("-", "red")}
MOST_LINES = 12
"""Lines shown of one source for each kind of thing; the document has them all."""


def plan(context: Context, against: str, markdown: bool) -> Report:
    """The plan from `against` (a git revision, or a folder) to the inventory as it is now. Exit code 1 when something is
    dangerous or a row has an error."""
    from dag_factory.bundle.retirement import Limits
    from dag_factory.inventory_plan import plan_inventory, with_mass_removal
    from dag_factory.inventory_revision import NoRevisionError, inventory_at

    if markdown and context.json:
        raise UsageError("Cannot use `--markdown` with `--json`: two documents -> one. Leave one out.")
    after = open_inventory(context)
    try:
        before = inventory_at(after.folder, against)
    except NoRevisionError as error:
        raise UsageError(str(error)) from None
    settings = context.settings
    found = plan_inventory(before, after)
    found = with_mass_removal(found, len(before.rows), Limits(settings.retire_most_rows, settings.retire_most_percent))
    dangers = tuple(
        problem(f"{d.source_id}: {d}", f"danger_{d.code}", source=d.source_id, field=d.field, about=d.about) for d in found.dangers
    )

    def show(console: Console) -> None:
        if markdown:
            from dag_factory.cli.plan_markdown import as_markdown

            console.out(as_markdown(found, against), highlight=False, end="")
        else:
            _show(console, found, against)

    return Report(
        data={
            "inventory": after.folder, "against": against, "counts": found.counts(), "safe": not found.dangers,
            "sources": [s.to_json() for s in found.sources], "unreadable": list(found.unreadable),
        },
        problems=inventory_problems(found.problems) + dangers,
        code=Code.PROBLEMS if found.dangers or found.errors else Code.GOOD,
        show=show,
    )  # fmt: skip


def summary(found: InventoryPlan) -> str:
    """One line: how many of each, and how many dangers."""
    words = {"add": "to add", "change": "to change", "rename": "to rename", "retire": "to retire"}
    counts = found.counts()
    told = [f"{counts[action]} {word}" for action, word in words.items() if counts[action]] or ["nothing to do"]
    told.append(f"{counts['unchanged']} unchanged")
    if counts["unreadable"]:
        told.append(f"{counts['unreadable']} unreadable")
    if found.dangers:
        told.append(f"{len(found.dangers)} dangers")
    if found.errors:
        told.append(f"{len(found.errors)} errors")
    return ", ".join(told)


def value_text(value: Any, most: int = 120) -> str:
    """A value of a field in one short line."""
    import json

    text = value if isinstance(value, str) else "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _show(console: Console, found: InventoryPlan, against: str) -> None:
    from rich.text import Text

    for source in found.sources:
        for line in _lines(source):
            console.print(line, soft_wrap=True)
    for name in found.unreadable:
        console.print(Text(f"? {name}: its row or file has errors; Airflow keeps what it has", style="yellow"), soft_wrap=True)
    for wrong in found.problems:
        console.print(Text(str(wrong), style="red" if wrong.severity == "error" else "yellow"), soft_wrap=True)
    style = "red" if found.dangers or found.errors else "green"
    console.print(Text(f"Against {against}: {summary(found)}", style=style), soft_wrap=True)


def _lines(source: SourcePlan) -> list[Text]:
    from rich.text import Text

    mark, style = MARKS[source.action]
    was = f"  was {source.was}" if source.was else ""
    moves = [word for word, moved in (("schedule", source.moves_schedule), ("target", source.moves_target)) if moved]
    moved = f"  moves: {', '.join(moves)}" if moves and source.action != "add" else ""
    head = Text.assemble((f"{mark} {source.source_id}", f"bold {style}"), f"{was}  DAG {source.dag_id}{moved}")
    lines = [head]
    lines += _some([Text(f"    {f.field}: {value_text(f.before)} -> {value_text(f.after)}") for f in source.fields])
    own = {f.field for f in source.fields}
    lines += _some([
        Text(f"    DAG {f.field}: {value_text(f.before)} -> {value_text(f.after)}" if source.action != "add"
             else f"    DAG {f.field}: {value_text(f.after)}")
        for f in source.dag if f.field not in own
    ])  # fmt: skip
    for table in source.tables:
        place = table.after if table.before in (None, table.after) else f"{table.before} -> {table.after or 'nothing'}"
        lines.append(Text(f"    {MARKS[table.action][0]} table {table.source_table}: {place}"))
        told = [f for f in table.fields if f.field not in own]
        lines += _some([Text(f"        {f.field}: {value_text(f.before)} -> {value_text(f.after)}") for f in told])
    lines += [Text(f"    danger: {danger}", style="red") for danger in source.dangers]
    return lines


def _some(lines: list[Text]) -> list[Text]:
    from rich.text import Text

    rest = len(lines) - MOST_LINES
    return lines if rest <= 0 else [*lines[:MOST_LINES], Text(f"    and {rest} more; `--json` has them all")]
