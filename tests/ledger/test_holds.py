"""Questions about held drift, their one answer, and the way out of the queue (DESIGN §5, held drift; C2, C3, C5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.approval import Approval
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import ConflictError, FencedError, HoldError, InventoryError, ProofError, StopError
from airflow_dataops.core.renames import RenameSuggestion
from airflow_dataops.ledger.base import WHOLE_TABLE, Ledger, Release
from tests.ledger.actors import MONDAY, ORDERS, TUESDAY, Clock, asking, commit, freeze, load, plans_of, staged

HOUR = 3600.0
ADDED = {"change": "column_added", "kind": "structural", "column": {"name": "city"}}
RETYPED = {"change": "column_retyped", "kind": "structural", "name": "n"}


def hold(ledger: Ledger, batch_id: str, run: str, *changes: Any, **request: Any) -> None:
    """Held for these changes; for its turn without any."""
    claim = ledger.batches.claim(asking(batch_id, run, **request))
    counts = Accounting(rows_read=2, rows_held=2)
    frozen = ledger.batches.freeze(claim, staged(claim, accounting=counts), ())
    ledger.batches.hold(frozen, {"why": "drift", "changes": list(changes)} if changes else {"why": "queue"})


def taken(ledger: Ledger, **more: Any) -> Release:
    found = ledger.holds.take(ORDERS, "w", "n0nce2", **more)
    assert found is not None
    return found


def shaped(release: Release) -> Any:
    """The claim with what its attempt has made of the frozen rows."""
    return replace(release.claim, content=staged(release.claim))


def published(ledger: Ledger) -> str:
    """The next held batch, all the way."""
    claim = shaped(taken(ledger))
    commit(ledger, claim, ledger.batches.decide(claim, plans_of(ledger, claim)))
    return str(claim.batch_id)


def test_one_question_for_the_same_changes_and_another_for_others(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, "b1", "r1", ADDED)
    clock.wait(HOUR)
    hold(ledger, "b2", "r2", ADDED)
    hold(ledger, "b3", "r3", RETYPED)
    hold(ledger, "b4", "r4")
    first, second = ledger.holds.list()
    assert (first.batches, first.rows, first.batch_id, first.changes) == (2, 4, "b1", (ADDED,))
    assert (second.batches, second.oldest_at, second.decision) == (1, clock.now, None)
    (queue,) = ledger.holds.queues("sales.shop")
    assert (queue.batches, queue.rows, queue.oldest_at) == (4, 8, clock.now - HOUR)
    assert queue.undecided == (first.hold_id, second.hold_id)
    assert ledger.holds.queues("sales.other") == () and ledger.holds.list("sales.other") == ()
    assert ledger.holds.take(ORDERS, "w", "n") is None
    assert ledger.holds.take("sales.shop:unknown", "w", "n") is None
    assert [t.table_key for t in ledger.tables.of_source("sales.shop")] == [ORDERS], "to ask is no claim"


def test_c2_a_question_is_answered_once(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, "b1", "r1", ADDED)
    (asked,) = ledger.holds.list()
    done = ledger.holds.decide(asked.hold_id, "approve", "ann", [Approval("column_added", "city")])
    assert (done.decision, done.decided_by, done.decided_at) == ("approve", "ann", clock.now)
    for given, by in (("reject", "ann"), ("approve", "bob")):
        with pytest.raises(ConflictError, match="ann answered approve at 2023-11-14"):
            ledger.holds.decide(asked.hold_id, given, by, [Approval("column_added", "other")])
    assert ledger.holds.decide(asked.hold_id, "approve", "ann") == done
    assert ledger.holds.approvals(ORDERS) == (Approval("column_added", "city"),)
    with pytest.raises(InventoryError, match="nobody knows it"):
        ledger.holds.decide("drift-nobody", "approve", "ann")


def test_a_queue_is_let_go_in_order_and_per_partition(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED, scope=MONDAY)
    hold(ledger, "b2", "r2", scope=MONDAY)
    hold(ledger, "b3", "r3", RETYPED, scope=TUESDAY)
    hold(ledger, "b4", "r4", scope=WHOLE_TABLE)
    assert ledger.tables.with_work() == ()
    added, _ = ledger.holds.list()
    ledger.holds.decide(added.hold_id, "approve", "ann")
    assert [t.table_key for t in ledger.tables.with_work()] == [ORDERS]
    assert (published(ledger), published(ledger)) == ("b1", "b2")
    assert ledger.holds.take(ORDERS, "w", "n") is None, "b4 stands behind b3, which nobody has answered"
    (retyped,) = ledger.holds.list()
    ledger.holds.decide(retyped.hold_id, "reject", "ann")
    release = taken(ledger)
    assert release.hold is not None and release.hold.decision == "reject"
    ledger.holds.reject(release.claim, Accounting(rows_read=2, rows_dead_lettered=2), [DeadLetter("rejected_drift", "m", b"{}")])
    assert published(ledger) == "b4"
    assert {r.batch_id: r.state for r in ledger.batches.history()} == {
        "b1": "committed", "b2": "committed", "b3": "rejected", "b4": "committed"
    }  # fmt: skip
    assert [letter.reason for letter in ledger.dead_letters.find()] == ["rejected_drift"]
    assert ledger.holds.queues() == () and ledger.holds.list() == ()
    assert len(ledger.holds.list(decided=True)) == 2


def test_a_released_batch_is_decided_beside_a_run_that_reads_its_partition(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    release = taken(ledger)
    reading = ledger.batches.claim(asking("b2", "r2"))
    assert ledger.holds.is_ahead(reading) and not ledger.holds.is_ahead(release.claim)
    claim = shaped(release)
    decisions = ledger.batches.decide(claim, plans_of(ledger, claim), ([DeadLetter("value_out_of_range", "m", b"{}")], None))
    assert not ledger.holds.is_ahead(reading)
    assert len(ledger.dead_letters.find()) == 1
    commit(ledger, claim, decisions)
    frozen = freeze(ledger, reading)
    commit(ledger, frozen, ledger.batches.decide(frozen, plans_of(ledger, frozen)))
    assert [r.state for r in ledger.batches.history()] == ["committed", "committed"]


def test_what_was_decided_of_a_held_batch_is_finished_by_anybody(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, "b1", "r1", ADDED)
    frozen = ledger.batches.held(ORDERS)[0].partitions[0].directory
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    claim = shaped(taken(ledger))
    decisions = ledger.batches.decide(claim, plans_of(ledger, claim))
    adopted = ledger.batches.adopt(ORDERS, "b1", 1, "w2", "n3")
    assert adopted is not None and adopted.content == claim.content
    commit(ledger, adopted, decisions)
    clock.wait(100 * HOUR)
    gone = ledger.directories.expirable(ORDERS, HOUR, HOUR)
    assert any(frozen.startswith(place) for place in gone) and claim.directory not in gone


def test_what_a_release_has_staged_is_kept_until_its_decision_is_finished(ledger: Ledger, clock: Clock) -> None:
    """An append's object is put into the live directory only after the decision."""
    load(ledger, asking("b0", "r0"))
    live = ledger.decisions.current(ORDERS)[MONDAY].location
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    claim = shaped(taken(ledger))
    ledger.batches.decide(claim, plans_of(ledger, claim, live))
    ledger.batches.adopt(ORDERS, "b1", 1, "w2", "n3")
    clock.wait(100 * HOUR)
    assert claim.directory not in ledger.directories.expirable(ORDERS, HOUR, HOUR)


