"""What may be deleted, by the ledger's word only (DESIGN §5.10)."""

from __future__ import annotations

import pytest

from airflow_dataops.ledger.base import WHOLE_TABLE, Claim, DecisionPlan, Ledger
from tests.ledger.actors import MONDAY, ORDERS, SCHEMA, TUESDAY, Clock, asking, commit, decide, freeze, load, place

GRACE, DEAD = 100.0, 1000.0


def expirable(ledger: Ledger) -> list[str]:
    return [d.rsplit("/", 1)[-1] for d in ledger.directories.expirable(ORDERS, GRACE, DEAD)]


def name(claim: Claim) -> str:
    return claim.directory.rsplit("/", 1)[-1]


def test_a14_what_an_open_frozen_or_decided_batch_has_staged_is_never_deleted(ledger: Ledger, clock: Clock) -> None:
    claim = ledger.batches.claim(asking())
    for state in ("open", "frozen", "decided", "committed"):
        clock.wait(10 * DEAD)
        assert expirable(ledger) == [], state
        if state == "open":
            claim = freeze(ledger, claim)
        elif state == "frozen":
            decide(ledger, claim)
        elif state == "decided":
            commit(ledger, claim, tuple(ledger.decisions.current(ORDERS).values()))


def test_a15_grace_counts_from_the_verified_swap_not_from_the_decision(ledger: Ledger, clock: Clock) -> None:
    old = load(ledger, asking("b1", "r1"))
    new = freeze(ledger, ledger.batches.claim(asking("b2", "r2")))
    decisions = decide(ledger, new)
    clock.wait(10 * GRACE)  # a crash between decision and catalog: readers still plan on the old directory
    assert expirable(ledger) == []
    commit(ledger, new, decisions)
    clock.wait(GRACE - 1)
    assert expirable(ledger) == []
    clock.wait(1)
    assert expirable(ledger) == [name(old)]


def test_a16_a_mark_blocks_expiry_and_its_end_begins_the_grace_anew(ledger: Ledger, clock: Clock) -> None:
    """A zombie that still carries an older decision could make its directory visible again."""
    old = load(ledger, asking("b1", "r1"))
    ledger.decisions.mark(ORDERS, [MONDAY], "zombie")
    load(ledger, asking("b2", "r2"), {MONDAY: 3})
    clock.wait(10 * GRACE)
    assert expirable(ledger) == []
    ledger.decisions.clear_stale_marks(ORDERS, 10 * GRACE, {MONDAY: 2})
    assert ledger.decisions.marked() == () and expirable(ledger) == []
    clock.wait(GRACE - 1)
    assert expirable(ledger) == []
    clock.wait(1)
    assert expirable(ledger) == [name(old)]


def test_a_location_stays_known_as_ours_after_its_deletion(ledger: Ledger, clock: Clock) -> None:
    old = load(ledger, asking("b1", "r1"))
    load(ledger, asking("b2", "r2"))
    clock.wait(GRACE)
    assert expirable(ledger) == [name(old)]
    ledger.directories.forget(ORDERS, old.directory)
    ledger.directories.forget(ORDERS, old.directory)
    assert expirable(ledger) == []
    assert {old.directory, place(old)} <= ledger.decisions.locations(ORDERS)


def test_losing_attempts_and_abandoned_staging_go_when_nobody_can_be_alive(ledger: Ledger, clock: Clock) -> None:
    loser = ledger.batches.claim(asking())
    clock.wait(5 * DEAD)  # an old attempt that is still the one
    winner = ledger.batches.claim(asking())
    clock.wait(DEAD - 1)
    assert expirable(ledger) == []
    clock.wait(1)
    assert expirable(ledger) == [name(loser)]
    ledger.batches.abandon(winner)
    clock.wait(DEAD)
    assert expirable(ledger) == [name(loser), name(winner)]


def test_the_attempt_that_froze_stays_while_others_finish(ledger: Ledger, clock: Clock) -> None:
    first = freeze(ledger, ledger.batches.claim(asking()))
    adopter = ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n")
    last = ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n")
    assert adopter is not None and last is not None
    clock.wait(DEAD)
    assert expirable(ledger) == [name(adopter)]
    commit(ledger, last, decide(ledger, last))
    clock.wait(DEAD)
    assert expirable(ledger) == [name(adopter), name(last)]
    assert ledger.decisions.current(ORDERS)[MONDAY].location == place(first)


def test_an_appends_staging_goes_and_the_live_directory_stays(ledger: Ledger, clock: Clock) -> None:
    base = load(ledger, asking("b1", "r1"))
    append = freeze(ledger, ledger.batches.claim(asking("b2", "r2")))
    decisions = decide(ledger, append, location=place(base))
    clock.wait(10 * DEAD)
    assert expirable(ledger) == []  # decided: its file has yet to be put into the live directory
    commit(ledger, append, decisions)
    clock.wait(DEAD)
    assert expirable(ledger) == [name(append)]


