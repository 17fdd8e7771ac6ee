"""What readers shall see, projection marks, and the commit (DESIGN §5.5–5.8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_dataops.core.errors import BusyError, ConflictError, FencedError, StopError
from airflow_dataops.core.offset import FileIdentity, FileSet
from airflow_dataops.ledger.base import WHOLE_TABLE, DecisionPlan, Ledger
from tests.ledger.actors import (
    MONDAY,
    ORDERS,
    SCHEMA,
    TUESDAY,
    Clock,
    asking,
    commit,
    decide,
    freeze,
    load,
    place,
    plans_of,
    span,
    staged,
)


def test_a_decision_counts_epochs_and_leaves_a_mark(ledger: Ledger, clock: Clock) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    (first,) = decide(ledger, claim)
    assert (first.name, first.values, first.epoch, first.location) == (MONDAY, ("2024-05-06",), 1, place(claim))
    assert (first.rows, first.bytes, first.fingerprint, first.schema, first.batch_id) == (2, 20, "f2", SCHEMA, "b1")
    assert ledger.decisions.current(ORDERS) == {MONDAY: first}
    assert ledger.decisions.current(ORDERS, [TUESDAY]) == {}
    assert ledger.decisions.marked() == ((ORDERS, MONDAY, "w-r1", clock()),)
    commit(ledger, claim, [first])
    assert ledger.decisions.marked(ORDERS) == ()
    load(ledger, asking(run="r2"), {MONDAY: 3})
    assert ledger.decisions.current(ORDERS)[MONDAY].epoch == 2


def test_a_lost_reply_of_a_decision_is_answered_by_the_standing_one(ledger: Ledger) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    decisions = decide(ledger, claim)
    assert ledger.batches.decide(claim, plans_of(ledger, claim)) == decisions
    assert ledger.batches.decide(claim, ()) == decisions
    retry = ledger.batches.claim(asking(writer="w-retry"))
    assert retry.state == "decided" and ledger.batches.decide(retry, ()) == decisions
    assert {writer for _, _, writer, _ in ledger.decisions.marked()} == {"w-r1", "w-retry"}


def test_a_fenced_attempt_decides_nothing(ledger: Ledger) -> None:
    zombie = freeze(ledger, ledger.batches.claim(asking()))
    ledger.batches.claim(asking())
    with pytest.raises(FencedError):
        decide(ledger, zombie)
    assert ledger.decisions.current(ORDERS) == {} and ledger.decisions.marked() == ()


def test_what_is_not_frozen_is_not_decided(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    plan = DecisionPlan(MONDAY, ("2024-05-06",), 0, place(claim), 2, 20, "f2", SCHEMA)
    with pytest.raises(FencedError, match="state is open -> frozen or decided"):
        ledger.batches.decide(claim, [plan])
    with pytest.raises(FencedError, match="state is open -> decided"):
        ledger.batches.commit(claim, {}, None)
    done = load(ledger, asking())
    with pytest.raises(FencedError, match="state is committed"):
        ledger.batches.decide(done, [plan])


def test_a12_a_plan_built_on_an_older_epoch_is_refused(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    claim = freeze(ledger, ledger.batches.claim(asking("b2", "r2")))
    stale = [replace(plan, built_on=0) for plan in plans_of(ledger, claim)]
    for built_on in (0, 2):
        with pytest.raises(ConflictError, match=f"built on epoch {built_on} -> 1"):
            ledger.batches.decide(claim, [replace(plan, built_on=built_on) for plan in stale])
    assert decide(ledger, claim)[0].epoch == 2


def test_all_partitions_of_a_batch_are_decided_or_none(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    claim = freeze(ledger, ledger.batches.claim(asking("b2", "r2", scope=WHOLE_TABLE)), {MONDAY: 1, TUESDAY: 4})
    bad = [replace(plan, built_on=0) for plan in plans_of(ledger, claim)]
    before = ledger.decisions.current(ORDERS)
    with pytest.raises(ConflictError):
        ledger.batches.decide(claim, bad[::-1])
    assert ledger.decisions.current(ORDERS) == before and ledger.decisions.marked() == ()


def test_a4_the_older_batch_is_finished_before_the_newer_is_decided(ledger: Ledger) -> None:
    older = freeze(ledger, ledger.batches.claim(asking("b1", "r1")))
    newer = ledger.batches.claim(asking("b2", "r2"))
    assert newer.batch_id == "b1"  # b2 cannot even be claimed: b1 is finished by whoever comes
    with pytest.raises(FencedError):
        decide(ledger, older)
    commit(ledger, newer, decide(ledger, newer))
    second = load(ledger, asking("b2", "r2"), {MONDAY: 5})
    assert ledger.decisions.current(ORDERS)[MONDAY].location == place(second)


def test_a18_a_cascade_is_a_decision_at_the_same_place(ledger: Ledger) -> None:
    """Another batch's plan for a partition may leave its files alone, but never name a directory that is nobody's."""
    first = load(ledger, asking("b1", "r1"))
    claim = freeze(ledger, ledger.batches.claim(asking("b2", "r2", scope=TUESDAY)), {TUESDAY: 1})
    cascade = DecisionPlan(MONDAY, ("2024-05-06",), 1, place(first), 2, 20, "f2", SCHEMA)
    for location in ("sales/orders/strange", f"{place(first)}/below", claim.directory + "x", place(first, TUESDAY)):
        with pytest.raises(StopError, match="in a directory that this batch has registered"):
            ledger.batches.decide(claim, [*plans_of(ledger, claim), replace(cascade, location=location)])
    decided = ledger.batches.decide(claim, [*plans_of(ledger, claim), cascade])
    assert [(d.name, d.epoch) for d in decided] == [(TUESDAY, 1), (MONDAY, 2)]
    assert ledger.decisions.current(ORDERS)[MONDAY].location == place(first)


@pytest.mark.parametrize("double", [True, False])
def test_a_decision_has_exactly_one_plan_per_partition(ledger: Ledger, double: bool) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    with pytest.raises(StopError, match="one plan for each"):
        ledger.batches.decide(claim, plans_of(ledger, claim) * 2 if double else [])


def test_a5_unchanged_is_told_against_the_current_decision(ledger: Ledger) -> None:
    """v0 committed, v1 decided and crashed: a run that sees v0 again finishes v1 first, then v0 is a change."""
    load(ledger, asking("b", "r1"), {MONDAY: 2})
    claim = freeze(ledger, ledger.batches.claim(asking("b", "r2")), {MONDAY: 3})
    decide(ledger, claim)
    helper = ledger.batches.claim(asking("b", "r3"))
    assert (helper.generation, helper.asked) == (2, False)
    commit(ledger, helper, ledger.batches.decide(helper, ()))
    third = ledger.batches.claim(asking("b", "r3"))
    content = staged(third, {MONDAY: 2})
    told = replace(content, partitions=tuple(replace(p, unchanged=True) for p in content.partitions))
    frozen = ledger.batches.freeze(third, told, ())
    with pytest.raises(ConflictError, match="the current decision is another"):
        ledger.batches.commit_unchanged(frozen)
    assert decide(ledger, frozen)[0].epoch == 3


def test_an_unchanged_batch_is_committed_without_a_decision(ledger: Ledger) -> None:
    first = load(ledger, asking("b", "r1"), {MONDAY: 2})
    claim = ledger.batches.claim(asking("b", "r2"))
    content = staged(claim, {MONDAY: 2})
    same = ledger.batches.freeze(
        claim, replace(content, partitions=tuple(replace(p, unchanged=True) for p in content.partitions)), ()
    )
    ledger.batches.commit_unchanged(same, (None, 7))
    assert ledger.decisions.current(ORDERS)[MONDAY].location == place(first)
    assert (ledger.batches.history()[0].state, ledger.offsets.watermark(ORDERS)) == ("committed", 7)
    with pytest.raises(FencedError, match="state is committed"):
        ledger.batches.commit_unchanged(same)


def test_a_batch_with_new_rows_is_never_committed_as_unchanged(ledger: Ledger) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    with pytest.raises(StopError, match="1 of its partitions have new rows"):
        ledger.batches.commit_unchanged(claim)


@pytest.mark.parametrize(("compared_with", "stands"), [("f2", True), ("f8", False)])
def test_a_partition_left_alone_by_a_decision_must_be_the_one_it_was_compared_with(
    ledger: Ledger, compared_with: str, stands: bool
) -> None:
    load(ledger, asking("b", "r1", scope=WHOLE_TABLE), {MONDAY: 2, TUESDAY: 2})
    claim = ledger.batches.claim(asking("b", "r2", scope=WHOLE_TABLE))
    monday, tuesday = staged(claim, {MONDAY: 2, TUESDAY: 9}).partitions
    left = replace(monday, unchanged=True, fingerprint=compared_with)
    frozen = freeze(ledger, claim, {MONDAY: 2, TUESDAY: 9}, partitions=(left, tuesday))
    plans = [plan for plan in plans_of(ledger, frozen) if plan.name == TUESDAY]
    if stands:
        assert [d.name for d in ledger.batches.decide(frozen, plans)] == [TUESDAY]
        return
    with pytest.raises(ConflictError, match="the current decision is another"):
        ledger.batches.decide(frozen, plans)
    assert len(decide(ledger, frozen)) == 2  # rebuilt: Monday is decided, too


def test_a20_a_full_snapshot_decides_the_partitions_that_it_no_longer_has(ledger: Ledger) -> None:
    load(ledger, asking("b", "r1", scope=WHOLE_TABLE), {MONDAY: 2, TUESDAY: 1})
    claim = freeze(ledger, ledger.batches.claim(asking("b", "r2", scope=WHOLE_TABLE)), {TUESDAY: 3}, complete=True)
    with pytest.raises(ConflictError, match=f"e.g. '{MONDAY}' -> decided as empty"):
        ledger.batches.decide(claim, plans_of(ledger, claim))
    empty = DecisionPlan(MONDAY, ("2024-05-06",), 1, place(claim, MONDAY), 0, 0, "f0", SCHEMA)
    assert len(ledger.batches.decide(claim, [*plans_of(ledger, claim), empty])) == 2
    commit(ledger, claim, tuple(ledger.decisions.current(ORDERS).values()))
    again = freeze(ledger, ledger.batches.claim(asking("b", "r3", scope=WHOLE_TABLE)), {TUESDAY: 4}, complete=True)
    assert len(decide(ledger, again)) == 1  # what is empty already need not be emptied again


def test_a_commit_needs_the_epoch_that_stands(ledger: Ledger) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking(scope=WHOLE_TABLE)), {MONDAY: 1, TUESDAY: 1})
    decide(ledger, claim)
    for verified in ({}, {MONDAY: 1}, {MONDAY: 1, TUESDAY: 2}, {MONDAY: 0, TUESDAY: 1}):
        with pytest.raises(ConflictError, match="Project the decision that stands"):
            ledger.batches.commit(claim, verified, None)
    assert ledger.batches.history()[0].state == "decided" and len(ledger.decisions.marked()) == 2
    ledger.batches.commit(claim, {MONDAY: 1, TUESDAY: 1}, None)


def test_commit_is_idempotent_and_anyone_may(ledger: Ledger) -> None:
    zombie = freeze(ledger, ledger.batches.claim(asking()))
    decisions = decide(ledger, zombie)
    helper = ledger.batches.claim(asking(run="r2", writer="w-helper"))
    ledger.decisions.mark(ORDERS, [MONDAY], "w-helper")
    for claim in (zombie, helper, zombie):
        commit(ledger, claim, decisions, (None, 2), asset={"partitions": [MONDAY]})
    assert ledger.decisions.marked() == ()  # each has cleared its own
    assert [event for _, event in ledger.outbox.pending_assets("sales.shop")] == [{"partitions": [MONDAY]}]
    assert ledger.batches.history()[0].committed_at is not None and ledger.batches.unfinished() == ()


def test_a9_a_late_commit_does_not_take_the_watermark_back(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1", read=span(None, 1)), watermark=(None, 1))
    zombie = freeze(ledger, ledger.batches.claim(asking("b2", "r2", read=span(1, 2))))
    decisions = decide(ledger, zombie)
    helper = ledger.batches.claim(asking("b3", "r3", read=span(2, 3)))
    commit(ledger, helper, decisions, (1, 2))
    load(ledger, asking("b3", "r3", read=span(2, 3)), watermark=(2, 3))
    commit(ledger, zombie, decisions, (1, 2))
    assert ledger.offsets.watermark(ORDERS) == 3
    load(ledger, asking("b2", "r4", read=span(1, 2)), watermark=(1, 2))  # a backfill
    assert ledger.offsets.watermark(ORDERS) == 3


@pytest.mark.parametrize(("stands", "low", "moves"), [(1, 1.0, True), (True, 1, False), ("1", 1, False), (None, 0, False)])
def test_the_watermark_moves_only_from_where_it_stands(ledger: Ledger, stands: Any, low: Any, moves: bool) -> None:
    if stands is not None:
        load(ledger, asking("b1", "r1"), watermark=(None, stands))
    load(ledger, asking("b2", "r2"), watermark=(low, 9))
    assert ledger.offsets.watermark(ORDERS) == (9 if moves else stands)


def test_files_are_recorded_with_their_batch_and_period(ledger: Ledger) -> None:
    a, b = FileIdentity("in/a.csv", 1, "e1"), FileIdentity("in/\udcffb.csv", 2, "e2", "x3:bb")
    claim = freeze(ledger, ledger.batches.claim(asking("files", "r1", read=FileSet((a, b)))))
    assert ledger.offsets.seen_files(ORDERS) == {}
    assert ledger.offsets.files_of(ORDERS, "files") == FileSet((a, b))  # as claimed
    known = replace(a, content="x3:aa")
    commit(ledger, claim, decide(ledger, claim), files=(known, b))
    assert ledger.offsets.seen_files(ORDERS) == {a.path: (known,), b.path: (b,)}
    assert ledger.offsets.files_of(ORDERS, "files") == FileSet((known, b))
    assert ledger.offsets.files_of(ORDERS, "other") is None
    changed = FileIdentity(a.path, 3, "e3")
    load(ledger, asking("more", "r2", read=FileSet((changed,))))
    assert ledger.offsets.seen_files(ORDERS)[a.path] == (known, changed)
    assert [r.batch_id for r in ledger.batches.of_period(ORDERS, "2024-05-06")] == ["files", "more"]


def test_a_mark_is_cleared_by_its_owner_where_it_saw_the_current_epoch(ledger: Ledger, clock: Clock) -> None:
    load(ledger, asking(scope=WHOLE_TABLE), {MONDAY: 1, TUESDAY: 1})
    found = ledger.decisions.mark(ORDERS, [MONDAY, TUESDAY, "dt=never"], "sweeper")
    assert set(found) == {MONDAY, TUESDAY} and len(ledger.decisions.marked()) == 2
    ledger.decisions.clear_marks(ORDERS, "somebody else", {MONDAY: 1})
    ledger.decisions.clear_marks(ORDERS, "sweeper", {MONDAY: 1, TUESDAY: 7})
    assert [(name, writer) for _, name, writer, _ in ledger.decisions.marked(ORDERS)] == [(TUESDAY, "sweeper")]
    assert ledger.decisions.marked("sales.shop:customers") == ()
    clock.wait(99)
    ledger.decisions.clear_stale_marks(ORDERS, 100, {TUESDAY: 1})
    assert len(ledger.decisions.marked()) == 1
    clock.wait(1)
    ledger.decisions.clear_stale_marks(ORDERS, 100, {TUESDAY: 7})
    assert len(ledger.decisions.marked()) == 1
    ledger.decisions.clear_stale_marks(ORDERS, 100, {TUESDAY: 1})
    assert ledger.decisions.marked() == ()


def test_many_partitions_in_one_decision(ledger: Ledger) -> None:
    names = {f"dt={i:05d}": i for i in range(1203)}
    load(ledger, asking(scope=WHOLE_TABLE), names)
    assert {n: d.rows for n, d in ledger.decisions.current(ORDERS).items()} == names
    assert len(ledger.decisions.current(ORDERS, list(names)[:700])) == 700


def test_an_earlier_unfinished_batch_of_the_same_partitions_goes_first(ledger: Ledger) -> None:
    """Claims exclude this; a decision asks again, because it is the last place where the order can still be kept."""
    from airflow_dataops.ledger.deciding import _check_queue

    class Row:
        table_key, scope, sequence, batch_id, generation = ORDERS, WHOLE_TABLE, 99, "late", 1

    ledger.batches.claim(asking())
    database = ledger.batches._database  # type: ignore[attr-defined]
    with database.read() as connection, pytest.raises(BusyError, match="before it is open"):
        _check_queue(connection, Row)  # type: ignore[arg-type]


@pytest.mark.timeout(60)
def test_many_partitions_where_the_database_thinks_of_few(ledger: Ledger) -> None:
    """Statistics of a young ledger: a plan by them took 90 s for what takes one (this test would end by its limit)."""
    load(ledger, asking("b0", "r0", scope="dt=1"), {"dt=1": 1})
    with ledger.batches._database.write() as connection:  # type: ignore[attr-defined]
        connection.execute(sa.text("ANALYZE"))
    names = {f"dt={i:05d}": i for i in range(1203)}
    load(ledger, asking("b1", "r1", scope=WHOLE_TABLE), names)
    assert {n: d.rows for n, d in ledger.decisions.current(ORDERS, list(names)).items()} == names
