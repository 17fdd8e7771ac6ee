"""Storms: several processes load one table at once while its source changes, and a seeded dice kills them (-9), stops them
and wakes them at any moment, also in the middle of an effect.

A reader looks all the time. What it sees is always one state that the source really had, whole (in a merge by watermark:
each row in a state that it had), and never an older one than it saw before. When the storm is over, one more run shows the
source as it is, and everything is proved."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow.parquet as pq
import pytest

from airflow_dataops.catalog import open_catalog
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.ledger import open_ledger
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests import soak
from tests.servers.postgres import PostgresServer
from tests.steps.storm_runner import CALM, run_until_done, world_of
from tests.steps.world import day

ROOT = Path(__file__).parents[2]
DAYS = ("2024-05-01", "2024-05-02")
DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}
State = tuple[tuple[Any, ...], ...]
Plan = dict[str, list[Path]]


@dataclass(frozen=True)
class Scene:
    """A way to load `orders (id, v, at)`, and how its source changes: statements of one transaction for version n."""

    row: dict[str, Any]
    change: Callable[[int, random.Random], str]
    by_day: bool = False
    whole: bool = True  # a range fixed at its claim leaves out rows that were changed again before it was read


def everything(version: int, _: random.Random) -> str:
    return f"UPDATE orders SET v={version}"


def five_more(version: int, _: random.Random) -> str:
    return "INSERT INTO orders VALUES " + ",".join(f"({10 * version + i},{version},'{DAYS[0]} 12:00:00')" for i in range(5))


def some(version: int, chance: random.Random) -> str:
    return f"UPDATE orders SET v={version} WHERE id IN ({','.join(str(i) for i in chance.sample(range(10), 3))})"


SCENES = {
    "full": Scene({}, everything),
    "window": Scene({"read": {"mode": "window", "cursor": "at"}, "target": DT}, everything, by_day=True),
    "append": Scene({"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}, five_more),
    "merge": Scene({"read": {"mode": "watermark", "cursor": "v"}, "write": {"mode": "merge", "keys": ["id"]}}, some, whole=False),
}


class Runner:
    """One process after the other, each going on with the run in which the one before died."""

    def __init__(self, name: str, told: dict[str, Any]) -> None:
        self.name, self.told = name, told
        self.run, self.stopped = 0, False
        self.process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.steps.storm_runner", self.name, str(self.run)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        process.stdin.write(json.dumps(self.told) + "\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise AssertionError(process.communicate()[1])
        return process

    def kill(self) -> None:
        self.process.kill()
        seen, _ = self.process.communicate(timeout=30)
        self.run, self.stopped = max([self.run, *map(int, seen.split())]), False
        self.process = self._started()

    def turn(self) -> None:
        """SIGSTOP, or SIGCONT when it is stopped."""
        self.process.send_signal(signal.SIGCONT if self.stopped else signal.SIGSTOP)
        self.stopped = not self.stopped

    def finish(self) -> None:
        _, problems = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, problems


class Storm:
    """`states` are those of the source, the last one is now; `seen` is the version that the reader has seen of each partition
    or row."""

    def __init__(self, scene: Scene, folder: Path, ledger_url: str, seed: str) -> None:
        self.told = {"folder": str(folder), "ledger_url": ledger_url, "row": scene.row}
        self.scene, self.chance, self.world = scene, random.Random(seed), world_of(self.told)
        self.spec = self.world.spec(**scene.row)
        self.table = table_spec(self.spec, "orders")
        rows = ",".join(f"({i},0,'{DAYS[i % len(DAYS) if scene.by_day else 0]} 12:00:00')" for i in range(10))
        self.world.sql(
            "PRAGMA journal_mode=WAL",  # a stopped reader must not keep the source from changing
            "CREATE TABLE orders (id INTEGER, v INTEGER, at TIMESTAMP)",
            f"INSERT INTO orders VALUES {rows}",
        )
        self.states: list[dict[str, State]] = [self.source()]
        self.seen: dict[Any, int] = {}
        for when in DAYS if scene.by_day else DAYS[:1]:
            run_until_done(self.world, scene.row, day(when), f"first {when}")
        self.planned = self.plan()
        self.runners: list[Runner] = []

    def source(self) -> dict[str, State]:
        found = self.world.sql("SELECT id, v, at FROM orders ORDER BY id")
        parts = DAYS if self.scene.by_day else ("",)
        return {part: tuple((i, v) for i, v, at in found if str(at).startswith(part)) for part in parts}

    def look(self) -> None:
        """Reads what was planned at the look before, as a query takes its time, and plans anew."""
        self._check(self.planned)
        self.planned = self.plan()

    def plan(self) -> Plan:
        """The files of each partition that the catalog shows now."""
        catalog = open_catalog("embedded", ledger_url=self.world.ledger_url)
        try:
            shown = catalog.page_partitions(self.table.database, self.table.table)
        finally:
            catalog.close()
        places = {"".join(p.values): Path(unquote(urlparse(p.location).path)) for p in shown}
        return {part: sorted(place.iterdir()) for part, place in places.items()}

    def _check(self, plan: Plan) -> None:
        for part, files in plan.items():
            rows = [row for file in files for row in pq.ParquetFile(file).read(["id", "v"]).to_pylist()]
            state = tuple(sorted((row["id"], row["v"]) for row in rows))
            if self.scene.whole:
                self._see(part, state, [states[part] for states in self.states])
                continue
            assert [i for i, _ in state] == [i for i, _ in self.states[0][part]], f"readers saw {state}"
            for row in state:
                self._see(row[0], row, [next(r for r in states[part] if r[0] == row[0]) for states in self.states])

    def _see(self, what: Any, found: Any, was: list[Any]) -> None:
        """`was`: what it has been at the source, version by version."""
        versions = [n for n, state in enumerate(was) if state == found]
        assert versions, f"readers saw {found} of {what!r}, which the source never was"
        assert versions[-1] >= self.seen.get(what, 0), f"readers saw version {versions[-1]} of {what!r} after {self.seen[what]}"
        self.seen[what] = max(self.seen.get(what, 0), versions[0])

    def blow(self, gusts: int) -> None:
        daily, backfill, next_day = (DAYS[0], False), (DAYS[0], self.scene.by_day), (DAYS[self.scene.by_day], False)
        for number, (when, backfilled) in enumerate((daily, backfill, next_day)):
            self.runners.append(Runner(f"p{number}", self.told | {"day": when, "backfill": backfilled}))
        version = 0
        # On a busy machine the runners may have come to nothing by then.
        while version < gusts or (version < 20 * gusts and not self.is_told()):
            version += 1
            self.world.sql(self.scene.change(version, self.chance))
            self.states.append(self.source())
            self._gust(self.chance.choice(self.runners))
            for _ in range(3):
                time.sleep(self.chance.uniform(0.0, 0.15))
                self.look()

    def is_told(self) -> bool:
        """Whether so much happened that it proves something: more batches than runners, each of which begins with one."""
        ledger = open_ledger(self.world.ledger_url)
        try:
            return len(ledger.batches.history(table_key=self.table.key, limit=1000)) > len(self.runners)
        finally:
            ledger.close()

    def _gust(self, runner: Runner) -> None:
        if self.chance.random() < 0.4:
            runner.kill()
        else:
            runner.turn()

    def settle(self) -> None:
        (self.world.folder / CALM).touch()
        for runner in self.runners:
            if runner.stopped:  # all of them before any is waited for: one may have stopped inside a transaction
                runner.turn()
        for runner in self.runners:
            runner.finish()
        for when in DAYS if self.scene.by_day else DAYS[:1]:
            run_until_done(self.world, self.scene.row, day(when), f"last {when}")
        self.look()
        shown = [(row["id"], row["v"]) for row in self.world.visible(self.spec, "orders")]
        assert sorted(shown) == sorted(row for state in self.source().values() for row in state)
        edges, table = replace(self.world.edges(self.spec), dead_after_seconds=0), self.table
        verify(self.spec, edges, ["orders"]).raise_for_problems("the storm")
        sweep_table(table, edges)  # marks of the dead stay until nobody can still be alive
        assert edges.ledger.batches.unfinished(table.key) == ()
        assert edges.ledger.decisions.marked(table.key) == ()
        assert self.is_told(), "what never happened proves nothing"
        batches = edges.ledger.batches.history(table_key=table.key, limit=1000)
        for record in batches:
            if record.accounting is not None:
                record.accounting.prove(record.batch_id)

    def end(self) -> None:
        for runner in self.runners:
            runner.process.kill()
            runner.process.wait(30)


def survive(scene: Scene, folder: Path, ledger_url: str, seed: str, gusts: int) -> None:
    storm = Storm(scene, folder, ledger_url, seed)
    try:
        storm.blow(gusts)
        storm.settle()
    finally:
        storm.end()


def test_a_storm_over_a_ledger_in_a_file(tmp_path: Path) -> None:
    survive(SCENES["full"], tmp_path, "", "quick", gusts=6)


def test_a_storm_over_a_ledger_in_postgres(tmp_path: Path, postgres_server: PostgresServer) -> None:
    survive(SCENES["merge"], tmp_path, postgres_server.new_database(), "quick", gusts=6)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("ledger", ["file", "postgres"])
@pytest.mark.parametrize("scene", SCENES)
def test_storms(scene: str, ledger: str, number: int, tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database() if ledger == "postgres" else ""
    survive(SCENES[scene], tmp_path, url, f"{soak.seed()} {scene} {ledger} {number}", gusts=14)
