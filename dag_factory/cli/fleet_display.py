"""How an operation on a fleet looks: progress while it goes on (on stderr), and its results."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dag_factory.cli.fleet_selection import Selection

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.status import Status

    from dag_factory.fleet.backfill import PeriodsPlan
    from dag_factory.fleet.dags import DagResult
    from dag_factory.fleet.follow import Progress

MOST_KEYS = 3
STYLES = {"failed": "red", "held": "yellow", "late": "yellow"}


class Display:
    """Progress: one changing line on a terminal; elsewhere a line per DAG that is done, where `lines` are asked for."""

    def __init__(self, console: Console, total: int, what: str, *, lines: bool = False) -> None:
        self._console, self._total, self._what, self._lines = console, total, what, lines
        self._done = self._failed = self._under_way = 0
        self._lock = threading.Lock()
        self._status: Status | None = None

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._status = self._console.status(self._text())
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def done(self, result: DagResult) -> None:
        """One DAG has its result."""
        from rich.text import Text

        with self._lock:
            self._done += 1
            self._failed += not result.ok
            if self._lines:
                text = f"{self._done}/{self._total} {result.dag_id}: {result.error or result.outcome}"
                self._console.print(Text(text, style="" if result.ok else "red"), soft_wrap=True)
            self._update()

    def told(self, progress: Progress) -> None:
        """How many are under way now."""
        with self._lock:
            self._under_way = len(progress.under_way)
            self._update()

    def interrupted(self) -> None:
        """Somebody pressed ctrl-C."""
        from rich.text import Text

        left = self._total - self._done - self._under_way
        text = (
            f"Stopped: {self._done} of {self._total} DAGs are done, {self._under_way} under way go on in Airflow, {left} were not "
            "begun. The same command again goes on from there; `dataops fleet cancel` ends what is under way."
        )
        self._console.print(Text(text), soft_wrap=True)

    def _update(self) -> None:
        if self._status is not None:
            self._status.update(self._text())

    def _text(self) -> str:
        text = f"{self._what}: {self._done}/{self._total} done"
        text += f", {self._under_way} under way" if self._under_way else ""
        return text + (f", {self._failed} with errors" if self._failed else "")


def show_notes(console: Console, selection: Selection) -> None:
    """What one may not expect of the selection."""
    from rich.text import Text

    for note in selection.notes:
        console.print(Text(f"Note: {note}.", style="yellow"), soft_wrap=True)


def show_periods(console: Console, plans: Sequence[PeriodsPlan]) -> None:
    """The periods that were resolved, per DAG."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("DAG", "periods", "loaded", "under way", "to start", "which"):
        shown.add_column(title, justify="left" if title in ("DAG", "which") else "right", overflow="fold")
    for plan in plans:
        states = list(plan.states.values())
        under_way = len(plan.under_way)
        which = plan.error or "; ".join(filter(None, (_keys(plan.start), plan.note)))
        shown.add_row(
            Text(plan.dag.dag_id), str(len(states)), str(states.count("success")), str(under_way), str(len(plan.start)),
            Text(which, style="red" if plan.error else ""),
        )  # fmt: skip
    console.print(shown)
    total = sum(len(plan.start) for plan in plans)
    console.print(f"{total} runs to start in {sum(bool(plan.start) for plan in plans)} of {len(plans)} DAGs", markup=False)


def show_results(console: Console, results: Sequence[DagResult]) -> None:
    """A line per DAG, and a summary."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("DAG", "outcome", "periods or runs"):
        shown.add_column(title, overflow="fold")
    for result in results:
        counts: dict[str, int] = {}
        for state in result.periods.values():
            counts[state] = counts.get(state, 0) + 1
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        shown.add_row(Text(result.dag_id), Text(result.outcome, style="" if result.ok else "red"), Text(told))
    console.print(shown)
    for result in results:
        if result.error is not None:
            console.print(Text(f"{result.dag_id}: {result.error}", style="red"), soft_wrap=True)
    wrong = sum(not result.ok for result in results)
    console.print(Text(f"{len(results)} DAGs, {wrong} with errors", style="red" if wrong else "green"))


def show_status(console: Console, sources: Sequence[dict[str, Any]], problems: Sequence[dict[str, Any]]) -> None:
    """A line per source, then what is wrong."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("source", "DAG", "state", "tables", "queued", "running"):
        shown.add_column(title, justify="right" if title in ("queued", "running") else "left", overflow="fold")
    for source in sources:
        dag = "not in Airflow" if not source["in_airflow"] else "paused" if source["paused"] else "on"
        state = ", ".join(source["states"]) or ("good" if source["tables"] else "not loaded yet")
        style = next((STYLES[name] for name in source["states"]), "green" if source["tables"] else "")
        counts: dict[str, int] = {}
        for outcome in source["tables"].values():
            counts[outcome] = counts.get(outcome, 0) + 1
        tables = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        shown.add_row(
            Text(source["source"]), Text(dag, style="" if dag == "on" else "yellow"), Text(state, style=style), Text(tables),
            str(source["queued"]), str(source["running"]),
        )  # fmt: skip
    console.print(shown)
    for wrong in problems:
        console.print(Text(str(wrong["message"]), style="red"), soft_wrap=True)
    console.print(Text(f"{len(sources)} sources, {len({p['source'] for p in problems})} with problems"))


def _keys(keys: Sequence[str]) -> str:
    if len(keys) <= MOST_KEYS:
        return ", ".join(keys)
    return f"{keys[0]}, {keys[1]} … {keys[-1]}"
