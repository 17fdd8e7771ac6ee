"""An approved rename where files of before and of after it are read: for the first time, again, together, and from dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.steps.drift_sync import drift_sync
from airflow_dataops.steps.verify import verify
from tests.steps.letters import replayed, states
from tests.steps.test_load_files import put
from tests.steps.test_renames import asked, give
from tests.steps.world import World, day

DT = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
NEW = {"read": {"mode": "new_files"}, "write": {"mode": "append"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "in").mkdir()
    return World(tmp_path, kind="files", options={"path": "in/*"})


def renamed(world: World, **row: Any) -> Any:
    """Two days, with the rename between them, approved."""
    spec = world.spec(**NEW, **DT, **row)
    put(world, "a.csv", "id,cust_nm\n1,007\n2,008\n")
    world.load(spec, "src", "2024-05-01")
    put(world, "b.csv", "id,cust_name\n3,009\n")
    assert world.load(spec, "src", "2024-05-02").error is None
    give(world, spec, table="src")
    return spec


def shown(world: World, spec: Any) -> dict[int, str]:
    rows = world.visible(spec, "src")
    assert not [r for r in rows if r.get("cust_name") is not None] and len({r["id"] for r in rows}) == len(rows)
    verify(spec, world.edges(spec), ["src"]).raise_for_problems("the story")
    return {r["id"]: r["cust_nm"] for r in rows}


def test_files_of_before_and_after_land_in_one_column_also_together(world: World) -> None:
    spec = renamed(world)
    put(world, "c.csv", "id,cust_nm\n4,010\n")
    put(world, "d.csv", "id,cust_name\n5,011\n")
    assert world.load(spec, "src", "2024-05-03").error is None
    assert shown(world, spec) == {1: "007", 2: "008", 3: "009", 4: "010", 5: "011"}


def test_a_new_name_is_read_with_the_type_that_the_old_one_has(world: World) -> None:
    spec = world.spec(**NEW, **DT, contract={"columns": "freeze"})
    put(world, "a.csv", "id,cust_nm\n1,007\n")
    world.load(spec, "src", "2024-05-01")
    put(world, "b.csv", "id,cust_name\n2,008\n")
    assert world.load(spec, "src", "2024-05-02").outcome == "held"
    assert len(give(world, spec, table="src").published) == 1
    put(world, "c.csv", "id,cust_name\n3,11\n")  # alone it would be a number
    assert world.load(spec, "src", "2024-05-03").outcome == "loaded"
    assert shown(world, spec) == {1: "007", 2: "008", 3: "11"}


@pytest.mark.parametrize("key", ["2024-05-01", "2024-05-02"])
def test_old_files_that_are_read_again_land_where_they_were(world: World, key: str) -> None:
    spec = renamed(world)
    assert world.load(spec, "src", day(key, backfill=True)).error is None
    assert shown(world, spec) == {1: "007", 2: "008", 3: "009"}
    assert world.edges(spec).ledger.holds.list() == ()


def test_two_values_for_one_column_are_a_dead_letter_until_the_rename_is_taken_back(world: World) -> None:
    spec = renamed(world, dead_letters={"max_share": 1.0})
    put(world, "c.csv", "id,cust_nm,cust_name\n4,010,010\n5,011,012\n6,,013\n")
    counts = world.load(spec, "src", "2024-05-03").accounting
    assert (counts.rows_read, counts.rows_written, counts.rows_dead_lettered) == (3, 2, 1)
    assert shown(world, spec) == {1: "007", 2: "008", 3: "009", 4: "010", 6: "013"}
    assert states(world) == [("open", "two_values", 1)]
    assert replayed(world, spec).failed_again == 1
    ledger = world.edges(spec).ledger
    (hold,) = ledger.holds.list(decided=True)
    ledger.holds.revoke(hold.hold_id, "ann")
    assert replayed(world, spec, "replay/ann/2").failed_again == 0
    assert {r["id"]: (r["cust_nm"], r["cust_name"]) for r in world.visible(spec, "src")}[5] == ("011", "012")


def test_letters_of_before_the_rename_land_in_the_column_that_goes_on(world: World) -> None:
    spec = world.spec(**NEW, **DT, contract={"columns": "discard_row"}, dead_letters={"max_share": 1.0})
    put(world, "a.csv", "id,cust_nm\n1,007\n")
    world.load(spec, "src", "2024-05-01")
    put(world, "b.csv", "id,cust_name\n2,008\n3,009\n")
    assert world.load(spec, "src", "2024-05-02").accounting.rows_dead_lettered == 2
    give(world, spec, table="src")
    assert replayed(world, spec).failed_again == 0
    assert shown(world, spec) == {1: "007", 2: "008", 3: "009"}


def test_a_column_that_drift_sync_has_made_is_compared_when_its_first_batch_comes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sql("CREATE TABLE orders (id INTEGER, cust_nm TEXT)", "INSERT INTO orders VALUES (1,'Ann'), (2,'Bob')")
    spec = world.spec(**DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders RENAME COLUMN cust_nm TO zz")
    edges = world.edges(spec)
    assert drift_sync(spec, edges, [edges.source.describe("orders")]).changed == ("d.orders",)
    world.load(spec, "orders", "2024-05-02")
    (suggested,) = asked(world, spec).renames
    assert (suggested.after, suggested.value_overlap) == ("zz", 1.0)
    give(world, spec)
    edges = world.edges(spec)
    assert drift_sync(spec, edges, [edges.source.describe("orders")]).changed == ("d.orders",), "`zz` is retired"
    assert drift_sync(spec, edges, [edges.source.describe("orders")]).same == ("d.orders",)
