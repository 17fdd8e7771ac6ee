"""`make soak`: runs the tests marked `soak`, and every law (hypothesis) with more examples; shows how each kind fared, and writes
that with seed, date and machine into docs/soak.md.

python -m tests.soak [--seed N] [--workers N] [--minutes N] [--page FILE] [PYTEST-ARGUMENT …]

The seed decides what is killed, stopped and changed where; without one it is today's date, so that every day's soak tries
something else and any can be repeated. At the limit of minutes the soak stops and says what it did not come to.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import machine

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "soak.md"
BEGIN, END = "<!-- soaked: written by `make soak` -->", "<!-- /soaked -->"
SEED = "DATAOPS_SOAK_SEED"
LIMIT = 4
"""Ended by its limit, as an exit code."""


def seed() -> int:
    """The seed of this soak; 0 where pytest is run by hand."""
    return int(os.environ.get(SEED, "0"))


@dataclass
class Kind:
    """All rounds of one test function. `seconds` are of the rounds, not of the wall."""

    rounds: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)


class Recorder:
    """Listens to pytest's controller. Each test is a round, or as many as it records under the property `rounds`."""

    def __init__(self, minutes: float) -> None:
        self.kinds: dict[str, Kind] = {}
        self.planned: set[str] = set()
        self.done: set[str] = set()
        self.started = time.monotonic()
        self._limit = 60 * minutes

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> int:
        """How many tests it did not come to."""
        return len(self.planned - self.done)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.planned |= {item.nodeid for item in session.items}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.planned |= set(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        kind = self.kinds.setdefault(report.nodeid.partition("[")[0], Kind())
        kind.seconds += report.duration
        if report.failed and report.nodeid not in kind.failed:
            kind.failed.append(report.nodeid)
        if report.when == "teardown":
            kind.rounds += int(dict(report.user_properties).get("rounds", 1))
            self.done.add(report.nodeid)
            if self.seconds > self._limit and self.left:
                pytest.exit(f"the soak's limit of {self._limit / 60:.0f} minutes is reached", returncode=LIMIT)


def name_of(test: str) -> str:
    """`tests/steps/test_kills.py::test_kill_9_is_healed` → `kill 9 is healed (steps/test_kills.py)`."""
    file, _, function = test.partition("::")
    return f"{function.removeprefix('test_').replace('_', ' ')} ({file.removeprefix('tests/')})"


def report(recorder: Recorder, code: int, used_seed: int, workers: int, today: dt.date) -> str:
    """The written part of the page. `code` is pytest's."""
    failed = [test for kind in recorder.kinds.values() for test in kind.failed]
    rounds = sum(kind.rounds for kind in recorder.kinds.values())
    outcome = {0: "all good", LIMIT: "none failed"}.get(code, f"pytest ended with {code}")
    if failed:
        outcome = f"{len(failed)} failed"
    if recorder.left:
        outcome += f"; stopped at its limit with {recorder.left} of {len(recorder.planned)} tests not done"
    lines = [
        BEGIN, "", f"{today.isoformat()}, seed {used_seed}: **{rounds:,} rounds, {outcome}**, in {recorder.seconds / 60:.0f} "
        f"minutes with {workers} workers on {machine()}.", "", "| what | rounds | failed | seconds |", "|---|---|---|---|",
    ]  # fmt: skip
    for test, kind in sorted(recorder.kinds.items()):
        lines.append(f"| {name_of(test)} | {kind.rounds:,} | {len(kind.failed)} | {kind.seconds:,.0f} |")
    lines += ["", *(f"- failed: `{test}`" for test in failed)] if failed else []
    return "\n".join([*lines, "", END])


def written(page: str, block: str) -> str:
    """The page with its written part replaced; the rest stays as somebody wrote it. ValueError when it has no such part."""
    return page[: page.index(BEGIN)] + block + page[page.index(END) + len(END) :]


def show(kinds: Mapping[str, Kind]) -> None:
    table = Table(title="soak", title_justify="left")
    table.add_column("what")
    for column in ("rounds", "failed", "seconds"):
        table.add_column(column, justify="right")
    for test, kind in sorted(kinds.items()):
        table.add_row(name_of(test), f"{kind.rounds:,}", str(len(kind.failed)), f"{kind.seconds:,.0f}")
    Console().print(table)


def main() -> int:
    """The command. 0: all good, 1: something failed or nothing was run, 4: stopped at the limit."""
    today = dt.datetime.now(dt.UTC).date()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Run the long tests and write down how they fared.")
    parser.add_argument("--seed", type=int, default=int(today.strftime("%Y%m%d")), help="default: today, as 20261231")
    parser.add_argument("--workers", type=int, default=2, help="processes that test at once (default: 2)")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many (default: 60)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the result (default: docs/soak.md)")
    given, more = parser.parse_known_args()
    os.environ[SEED] = str(given.seed)
    console, recorder = Console(), Recorder(given.minutes)
    console.print(f"soak with seed {given.seed} (again: make soak SEED={given.seed})")
    words = ["-m", "soak or hypothesis", f"--hypothesis-seed={given.seed}", "-q", "-n", str(given.workers), "--timeout", "900"]
    code = int(pytest.main([*words, *more], plugins=[recorder]))
    if not recorder.done:
        console.print(f"nothing was run; {given.page} is as it was")
        return code or 1
    show(recorder.kinds)
    text = report(recorder, code, given.seed, given.workers, today)
    given.page.write_text(written(given.page.read_text("utf-8"), text), "utf-8")
    console.print(f"written: {given.page}; seed {given.seed}")
    return code


if __name__ == "__main__":
    sys.exit(main())
