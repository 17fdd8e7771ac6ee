"""What becomes of held drift: answered once, published as it was held, in order, whatever dies meanwhile (DESIGN §5, C1–C5)."""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.ledger.base import Hold
from airflow_dataops.steps.held import Drained, answer, drain
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Killed, Stage, die_at, watch
from tests.steps.letters import replayed
from tests.steps.letters import states as letter_states
from tests.steps.test_load import check
from tests.steps.world import World, ids

APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}}
DT = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
FREEZE = {"contract": {"columns": "freeze"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, n INTEGER, at INTEGER)", "INSERT INTO orders VALUES (1,10,1),(2,20,1)")
    return made


def retype(world: World, *rows: str) -> None:
    """`n` is text from now on: the source's owner made the table anew."""
    world.sql("DROP TABLE orders", "CREATE TABLE orders (id INTEGER, n TEXT, at INTEGER)")
    world.sql(*(f"INSERT INTO orders VALUES {row}" for row in rows))


def asked(world: World, spec: Any) -> Hold:
    (hold,) = world.edges(spec).ledger.holds.list()
    return hold


def give(world: World, spec: Any, given: str, by: str = "ann") -> Hold:
    edges = world.edges(spec)
    return answer(table_spec(spec, "orders"), asked(world, spec), given, by, edges.ledger)


def drained(world: World, spec: Any) -> Drained:
    return drain(table_spec(spec, "orders"), world.edges(spec))


def states(world: World, spec: Any) -> list[str]:
    return [r.state for r in reversed(world.edges(spec).ledger.batches.history(table_key=table_spec(spec, "orders").key))]


def proved(world: World, spec: Any) -> None:
    """Every batch adds up, nothing waits, and the lake holds what the ledger says."""
    edges = world.edges(spec)
    for record in edges.ledger.batches.history():
        assert record.accounting is not None and record.accounting.rows_read == record.accounting.rows_accounted
        assert record.accounting.rows_held == 0
    assert edges.ledger.holds.queues() == ()
    verify(spec, edges, ["orders"]).raise_for_problems("the story")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("approve", [{"id": 1, "n": "10"}, {"id": 2, "n": "20"}, {"id": 3, "n": "x"}]),
        (
            "new_column",
            [{"id": 1, "n": 10, "n__str": None}, {"id": 2, "n": 20, "n__str": None}, {"id": 3, "n": None, "n__str": "x"}],
        ),
    ],
)
def test_an_approved_retype_is_published_as_it_was_held_and_stands(world: World, given: str, shown: list) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    retype(world, "(3,'x',2)")
    check(world.load(spec, "orders"), "held", rows_held=1)
    world.sql("DELETE FROM orders")  # what was held is published, not what the source has by now
    give(world, spec, given)
    assert len(drained(world, spec).published) == 1
    found = [{k: v for k, v in row.items() if k != "at"} for row in world.visible(spec, "orders")]
    wanted = [row | ({"n": int(row["n"])} if given == "approve" and row["id"] < 3 else {}) for row in shown]
    assert found == sorted(wanted, key=repr)  # the older file keeps its numbers; a reader casts them
    assert states(world, spec) == ["committed", "committed"]
    proved(world, spec)
    world.sql("INSERT INTO orders VALUES (4,'y',3)")
    check(world.load(spec, "orders"), "loaded", rows_written=1)
    event = world.edges(spec).ledger.drift.events()[0]
    assert (event["decision"], event["decided_by"]) == (given, "ann")
    assert any(f"{given} by ann" in ddl["why"] for ddl in world.edges(spec).ledger.drift.ddl())


@pytest.mark.parametrize("contract", [{"columns": "freeze"}, {"types": "freeze"}, {"tables": "freeze"}])
def test_what_a_frozen_contract_held_is_applied_when_it_is_approved(world: World, contract: dict) -> None:
    spec = world.spec(contract=contract, **DT)
    world.sql("UPDATE orders SET n=NULL")
    first = world.load(spec, "orders", "2024-05-01")
    if "tables" not in contract:
        check(first, "loaded")
        world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET city='Rome', n=7")
        if "types" in contract:
            world.sql("DROP TABLE orders", "CREATE TABLE orders (id DECIMAL(30,0), n INTEGER, at INTEGER)")
            world.sql("INSERT INTO orders VALUES (1,7,1),(2,7,1)")
        check(world.load(spec, "orders", "2024-05-02"), "held", rows_held=2)
    give(world, spec, "approve")
    assert len(drained(world, spec).published) == 1
    assert len(world.visible(spec, "orders")) == (2 if "tables" in contract else 4)
    if "columns" in contract:
        assert [r["city"] for r in world.visible(spec, "orders") if r["dt"] == "2024-05-02"] == ["Rome", "Rome"]
    check(world.load(spec, "orders", "2024-05-03"), "loaded", rows_written=2)
    proved(world, spec)


