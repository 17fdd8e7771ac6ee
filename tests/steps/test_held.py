"""Held drift and the contract, whole way: nothing slips past a hold, whoever finishes the batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.discover import discover
from airflow_dataops.steps.drift_sync import drift_sync
from airflow_dataops.steps.sweep import sweep_table
from tests.steps.test_load import check
from tests.steps.test_row_edits import dies
from tests.steps.world import World, ids

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}
FREEZE = {"contract": {"columns": "freeze"}}
NEW_COLUMN = ("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET city='Rome'")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,'b')")
    return made


def states(world: World, spec) -> list[str]:
    return [r.state for r in reversed(world.edges(spec).ledger.batches.history(table_key=table_spec(spec, "orders").key))]


@pytest.mark.parametrize("effect", ["ledger.batches.hold", "ledger.drift.observe"])
def test_a_batch_that_was_to_be_held_is_held_by_whoever_comes_next(world: World, effect: str) -> None:
    spec = world.spec(**FREEZE)
    world.load(spec, "orders")
    world.sql(*NEW_COLUMN)
    dies(world, effect, FREEZE)
    sweep_table(table_spec(spec, "orders"), world.edges(spec))
    assert states(world, spec) == ["committed", "held"]
    assert all("city" not in r for r in world.visible(spec, "orders"))
    result = world.load(spec, "orders", run="dead")
    check(result, "held", rows_held=2, rows_read=2)


def test_a_frozen_batch_behind_a_held_one_is_held_by_the_sweep(world: World) -> None:
    row = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}, **FREEZE}
    spec = world.spec(**row)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,'c','Rome')")
    check(world.load(spec, "orders"), "held")
    world.sql("ALTER TABLE orders DROP COLUMN city", "INSERT INTO orders VALUES (4,'d')")
    dies(world, "ledger.batches.hold", row)
    sweep_table(table_spec(spec, "orders"), world.edges(spec))
    assert states(world, spec) == ["committed", "held", "held"]
    assert ids(world.visible(spec, "orders")) == [1, 2]


def test_rows_tied_with_the_watermark_are_not_held_again_and_again(world: World) -> None:
    spec = world.spec(read={"mode": "watermark", "cursor": "id"}, write={"mode": "append"}, **FREEZE)
    world.load(spec, "orders")
    world.sql(*NEW_COLUMN, "INSERT INTO orders VALUES (3,'c','Oslo')")
    check(world.load(spec, "orders"), "held")
    for _ in range(2):
        check(world.load(spec, "orders"), "nothing_new")
    assert states(world, spec) == ["committed", "held"]


@pytest.mark.parametrize("path", ["load", "drift_sync first"])
def test_a_new_table_that_the_contract_discards_never_comes_into_being(world: World, path: str) -> None:
    spec = world.spec(contract={"tables": "discard_row"})
    for _ in range(2):
        edges = world.edges(spec)
        if path == "drift_sync first":
            drift_sync(spec, edges, discover(spec, edges).tables)
        check(world.load(spec, "orders"), "unchanged", rows_read=2, rows_dead_lettered=2, rows_written=0)
        assert edges.catalog.get_table("d", "orders") is None
    letters = world.edges(spec).ledger.dead_letters.find("d.src")
    assert [letter.state for letter in letters] == ["open", "open", "superseded", "superseded"]
    assert {letter.reason for letter in letters} == {"contract_tables"}


def test_a_frozen_table_contract_holds_before_the_table_is_made(world: World) -> None:
    spec = world.spec(contract={"tables": "freeze"})
    edges = world.edges(spec)
    assert drift_sync(spec, edges, discover(spec, edges).tables).held
    check(world.load(spec, "orders"), "held", rows_held=2)
    assert edges.catalog.get_table("d", "orders") is None


@pytest.mark.parametrize(
    ("policy", "outcome", "counts"),
    [
        ("discard_value", "loaded", {"rows_written": 40, "values_discarded": 2}),
        ("discard_row", "loaded", {"rows_written": 38, "rows_dead_lettered": 2, "values_discarded": 0}),
        ("freeze", "held", {"rows_held": 40}),
        ("evolve", "loaded", {"rows_written": 40, "values_discarded": 0}),
    ],
)
def test_a_new_column_by_contract(world: World, policy: str, outcome: str, counts: dict) -> None:
    spec = world.spec(contract={"columns": policy}, target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql(
        "ALTER TABLE orders ADD COLUMN city TEXT",
        "UPDATE orders SET city='Rome'",
        *(f"INSERT INTO orders VALUES ({i},'x',NULL)" for i in range(3, 41)),
    )
    check(world.load(spec, "orders", "2024-05-02"), outcome, rows_read=40, **counts)
    shown = [r for r in world.visible(spec, "orders") if r["dt"] == "2024-05-02"]
    assert len(shown) == counts.get("rows_written", 0)
    assert {r.get("city") for r in shown} <= ({None, "Rome"} if policy == "evolve" else {None})


@pytest.mark.parametrize(
    ("policy", "outcome"), [("discard_value", "loaded"), ("discard_row", "loaded"), ("freeze", "held"), ("evolve", "held")]
)
def test_a_retyped_column_by_contract(world: World, policy: str, outcome: str) -> None:
    spec = world.spec(contract={"types": policy}, target=DT)
    world.sql(*(f"INSERT INTO orders VALUES ({i},NULL)" for i in range(3, 41)))
    world.sql("CREATE TABLE t AS SELECT id AS k, id AS n FROM orders")
    world.sql("DROP TABLE t", "CREATE TABLE t (k INTEGER, n INTEGER)", "INSERT INTO t SELECT id, id FROM orders")
    world.load(spec, "t", "2024-05-01")
    world.sql(
        "DROP TABLE t", "CREATE TABLE t (k INTEGER, n TEXT)", "INSERT INTO t SELECT id, CASE WHEN id < 3 THEN 'x' END FROM orders"
    )
    result = world.load(spec, "t", "2024-05-02")
    check(result, outcome, rows_read=40)
    if policy == "discard_value":
        assert (result.accounting.rows_written, result.accounting.values_discarded) == (40, 2)
    if policy == "discard_row":
        assert (result.accounting.rows_written, result.accounting.rows_dead_lettered) == (38, 2)
