"""A replay that dies between any two effects, runs twice at once, or beside a load: each record is stored once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.steps.run import TableResult
from tests.steps.effects import Killed, Stage, die_at, sleep_at, watch
from tests.steps.letters import replayed, states
from tests.steps.test_replay import DAY, MODES, STRICT, proved
from tests.steps.world import World, ids

Places = Callable[[int], list[int]]
CASES = ("append", "merge", "full")


def begin(folder: Path, mode: str) -> tuple[World, PipelineSpec]:
    """Orders 4 and 5 were refused by a contract that takes them now."""
    world = World(folder)
    strict = world.spec(**STRICT, **MODES[mode])
    world.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,'b')")
    assert world.load(strict, "orders", DAY).error is None
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,'c',NULL),(4,'d','Oslo'),(5,'e','Rom')")
    assert world.load(strict, "orders", DAY).accounting.rows_dead_lettered == 2
    return world, world.spec(dead_letters={"max_share": 1.0}, **MODES[mode])


def watched(world: World, stage: Stage) -> World:
    return World(world.folder, wrap=stage.wrap, lease_seconds=600)


@pytest.fixture(params=["some", pytest.param("all", marks=pytest.mark.soak)])
def places(request: pytest.FixtureRequest, mode: str) -> Places:
    """Which of a replay's effects to stop at: three seeded ones here, all of them in `make soak`."""

    def chosen(count: int) -> list[int]:
        found = list(range(count))
        if request.param == "some":
            found = sorted(random.Random(f"{mode}-{request.function.__name__}").sample(found, 3))
        request.node.user_properties.append(("rounds", len(found)))  # read by tests/soak.py
        return found

    return chosen


@pytest.mark.parametrize("mode", CASES)
def test_death_before_an_effect_is_healed_by_the_next_replay(mode: str, tmp_path: Path, places: Places) -> None:
    world, spec = begin(tmp_path / "calm", mode)
    stage = watch(lambda _: None)
    replayed(watched(world, stage), spec)
    calm = world.visible(spec, "orders")
    assert ids(calm) == [1, 2, 3, 4, 5]
    assert stage.count > 10
    for number in places(stage.count):
        world, spec = begin(tmp_path / f"w{number}", mode)
        with pytest.raises(Killed):
            replayed(watched(world, die_at(number)), spec, "replay/ann/1")
        assert ids(world.visible(spec, "orders")) in ([1, 2, 3], [1, 2, 3, 4, 5]), number
        later = World(world.folder, clock=lambda: 1e10)  # the dead one's lease is over
        again = replayed(later, spec, "replay/ann/2")
        assert again.failures == (), (number, again.failures)
        assert world.visible(spec, "orders") == calm, number
        assert [state for state, _, _ in states(world)] == ["replayed", "replayed"], number
        proved(world, spec, "orders")
        shutil.rmtree(world.folder)


@pytest.mark.parametrize("mode", CASES)
def test_a_sleeping_replay_that_wakes_after_another_changes_nothing(mode: str, tmp_path: Path, places: Places) -> None:
    world, spec = begin(tmp_path / "calm", mode)
    stage = watch(lambda _: None)
    replayed(watched(world, stage), spec)
    for number in places(stage.count):
        world, spec = begin(tmp_path / f"w{number}", mode)
        asleep, wake = threading.Event(), threading.Event()
        sleeper = watched(world, sleep_at(number, asleep, wake))
        thread = threading.Thread(target=replayed, args=(sleeper, spec, "replay/ann/1"))
        thread.start()
        assert asleep.wait(60)
        later = World(world.folder, clock=lambda: 1e10)
        replayed(later, spec, "replay/bob/2")
        assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4, 5], number
        wake.set()
        thread.join(60)
        assert not thread.is_alive()
        replayed(later, spec, "replay/bob/3")
        assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4, 5], number
        assert [state for state, _, _ in states(world)] == ["replayed", "replayed"], number
        shutil.rmtree(world.folder)


def test_a_killed_process_is_healed(tmp_path: Path) -> None:
    """kill -9 of a real one, in the middle of its effects."""
    world, spec = begin(tmp_path / "w", "append")
    command = [sys.executable, "-m", "tests.steps.replay_victim", str(world.folder), json.dumps(MODES["append"])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "after ledger.batches.decide" in line:
                os.kill(process.pid, signal.SIGKILL)
                break
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.wait(60) == -signal.SIGKILL
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
    assert world.load(spec, "orders", "2024-05-02").error is None  # any run of the table finishes what is decided
    assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4, 5]
    assert [state for state, _, _ in states(world)] == ["replayed", "replayed"]
    assert replayed(world, spec, "replay/ann/2").batches == ()
    proved(world, spec, "orders")


@pytest.mark.parametrize("mode", CASES)
def test_two_replays_and_a_load_at_once(mode: str, tmp_path: Path) -> None:
    world, spec = begin(tmp_path / "w", mode)
    world.sql("INSERT INTO orders VALUES (6,'f','Kiel')")
    start = threading.Barrier(3)
    loaded: list[TableResult] = []

    def one(run: str) -> None:
        start.wait()
        replayed(World(world.folder, lease_seconds=60), spec, run)

    def load() -> None:
        start.wait()
        loaded.append(World(world.folder, lease_seconds=60).load(spec, "orders", DAY))

    threads = [threading.Thread(target=one, args=(f"replay/{who}/1",)) for who in ("ann", "bob")] + [threading.Thread(target=load)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for n in range(3):  # who met another's claim tries again
        replayed(world, spec, f"replay/cid/{n}")
    assert world.load(spec, "orders", DAY).error is None
    assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4, 5, 6]
    assert {state for state, _, _ in states(world)} <= {"replayed", "superseded"}
    proved(world, spec, "orders")
