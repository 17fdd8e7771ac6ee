"""An approved rename: the new column is the old one, for what comes, what waits, what landed before, and what is read again."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.ledger.base import Hold
from airflow_dataops.steps.held import Drained, answer, let_go
from airflow_dataops.steps.maintain import Limits, maintain_table
from airflow_dataops.steps.reconcile import reconcile
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Killed, Stage, die_at, watch
from tests.steps.test_drift_events import events
from tests.steps.world import World

DT = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
APPEND = {"read": {"mode": "watermark", "cursor": "at", "overlap_seconds": 0}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}}
FREEZE = {"contract": {"columns": "freeze"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, cust_nm TEXT, at INTEGER)")
    made.sql(*(f"INSERT INTO orders VALUES ({n}, 'name {n}', {n})" for n in range(5)))
    return made


def rename(world: World, *rows: int) -> None:
    world.sql("ALTER TABLE orders RENAME COLUMN cust_nm TO cust_name")
    world.sql(*(f"INSERT INTO orders VALUES ({n}, 'name {n}', {n})" for n in rows))


def asked(world: World, spec: Any) -> Hold:
    (hold,) = world.edges(spec).ledger.holds.list()
    return hold


def give(world: World, spec: Any, given: str = "rename", by: str = "ann", table: str = "orders") -> Drained:
    edges, of = world.edges(spec), table_spec(spec, table)
    answer(of, asked(world, spec), given, by, edges.ledger)
    return let_go(of, edges)


def names(world: World, spec: Any) -> list[str | None]:
    """What the table's column shows, by id; what the new one does is nothing."""
    rows = sorted(world.visible(spec, "orders"), key=lambda r: (r["id"], str(r.get("dt"))))
    assert [r for r in rows if r.get("cust_name") is not None] == []
    return [r["cust_nm"] for r in rows]


def called(*ids: int) -> list[str]:
    return [f"name {n}" for n in ids]


def proved(world: World, spec: Any) -> None:
    edges = world.edges(spec)
    for record in edges.ledger.batches.history():
        assert record.accounting is not None and record.accounting.rows_read == record.accounting.rows_accounted
    assert edges.ledger.holds.queues() == ()
    verify(spec, edges, ["orders"]).raise_for_problems("the story")
    for one in reconcile(spec, edges, ["orders"]):
        assert one.error is None and one.ok, one


@pytest.mark.parametrize("mode", [APPEND, MERGE, DT], ids=["append", "merge", "overwrite"])
def test_what_landed_in_the_new_column_and_what_comes_are_in_the_old_one(world: World, mode: dict) -> None:
    spec = world.spec(**mode)
    world.load(spec, "orders", "2024-05-01")
    rename(world, 5, 6)
    assert world.load(spec, "orders", "2024-05-02").error is None
    assert any(r["cust_name"] for r in world.visible(spec, "orders"))
    hold = asked(world, spec)
    assert hold.is_suggestion and "cust_nm" in hold.why and hold.batches == 0
    done = give(world, spec)
    assert done.error is None and len(done.moved) == 1 and done.left == 0
    world.sql("INSERT INTO orders VALUES (7, 'name 7', 7)")
    assert world.load(spec, "orders", "2024-05-03").error is None
    days = 3 if mode is DT else 1
    assert set(names(world, spec)) == set(called(*range(8)))
    assert len(names(world, spec)) == (8 if days == 1 else 5 + 7 + 8)
    proved(world, spec)
    assert give_nothing(world, spec)


def give_nothing(world: World, spec: Any) -> bool:
    """Nothing is left to be moved, and nobody is asked again."""
    edges = world.edges(spec)
    return let_go(table_spec(spec, "orders"), edges) == Drained() and edges.ledger.holds.list() == ()


def test_a_frozen_contract_holds_the_new_column_and_a_rename_lets_it_in(world: World) -> None:
    spec = world.spec(**APPEND, **FREEZE)
    world.load(spec, "orders")
    rename(world, 5)
    assert world.load(spec, "orders").outcome == "held"
    world.sql("INSERT INTO orders VALUES (6, 'name 6', 6)")
    assert world.load(spec, "orders").outcome == "held"
    hold = asked(world, spec)
    assert not hold.is_suggestion and [(r.before, r.after) for r in hold.renames] == [("cust_nm", "cust_name")]
    done = give(world, spec)
    assert (done.error, len(done.published), done.moved) == (None, 2, ())
    assert names(world, spec) == called(*range(7))
    shown = world.edges(spec).catalog.get_table("d", "orders")
    assert shown is not None and "cust_name" not in {c.name for c in shown.columns}
    world.sql("INSERT INTO orders VALUES (7, 'name 7', 7)")
    assert world.load(spec, "orders").outcome == "loaded"
    proved(world, spec)


