"""`dataops drift`: held drift, what waits behind it, and the answers."""

from __future__ import annotations

import getpass
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.cli.source import new_writer, open_inventory, open_row
from dag_factory.pipeline import UnknownSourceError, pipeline

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.ledger.base import Hold
    from airflow_dataops.ledger.holds_base import Queue

MOST_SHOWN = 1000


def list_(context: Context, source: str | None, decided: bool) -> Report:
    """From the ledger alone. Exit code 1 when something waits for an answer."""
    from airflow_dataops.ledger import open_ledger

    ledger = open_ledger(context.settings.ledger)
    try:
        holds = ledger.holds.list(source, decided=decided, limit=MOST_SHOWN)
        queues = ledger.holds.queues(source)
    finally:
        ledger.close()
    now = time.time()
    waiting = [hold for hold in holds if hold.decision is None and not hold.is_suggestion]
    problems = tuple(problem(f"{h.hold_id}: {h.target}: {h.why}", "held", table=h.source_table) for h in waiting)

    def show(console: Console) -> None:
        _show_list(console, [drift_json(hold, now) for hold in holds], [queue_json(queue, now) for queue in queues])

    return Report(
        data={
            "source": source,
            "drifts": [drift_json(hold, now) for hold in holds],
            "queues": [queue_json(queue, now) for queue in queues],
        },
        problems=problems,
        code=Code.PROBLEMS if problems else Code.GOOD,
        show=show,
    )


def show(context: Context, drift: str) -> Report:
    """One drift with its batches and the drift events of its table."""
    from airflow_dataops.ledger import open_ledger

    ledger = open_ledger(context.settings.ledger)
    try:
        hold = _known(ledger.holds.get(drift), drift)
        events = [e for e in ledger.drift.events(hold.source_id, limit=MOST_SHOWN) if e["table_key"] == hold.table_key]
        approved = [approval.to_json() for approval in ledger.holds.approvals(hold.table_key)]
    finally:
        ledger.close()
    document = drift_json(hold, time.time()) | {
        "approvers": list(_approvers(context, hold)),
        "approved_before": approved,
        "events": [
            {"at": _time(e["at"]), "decision": e["decision"], "batch": e["batch_id"], "changes": e["changes"]} for e in events[:20]
        ],
    }

    def shown(console: Console) -> None:
        _show_one(console, document)

    return Report(data={"drift": document}, show=shown)


def approve(context: Context, drift: str, as_: str | None, by: str | None) -> Report:
    """Records the approval, then publishes what was held. Exit code 1 when it cannot be approved, or a batch could not go on."""
    from airflow_dataops.core.approval import NEW_COLUMN

    if as_ == "new-column":
        return _decide(context, drift, NEW_COLUMN, None, by)
    return _decide(context, drift, *_as_rename(as_), by)


def _as_rename(as_: str | None) -> tuple[str | None, tuple[tuple[str, str], ...] | None]:
    """The answer and the pairs that are meant, of `rename` or `rename:old=new,old=new`. No answer: the question's plain one."""
    from airflow_dataops.core.approval import RENAME

    if as_ is None:
        return None, None
    word, colon, text = as_.partition(":")
    pairs = [tuple(one.strip() for one in pair.split("=")) for pair in text.split(",")] if colon else []
    if word != RENAME or any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UsageError(f"Cannot use `--as` {as_!r} -> new-column, rename, rename:OLD=NEW, or leave it out.")
    return RENAME, tuple((pair[0], pair[1]) for pair in pairs) if colon else None


def revoke(context: Context, drift: str, by: str | None) -> Report:
    """Takes an approved rename back: what comes from now on lands in the new column. What the old one has stays in it."""
    from airflow_dataops.ledger import open_ledger
    from airflow_dataops.steps.held import refuse_stranger

    who = by or getpass.getuser()
    ledger = open_ledger(context.settings.ledger)
    try:
        hold = _known(ledger.holds.get(drift), drift)
        spec, _ = open_row(context, hold.source_id)
        refuse_stranger(spec, hold, who)
        left = ledger.holds.revoke(drift, who)
    finally:
        ledger.close()

    def show(console: Console) -> None:
        console.print(f"{drift} of {hold.target}: {left.decision} by {left.decided_by}", markup=False)

    return Report(data={"drift": drift_json(left, time.time())}, show=show)


def reject(context: Context, drift: str, by: str | None) -> Report:
    """Records the rejection, then writes what was held to the dead letters."""
    from airflow_dataops.core.approval import REJECT

    return _decide(context, drift, REJECT, None, by)