def test_c5_only_the_last_attempt_lets_a_batch_go(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    zombie = taken(ledger)
    assert ledger.holds.take(ORDERS, "w", "n") is None, "its lease runs"
    clock.wait(301)
    assert ledger.holds.take(ORDERS, "w", "n", but=[("b1", 1)]) is None
    late = shaped(zombie)
    second = taken(ledger)
    for effect in (
        lambda: ledger.batches.decide(late, plans_of(ledger, late)),
        lambda: ledger.holds.reject(zombie.claim, Accounting(rows_read=2, rows_dead_lettered=2), []),
        lambda: ledger.holds.ask(zombie.claim, {"changes": [RETYPED]}),
        lambda: ledger.batches.renew(zombie.claim, 10),
    ):
        with pytest.raises(FencedError):
            effect()
    ledger.holds.failed(zombie.claim, "late")
    claim = shaped(second)
    ledger.batches.renew(claim, 10)
    ledger.batches.decide(claim, plans_of(ledger, claim))
    with pytest.raises(FencedError, match="state is decided"):
        ledger.batches.decide(claim, plans_of(ledger, claim))


def test_c3_an_approval_answers_what_is_held_meanwhile_and_a_rejection_does_not(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    hold(ledger, "b2", "r2", ADDED)
    assert ledger.holds.unasked() == () and (published(ledger), published(ledger)) == ("b1", "b2")
    hold(ledger, "b3", "r3", RETYPED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "reject", "ann")
    clock.wait(1)
    hold(ledger, "b4", "r4", RETYPED)
    waiting = ledger.holds.list()
    assert [(h.batch_id, h.decision) for h in waiting] == [("b3", "reject"), ("b4", None)]


def test_what_needs_another_answer_asks_again(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    asked = ledger.holds.ask(taken(ledger).claim, {"why": "another", "changes": [ADDED]})
    assert ledger.holds.take(ORDERS, "w", "n") is None
    hold_again = ledger.holds.get(asked)
    assert hold_again is not None and (hold_again.decision, hold_again.batches) == (None, 1)


def test_a_batch_that_could_not_go_on_says_why(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED)
    hold_id = ledger.holds.list()[0].hold_id
    ledger.holds.decide(hold_id, "approve", "ann")
    ledger.holds.failed(taken(ledger).claim, "the lake is down")
    found = ledger.holds.get(hold_id)
    assert found is not None and found.error == "the lake is down"
    assert taken(ledger).claim.batch_id == "b1", "its lease is over at once"


def test_no_row_is_lost_on_the_way_out(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    release = taken(ledger)
    lost = replace(release.claim, content=staged(release.claim, accounting=Accounting(rows_read=1, rows_written=1)))
    with pytest.raises(StopError, match="the 2 rows that were read"):
        ledger.batches.decide(lost, plans_of(ledger, lost))
    unproved = replace(release.claim, content=staged(release.claim, accounting=Accounting(rows_read=2, rows_written=1)))
    with pytest.raises(ProofError):
        ledger.batches.decide(unproved, plans_of(ledger, unproved))
    for counts in (Accounting(rows_read=2, rows_held=2), Accounting(rows_read=1, rows_dead_lettered=1)):
        with pytest.raises(StopError):
            ledger.holds.reject(release.claim, counts, [])
    strange = replace(release.claim, content=staged(replace(release.claim, directory="elsewhere")))
    with pytest.raises(StopError, match="this attempt's own"):
        ledger.batches.decide(strange, plans_of(ledger, strange))
    assert ledger.batches.history()[0].state == "held"


def test_c1_a_batch_that_was_let_go_stands_before_later_ones(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED)
    ledger.holds.decide(ledger.holds.list()[0].hold_id, "approve", "ann")
    later = freeze(ledger, ledger.batches.claim(asking("b2", "r2")))
    taken(ledger)
    with pytest.raises(HoldError):
        ledger.batches.decide(later, plans_of(ledger, later))


def test_who_was_asked_and_told(ledger: Ledger, clock: Clock) -> None:
    load(ledger, asking("b0", "r0"))
    hold(ledger, "b1", "r1", ADDED)
    (asked,) = ledger.holds.unasked()
    ledger.holds.asked(asked.hold_id)
    assert ledger.holds.unasked() == () and ledger.holds.overdue(HOUR) == ()
    clock.wait(HOUR)
    assert [h.hold_id for h in ledger.holds.overdue(HOUR)] == [asked.hold_id]
    ledger.holds.told(asked.hold_id)
    assert ledger.holds.overdue(HOUR) == ()
    ledger.holds.closed(asked.hold_id)
    assert ledger.holds.answered() == ledger.holds.unasked() == (), "nobody has answered: it stays asked"
    ledger.holds.decide(asked.hold_id, "approve", "ann")
    assert [h.hold_id for h in ledger.holds.answered()] == [asked.hold_id]
    ledger.holds.closed(asked.hold_id)
    assert ledger.holds.answered() == ledger.holds.unasked() == ()


PAIR = RenameSuggestion("cust_nm", "cust_name", True, True, 0.9, 1.0, "cust_nm", "cust_name")


def test_a_suggestion_is_asked_about_once_and_no_batch_waits_for_it(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    other = replace(PAIR, after="name")
    (first, second) = ledger.holds.suggest(ORDERS, "sales.shop", "b1", [PAIR, other])
    assert ledger.holds.suggest(ORDERS, "sales.shop", "b2", [PAIR]) == ()
    found = ledger.holds.get(first)
    assert found is not None and found.is_suggestion and (found.batches, found.renames) == (0, (PAIR,))
    assert [h.hold_id for h in ledger.holds.unasked()] == [h.hold_id for h in ledger.holds.list("sales.shop")]
    assert ledger.holds.take(ORDERS, "w", "n") is None and ledger.holds.queues() == ()
    ledger.holds.decide(second, "reject", "ann")
    assert ledger.holds.suggest(ORDERS, "sales.shop", "b3", [other]) == (), "a rejected pair is not asked about again"


def test_an_approved_rename_stands_until_it_is_taken_back(ledger: Ledger, clock: Clock) -> None:
    load(ledger, asking("b1", "r1"))
    (known,) = ledger.maintenance.due()
    ledger.maintenance.done(known)
    (hold_id,) = ledger.holds.suggest(ORDERS, "sales.shop", "b1", [PAIR])
    given = Approval("column_renamed", "cust_name", rename=PAIR.rename)
    with pytest.raises(InventoryError, match="none yet -> rename"):
        ledger.holds.revoke(hold_id, "bob")
    ledger.holds.decide(hold_id, "rename", "ann", [given])
    assert ledger.holds.approvals(ORDERS) == (given,)
    assert [table.table_key for table in ledger.maintenance.due()] == [ORDERS], "what landed has to be moved"
    clock.wait(HOUR)
    for _ in range(2):
        done = ledger.holds.revoke(hold_id, "bob")
        assert (done.decision, done.decided_by, done.decided_at) == ("revoked", "bob", clock.now)
    with pytest.raises(InventoryError, match="it is revoked -> rename"):
        ledger.holds.revoke(hold_id, "ann")
    assert ledger.holds.approvals(ORDERS) == ()
    told = [(e["decision"], e["decided_by"], [c["text"] for c in e["changes"]]) for e in ledger.drift.events()]
    texts = ["column 'cust_nm' is 'cust_name' in the source"]
    assert told == [("revoked", "bob", texts), ("rename", "ann", texts)]


def test_what_was_taken_back_does_not_answer_for_a_batch_that_was_read_meanwhile(ledger: Ledger) -> None:
    hold(ledger, "b1", "r1", ADDED)
    (asked,) = ledger.holds.list()
    ledger.holds.decide(asked.hold_id, "rename", "ann", [Approval("column_renamed", "city", rename=PAIR.rename)])
    ledger.holds.revoke(asked.hold_id, "ann")
    hold(ledger, "b2", "r2", ADDED)
    (again,) = [h for h in ledger.holds.list() if h.decision is None]
    assert again.hold_id != asked.hold_id and again.batches == 1
