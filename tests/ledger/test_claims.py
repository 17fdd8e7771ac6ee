"""Who works on what (DESIGN §5.1). The names A… are the traces of the model that each rule stops."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_dataops.core.errors import BusyError, ConflictError, FencedError, RangeError, StopError
from airflow_dataops.core.offset import CursorRange, Everything, FileIdentity, FileSet
from airflow_dataops.ledger.base import WHOLE_TABLE, Ledger
from tests.ledger.actors import MONDAY, ORDERS, TUESDAY, Clock, asking, commit, decide, freeze, load, span, staged


def test_a_first_claim_is_open_and_has_a_directory_of_its_own(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    assert (claim.state, claim.generation, claim.attempt, claim.sequence, claim.asked) == ("open", 1, 1, 1, True)
    assert claim.directory == "sales/orders/b1.g1.a1.n0nce"
    assert claim.range == span(0, 2) and claim.content is None and claim.object_name == "b1-g1"
    assert claim.directory in ledger.decisions.locations(ORDERS)


def test_without_a_root_the_directory_is_the_bare_name(ledger: Ledger) -> None:
    assert ledger.batches.claim(asking(root="")).directory == "b1.g1.a1.n0nce"


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ""])
def test_a_batch_or_nonce_is_never_a_path(ledger: Ledger, name: str) -> None:
    for request in (asking(name), asking(nonce=name)):
        with pytest.raises(StopError, match="Cannot claim"):
            ledger.batches.claim(request)
    assert ledger.batches.history() == ()


def test_a_root_outside_the_lake_is_refused(ledger: Ledger) -> None:
    for root in ("../up", "/etc", "a//b", "a/./b"):
        with pytest.raises(StopError, match="below the lake's root"):
            ledger.batches.claim(asking(root=root))


def test_a_retry_of_the_same_run_takes_over_at_once_and_fences_the_one_before(ledger: Ledger) -> None:
    """A1, A2: another directory, and the earlier attempt can have no effect any more."""
    zombie = ledger.batches.claim(asking())
    retry = ledger.batches.claim(asking(nonce="other"))
    assert (retry.attempt, retry.sequence) == (zombie.attempt + 1, zombie.sequence)
    assert retry.directory != zombie.directory
    with pytest.raises(FencedError, match="attempt 1 of 2"):
        freeze(ledger, zombie)
    for effect in (
        lambda: ledger.batches.renew(zombie, 60),
        lambda: ledger.directories.register(zombie, f"{zombie.directory}/more"),
        lambda: ledger.batches.hold(zombie, {}),
    ):
        with pytest.raises(FencedError):
            effect()
    ledger.batches.abandon(zombie)  # nothing of a later attempt's
    assert freeze(ledger, retry).state == "frozen"


def test_a7_a_retry_keeps_the_range_that_was_claimed_first(ledger: Ledger) -> None:
    """The source has moved on to 4 when the retry of (0, 2] comes."""
    ledger.batches.claim(asking(read=span(0, 2)))
    assert ledger.batches.claim(asking(read=span(0, 4))).range == span(0, 2)
    again = ledger.batches.reclaim(ORDERS, "r1", "w-retry", "n2")
    assert again is not None and again.range == span(0, 2) and again.batch_id == "b1" and again.attempt == 3
    assert again.writer == "w-retry" and again.directory.endswith(".a3.n2")


def test_reclaim_finds_only_what_this_run_left_open(ledger: Ledger) -> None:
    assert ledger.batches.reclaim(ORDERS, "r1", "w", "n") is None
    claim = ledger.batches.claim(asking())
    assert ledger.batches.reclaim(ORDERS, "r2", "w", "n") is None
    ledger.batches.abandon(claim)
    assert ledger.batches.reclaim(ORDERS, "r1", "w", "n") is None
    freeze(ledger, ledger.batches.claim(asking()))
    assert ledger.batches.reclaim(ORDERS, "r1", "w", "n") is None


def test_another_run_waits_for_the_lease_and_then_takes_the_same_batch_over(ledger: Ledger, clock: Clock) -> None:
    first = ledger.batches.claim(asking(run="r1", lease_seconds=60))
    with pytest.raises(BusyError, match="60 s more"):
        ledger.batches.claim(asking(run="r2"))
    clock.wait(50)
    ledger.batches.renew(first, 60)
    clock.wait(50)
    with pytest.raises(BusyError):
        ledger.batches.claim(asking(run="r2"))
    clock.wait(10)
    second = ledger.batches.claim(asking(run="r2"))
    assert (second.batch_id, second.generation, second.attempt, second.asked) == ("b1", 1, 2, True)
    assert ledger.batches.history()[0].run == "r2"
    with pytest.raises(FencedError):
        freeze(ledger, first)


def test_another_open_batch_in_the_way_is_abandoned_after_its_lease(ledger: Ledger, clock: Clock) -> None:
    first = ledger.batches.claim(asking("b1", "r1", lease_seconds=60))
    with pytest.raises(BusyError):
        ledger.batches.claim(asking("b2", "r1"))  # even of the same run: its range was fixed, `reclaim` continues it
    clock.wait(60)
    second = ledger.batches.claim(asking("b2", "r2"))
    assert (second.batch_id, second.sequence) == ("b2", 2)
    assert {r.batch_id: r.state for r in ledger.batches.history()} == {"b1": "abandoned", "b2": "open"}
    with pytest.raises(FencedError, match="state is abandoned"):
        freeze(ledger, first)


@pytest.mark.parametrize("until", ["frozen", "decided"])
def test_another_frozen_or_decided_batch_in_the_way_is_finished_first_by_whoever_comes(ledger: Ledger, until: str) -> None:
    dead = freeze(ledger, ledger.batches.claim(asking("b1", "r1")))
    if until == "decided":
        decide(ledger, dead)
    found = ledger.batches.claim(asking("b2", "r2"))
    assert (found.batch_id, found.state, found.asked, found.content) == ("b1", until, False, dead.content)
    assert found.writer == "w-r2"
    commit(ledger, found, decide(ledger, found))
    assert ledger.batches.claim(asking("b2", "r2")).batch_id == "b2"


def test_a_retry_of_the_same_run_adopts_what_is_frozen(ledger: Ledger) -> None:
    """A8: the first complete staging wins, and is never read again."""
    first = freeze(ledger, ledger.batches.claim(asking()))
    retry = ledger.batches.claim(asking())
    assert (retry.state, retry.asked, retry.attempt, retry.content) == ("frozen", True, 2, first.content)
    with pytest.raises(FencedError, match="state is frozen"):
        ledger.batches.freeze(retry, staged(retry), ())


def test_a3_a_cleared_run_of_a_committed_batch_is_a_new_generation(ledger: Ledger) -> None:
    done = load(ledger, asking(run="r1"))
    same_run = ledger.batches.claim(asking(run="r1"))
    assert (same_run.state, same_run.generation, same_run.attempt) == ("committed", 1, done.attempt)
    cleared = ledger.batches.claim(asking(run="r1-cleared"))
    assert (cleared.state, cleared.generation, cleared.sequence) == ("open", 2, 2)
    assert cleared.directory.startswith("sales/orders/b1.g2.") and cleared.object_name == "b1-g2"
    late = ledger.batches.claim(asking(run="r1"))  # a doubled retry of the first run has nothing to do
    assert (late.state, late.generation) == ("committed", 1)


def test_a_frozen_batch_of_another_run_is_finished_before_the_same_batch_is_run_again(ledger: Ledger) -> None:
    freeze(ledger, ledger.batches.claim(asking(run="r1")))
    found = ledger.batches.claim(asking(run="r2"))
    assert (found.generation, found.asked, found.state) == (1, False, "frozen")
    commit(ledger, found, decide(ledger, found))
    assert ledger.batches.claim(asking(run="r2")).generation == 2


def test_partitions_are_claimed_apart_and_the_whole_table_against_all(ledger: Ledger, clock: Clock) -> None:
    ledger.batches.claim(asking("mon", "r1", scope=MONDAY, lease_seconds=60))
    ledger.batches.claim(asking("tue", "r2", scope=TUESDAY, lease_seconds=90))
    with pytest.raises(BusyError):
        ledger.batches.claim(asking("all", "r3", scope=WHOLE_TABLE))
    clock.wait(60)
    with pytest.raises(BusyError):  # one lease still runs: then the other batch is not abandoned either
        ledger.batches.claim(asking("all", "r3", scope=WHOLE_TABLE))
    assert {r.batch_id: r.state for r in ledger.batches.history()} == {"mon": "open", "tue": "open"}
    clock.wait(30)
    assert ledger.batches.claim(asking("all", "r3", scope=WHOLE_TABLE)).batch_id == "all"
    for request in (asking("mon", "r4"), asking("unpartitioned", "r5", scope="")):
        with pytest.raises(BusyError):
            ledger.batches.claim(request)


def test_tables_do_not_know_each_other(ledger: Ledger) -> None:
    ledger.batches.claim(asking(scope=WHOLE_TABLE))
    other = ledger.batches.claim(asking(table_key="sales.shop:customers", scope=WHOLE_TABLE))
    assert (other.attempt, other.sequence) == (1, 1)


def test_an_abandoned_batch_is_reopened_behind_those_that_came_meanwhile(ledger: Ledger) -> None:
    first = ledger.batches.claim(asking("b1", "r1"))
    ledger.batches.abandon(first)
    load(ledger, asking("b2", "r2", read=span(2, 3)))
    again = ledger.batches.claim(asking("b1", "r3"))
    assert (again.generation, again.state, again.range) == (1, "open", span(0, 2))
    assert again.sequence > 2 and again.attempt > first.attempt
    with pytest.raises(FencedError):
        freeze(ledger, first)


def test_adopt_takes_only_what_is_frozen_or_decided(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    assert ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n") is None
    assert ledger.batches.adopt(ORDERS, "b9", 1, "sweep", "n") is None
    freeze(ledger, claim)
    adopted = ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n")
    assert adopted is not None and adopted.attempt == 2 and adopted.writer == "sweep" and adopted.content is not None
    commit(ledger, adopted, decide(ledger, adopted))
    assert ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n") is None
    assert ledger.batches.history()[0].run == "r1"


RANGES = [
    (span(0, 3), span(0, 2), True),
    (span(1, 2), span(0, 2), True),
    (span(None, 1), span(0, 2), True),
    (span(2, 5), span(0, 2), False),
    (span(-5, 0), span(0, 2), False),
    (CursorRange("id", 2, 5, True, False), span(0, 2), True),
    (CursorRange("id", 0, 0, True, True), span(0, 2), False),
    (span(Decimal("1.5"), 9.25), span(0, 2), True),
    (span("b", "d"), span("a", "c"), True),
    (span(datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 3, tzinfo=UTC)), span(datetime(2024, 5, 2, tzinfo=UTC), None), True),
    (span(date(2024, 5, 1), date(2024, 5, 2)), span(date(2024, 5, 2), date(2024, 5, 3)), False),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "there", "refused"), RANGES)
def test_a11_committed_ranges_of_a_table_never_overlap(ledger: Ledger, asked: Any, there: Any, refused: bool) -> None:
    load(ledger, asking("old", "r1", read=there, exclusive=True, scope=MONDAY))
    request = asking("new", "r2", read=asked, exclusive=True, scope=TUESDAY)
    if refused:
        with pytest.raises(RangeError, match="twice"):
            ledger.batches.claim(request)
        assert len(ledger.batches.history()) == 1
    else:
        assert ledger.batches.claim(request).state == "open"


def test_a11_a_committed_range_is_run_again_exactly(ledger: Ledger) -> None:
    load(ledger, asking("old", "r1", exclusive=True))
    load(ledger, asking("next", "r2", read=span(2, 3), exclusive=True))
    assert ledger.batches.claim(asking("old", "r3", exclusive=True)).generation == 2


def test_an_equal_range_under_another_batch_is_refused(ledger: Ledger) -> None:
    load(ledger, asking("old", "r1", exclusive=True, scope=MONDAY))
    with pytest.raises(RangeError):
        ledger.batches.claim(asking("new", "r2", exclusive=True, scope=TUESDAY))


@pytest.mark.parametrize(
    "read",
    [
        span("a", "b"),
        span(True, None),
        span(float("nan"), None),
        span(date(2024, 5, 1), datetime(2024, 5, 2)),
        CursorRange("updated_at", 5, 9),
    ],
)
def test_ranges_that_have_no_common_order_are_refused(ledger: Ledger, read: CursorRange) -> None:
    load(ledger, asking("old", "r1", exclusive=True))
    with pytest.raises(RangeError, match="cannot be told"):
        ledger.batches.claim(asking("new", "r2", read=read, exclusive=True, scope=TUESDAY))


def test_naive_and_zoned_moments_are_never_compared(ledger: Ledger) -> None:
    load(ledger, asking("old", "r1", read=span(datetime(2024, 5, 1), None), exclusive=True))
    with pytest.raises(RangeError, match="naive moments and zoned moments"):
        ledger.batches.claim(asking("new", "r2", read=span(None, datetime(2024, 5, 1, tzinfo=UTC)), exclusive=True))


def test_an_unfinished_overlapping_range_of_another_partition_is_finished_first(ledger: Ledger, clock: Clock) -> None:
    """A run that died leaves no dead end: open → after its lease abandoned, frozen → finished by who comes."""
    dead = ledger.batches.claim(asking("mon", "r1", read=span(0, 2), scope=MONDAY, exclusive=True, lease_seconds=60))
    wider = asking("tue", "r2", read=span(0, 5), scope=TUESDAY, exclusive=True)
    with pytest.raises(BusyError):
        ledger.batches.claim(wider)
    freeze(ledger, dead)
    assert (ledger.batches.claim(wider).batch_id, ledger.batches.claim(wider).asked) == ("mon", False)
    clock.wait(60)
    reopened = ledger.batches.claim(asking("other", "r3", read=span(7, 9), scope=TUESDAY, exclusive=True, lease_seconds=60))
    clock.wait(60)
    assert ledger.batches.claim(asking("wed", "r4", read=span(8, 9), scope="dt=2024-05-08", exclusive=True)).state == "open"
    with pytest.raises(FencedError):
        freeze(ledger, reopened)


def test_only_exclusive_claims_are_compared(ledger: Ledger) -> None:
    load(ledger, asking("mon", "r1", scope=MONDAY))
    assert ledger.batches.claim(asking("tue", "r2", scope=TUESDAY)).state == "open"
    everything = ledger.batches.claim(asking("all", "r3", read=Everything(), scope="dt=2024-05-09", exclusive=True))
    assert everything.range == Everything()


def test_a_file_is_in_one_batch_only(ledger: Ledger) -> None:
    """Two runs listed the same new files; the one that claims second lists again."""
    a, b = FileIdentity("in/a.csv", 10, "e1", "x3:aa"), FileIdentity("in/b.csv", 20, "e2")
    load(ledger, asking("first", "r1", read=FileSet((a, b)), scope=WHOLE_TABLE), {MONDAY: 2})
    touched = FileIdentity("in/a.csv", 10, "e9", "x3:aa")
    for files in ((b,), (touched,)):
        with pytest.raises(ConflictError, match="batch first already"):
            ledger.batches.claim(asking("second", "r2", read=FileSet(files), scope=WHOLE_TABLE))
    changed = FileIdentity("in/b.csv", 21, "e3")
    ledger.batches.abandon(ledger.batches.claim(asking("third", "r3", read=FileSet((changed,)), scope=WHOLE_TABLE)))
    again = ledger.batches.claim(asking("first", "r4", read=FileSet((a, b)), scope=WHOLE_TABLE))
    assert (again.generation, again.range) == (2, FileSet((a, b)))
