"""Pages of partitions, and dropping: a decision that no batch makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_dataops.core.errors import ConflictError
from airflow_dataops.core.fingerprint import Fingerprint
from airflow_dataops.ledger.base import WHOLE_TABLE, Decision, FileFacts, Ledger
from tests.ledger.actors import MONDAY, ORDERS, SCHEMA, TUESDAY, Clock, asking, commit, decide, freeze, load, place, plans_of

GRACE, DEAD = 100.0, 1000.0
AUDIT = {"target": "sales.orders", "statement": "drop_partitions", "who": "me"}


def drop(ledger: Ledger, built_on: dict[str, int], writer: str = "me") -> list[str]:
    return [d.name for d in ledger.partitions.drop(ORDERS, built_on, "retention", writer, AUDIT)]


def test_a_dropped_partition_is_decided_to_be_nothing(ledger: Ledger, clock: Clock) -> None:
    load(ledger, asking(scope=WHOLE_TABLE), {MONDAY: 2, TUESDAY: 3})
    clock.wait(5)
    assert drop(ledger, {MONDAY: 1}) == [MONDAY]
    nothing = Decision(
        MONDAY, ("2024-05-06",), 2, "", 0, 0, str(Fingerprint.EMPTY), SCHEMA, "", 0, "retention"
    )  # fmt: skip
    assert set(ledger.decisions.current(ORDERS)) == {TUESDAY}
    assert ledger.decisions.current(ORDERS, [MONDAY]) == {} and ledger.decisions.profiles(ORDERS).keys() == {TUESDAY}
    assert ledger.decisions.latest(ORDERS, [MONDAY]) == {MONDAY: nothing}
    assert [(table, name, writer) for table, name, writer, _ in ledger.decisions.marked()] == [(ORDERS, MONDAY, "me")]
    first, second = ledger.partitions.page(ORDERS)
    assert (first.decision, first.decided_at, first.marked) == (nothing, clock(), True)
    assert (second.decision.name, second.decided_at, second.marked) == (TUESDAY, clock() - 5, False)
    (told,) = ledger.drift.ddl(ORDERS)
    assert (told["statement"], told["who"], told["why"]) == ("drop_partitions", "me", "retention")
    assert told["before"] == [{"partition": MONDAY, "epoch": 1, "rows": 2, "fingerprint": "f2"}]


def test_nothing_is_dropped_that_moved_on_or_is_dropped_already(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    load(ledger, asking("b2", "r2"))
    assert drop(ledger, {MONDAY: 1, "dt=never": 0}) == []
    assert drop(ledger, {MONDAY: 2}) == [MONDAY]
    assert drop(ledger, {MONDAY: 3}) == drop(ledger, {MONDAY: 2}) == []
    assert len(ledger.drift.ddl(ORDERS)) == 1 and ledger.decisions.latest(ORDERS, [MONDAY])[MONDAY].epoch == 3


@pytest.mark.parametrize("scope", [MONDAY, WHOLE_TABLE])
def test_nothing_is_dropped_that_a_batch_may_be_building_on(ledger: Ledger, clock: Clock, scope: str) -> None:
    load(ledger, asking("b1", "r1", scope=scope))
    claim = ledger.batches.claim(asking("b2", "r2", scope=scope, lease_seconds=10.0))
    assert drop(ledger, {MONDAY: 1}) == []
    claim = freeze(ledger, claim)
    clock.wait(100)  # frozen: anybody may finish it at any time
    assert drop(ledger, {MONDAY: 1}) == []
    decisions = decide(ledger, claim)
    assert drop(ledger, {MONDAY: 2}) == []
    commit(ledger, claim, decisions)
    assert drop(ledger, {MONDAY: 2}) == [MONDAY]


def test_other_partitions_batches_are_in_nobodys_way(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    ledger.batches.claim(asking("b2", "r2", scope=TUESDAY))
    assert drop(ledger, {MONDAY: 1}) == [MONDAY]


def test_what_an_open_batch_of_the_dead_saw_is_told_at_its_decision(ledger: Ledger, clock: Clock) -> None:
    """It was thought dead, and lives: what it built on is gone, so it builds again."""
    load(ledger, asking("b1", "r1"))
    claim = ledger.batches.claim(asking("b2", "r2", lease_seconds=10.0))
    clock.wait(11)
    assert drop(ledger, {MONDAY: 1}) == [MONDAY]
    claim = freeze(ledger, claim)
    stale = [replace(plan, built_on=1) for plan in plans_of(ledger, claim)]
    with pytest.raises(ConflictError, match="built on epoch 1 -> 0"):
        ledger.batches.decide(claim, stale)
    (decided,) = ledger.batches.decide(claim, plans_of(ledger, claim))
    assert (decided.epoch, decided.location, decided.dropped) == (3, place(claim), None)


def test_unchanged_is_never_told_of_what_was_dropped(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    claim = ledger.batches.claim(asking("b2", "r2", lease_seconds=0.0))
    drop(ledger, {MONDAY: 1})
    claim = freeze(ledger, claim, partitions=(replace(plans_part(claim), unchanged=True),))
    with pytest.raises(ConflictError, match="the current decision is another"):
        ledger.batches.commit_unchanged(claim)


def plans_part(claim):  # type: ignore[no-untyped-def]
    from tests.ledger.actors import staged

    return staged(claim).partitions[0]


def test_the_maintenance_leaves_a_dropped_partition_alone(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    facts = FileFacts.of(9, [SCHEMA])
    ledger.maintenance.learn(ORDERS, {MONDAY: (1, facts)})
    asked = ledger.maintenance
    assert asked.facts(ORDERS) == {MONDAY: facts} and set(asked.scattered(ORDERS, 2, 1 << 40)) == {MONDAY}
    drop(ledger, {MONDAY: 1})
    assert asked.facts(ORDERS) == {MONDAY: None} and asked.without_facts(ORDERS, 10) == {}
    assert asked.scattered(ORDERS, 0, 1 << 40) == asked.shown(ORDERS, lambda _: True) == asked.written(ORDERS, lambda _: True) == {}
    assert asked.recolumn(ORDERS, "cascade-1", "me", {MONDAY: 1}, SCHEMA) == ()
    assert ledger.decisions.latest(ORDERS, [MONDAY])[MONDAY].epoch == 2


def test_it_comes_back_with_a_later_epoch(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    drop(ledger, {MONDAY: 1})
    again = load(ledger, asking("b2", "r2"))
    back = ledger.decisions.current(ORDERS)[MONDAY]
    assert (back.epoch, back.location) == (3, place(again)) and back == ledger.decisions.latest(ORDERS, [MONDAY])[MONDAY]


def test_a16_a_drop_deletes_no_file_before_it_was_seen_and_its_grace_is_over(ledger: Ledger, clock: Clock) -> None:
    old = load(ledger, asking("b1", "r1"))
    drop(ledger, {MONDAY: 1})
    clock.wait(10 * DEAD)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()  # the catalog may still show it: the mark says so
    ledger.decisions.clear_marks(ORDERS, "me", {MONDAY: 2})
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == ()
    clock.wait(GRACE)
    assert ledger.directories.expirable(ORDERS, GRACE, DEAD) == (old.directory,)


def test_no_place_is_ours_because_something_was_dropped(ledger: Ledger) -> None:
    old = load(ledger, asking("b1", "r1"))
    drop(ledger, {MONDAY: 1})
    assert ledger.decisions.locations(ORDERS) == {old.directory, place(old)}


def test_pages_in_order_of_name_each_once(ledger: Ledger) -> None:
    names = [f"dt=2024-05-{day:02d}" for day in range(1, 8)]
    load(ledger, asking(scope=WHOLE_TABLE), dict.fromkeys(names, 1))
    seen: list[str] = []
    after = None
    while page := ledger.partitions.page(ORDERS, after, 3):
        assert len(page) <= 3
        seen += [record.decision.name for record in page]
        after = seen[-1]
    assert seen == names and ledger.partitions.page("other") == ()


def test_tables_are_found_by_their_target(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    assert [known.table_key for known in ledger.tables.of_target("sales.orders")] == [ORDERS]
    assert ledger.tables.of_target("sales.nothing") == ()
