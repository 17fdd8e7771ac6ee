"""`dataops doctor`: what is wrong with the configuration of this Airflow for so many rows, and how to fix it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dag_factory.cli.report import Code, Context, Report, UsageError
from dag_factory.cli.source import open_inventory
from dag_factory.inventory import Inventory

if TYPE_CHECKING:
    from rich.console import Console

    from dag_factory.doctor.finding import Finding, Severity

MOST_ROWS = 10_000_000
STYLES: dict[Severity, str] = {"error": "red", "down": "red", "warning": "yellow", "note": "dim"}


def doctor(context: Context, rows: int | None) -> Report:
    """Findings of all rules. Exit code 3 when a system did not answer, 1 when something will not work, 0 otherwise: warnings and
    notes alone are good."""
    if rows is not None and not 1 <= rows <= MOST_ROWS:
        raise UsageError(f"Cannot use `--rows` {rows} -> 1 to {MOST_ROWS}.")
    inventory = _inventory(context, rows)
    count = rows or max(1, len(inventory.rows))
    with context.progress.status("Reading Airflow's configuration, asking the systems …"):
        found, more = _findings(context, inventory, count)
    severities = Counter(finding.severity for finding in found)
    code = Code.NOT_DONE if severities["down"] else Code.PROBLEMS if severities["error"] else Code.GOOD

    def show(console: Console) -> None:
        _show(console, found, severities, count)

    return Report(
        data={"rows": count, "inventory_rows": len(inventory.rows), **more},
        problems=tuple(finding.to_json() for finding in found),
        code=code,
        show=show,
    )


def _findings(context: Context, inventory: Inventory, rows: int) -> tuple[tuple[Finding, ...], dict[str, Any]]:
    """What is found, and what was looked at."""
    from dag_factory.cli.fleet_selection import open_airflow
    from dag_factory.doctor.finding import words_of
    from dag_factory.doctor.fleet_rules import cannot_start

    try:
        from dag_factory.doctor.gather import gather  # imports Airflow, which starts itself then
    except Exception as error:  # noqa: BLE001 - of whatever its configuration leads to; it is the finding
        return (cannot_start(words_of(error)),), {"versions": {}, "executor": None}
    from dag_factory.doctor.rules import findings

    facts = gather(context.settings, inventory, rows, lambda: open_airflow(context).pools())
    return findings(facts), {"versions": dict(facts.versions), "executor": facts.executor}


def _inventory(context: Context, rows: int | None) -> Inventory:
    """The bundle may read another place than this machine's folder: with a number of rows none is needed."""
    try:
        return open_inventory(context)
    except UsageError as error:
        if rows is None:
            raise UsageError(f"{error} Or say `--rows`.") from None
        return Inventory(context.settings.inventory, (), ())


def _show(console: Console, found: tuple[Finding, ...], severities: Counter[Severity], rows: int) -> None:
    from rich.table import Table
    from rich.text import Text

    if found:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
        for title in ("severity", "what", "found -> expected", "why, and what to do"):
            table.add_column(title, overflow="fold", ratio=None if title == "severity" else 3 if title.startswith("why") else 2)
        for finding in found:
            table.add_row(
                Text(finding.severity, style=STYLES[finding.severity]), Text(finding.subject, style="bold"),
                Text(f"{finding.found} -> {finding.expected}"), Text.assemble(finding.why, " ", (finding.fix, "bold")),
            )  # fmt: skip
        console.print(table)
    counts = ", ".join(f"{severities[name]} {name}" for name in STYLES if severities[name]) or "nothing to say"
    style = "red" if severities["error"] or severities["down"] else "yellow" if severities["warning"] else "green"
    console.print(Text(f"For {rows:,} rows: {counts}.", style=style))
