"""`dataops drift events` and `dataops drift audit`: what changed in sources, and what was done to lake tables, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dag_factory.cli.report import Context, Report, UsageError
from dag_factory.cli.source import open_inventory
from dag_factory.pipeline import unknown_source

if TYPE_CHECKING:
    from rich.console import Console

MOST_SHOWN = 10_000


def events(context: Context, source: str | None, limit: int) -> Report:
    """From the ledger alone. UsageError for a source that neither the ledger nor the inventory knows."""
    from airflow_dataops.ledger import open_ledger

    _check(limit)
    ledger = open_ledger(context.settings.ledger)
    try:
        found = [_event(event) for event in ledger.drift.events(source, limit)]
        is_known = source is None or bool(found or ledger.tables.of_source(source))
    finally:
        ledger.close()
    if source is not None and not is_known:
        inventory = open_inventory(context)
        if source not in inventory.all_rows:
            raise UsageError(str(unknown_source(inventory, source)))

    def show(console: Console) -> None:
        _show_events(console, found)

    return Report(data={"source": source, "events": found}, show=show)


def audit(context: Context, table: str, limit: int) -> Report:
    """Every statement that changed this lake table, from the ledger alone."""
    from airflow_dataops.ledger import open_ledger

    _check(limit)
    ledger = open_ledger(context.settings.ledger)
    try:
        keys = [known.table_key for known in ledger.tables.of_target(table)]
        found = [entry for key in keys for entry in ledger.drift.ddl(key, limit)]
    finally:
        ledger.close()
    if not keys:
        raise UsageError(
            f"Cannot look at table {table}: nothing was loaded into it -> <database>.<table> of a loaded table. `dataops status` "
            "names them."
        )
    found = sorted(found, key=lambda entry: -entry["id"])[:limit]
    told = [_statement(entry) for entry in found]

    def show(console: Console) -> None:
        _show_audit(console, told)

    return Report(data={"table": table, "statements": told}, show=show)


def _check(limit: int) -> None:
    if not 1 <= limit <= MOST_SHOWN:
        raise UsageError(f"Cannot use `--limit` {limit} -> 1 to {MOST_SHOWN}.")


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return dict(event) | {"at": _time(event["at"]), "decided_at": _time(event["decided_at"])}


def _statement(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("table_key", "at")} | {"at": _time(entry["at"])}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _show_events(console: Console, found: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not found:
        console.print("Nothing has changed since it was first seen.")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("event", "at", "kind", "table", "what changed", "first batch", "rows", "decision"):
        shown.add_column(title, justify="right" if title in ("event", "rows") else "left", overflow="fold")
    for e in found:
        changes = "\n".join(f"{c['text']} ({c['done']})" for c in e["changes"])
        decision = f"{e['decision']} by {e['decided_by']}" if e["decided_by"] else e["decision"] or "none yet"
        rows = "" if e["rows"] is None else f"{e['rows']:,}"
        shown.add_row(
            str(e["id"]), e["at"], e["kind"], Text(f"{e['source_id']}:{e['source_table']}"), Text(changes), e["batch_id"] or "",
            rows, Text(decision),
        )  # fmt: skip
    console.print(shown)


def _show_audit(console: Console, found: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not found:
        console.print("Nothing was done to it.")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("at", "statement", "what", "why", "event", "who"):
        shown.add_column(title, overflow="fold")
    for entry in found:
        event = "" if entry.get("drift") is None else str(entry["drift"])
        shown.add_row(entry["at"], entry["statement"], Text(_what(entry)), Text(str(entry["why"])), event, Text(str(entry["who"])))
    console.print(shown)


def _what(entry: Mapping[str, Any]) -> str:
    """Columns that are other than before; of partitions, how many."""
    before, after = entry.get("before") or [], entry["after"] or []
    if entry["statement"].endswith("_partitions"):
        return f"{len(before or after):,} partitions"
    if "partitions" in entry:
        return f"{entry['partitions']:,} partitions"
    if entry["statement"] == "create_table":
        return f"{len(after):,} columns"
    gone = [f"- {column}" for column in before if column not in after]
    return "\n".join(gone + [f"+ {column}" for column in after if column not in before]) or "nothing of its columns"
