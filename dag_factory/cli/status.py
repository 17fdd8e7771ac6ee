"""`dataops status`: the last batches with their accounting, how far each table was read, and how old that is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.offset import Scalar, range_to_json, scalar_to_json
from airflow_dataops.core.profile import Profile
from dag_factory.cli.drift import queue_json, show_queues
from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.cli.source import open_inventory
from dag_factory.pipeline import unknown_source

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.ledger.base import BatchRecord, Ledger
    from airflow_dataops.ledger.sources_base import SourceRecord


MOST_BATCHES = 1_000_000


def status(context: Context, source: str | None, limit: int) -> Report:
    """From the ledger alone. Exit code 1 when the last outcome of a table is a failure or a hold."""
    from airflow_dataops.ledger import open_ledger

    if not 1 <= limit <= MOST_BATCHES:
        raise UsageError(f"Cannot use `--limit` {limit} -> 1 to {MOST_BATCHES}.")
    ledger = open_ledger(context.settings.ledger)
    try:
        batches = ledger.batches.history(source_id=source, limit=limit)
        outcomes = _last_outcomes(ledger, source)
        retired = ledger.sources.records(source)
        queues = ledger.holds.queues(source)
        if source is not None and not batches and not outcomes and not retired:
            inventory = open_inventory(context)
            if source not in inventory.all_rows:
                raise UsageError(str(unknown_source(inventory, source)))
        letters = _letters(ledger, source)
        now = time.time()
        gone = {record.source_id for record in retired if record.state in ("retired", "deleted")}
        waiting = {f"{queue.source_id}:{queue.source_table}" for queue in queues}
        newest: dict[str, BatchRecord] = {}
        for batch in batches:
            newest.setdefault(f"{batch.source_id}:{batch.source_table}", batch)
        tables = []
        for name in sorted({*newest, *outcomes}):
            latest = newest.get(name)
            watermark = ledger.offsets.watermark(latest.table_key) if latest else None
            profile = ledger.decisions.profiles(latest.table_key) if latest and source is not None else None
            told = {"retired": name.partition(":")[0] in gone, "profile": _profile(profile), "dead_letters": letters.get(name, {})}
            one = _table(name, latest, outcomes.get(name), watermark, now) | told
            tables.append(one if name in waiting else _let_go(one, latest))
    finally:
        ledger.close()
    retired_tables = {t["table"] for t in tables if t["retired"]}
    problems = tuple(
        problem(
            f"{t['table']}: {t['last_outcome']}. {t['error'] or ''}".strip(), t["error_code"] or t["last_outcome"], table=t["table"]
        )
        for t in tables
        if t["last_outcome"] in ("failed", "held") and not t["retired"]
    )
    named = {p["table"] for p in problems}
    problems += tuple(
        problem(f"{queue.source_id}:{queue.source_table}: {queue.batches} batches wait for an answer", "held", table=name)
        for queue in queues
        if queue.undecided and (name := f"{queue.source_id}:{queue.source_table}") not in {*named, *retired_tables}
    )
    held = [queue_json(queue, now) for queue in queues]
    left = [_retired(record) for record in retired if record.source_id in gone]

    def show(console: Console) -> None:
        _show(console, tables, batches, source)
        show_queues(console, held)
        _show_retired(console, left)

    data = {"source": source, "held": held, "retired": left}
    return Report(
        data={**data, "tables": tables, "batches": [_batch(b) for b in batches]},
        problems=problems,
        code=Code.PROBLEMS if problems else Code.GOOD,
        show=show,
    )


def _letters(ledger: Ledger, source: str | None) -> dict[str, dict[str, int]]:
    """`<source id>:<source table>` → state of dead letters → how many rows they stand for."""
    found: dict[str, dict[str, int]] = {}
    for count in ledger.dead_letters.counts(source):
        of_table = found.setdefault(f"{count.source_id}:{count.source_table}", {})
        of_table[count.state] = of_table.get(count.state, 0) + count.rows
    return found


def _last_outcomes(ledger: Ledger, source: str | None) -> dict[str, Mapping[str, Any]]:
    """`<source id>:<source table>` → what its newest run said of it."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in ledger.runs.latest(source, limit=100_000):
        found.setdefault(f"{entry['source_id']}:{entry['result']['source_table']}", entry)
    return found


def _table(
    name: str, batch: BatchRecord | None, outcome: Mapping[str, Any] | None, watermark: Scalar | None, now: float
) -> dict[str, Any]:
    result = outcome["result"] if outcome else {}
    committed = batch.committed_at if batch else None
    moment = _moment(watermark)
    reached = moment if moment is not None else committed
    return {
        "table": name,
        "target": batch.target if batch else result.get("target"),
        "last_outcome": result.get("outcome"),
        "last_run_at": _time(outcome["at"]) if outcome else None,
        "error": result.get("error") or result.get("reason"),
        "error_code": result.get("error_code"),
        "watermark": scalar_to_json(watermark),
        "last_committed_at": _time(committed),
        "lag_seconds": None if reached is None else max(0, round(now - reached)),
    }