def test_a_renamed_key_goes_on_under_the_name_that_the_row_has(world: World) -> None:
    spec = world.spec(**MERGE)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders RENAME COLUMN id TO order_id", "UPDATE orders SET cust_nm='new', at=9 WHERE order_id=4")
    assert world.load(spec, "orders").outcome == "held"
    assert give(world, spec).error is None
    assert names(world, spec) == [*called(0, 1, 2, 3), "new"]
    proved(world, spec)
    edited = world.spec(read=MERGE["read"], write={"mode": "merge", "keys": ["order_id"]})
    refused = world.load(edited, "orders")
    assert "the row works with column 'order_id' -> 'id'" in str(refused.error)


def test_a_second_rename_goes_on_as_the_first_column_and_a_rename_back_is_nothing(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    give(world, spec)
    world.sql("ALTER TABLE orders RENAME COLUMN cust_name TO customer_nm", "INSERT INTO orders VALUES (6, 'name 6', 6)")
    world.load(spec, "orders")
    second = asked(world, spec)
    assert [(r.before, r.after) for r in second.renames] == [("cust_nm", "customer_nm")]
    assert {r["before"] for e in events(world, spec) for r in e["renames"]} == {"cust_nm"}
    assert give(world, spec).error is None
    told = len(events(world, spec))
    world.sql("ALTER TABLE orders RENAME COLUMN customer_nm TO cust_nm", "INSERT INTO orders VALUES (7, 'name 7', 7)")
    assert world.load(spec, "orders").outcome == "loaded"
    assert names(world, spec) == called(*range(8))
    assert len(events(world, spec)) == told and world.edges(spec).ledger.holds.list() == ()
    proved(world, spec)


def test_an_approval_is_told_once_and_the_new_column_is_retired(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    told = len(events(world, spec))
    give(world, spec)
    for n in (6, 7, 8):
        world.sql(f"INSERT INTO orders VALUES ({n}, 'name {n}', {n})")
        assert world.load(spec, "orders").outcome == "loaded"
    (event,) = events(world, spec)[told:]
    assert (event["decision"], event["decided_by"]) == ("rename", "ann")
    assert [(c["change"], c["before"], c["after"], c["done"]) for c in event["changes"]] == [
        ("column_renamed", "cust_nm", "cust_name", "applied")
    ]
    shown = world.edges(spec).catalog.get_table("d", "orders")
    assert shown is not None
    comments = {c.name: c.comment.startswith("retired ") for c in shown.columns if c.name.startswith("cust")}
    assert comments == {"cust_nm": False, "cust_name": True}


def test_a_column_that_is_back_cannot_be_another_by_now(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN cust_nm TEXT", "INSERT INTO orders VALUES (6, 'other', 6, 'name 6')")
    world.load(spec, "orders")
    with pytest.raises(InventoryError, match="it is back in the source"):
        give(world, spec)
    assert give(world, spec, "reject").error is None
    world.sql("ALTER TABLE orders DROP COLUMN cust_nm")
    world.load(spec, "orders")
    assert world.edges(spec).ledger.holds.list() == (), "a pair that was rejected is not asked about again"


def test_the_first_answer_counts_and_a_suggestion_is_no_held_drift(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    hold = asked(world, spec)
    for given in ("approve", "new_column"):
        with pytest.raises(InventoryError, match="the answer rename, or reject"):
            give(world, spec, given)
    give(world, spec)
    edges, table = world.edges(spec), table_spec(spec, "orders")
    now = edges.ledger.holds.get(hold.hold_id)
    assert now is not None and answer(table, now, "rename", "ann", edges.ledger) == now
    with pytest.raises(ConflictError, match="ann answered rename"):
        answer(table, now, "reject", "bob", edges.ledger)
    with pytest.raises(InventoryError, match="one of the suggested renames"):
        answer(table, replace(now, decision=None), "rename", "ann", edges.ledger, pairs=[("id", "at")])


def test_a_rename_that_is_taken_back_leaves_what_it_did_and_does_no_more(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    hold = asked(world, spec)
    with pytest.raises(InventoryError, match="it is none yet -> rename"):
        world.edges(spec).ledger.holds.revoke(hold.hold_id, "bob")
    give(world, spec)
    ledger = world.edges(spec).ledger
    assert ledger.holds.revoke(hold.hold_id, "bob").decision == "revoked"
    assert ledger.holds.revoke(hold.hold_id, "bob").decided_by == "bob"
    world.sql("INSERT INTO orders VALUES (6, 'name 6', 6)")
    assert world.load(spec, "orders").outcome == "loaded"
    rows = {r["id"]: (r["cust_nm"], r["cust_name"]) for r in world.visible(spec, "orders")}
    assert (rows[5], rows[6]) == (("name 5", None), (None, "name 6"))
    assert world.edges(spec).ledger.holds.list() == ()
    assert [e["decision"] for e in events(world, spec)][1:3] == ["rename", "revoked"]


def test_rows_that_are_not_moved_yet_are_known_when_they_are_read_again(world: World) -> None:
    """A watermark reads its last value again. The row there still has its name in the new column."""
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    edges = world.edges(spec)
    answer(table_spec(spec, "orders"), asked(world, spec), "rename", "ann", edges.ledger)
    world.sql("DELETE FROM orders WHERE id = 5", "INSERT INTO orders VALUES (5, 'twin', 5), (5, 'name 5', 5), (6, 'name 6', 6)")
    assert world.load(spec, "orders").accounting.rows_written == 2
    assert sorted(names(world, spec)) == sorted([*called(*range(7)), "twin"])
    proved(world, spec)
    assert world.load(spec, "orders").outcome == "nothing_new"
    world.sql("UPDATE orders SET cust_name = 'changed' WHERE id = 6")
    assert world.load(spec, "orders").accounting.rows_written == 1, "it differs in that column alone"


def test_a_batch_that_was_under_way_at_the_approval_is_moved_after_it(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    rename(world, 5)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (6, 'name 6', 6)")

    def at(_: int, name: str) -> None:
        if name == "after ledger.batches.freeze":
            edges = world.edges(spec)
            answer(table_spec(spec, "orders"), asked(world, spec), "rename", "ann", edges.ledger)

    wrapped = World(world.folder, wrap=lambda name, edge: Stage(at).wrap(name, edge))
    assert wrapped.load(spec, "orders").outcome == "loaded"
    assert names(world, spec) == called(*range(7))
    proved(world, spec)


@pytest.mark.parametrize("column", ["cust_nm", "cust_name"])
@pytest.mark.parametrize("action", ["mask", "hash"])
def test_a_rename_never_unmasks(world: World, column: str, action: str) -> None:
    """What landed in clear under the other name is hidden when it is moved, and so is what comes, whichever name has the rule."""
    before = world.spec(**APPEND, privacy={"columns": {column: action}} if column == "cust_nm" else {})
    world.load(before, "orders")
    rename(world, 5)
    spec = world.spec(**APPEND, privacy={"columns": {column: action}})
    world.load(before, "orders")
    edges, table = world.edges(spec), table_spec(spec, "orders")
    answer(table, asked(world, spec), "rename", "ann", edges.ledger)
    assert let_go(table, edges).error is None
    world.sql("INSERT INTO orders VALUES (6, 'name 6', 6)")
    assert world.load(spec, "orders").outcome == "loaded"
    shown = {r["id"]: r["cust_nm"] for r in world.visible(spec, "orders")}
    hidden = [0, 5, 6] if column == "cust_nm" else [5, 6]
    assert not [n for n in hidden if shown[n] == f"name {n}"] and None not in shown.values()
    verify(spec, world.edges(spec), ["orders"]).raise_for_problems("the story")


STORIES = {"append": APPEND, "merge": MERGE, "overwrite": DT}


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("places", ["some", pytest.param("all", marks=pytest.mark.soak)])
def test_death_at_any_effect_is_healed_by_the_maintenance(tmp_path: Path, name: str, places: str) -> None:
    def story(folder: Path) -> tuple[World, Any]:
        world = World(folder, lease_seconds=0.0)
        world.sql("CREATE TABLE orders (id INTEGER, cust_nm TEXT, at INTEGER)", "INSERT INTO orders VALUES (0,'name 0',0)")
        spec = world.spec(**STORIES[name])
        world.load(spec, "orders", "2024-05-01")
        rename(world, 1)
        world.load(spec, "orders", "2024-05-02")
        answer(table_spec(spec, "orders"), asked(world, spec), "rename", "ann", world.edges(spec).ledger)
        return world, spec

    calm, spec = story(tmp_path / "calm")
    table, stage = table_spec(spec, "orders"), watch(lambda _: None)
    before = len(calm.visible(spec, "orders"))
    let_go(table, World(calm.folder, wrap=stage.wrap).edges(spec))
    after = names(calm, spec)
    assert stage.count > 8 and set(after) == set(called(0, 1))
    numbers = list(range(stage.count))
    for number in random.Random(name).sample(numbers, 3) if places == "some" else numbers:
        world, _ = story(tmp_path / f"w{number}")
        with pytest.raises(Killed):
            let_go(table, World(world.folder, wrap=die_at(number).wrap).edges(spec))
        assert len(world.visible(spec, "orders")) == before, number
        edges = replace(world.edges(spec), dead_after_seconds=0)
        assert [t.target for t in edges.ledger.maintenance.due()] == ["d.orders"]
        sweep_table(table, edges)
        assert maintain_table(table, edges, Limits()).error is None
        assert names(world, spec) == after, number
        verify(spec, world.edges(spec), ["orders"]).raise_for_problems("the story")
