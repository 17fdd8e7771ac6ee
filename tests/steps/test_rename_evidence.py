"""A rename is suggested with the share of values that the two columns have in common, and never applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.steps.test_drift_events import events
from tests.steps.world import World

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, cust_nm TEXT, note TEXT)")
    made.sql(*(f"INSERT INTO orders VALUES ({n}, 'name {n}', 'note {n}')" for n in range(20)))
    return made


def renames(world: World, spec: Any) -> list[tuple[str, str, float | None]]:
    return [(r["before"], r["after"], r["value_overlap"]) for r in events(world, spec)[-1]["renames"]]


@pytest.mark.parametrize("contract", [{}, {"columns": "freeze"}, {"columns": "discard_value"}], ids=["evolve", "freeze", "discard"])
def test_values_tell_which_column_was_renamed(world: World, contract: dict[str, str]) -> None:
    spec = world.spec(target=DT, contract=contract)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders RENAME COLUMN cust_nm TO cust_name", "UPDATE orders SET id = id + 1")
    world.sql("ALTER TABLE orders RENAME COLUMN note TO xyz", "INSERT INTO orders VALUES (99, 'new', 'new')")
    assert world.load(spec, "orders", "2024-05-02").error is None
    assert renames(world, spec) == [("cust_nm", "cust_name", 1.0), ("note", "xyz", 1.0)]
    shown = world.edges(spec).catalog.get_table("d", "orders")
    assert shown is not None and {"cust_nm", "note"} <= {c.name for c in shown.columns}


def test_a_new_column_with_other_values_is_told_from_a_renamed_one(world: World) -> None:
    spec = world.spec(target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders DROP COLUMN cust_nm", "ALTER TABLE orders ADD COLUMN cust_no TEXT")
    world.sql("UPDATE orders SET cust_no = id")
    world.load(spec, "orders", "2024-05-02")
    assert renames(world, spec) == [("cust_nm", "cust_no", 0.0)]


@pytest.mark.parametrize(("action", "known"), [("mask", None), ("hash", 1.0)])
def test_hidden_values_are_compared_as_they_are_hidden(world: World, action: str, known: float | None) -> None:
    spec = world.spec(target=DT, privacy={"columns": {"cust*": action}})
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders RENAME COLUMN cust_nm TO cust_name")
    world.load(spec, "orders", "2024-05-02")
    assert renames(world, spec) == [("cust_nm", "cust_name", known)]


def test_without_a_pair_nothing_of_the_lake_is_read(world: World) -> None:
    spec = world.spec(target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET city = 'Rome'")
    read: list[str] = []

    class Counted:
        def __init__(self, lake: Any) -> None:
            self._lake = lake

        def __getattr__(self, name: str) -> Any:
            read.extend([name] if name == "read" else [])
            return getattr(self._lake, name)

    watched = World(world.folder, wrap=lambda name, edge: Counted(edge) if name == "lake" else edge)
    assert watched.load(spec, "orders", "2024-05-02").error is None and read == []