def _decide(
    context: Context, drift: str, given: str | None, pairs: tuple[tuple[str, str], ...] | None, by: str | None
) -> Report:  # fmt: skip
    from airflow_dataops.core.approval import APPROVE, RENAME
    from airflow_dataops.ledger import open_ledger
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.steps.held import settle

    who = by or getpass.getuser()
    ledger = open_ledger(context.settings.ledger)
    try:
        hold = _known(ledger.holds.get(drift), drift)
    finally:
        ledger.close()
    given = given or (RENAME if hold.is_suggestion else APPROVE)
    spec, inventory = open_row(context, hold.source_id)
    with (
        context.progress.status(f"Letting go what waits of {hold.target} …"),
        open_edges(
            spec, context.settings, writer=new_writer(), platform=inventory.platform, with_source=False
        ) as edges,
    ):  # fmt: skip
        decided, done = settle(spec, hold, given, who, edges, pairs=pairs)
        left = edges.ledger.holds.get(drift) or decided
    document = {
        "drift": drift_json(left, time.time()), "published": list(done.published), "rejected": list(done.rejected),
        "asked": list(done.asked), "moved": list(done.moved), "left": done.left,
    }  # fmt: skip
    problems = [problem(f"{hold.target}: {done.error}", str(done.error_code), table=hold.source_table)] if done.error else []
    problems += [
        problem(f"{hold.target}: a batch needs another answer: {asked}", "held", table=hold.source_table) for asked in done.asked
    ]

    def show(console: Console) -> None:
        console.print(f"{drift} of {hold.target}: {left.decision} by {left.decided_by}", markup=False)
        console.print(f"{len(done.published)} batches published, {len(done.rejected)} rejected, {left.batches} still wait")
        if done.moved or done.left:
            console.print(f"{len(done.moved)} partitions written under the old name, {done.left} left to the maintenance")
        for one in problems:
            console.print(one["message"], markup=False, style="red", soft_wrap=True)

    return Report(data=document, problems=tuple(problems), code=Code.PROBLEMS if problems else Code.GOOD, show=show)


def _known(hold: Hold | None, drift: str) -> Hold:
    if hold is None:
        raise UsageError(f"Cannot find drift {drift!r}: nobody knows it -> an id that `dataops drift list --decided` shows.")
    return hold


def _approvers(context: Context, hold: Hold) -> tuple[str, ...]:
    """Whom the row names; nobody when there is no good row any more."""
    try:
        spec: PipelineSpec = pipeline(open_inventory(context), hold.source_id)
    except (UnknownSourceError, InventoryError):
        return ()
    return spec.approvers


def drift_json(hold: Hold, now: float) -> dict[str, Any]:
    """One drift as it is told: never a value of a record."""
    age = None if hold.oldest_at is None else max(0, round(now - hold.oldest_at))
    return hold.to_json() | {
        "opened_at": _time(hold.opened_at), "decided_at": _time(hold.decided_at), "oldest_seconds": age,
    }  # fmt: skip


def queue_json(queue: Queue, now: float) -> dict[str, Any]:
    """What of one table waits."""
    return {
        "table": f"{queue.source_id}:{queue.source_table}", "target": queue.target, "batches": queue.batches, "rows": queue.rows,
        "oldest_seconds": max(0, round(now - queue.oldest_at)), "undecided": list(queue.undecided),
    }  # fmt: skip


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _show_list(console: Console, drifts: list[dict[str, Any]], queues: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not drifts and not queues:
        console.print("Nothing waits for an answer.")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("drift", "table", "what changed", "batches", "rows", "waits since", "decision"):
        shown.add_column(title, justify="right" if title in ("batches", "rows") else "left", overflow="fold")
    for d in drifts:
        decision = f"{d['decision']} by {d['decided_by']}" if d["decision"] else "none yet"
        shown.add_row(
            d["id"], Text(d["target"]), Text(d["why"]), f"{d['batches']:,}", f"{d['rows']:,}", d["opened_at"], Text(decision)
        )
    console.print(shown)
    show_queues(console, queues)


def show_queues(console: Console, queues: list[dict[str, Any]]) -> None:
    """Tables of which something waits, with the age of the oldest."""
    from rich.table import Table
    from rich.text import Text

    if not queues:
        return
    shown = Table(title="\nheld", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for title in ("table", "target", "batches", "rows", "oldest, seconds", "waits for"):
        shown.add_column(title, justify="right" if title in ("batches", "rows", "oldest, seconds") else "left", overflow="fold")
    for q in queues:
        waits = ", ".join(q["undecided"]) or "the next run or sweep"
        shown.add_row(Text(q["table"]), Text(q["target"]), f"{q['batches']:,}", f"{q['rows']:,}", f"{q['oldest_seconds']:,}", waits)
    console.print(shown)


def _evidence(one: dict[str, Any]) -> str:
    """What speaks for a rename, and against it."""
    shared = "not compared" if one["value_overlap"] is None else f"{one['value_overlap']:.0%} of values shared"
    same = ", ".join(f"{'same' if one[f'same_{what}'] else 'other'} {what}" for what in ("type", "position"))
    return f"{one['before']}={one['after']}: {shared}, {same}, names alike to {one['name_similarity']:.0%}"


def _show_one(console: Console, d: dict[str, Any]) -> None:
    from rich.text import Text

    lines = {
        "drift": d["id"], "table": d["target"], "source": f"{d['source']}, {d['source_table']}", "what changed": d["why"],
        "since": d["opened_at"], "first batch": d["first_batch"], "waits": f"{d['batches']:,} batches, {d['rows']:,} rows",
        "may decide": ", ".join(d["approvers"]) or "anybody",
        "decision": f"{d['decision']} by {d['decided_by']} at {d['decided_at']}" if d["decision"] else "none yet",
        "could not go on": d["error"],
    }  # fmt: skip
    for number, one in enumerate(d["renames"]):
        lines[f"rename {number + 1}"] = _evidence(one)
    for name, text in lines.items():
        if text:
            console.print(Text(f"{name:<16}", style="bold") + Text(str(text)), soft_wrap=True)
