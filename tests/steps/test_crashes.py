"""Each effect fails in turn, a dead attempt is retried, a sleeping one wakes after its retry (DESIGN §5, traces A1–A21).

Afterwards readers see what an undisturbed run shows, and at every single effect in between they saw either the state
before or the state after, whole."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Killed, Stage, die_at, sleep_at, watch
from tests.steps.world import World

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


@dataclass(frozen=True)
class Story:
    """A table with a first load behind it, and a change at the source that the disturbed run has to bring over."""

    name: str
    row: dict[str, Any]
    change: tuple[str, ...]
    first_day: str = "2024-05-01"
    second_day: str = "2024-05-01"


CHANGE = (
    "INSERT INTO orders VALUES (4,'d',4,'2024-05-01 12:00:00')",
    "UPDATE orders SET name='A2', at='2024-05-01 13:00:00' WHERE id=1",
)
BY_ID = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
STORIES = [
    Story("full", {}, CHANGE),
    Story("full by data column", {"target": {"partition_by": [{"name": "p", "from": "column:name"}]}}, CHANGE),
    Story("full by period", {"target": DT}, CHANGE, second_day="2024-05-02"),
    Story("window", {"read": {"mode": "window", "cursor": "at"}, "target": DT}, CHANGE),
    Story("append", BY_ID, CHANGE[:1]),
    Story("append by period", {**BY_ID, "target": DT}, CHANGE[:1]),
    Story("merge", {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}}, CHANGE),
    Story("new column", {"target": DT}, ("ALTER TABLE orders ADD COLUMN city TEXT DEFAULT 'x'",), second_day="2024-05-02"),
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Story, Path], World]:
    """A fresh copy of a story's world after the first load and the change."""
    templates: dict[str, Path] = {}

    def prepare(story: Story, folder: Path) -> World:
        if story.name not in templates:
            world = World(tmp_path_factory.mktemp("story") / "w")
            world.sql(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount DECIMAL(10,2), at TIMESTAMP)",
                "INSERT INTO orders VALUES (1,'a',1.5,'2024-05-01 10:00:00'),(2,'b',2.25,'2024-05-01 11:00:00'),(3,'c',NULL,NULL)"
                if "cursor" not in str(story.row) or story.row["read"]["cursor"] == "id"
                else "INSERT INTO orders VALUES (1,'a',1.5,'2024-05-01 10:00:00'),(2,'b',2.25,'2024-05-01 11:00:00')",
            )
            templates[story.name] = world.folder
        return World(copied(templates[story.name], folder))

    return prepare


def copied(template: Path, folder: Path) -> Path:
    shutil.copytree(template, folder)
    return folder


def begin(story: Story, folder: Path, prepared: Callable[[Story, Path], World]) -> World:
    """Locations are absolute, so the first load happens in the copy itself."""
    world = prepared(story, folder)
    spec = world.spec(**story.row)
    first = world.load(spec, "orders", story.first_day, run="first")
    assert first.outcome == "loaded", first.error
    world.sql(*story.change)
    return world


def disturbed(world: World, stage: Stage) -> World:
    """With a lease that is never renewed: how many effects a run has must not hang on how fast the machine is."""
    return World(world.folder, wrap=stage.wrap, lease_seconds=600)


def assert_proved(world: World, story: Story) -> None:
    spec = world.spec(**story.row)
    edges = world.edges(spec)
    result = verify(spec, edges, ["orders"])
    result.raise_for_problems("the story")
    table = table_spec(spec, "orders")
    key = table.key
    sweep_table(table, replace(edges, dead_after_seconds=0))  # marks of the dead stay until nobody can still be alive
    assert edges.ledger.batches.unfinished(key) == ()
    assert edges.ledger.decisions.marked(key) == ()


@pytest.fixture(params=["some", pytest.param("all", marks=pytest.mark.soak)])
def places(request: pytest.FixtureRequest, story: Story) -> Callable[..., list[int]]:
    """Which of a run's effects to stop at: eight seeded ones here (or every other of them), all of them in `make soak`."""

    def chosen(count: int, every: int = 1) -> list[int]:
        found = list(range(count))
        if request.param == "some":
            chance = random.Random(f"{story.name}-{request.function.__name__}")
            found = sorted(chance.sample(found, min(8, count)))[::every]
        request.node.user_properties.append(("rounds", len(found)))  # read by tests/soak.py
        return found

    return chosen


@pytest.fixture(params=STORIES, ids=lambda s: s.name)
def story(request: pytest.FixtureRequest) -> Story:
    return request.param