def test_what_cannot_be_approved_says_why_and_stays(world: World) -> None:
    spec = world.spec(**MERGE)
    world.load(spec, "orders")
    world.sql("DROP TABLE orders", "CREATE TABLE orders (id TEXT, n INTEGER, at INTEGER)", "INSERT INTO orders VALUES ('x',1,2)")
    check(world.load(spec, "orders"), "held")
    with pytest.raises(InventoryError, match="the row uses 'id' as key"):
        give(world, spec, "approve")
    with pytest.raises(InventoryError, match="the row uses 'id' as key"):
        give(world, spec, "new_column")
    spec = world.spec()  # the row does without the key by now, but what waits was staged to be merged by it
    with pytest.raises(InventoryError, match="the row uses 'id' as"):
        give(world, spec, "approve")
    assert asked(world, spec).decision is None
    give(world, spec, "reject")
    assert len(drained(world, spec).rejected) == 1


def test_rejected_rows_are_dead_letters_and_the_queue_goes_on(world: World) -> None:
    spec = world.spec(privacy={"columns": {"n": "mask"}}, **APPEND)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,777,2,'Rome')")
    spec = world.spec(privacy={"columns": {"n": "mask"}}, **APPEND, **FREEZE)
    check(world.load(spec, "orders"), "held", rows_held=1)
    world.sql("ALTER TABLE orders DROP COLUMN city", "INSERT INTO orders VALUES (4,888,3)")
    check(world.load(spec, "orders"), "held", rows_held=1)
    give(world, spec, "reject")
    done = drained(world, spec)
    assert (len(done.rejected), len(done.published)) == (1, 1)
    assert ids(world.visible(spec, "orders")) == [1, 2, 4]
    assert states(world, spec) == ["committed", "rejected", "committed"]
    ledger = world.edges(spec).ledger
    (letter,) = ledger.dead_letters.find("d.src")
    assert letter.reason == "rejected_drift"
    counts = ledger.batches.history()[1].accounting
    assert counts is not None and (counts.rows_dead_lettered, counts.rows_deduplicated, counts.rows_read) == (1, 1, 2)
    (file,) = (world.folder / "dead").rglob("*.parquet")
    (raw,) = pq.ParquetFile(file).read().column("raw").to_pylist()
    assert b"Rome" in raw and b"777" not in raw, "what was masked stays masked"
    proved(world, spec)
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (5,1,4,'Oslo')")
    check(world.load(spec, "orders"), "held")
    assert asked(world, spec).decision is None, "a rejection is of what was held, not of what comes"


def test_c1_a_queue_is_published_in_order(world: World) -> None:
    """N2 sets back what N1 changed: it equals the table of today, and has to be there tomorrow all the same."""
    spec = world.spec(**MERGE, **FREEZE)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET n=11, at=2, city='Rome' WHERE id=1")
    check(world.load(spec, "orders"), "held", rows_held=1)
    world.sql(
        "ALTER TABLE orders DROP COLUMN city", "UPDATE orders SET n=10, at=2 WHERE id=1", "INSERT INTO orders VALUES (3,30,3)"
    )
    world.sql("UPDATE orders SET at=3 WHERE id=1")
    check(world.load(spec, "orders"), "held", rows_held=2)
    world.sql("UPDATE orders SET n=21, at=4 WHERE id=2")
    check(world.load(spec, "orders"), "held", rows_held=1)
    assert {r["id"]: r["n"] for r in world.visible(spec, "orders")} == {1: 10, 2: 20}
    give(world, spec, "approve")
    assert len(drained(world, spec).published) == 3
    assert {r["id"]: (r["n"], r["city"]) for r in world.visible(spec, "orders")} == {1: (10, None), 2: (21, None), 3: (30, None)}
    proved(world, spec)


def test_what_sets_back_what_waits_before_it_is_not_left_out_as_unchanged(world: World) -> None:
    """Without an order column N2 equals the rows of today in full; N1, which is let go first, is what it changes."""
    spec = world.spec(read={"mode": "full"}, write={"mode": "merge", "keys": ["id"]})
    world.load(spec, "orders")
    retype(world, "(1,'x',1)", "(2,'20',1)")
    check(world.load(spec, "orders", "2024-05-02"), "held", rows_held=2)
    world.sql("DROP TABLE orders", "CREATE TABLE orders (id INTEGER, n INTEGER, at INTEGER)")
    world.sql("INSERT INTO orders VALUES (1,10,1),(2,20,1)")
    check(world.load(spec, "orders", "2024-05-03"), "held", rows_held=2)
    give(world, spec, "approve")
    assert len(drained(world, spec).published) == 2
    assert {r["id"]: r["n"] for r in world.visible(spec, "orders")} == {1: "10", 2: "20"}
    proved(world, spec)


