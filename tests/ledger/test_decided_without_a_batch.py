"""The maintenance decides where nobody else is at work, on the epoch it has built on, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from airflow_dataops.core.errors import BusyError, ConflictError, FencedError
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.ledger.base import DecisionPlan, FileFacts, Ledger, Place
from tests.ledger.actors import MONDAY, ORDERS, SCHEMA, TUESDAY, Clock, asking, decide, freeze, load, plans_of

GRACE, DEAD = 100.0, 10_000.0
WIDER = TableSchema((*SCHEMA.columns, Column("city", pa.string())), ("id",))
WRITTEN = FileFacts.of(7, [SCHEMA])


def loaded(ledger: Ledger, rows: dict[str, int] | None = None, **more: object) -> None:
    load(ledger, asking(scope="*", **more), rows)


def moved_plan(ledger: Ledger, place: Place, name: str = MONDAY) -> DecisionPlan:
    have = ledger.decisions.current(ORDERS)[name]
    where = f"{place.directory}/{name}"
    return DecisionPlan(
        name, have.values, have.epoch, where, have.rows, 1, have.fingerprint, SCHEMA, None, FileFacts.of(1, [SCHEMA])
    )


def shown_since(ledger: Ledger, writer: str) -> None:
    """The catalog was seen to show what is decided."""
    now = ledger.decisions.current(ORDERS)
    ledger.decisions.clear_marks(ORDERS, writer, {name: d.epoch for name, d in now.items()})


def test_a_partition_moves_with_its_rows_and_the_place_before_is_expired(ledger: Ledger, clock: Clock) -> None:
    loaded(ledger)
    (before,) = ledger.decisions.current(ORDERS).values()
    place = ledger.maintenance.place(ORDERS, "compact", "sales/orders", "n1")
    decided = ledger.maintenance.move(place, "m", moved_plan(ledger, place))
    assert (decided.epoch, decided.rows, decided.fingerprint) == (2, before.rows, before.fingerprint)
    assert decided.location.startswith(place.directory) and decided.batch_id == place.work_id
    assert ledger.maintenance.facts(ORDERS) == {MONDAY: FileFacts.of(1, [SCHEMA])}
    assert [(name, writer) for _, name, writer, _ in ledger.decisions.marked(ORDERS)] == [(MONDAY, "m")]
    clock.wait(DEAD)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()  # nobody has seen the new one in the catalog yet
    shown_since(ledger, "m")
    clock.wait(GRACE - 1)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()
    clock.wait(1)
    (gone,) = ledger.directories.expirable(ORDERS, GRACE, DEAD)
    assert before.location.startswith(gone)


@pytest.mark.parametrize("scope", [MONDAY, "*"])
@pytest.mark.parametrize("state", ["open", "frozen", "decided"])
def test_nothing_is_decided_beside_a_claim(ledger: Ledger, state: str, scope: str) -> None:
    loaded(ledger, {MONDAY: 2, TUESDAY: 1})
    place = ledger.maintenance.place(ORDERS, "compact", "sales/orders", "n1")
    claim = ledger.batches.claim(asking("b2", "r2", scope=scope))
    if state != "open":
        claim = freeze(ledger, claim, {MONDAY: 3})
    if state == "decided":
        decide(ledger, claim)
    with pytest.raises(BusyError, match="at work"):
        ledger.maintenance.move(place, "m", moved_plan(ledger, place))
    now = ledger.decisions.current(ORDERS)
    built_on = {name: d.epoch for name, d in now.items()}
    decided = ledger.maintenance.recolumn(ORDERS, "cascade-1", "m", built_on, WIDER)
    assert [d.name for d in decided] == ([TUESDAY] if scope == MONDAY else [])
    assert ledger.maintenance.claimed(ORDERS, [MONDAY, TUESDAY]) == ({MONDAY} if scope == MONDAY else {MONDAY, TUESDAY})
    assert ledger.decisions.current(ORDERS)[MONDAY] == now[MONDAY]


def test_who_was_overtaken_decides_nothing(ledger: Ledger) -> None:
    loaded(ledger)
    place = ledger.maintenance.place(ORDERS, "compact", "sales/orders", "n1")
    plan = moved_plan(ledger, place)
    load(ledger, asking("b2", "r2"), {MONDAY: 3})
    stands = ledger.decisions.current(ORDERS)
    with pytest.raises(ConflictError, match="epoch 1 -> 2"):
        ledger.maintenance.move(place, "m", plan)
    assert ledger.maintenance.recolumn(ORDERS, "cascade-1", "m", {MONDAY: 1}, WIDER) == ()
    assert ledger.decisions.current(ORDERS) == stands


def test_a_batch_that_was_overtaken_builds_again(ledger: Ledger) -> None:
    loaded(ledger)
    plans = plans_of(ledger, freeze(ledger, claim := ledger.batches.claim(asking("b2", "r2")), {MONDAY: 3}))
    ledger.batches.abandon(claim)
    assert plans[0].built_on == 1
    built_on = {MONDAY: 1}
    assert ledger.maintenance.recolumn(ORDERS, "cascade-1", "m", built_on, WIDER) == ()  # frozen: not abandoned, claimed
    claim = ledger.batches.adopt(ORDERS, "b2", 1, "w3", "n3")
    assert claim is not None
    decide(ledger, claim)
    assert ledger.decisions.current(ORDERS)[MONDAY].epoch == 2


def test_columns_follow_at_the_same_place(ledger: Ledger, clock: Clock) -> None:
    loaded(ledger, {MONDAY: 2, TUESDAY: 1})
    before = ledger.decisions.current(ORDERS)
    ledger.maintenance.learn(ORDERS, {MONDAY: (1, WRITTEN)})
    built_on = {name: d.epoch for name, d in before.items()}
    decided = ledger.maintenance.recolumn(ORDERS, "cascade-1", "m", built_on, WIDER)
    assert {d.name for d in decided} == {MONDAY, TUESDAY}
    for name, now in ledger.decisions.current(ORDERS).items():
        assert now == replace(before[name], epoch=2, schema=WIDER, batch_id="cascade-1", generation=0)
    assert ledger.maintenance.facts(ORDERS) == {MONDAY: WRITTEN, TUESDAY: None}
    shown_since(ledger, "m")
    clock.wait(10 * DEAD)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()
    assert ledger.maintenance.recolumn(ORDERS, "cascade-1", "m", built_on, WIDER) == ()


def test_a_place_that_nobody_publishes_from_is_expired_and_then_nobody_can(ledger: Ledger, clock: Clock) -> None:
    loaded(ledger)
    place = ledger.maintenance.place(ORDERS, "compact", "sales/orders", "n1")
    plan = moved_plan(ledger, place)
    assert [t.table_key for t in ledger.tables.with_work()] == [ORDERS]
    clock.wait(DEAD - 1)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()
    clock.wait(1)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == (place.directory,)
    with pytest.raises(FencedError, match="given up"):
        ledger.maintenance.move(place, "m", plan)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == (place.directory,)  # its deletion may have failed
    ledger.directories.forget(ORDERS, place.directory)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()


def test_a_place_that_was_given_up_takes_nothing(ledger: Ledger, clock: Clock) -> None:
    loaded(ledger)
    place = ledger.maintenance.place(ORDERS, "compact", "sales/orders", "n1")
    ledger.maintenance.give_up(place)
    with pytest.raises(FencedError):
        ledger.maintenance.move(place, "m", moved_plan(ledger, place))
    clock.wait(DEAD)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()
    assert place.directory in ledger.decisions.locations(ORDERS)


def test_partitions_are_found_by_what_they_show_and_what_their_files_are(ledger: Ledger) -> None:
    days = {f"dt=2024-05-{n:02d}": n for n in range(1, 10)}
    loaded(ledger, days)
    names = sorted(days)
    other = FileFacts.of(2, [WIDER])
    ledger.maintenance.learn(ORDERS, dict.fromkeys(names[:4], (1, WRITTEN)) | dict.fromkeys(names[4:6], (1, WRITTEN + other)))
    ledger.maintenance.learn(ORDERS, {names[6]: (99, WRITTEN)})  # decided anew since
    ledger.maintenance.learn(ORDERS, {names[0]: (1, other)})  # known already
    assert list(ledger.maintenance.without_facts(ORDERS, 2)) == names[6:8]
    assert ledger.maintenance.facts(ORDERS, names[3:7]) == {
        names[3]: WRITTEN, names[4]: FileFacts.of(9, [SCHEMA, WIDER]), names[5]: WRITTEN + other, names[6]: None
    }  # fmt: skip
    ledger.maintenance.recolumn(ORDERS, "cascade-1", "m", dict.fromkeys(names[7:], 1), WIDER)
    asked: list[TableSchema] = []

    def old(schema: TableSchema) -> bool:
        asked.append(schema)
        return "city" not in schema

    page = ledger.maintenance.shown(ORDERS, old, limit=5)
    assert (list(page), len(asked)) == (names[:5], 2)
    assert list(ledger.maintenance.shown(ORDERS, old, after=names[4], limit=5)) == names[5:7]
    assert page[names[1]] == ledger.decisions.current(ORDERS)[names[1]]
    assert list(ledger.maintenance.written(ORDERS, lambda found: len(found) > 1)) == names[4:6]
    assert list(ledger.maintenance.scattered(ORDERS, 8, 1_000)) == names[4:6]
    assert list(ledger.maintenance.scattered(ORDERS, 7, 3)) == names[:2]  # 10 bytes a row
    assert list(ledger.maintenance.scattered(ORDERS, 7, 3, after=names[0])) == names[1:2]


def test_a_table_is_due_after_each_commit_until_it_is_done(ledger: Ledger, clock: Clock) -> None:
    assert ledger.maintenance.due() == ()
    ledger.batches.claim(asking("b0", "r0", scope=TUESDAY))
    assert ledger.maintenance.due() == ()  # nothing was ever committed
    loaded_at = load(ledger, asking())
    assert loaded_at.state == "committed"
    (known,) = ledger.maintenance.due()
    clock.wait(1)
    load(ledger, asking("b2", "r2"))
    ledger.maintenance.done(known)
    (again,) = ledger.maintenance.due()  # a commit came meanwhile
    ledger.maintenance.done(again)
    assert ledger.maintenance.due() == ()