def _let_go(table: dict[str, Any], newest: BatchRecord | None) -> dict[str, Any]:
    """Nothing of the table waits: what its last run held was decided since."""
    if table["last_outcome"] != "held":
        return table
    state = newest.state if newest is not None else "committed"
    return table | {"last_outcome": "rejected" if state == "rejected" else "loaded", "error": None}


def _profile(of: Mapping[str, Profile | None] | None) -> dict[str, Any] | None:
    """All partitions together; None when one of them is unknown. Bounds are None where they are unknown, hidden by privacy, or
    too long to be kept."""
    known = [profile for profile in (of or {}).values() if profile is not None]
    if not of or len(known) < len(of):
        return None
    total = sum(known, Profile.NOTHING)
    columns = {
        name: {"nulls": total.nulls(name), "min": scalar_to_json(column.low), "max": scalar_to_json(column.high)}
        for name, column in total.columns.items()
    }
    return {"rows": total.rows, "columns": columns}


def _moment(value: Scalar | None) -> float | None:
    """POSIX seconds of a watermark that is a moment. A naive one is read as UTC: a lag is a hint, not data."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return None


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _batch(b: BatchRecord) -> dict[str, Any]:
    return {
        "table": f"{b.source_id}:{b.source_table}", "source_table": b.source_table, "target": b.target, "batch_id": b.batch_id,
        "generation": b.generation, "attempt": b.attempt, "sequence": b.sequence, "state": b.state, "scope": b.scope,
        "period": b.period_key, "range": range_to_json(b.range), "run": b.run, "claimed_at": _time(b.claimed_at),
        "frozen_at": _time(b.frozen_at), "committed_at": _time(b.committed_at), "fingerprint": b.fingerprint,
        **(b.accounting or Accounting()).to_json(),
    }  # fmt: skip


def _retired(record: SourceRecord) -> dict[str, Any]:
    """A source that has no row any more. `forgotten_at`: when Airflow forgets, or has forgotten, its DAG."""
    return {
        "source": record.source_id, "state": record.state, "renamed_to": record.renamed_to, "since": _time(record.since),
        "forgotten_at": _time(record.delete_at),
    }  # fmt: skip


def _show_retired(console: Console, retired: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not retired:
        return
    shown = Table(title="\nretired sources", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for title in ("source", "state", "since", "Airflow forgets it", "is called now"):
        shown.add_column(title, overflow="fold")
    for one in retired:
        shown.add_row(Text(one["source"]), one["state"], one["since"], one["forgotten_at"] or "", Text(one["renamed_to"] or ""))
    console.print(shown)


def _show(console: Console, tables: list[dict[str, Any]], batches: tuple[BatchRecord, ...], source: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    if not tables:
        console.print(f"Nothing {'of ' + source + ' ' if source else ''}was loaded yet.", markup=False)
        return
    shown = Table(title="tables", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for title in ("table", "target", "last outcome", "watermark", "lag seconds", "last committed", "dead letters"):
        shown.add_column(title, justify="right" if title == "lag seconds" else "left", overflow="fold")
    for t in tables:
        outcome = str(t["last_outcome"] or "")
        style = {"failed": "red", "held": "yellow"}.get(outcome, "green")
        style = "dim" if t["retired"] else style
        mark = t["watermark"]["v"] if t["watermark"] else ""
        lag = "" if t["lag_seconds"] is None else f"{t['lag_seconds']:,}"
        shown.add_row(
            Text(t["table"]), Text(str(t["target"] or "")), Text(outcome, style=style), Text(str(mark)), lag,
            t["last_committed_at"] or "", ", ".join(f"{rows:,} {state}" for state, rows in t["dead_letters"].items()),
        )  # fmt: skip
    console.print(shown)
    counts = list(Accounting().to_json())
    counts = [c for c in counts if c in counts[:2] or any(getattr(b.accounting, c, 0) for b in batches)]
    shown = Table(title="\nlast batches", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for title in ("table", "period", "state", "generation", *counts):
        shown.add_column(title, justify="right" if title in (*counts, "generation") else "left", overflow="fold")
    for b in batches:
        values = (b.accounting or Accounting()).to_json()
        shown.add_row(
            Text(f"{b.source_id}:{b.source_table}"), b.period_key, b.state, str(b.generation), *(f"{values[c]:,}" for c in counts)
        )
    console.print(shown)
