"""Batches that wait for a person, and the queue behind them (DESIGN §5, held drift)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.errors import FencedError, HoldError, RangeError
from airflow_dataops.core.offset import CursorRange, FileIdentity, FileSet
from airflow_dataops.ledger.base import WHOLE_TABLE, Ledger
from tests.ledger.actors import MONDAY, ORDERS, TUESDAY, Clock, asking, commit, decide, freeze, load, span, staged

HOUR = 3600.0


def hold(ledger: Ledger, **request: object) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking(**request)))  # type: ignore[arg-type]
    ledger.batches.hold(claim, {"reason": "drift", "changes": []})


def test_holding_releases_the_claim_counts_the_rows_and_moves_the_range_on(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1", read=span(None, 1)), watermark=(None, 1))
    claim = ledger.batches.claim(asking("b2", "r2", read=span(1, 2)))
    counts = Accounting(rows_read=9, rows_written=4, rows_unchanged=2, rows_dead_lettered=3)
    ledger.batches.hold(ledger.batches.freeze(claim, staged(claim, accounting=counts), ()), {"reason": "drift"})
    record = ledger.batches.history()[0]
    assert (record.state, record.accounting) == ("held", Accounting(rows_read=9, rows_held=6, rows_dead_lettered=3))
    assert ledger.offsets.watermark(ORDERS) == 2
    assert ledger.batches.unfinished() == ()
    assert ledger.batches.committed_by("r2", ORDERS) == record
    assert ledger.batches.claim(asking("b3", "r3", read=span(2, 3))).state == "open"


def test_a_held_window_or_backfill_moves_no_watermark(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1", read=span(None, 5)), watermark=(None, 5))
    hold(ledger, batch_id="b2", run="r2", read=CursorRange("id", 5, 7, True, False))
    hold(ledger, batch_id="b3", run="r3", read=span(1, 2), scope=TUESDAY)
    assert ledger.offsets.watermark(ORDERS) == 5


def test_held_files_are_accounted_for(ledger: Ledger) -> None:
    file = FileIdentity("in/a.csv", 1, "e1")
    hold(ledger, read=FileSet((file,)))
    assert ledger.offsets.seen_files(ORDERS) == {file.path: (file,)}


def test_c1_later_batches_of_the_partition_queue_behind(ledger: Ledger) -> None:
    hold(ledger, batch_id="n1", run="r1")
    later = freeze(ledger, ledger.batches.claim(asking("n2", "r2")))
    with pytest.raises(HoldError, match="batch n1-g1 before it is held"):
        decide(ledger, later)
    assert ledger.batches.history()[0].state == "frozen" and ledger.decisions.current(ORDERS) == {}
    ledger.batches.hold(later, {"reason": "behind n1"})
    third = freeze(ledger, ledger.batches.claim(asking("n3", "r3")))
    with pytest.raises(HoldError, match="n1-g1"):
        decide(ledger, third)


def test_c1_an_unchanged_batch_queues_too(ledger: Ledger) -> None:
    """It is unchanged against what readers see now, not against what a person may approve."""
    load(ledger, asking("n0", "r0"))
    hold(ledger, batch_id="n1", run="r1")
    claim = ledger.batches.claim(asking("n2", "r2"))
    content = staged(claim)
    same = ledger.batches.freeze(
        claim, replace(content, partitions=tuple(replace(p, unchanged=True) for p in content.partitions)), ()
    )
    with pytest.raises(HoldError):
        ledger.batches.commit_unchanged(same)


def test_other_partitions_and_tables_go_on(ledger: Ledger) -> None:
    hold(ledger, batch_id="n1", run="r1", scope=MONDAY)
    load(ledger, asking("n2", "r2", scope=TUESDAY), {TUESDAY: 1})
    load(ledger, asking("n1", "r1", table_key="sales.shop:customers"))
    whole = freeze(ledger, ledger.batches.claim(asking("n3", "r3", scope=WHOLE_TABLE)))
    with pytest.raises(HoldError):
        decide(ledger, whole)


def test_what_was_decided_before_the_hold_is_finished(ledger: Ledger) -> None:
    first = freeze(ledger, ledger.batches.claim(asking("n1", "r1", scope=TUESDAY)), {TUESDAY: 1})
    decisions = decide(ledger, first)
    hold(ledger, batch_id="n2", run="r2", scope=MONDAY)
    commit(ledger, first, decisions)
    assert {r.batch_id: r.state for r in ledger.batches.history()} == {"n1": "committed", "n2": "held"}


def test_a_retry_of_the_run_that_held_has_nothing_to_do_and_a_cleared_one_queues(ledger: Ledger) -> None:
    hold(ledger, batch_id="n1", run="r1")
    assert ledger.batches.claim(asking("n1", "r1")).state == "held"
    cleared = freeze(ledger, ledger.batches.claim(asking("n1", "r1-cleared")))
    assert cleared.generation == 2
    with pytest.raises(HoldError):
        decide(ledger, cleared)


def test_c4_held_files_are_never_expired(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, batch_id="n1", run="r1")
    clock.wait(10_000 * HOUR)
    assert ledger.directories.expirable(ORDERS, HOUR, 24 * HOUR) == ()


def test_c5_a_zombie_cannot_hold_what_its_retry_publishes(ledger: Ledger) -> None:
    zombie = freeze(ledger, ledger.batches.claim(asking()))
    retry = ledger.batches.claim(asking())
    with pytest.raises(FencedError):
        ledger.batches.hold(zombie, {"reason": "drift"})
    commit(ledger, retry, decide(ledger, retry))
    with pytest.raises(FencedError):
        ledger.batches.hold(retry, {"reason": "drift"})
    assert ledger.batches.history()[0].state == "committed"


def test_c2_a_batch_is_held_once(ledger: Ledger) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    ledger.batches.hold(claim, {"reason": "drift"})
    with pytest.raises(FencedError, match="state is held"):
        ledger.batches.hold(claim, {"reason": "drift"})


def test_a_held_range_is_not_read_again_in_part(ledger: Ledger) -> None:
    hold(ledger, batch_id="n1", run="r1", exclusive=True)
    with pytest.raises(RangeError, match="the held id"):
        ledger.batches.claim(asking("n2", "r2", read=span(1, 5), exclusive=True))