@pytest.mark.parametrize(("given", "asks"), [("approve", False), ("approve", True), ("new_column", False)])
def test_a_replay_that_waited_and_does_not_fit_any_more_opens_its_letters_again(world: World, given: str, asks: bool) -> None:
    """No new letter comes of it: that one would outlive a rerun of the first one's batch, and bring its row twice."""
    lax = {**APPEND, "dead_letters": {"max_share": 1.0}}
    strict = world.spec(**lax, contract={"columns": "discard_row"})
    world.load(strict, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,30,2,'Rome')")
    check(world.load(strict, "orders"), "unchanged", rows_dead_lettered=1)
    retype(world, "(4,'x',3)")
    check(world.load(strict, "orders"), "held", rows_held=1)
    assert [b.outcome for b in replayed(world, world.spec(**lax)).batches] == ["held"]
    assert letter_states(world) == [("replaying", "contract_columns", 1)]
    meanwhile = world.spec(**lax, **FREEZE) if asks else world.spec(**APPEND, contract={"columns": "discard_row"})
    give(world, meanwhile, given)
    done = drained(world, meanwhile)
    if asks:
        assert len(done.asked) == 1
        give(world, meanwhile, "reject")
        done = drained(world, meanwhile)
    assert (len(done.rejected), done.error) == (1, None)
    assert letter_states(world) == [("open", "contract_columns", 2)]
    assert ids(world.visible(strict, "orders")) == [1, 2, 4]
    assert [b.outcome for b in replayed(world, world.spec(**lax), "replay/ann/2").batches] == ["loaded"]
    assert ids(world.visible(strict, "orders")) == [1, 2, 3, 4]
    assert [state for state, _, _ in letter_states(world)] == ["replayed"]
    proved(world, strict)


def test_c2_one_answer_and_one_replay(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    retype(world, "(3,'x',2)", "(4,'y',2)")
    check(world.load(spec, "orders"), "held")
    hold = give(world, spec, "approve")
    edges = world.edges(spec)
    assert edges.ledger.holds.decide(hold.hold_id, "approve", "ann").decided_at == hold.decided_at  # a lost reply
    for given, by in (("reject", "bob"), ("approve", "bob"), ("reject", "ann")):
        with pytest.raises(ConflictError, match="ann answered approve at"):
            edges.ledger.holds.decide(hold.hold_id, given, by)
    threads = [threading.Thread(target=drained, args=(world, spec)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    drained(world, spec)
    assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4]
    proved(world, spec)


@pytest.mark.parametrize("given", ["approve", "reject"])
def test_c3_what_is_held_while_somebody_answers_goes_the_same_way(world: World, given: str) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    retype(world, "(3,'x',2)")
    check(world.load(spec, "orders"), "held")
    world.sql("INSERT INTO orders VALUES (4,'y',3)")
    been: list[bool] = []

    def at(_: int, name: str) -> None:
        if name == "before ledger.batches.hold" and not been:
            been.append(True)
            give(world, spec, given)
            drained(world, spec)

    result = replace_wrap(world, Stage(at)).load(spec, "orders")
    if given == "approve":
        check(result, "loaded", rows_written=1)
        assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4]
        proved(world, spec)
    else:
        check(result, "held", rows_held=1)
        assert asked(world, spec).decision is None, "nobody has seen these rows when the others were rejected"


def replace_wrap(world: World, stage: Stage) -> World:
    return World(world.folder, wrap=stage.wrap, lease_seconds=600)


def test_another_change_of_a_later_batch_is_another_question(world: World) -> None:
    spec = world.spec(**APPEND, **FREEZE)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,30,2,'Rome')")
    check(world.load(spec, "orders"), "held")
    world.sql("ALTER TABLE orders ADD COLUMN zip TEXT", "INSERT INTO orders VALUES (4,40,3,'Oslo','1')")
    check(world.load(spec, "orders"), "held")
    edges = world.edges(spec)
    first, second = edges.ledger.holds.list()
    table = table_spec(spec, "orders")
    answer(table, first, "approve", "ann", edges.ledger)
    done = drain(table, edges)
    assert (len(done.published), ids(world.visible(spec, "orders"))) == (1, [1, 2, 3])
    answer(table, second, "approve", "ann", edges.ledger)
    assert len(drain(table, edges).published) == 1
    assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4]
    proved(world, spec)