def test_a17_the_directory_of_several_appends_goes_when_all_of_them_are_replaced(ledger: Ledger, clock: Clock) -> None:
    base = load(ledger, asking("b1", "r1"))
    append = freeze(ledger, ledger.batches.claim(asking("b2", "r2")))
    commit(ledger, append, decide(ledger, append, location=place(base)))
    clock.wait(10 * DEAD)
    assert expirable(ledger) == [name(append)]
    rerun = load(ledger, asking("b1", "r3"))
    assert expirable(ledger) == [name(append)]
    clock.wait(GRACE)
    assert expirable(ledger) == [name(base), name(append)]
    assert rerun.generation == 2


def test_an_attempt_directory_is_judged_as_a_whole(ledger: Ledger, clock: Clock) -> None:
    both = load(ledger, asking("b1", "r1", scope=WHOLE_TABLE), {MONDAY: 1, TUESDAY: 1})
    load(ledger, asking("b2", "r2", scope=MONDAY), {MONDAY: 5})
    clock.wait(10 * DEAD)
    assert expirable(ledger) == []  # Tuesday's files are in there, and current
    tuesday = freeze(ledger, ledger.batches.claim(asking("b3", "r3", scope=TUESDAY)), {TUESDAY: 5})
    decisions = decide(ledger, tuesday)
    clock.wait(10 * DEAD)
    assert expirable(ledger) == []
    commit(ledger, tuesday, decisions)
    ledger.decisions.mark(ORDERS, [MONDAY], "zombie")  # a mark on one of them is a mark on all
    clock.wait(10 * DEAD)
    assert expirable(ledger) == []
    ledger.decisions.clear_marks(ORDERS, "zombie", {MONDAY: 2})
    clock.wait(GRACE)
    assert expirable(ledger) == [name(both)]


def test_a_partition_that_comes_back_to_a_directory_keeps_it(ledger: Ledger, clock: Clock) -> None:
    """A cascade decides the same place again: superseded is a place, not an epoch."""
    first = load(ledger, asking("b1", "r1"))
    claim = freeze(ledger, ledger.batches.claim(asking("b2", "r2", scope=TUESDAY)), {TUESDAY: 1})
    cascade = DecisionPlan(MONDAY, ("2024-05-06",), 1, place(first), 2, 20, "f2", SCHEMA)
    tuesday = DecisionPlan(TUESDAY, ("2024-05-07",), 0, place(claim, TUESDAY), 1, 10, "f1", SCHEMA)
    commit(ledger, claim, ledger.batches.decide(claim, [cascade, tuesday]))
    clock.wait(10 * DEAD)
    assert expirable(ledger) == []
    load(ledger, asking("b3", "r3"), {MONDAY: 9})
    clock.wait(GRACE)
    assert expirable(ledger) == [name(first)]


def test_a_rebuilt_merge_that_lost_its_race_goes_with_its_attempt(ledger: Ledger, clock: Clock) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    ledger.directories.register(claim, "sales/orders/merge-1")
    ledger.directories.register(claim, "sales/orders/merge-2")
    commit(ledger, claim, decide(ledger, claim, location="sales/orders/merge-2"))
    clock.wait(DEAD)
    assert expirable(ledger) == [name(claim), "merge-1"]
    later = load(ledger, asking("b2", "r2"))
    clock.wait(GRACE)
    assert expirable(ledger) == [name(claim), "merge-1", "merge-2"]
    assert name(later) not in expirable(ledger)


def test_an_overtaken_decision_that_was_never_shown_goes_after_the_verified_one(ledger: Ledger, clock: Clock) -> None:
    """Decided by one process, decided over by another before either reached the catalog."""
    first = freeze(ledger, ledger.batches.claim(asking("b1", "r1", scope=MONDAY)))
    decide(ledger, first)
    second = freeze(ledger, ledger.batches.claim(asking("b2", "r2", scope=TUESDAY)), {TUESDAY: 1})
    over = DecisionPlan(MONDAY, ("2024-05-06",), 1, place(second, MONDAY), 2, 20, "f2", SCHEMA)
    tuesday = DecisionPlan(TUESDAY, ("2024-05-07",), 0, place(second, TUESDAY), 1, 10, "f1", SCHEMA)
    commit(ledger, second, ledger.batches.decide(second, [over, tuesday]))
    clock.wait(10 * DEAD)
    assert expirable(ledger) == []  # b1 is not committed, and its writer's mark stands
    (monday,) = ledger.batches.decide(first, ())
    assert monday.epoch == 2  # what stands now is what has to be shown
    commit(ledger, first, [monday])
    clock.wait(GRACE)
    assert expirable(ledger) == [name(first)]


@pytest.mark.parametrize("table", ["sales.shop:customers", "nobody:nothing"])
def test_other_tables_have_nothing_to_do_with_it(ledger: Ledger, clock: Clock, table: str) -> None:
    load(ledger, asking("b1", "r1"))
    load(ledger, asking("b2", "r2"))
    clock.wait(GRACE)
    assert ledger.directories.expirable(table, GRACE, DEAD) == ()
