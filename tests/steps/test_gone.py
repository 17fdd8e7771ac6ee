"""Tables that leave the source and come back: told once, marked, never dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.steps.discover import discover
from airflow_dataops.steps.gone import GONE, GoneResult, notice_tables
from tests.steps.effects import Killed
from tests.steps.test_drift_events import ddl, events, told
from tests.steps.test_row_edits import die_before
from tests.steps.world import World, ids


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    for name in ("orders", "people"):
        made.sql(f"CREATE TABLE {name} (id INTEGER)", f"INSERT INTO {name} VALUES (1)")
    return made


def look(world: World, spec: Any) -> GoneResult:
    edges = world.edges(spec)
    return notice_tables(spec, edges, discover(spec, edges).tables)


def parameters(world: World, spec: Any) -> Any:
    found = world.edges(spec).catalog.get_table("d", "orders")
    assert found is not None
    return found.parameters


def load_both(world: World, spec: Any) -> None:
    for name in ("orders", "people"):
        assert world.load(spec, name).outcome == "loaded"


@pytest.mark.parametrize("tables", [["*"], ["orders", "people"]], ids=["by wildcard", "by name"])
def test_a_table_that_is_gone_stays_and_is_told_once(world: World, tables: list[str]) -> None:
    spec = world.spec(tables=tables)
    load_both(world, spec)
    assert look(world, spec) == GoneResult()
    world.sql("DROP TABLE orders")
    assert [look(world, spec) for _ in range(2)] == [GoneResult(("d.orders",))] * 2
    assert (told(world, spec), ids(world.visible(spec, "orders"))) == ([["table 'orders' is gone from the source"]], [1])
    assert GONE in parameters(world, spec)
    world.sql("CREATE TABLE orders (id INTEGER)", "INSERT INTO orders VALUES (2)")
    assert [look(world, spec) for _ in range(2)] == [GoneResult(returned=("d.orders",)), GoneResult()]
    assert told(world, spec)[1:] == [["table 'orders' is back in the source"]] and GONE not in parameters(world, spec)
    assert world.load(spec, "orders").outcome == "loaded" and ids(world.visible(spec, "orders")) == [2]
    assert [entry["drift"] for entry in ddl(world, spec)][1:2] == [events(world, spec)[0]["id"]]


def test_a_table_that_the_contract_freezes_is_held(world: World) -> None:
    spec = world.spec(contract={"tables": "freeze"})
    load_both(world, world.spec())
    world.sql("DROP TABLE orders")
    assert look(world, spec) == GoneResult(("d.orders",), ("d.orders",))
    (event,) = events(world, spec)
    assert (event["decision"], event["decided_by"], event["batch_id"]) == ("held", None, None)


def test_a_table_that_the_row_no_longer_takes_is_not_gone(world: World) -> None:
    load_both(world, world.spec())
    for row in ({"exclude": ["orders"]}, {"tables": ["people"]}, {"target": {"table": "other_{table}"}}):
        assert look(world, world.spec(**row)) == GoneResult()
    world.sql("CREATE TABLE fresh (id INTEGER)")
    assert look(world, world.spec()) == GoneResult() and told(world, world.spec()) == []


@pytest.mark.parametrize("effect", ["catalog.alter_table", "ledger.drift.observe_table"])
@pytest.mark.parametrize("way", ["gone", "back"])
def test_killed_between_two_effects_the_next_look_ends_it(world: World, effect: str, way: str) -> None:
    spec = world.spec()
    load_both(world, spec)
    world.sql("DROP TABLE orders")
    if way == "back":
        look(world, spec)
        world.sql("CREATE TABLE orders (id INTEGER)")
    with pytest.raises(Killed):
        look(World(world.folder, wrap=die_before(effect).wrap), spec)
    look(world, spec)
    assert len(events(world, spec)) == (1 if way == "gone" else 2)
    assert (GONE in parameters(world, spec)) is (way == "gone")


def test_an_emptied_folder_is_no_table_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    world = World(tmp_path, kind="files", options={"path": "in/*"})
    (tmp_path / "in" / "1.csv").write_text("id\n1\n")
    spec = world.spec(read={"mode": "new_files"}, write={"mode": "append"})
    assert world.load(spec, "src").outcome == "loaded"
    assert notice_tables(spec, world.edges(spec), ()) == GoneResult()