def test_readers_see_before_or_after_at_every_effect(story: Story, tmp_path: Path, prepared) -> None:
    world = begin(story, tmp_path / "w", prepared)
    spec = world.spec(**story.row)
    before, seen = world.visible(spec, "orders"), []

    def look(effect: str) -> None:
        rows = stripped(world.visible(spec, "orders"))
        if not seen or seen[-1][1] != rows:
            seen.append((effect, rows))

    result = disturbed(world, watch(look)).load(spec, "orders", story.second_day, run="second")
    assert result.outcome == "loaded", result.error
    after = world.visible(spec, "orders")
    assert [rows for _, rows in seen] == [stripped(before), stripped(after)]
    assert_proved(world, story)


def effects_of(story: Story, folder: Path, prepared) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """How many effects the undisturbed run has, and what readers see before and after it."""
    world = begin(story, folder, prepared)
    spec = world.spec(**story.row)
    before = world.visible(spec, "orders")
    stage = watch(lambda _: None)
    assert disturbed(world, stage).load(spec, "orders", story.second_day, run="second").outcome == "loaded"
    return stage.count, before, world.visible(spec, "orders")


def stripped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A column that is only NULL yet says nothing: DDL comes before the data."""
    return [{k: v for k, v in row.items() if k != "city" or v is not None} for row in rows]


def test_death_before_an_effect_is_healed_by_the_retry(story: Story, tmp_path: Path, prepared, places) -> None:
    count, before, after = effects_of(story, tmp_path / "calm", prepared)
    assert count > 10
    for number in places(count):
        world = begin(story, tmp_path / f"w{number}", prepared)
        spec = world.spec(**story.row)
        with pytest.raises(Killed):
            disturbed(world, die_at(number)).load(spec, "orders", story.second_day, run="second")
        assert stripped(world.visible(spec, "orders")) in (stripped(before), stripped(after)), number
        retry = world.load(spec, "orders", story.second_day, run="second")
        assert retry.error is None, (number, retry.error)
        assert world.visible(spec, "orders") == after, number
        assert_proved(world, story)
        shutil.rmtree(world.folder)


def test_a_sleeper_that_wakes_after_its_retry_changes_nothing(story: Story, tmp_path: Path, prepared, places) -> None:
    count, _, after = effects_of(story, tmp_path / "calm", prepared)
    for number in places(count):
        world = begin(story, tmp_path / f"w{number}", prepared)
        spec = world.spec(**story.row)
        asleep, wake = threading.Event(), threading.Event()
        sleeper = disturbed(world, sleep_at(number, asleep, wake))
        thread = threading.Thread(target=sleeper.load, args=(spec, "orders", story.second_day, "second"))
        thread.start()
        assert asleep.wait(30)
        retry = world.load(spec, "orders", story.second_day, run="second")
        assert retry.error is None, (number, retry.error)
        assert world.visible(spec, "orders") == after, number
        wake.set()
        thread.join(60)
        assert not thread.is_alive()
        world.load(spec, "orders", story.second_day, run="second")  # its sweep projects what a zombie may have turned back
        assert world.visible(spec, "orders") == after, number
        assert_proved(world, story)
        shutil.rmtree(world.folder)


def test_a_source_that_changes_between_attempts_is_seen_once(story: Story, tmp_path: Path, prepared, places) -> None:
    """A1, A2, A8: whatever the first attempt read, readers see one of the two source states, whole."""
    count, _, after = effects_of(story, tmp_path / "calm", prepared)
    for number in places(count, every=2):
        world = begin(story, tmp_path / f"w{number}", prepared)
        spec = world.spec(**story.row)
        with pytest.raises(Killed):
            disturbed(world, die_at(number)).load(spec, "orders", story.second_day, run="second")
        world.sql("UPDATE orders SET amount=99 WHERE id=2", "DELETE FROM orders WHERE id=4")
        assert world.load(spec, "orders", story.second_day, run="second").error is None
        rows = world.visible(spec, "orders")
        later = world.load(spec, "orders", story.second_day, run="third")
        assert later.error is None
        amounts = {float(r["amount"]) for r in rows if r["id"] == 2 and r.get("dt", story.second_day) == story.second_day}
        fours = [r for r in rows if r["id"] == 4]
        old_state, new_state = (amounts == {2.25}, len(fours)), (amounts == {99.0}, len(fours))
        wanted = sum(r["id"] == 4 for r in after)
        if story.row.get("read", {}).get("mode") != "watermark":
            assert old_state == (True, wanted) or new_state == (True, 0), (number, rows)
        else:
            assert len(fours) <= 1
        assert_proved(world, story)
        shutil.rmtree(world.folder)