STORIES = {"append": APPEND, "merge": MERGE, "overwrite by period": DT}


def story(folder: Path, row: dict[str, Any]) -> tuple[World, Any]:
    """Two batches wait: one with a drift, one behind it."""
    world = World(folder, lease_seconds=0.0)
    world.sql("CREATE TABLE orders (id INTEGER, n INTEGER, at INTEGER)", "INSERT INTO orders VALUES (1,10,1),(2,20,1)")
    spec = world.spec(**row, **FREEZE)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,30,2,'Rome')")
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders DROP COLUMN city", "INSERT INTO orders VALUES (4,40,3)")
    world.load(spec, "orders", "2024-05-01")
    return world, spec


@pytest.mark.parametrize("given", ["approve", "reject"])
@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("places", ["some", pytest.param("all", marks=pytest.mark.soak)])
def test_death_at_any_effect_of_the_release_is_healed_by_the_next(tmp_path: Path, name: str, given: str, places: str) -> None:
    row = STORIES[name]
    calm, spec = story(tmp_path / "calm", row)
    table = table_spec(spec, "orders")
    before = calm.visible(spec, "orders")
    give(calm, spec, given)
    stage = watch(lambda _: None)
    done = drain(table, replace_wrap(calm, stage).edges(spec))
    assert len(done.published) + len(done.rejected) == 2, done.error
    after, count = calm.visible(spec, "orders"), stage.count
    proved(calm, spec)
    numbers = list(range(count))
    if places == "some":
        numbers = sorted(random.Random(f"{name}-{given}").sample(numbers, 2))
    assert count > 8
    for number in numbers:
        folder = tmp_path / "w"
        world, _ = story(folder, row)
        give(world, spec, given)
        with pytest.raises(Killed):
            drain(table, replace(replace_wrap(world, die_at(number)).edges(spec), lease_seconds=0.0))
        seen = world.visible(spec, "orders")
        assert {r["id"] for r in before} <= {r["id"] for r in seen}, number
        edges = world.edges(spec)
        sweep_table(table, replace(edges, dead_after_seconds=0))
        assert world.visible(spec, "orders") == after, number
        assert edges.ledger.decisions.marked(table.key) == ()
        proved(world, spec)
        shutil.rmtree(folder)


def test_c4_a_release_that_died_leaves_the_held_files(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    retype(world, "(3,'x',2)")
    check(world.load(spec, "orders"), "held")
    give(world, spec, "approve")
    table, edges = table_spec(spec, "orders"), world.edges(spec)
    for _ in range(2):  # two attempts that die
        edges.ledger.holds.take(table.key, "dead", edges.nonce(), lease_seconds=0.0)
    frozen = edges.ledger.batches.held(table.key)[0].partitions[0].directory
    later = replace(edges, dead_after_seconds=0.0, grace_seconds=0.0)
    assert frozen not in later.ledger.directories.expirable(table.key, 0.0, 0.0)
    assert len(drain(table, later).published) == 1
    assert any(frozen.startswith(gone) for gone in later.ledger.directories.expirable(table.key, 0.0, 0.0))
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]


def test_c5_an_earlier_attempt_at_a_release_can_do_nothing_more(world: World) -> None:
    from airflow_dataops.core.errors import FencedError
    from airflow_dataops.steps.publish import publish
    from airflow_dataops.steps.reshape import plan_held, reject, reshape

    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    retype(world, "(3,'x',2)")
    check(world.load(spec, "orders"), "held")
    give(world, spec, "approve")
    table, edges = table_spec(spec, "orders"), world.edges(spec)
    zombie = edges.ledger.holds.take(table.key, "zombie", edges.nonce(), lease_seconds=0.0)
    assert zombie is not None and zombie.claim.content is not None
    content = zombie.claim.content
    plan = plan_held(table, content, edges.ledger.holds.approvals(table.key), edges)
    shaped = reshape(table, zombie.claim, content, plan, (), edges)
    assert len(drained(world, spec).published) == 1
    with pytest.raises(FencedError):
        publish(table, replace(zombie.claim, content=shaped.content), edges)
    accounting, letters, file = reject(table, zombie.claim, content, "late", edges)
    with pytest.raises(FencedError):
        edges.ledger.holds.reject(zombie.claim, accounting, letters, file)
    with pytest.raises(FencedError):
        edges.ledger.holds.ask(zombie.claim, {"why": "late", "changes": [{}]})
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]
    proved(world, spec)
