"""`dataops lint`: every problem at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dag_factory.cli.report import Code, Context, Report, inventory_problems
from dag_factory.cli.source import open_inventory

if TYPE_CHECKING:
    from rich.console import Console


def lint(context: Context) -> Report:
    """Problems of the whole inventory; exit code 1 when there is an error (warnings alone are good)."""
    inventory = open_inventory(context)
    errors = len(inventory.errors)
    warnings = len(inventory.problems) - errors
    bad = len(inventory.all_rows) - len(inventory.rows)

    def show(console: Console) -> None:
        from rich.text import Text

        for problem in inventory.problems:
            style = "red" if problem.severity == "error" else "yellow"
            place, _, rest = str(problem).partition(" ")
            console.print(Text.assemble((place, "bold"), " ", (rest, style)), soft_wrap=True)
        style = "red" if errors else "yellow" if warnings else "green"
        summary = f"{len(inventory.rows)} good rows, {bad} bad rows, {errors} errors, {warnings} warnings in {inventory.folder}"
        console.print(Text(summary, style=style), soft_wrap=True)

    return Report(
        data={"inventory": inventory.folder, "rows": len(inventory.rows), "bad_rows": bad, "errors": errors, "warnings": warnings},
        problems=inventory_problems(inventory.problems),
        code=Code.PROBLEMS if errors else Code.GOOD,
        show=show,
    )
