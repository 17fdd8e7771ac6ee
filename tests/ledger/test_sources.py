"""Which rows there were, which are retired, and names that change while nothing that hangs on them moves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.ledger.sources_base import Retirement
from tests.ledger.actors import MONDAY, Clock, asking, load, seen

A, B, C = "sales.a", "sales.b", "sales.c"
DAY = 86_400.0


def states(ledger: Ledger, bundle: str = "inv") -> dict[str, str]:
    return {record.source_id: record.state for record in ledger.sources.leaving(bundle)}


def retire(ledger: Ledger, clock: Clock, *names: str, to: str | None = None) -> None:
    ledger.sources.apply("inv", {}, [Retirement(name, clock() + DAY, to) for name in names])


def test_a_row_is_known_as_it_was_last_shown(ledger: Ledger, clock: Clock) -> None:
    ledger.sources.apply("inv", {A: "{1}", B: "{1}"}, [])
    ledger.sources.apply("inv", {B: "{2}"}, [])
    ledger.sources.apply("other", {C: "{3}"}, [])
    assert ledger.sources.known("inv") == {A: "{1}", B: "{2}"} and ledger.sources.known("other") == {C: "{3}"}
    assert (ledger.sources.leaving("inv"), ledger.sources.records()) == ((), ())


def test_thousands_of_rows_in_one_transaction(ledger: Ledger) -> None:
    rows = {f"sales.r{n}": "{}" for n in range(2_000)}
    ledger.sources.apply("inv", rows, [])
    ledger.sources.apply("inv", {}, [Retirement(name, 1.0) for name in list(rows)[:700]])
    assert len(ledger.sources.known("inv")) == 1_300 and len(ledger.sources.leaving("inv")) == 700


def test_retired_then_deleted_and_its_row_stays(ledger: Ledger, clock: Clock) -> None:
    ledger.sources.apply("inv", {A: "{1}"}, [])
    clock.wait(10)
    retire(ledger, clock, A)
    clock.wait(10)
    retire(ledger, clock, A)  # seen again: its grace has begun already
    (record,) = ledger.sources.leaving("inv")
    assert (record.state, record.row, record.since, record.delete_at) == ("retired", "{1}", clock() - 10, clock() - 10 + DAY)
    assert ledger.sources.known("inv") == {}
    ledger.sources.deleted([A])
    assert ledger.sources.leaving("inv") == ()
    assert [(r.state, r.row, r.since) for r in ledger.sources.records(A)] == [("deleted", "{1}", clock())]


@pytest.mark.parametrize("by_us", [True, False])
def test_a_row_that_is_back_is_unpaused_only_by_who_paused_it(by_us: bool, ledger: Ledger, clock: Clock) -> None:
    ledger.sources.apply("inv", {A: "{1}"}, [])
    retire(ledger, clock, A)
    if by_us:
        ledger.sources.paused([A])
    ledger.sources.apply("inv", {A: "{1}"}, [])
    assert states(ledger) == ({A: "restored"} if by_us else {})
    assert ledger.sources.known("inv") == {A: "{1}"}
    ledger.sources.paused([A])  # too late: the row is back
    ledger.sources.settled([A])
    assert states(ledger) == {}
    retire(ledger, clock, A)
    assert [(r.state, r.paused) for r in ledger.sources.leaving("inv")] == [("retired", False)]


def test_a_restored_row_may_go_again_before_anybody_unpaused_it(ledger: Ledger, clock: Clock) -> None:
    ledger.sources.apply("inv", {A: "{1}"}, [])
    retire(ledger, clock, A)
    ledger.sources.paused([A])
    ledger.sources.apply("inv", {A: "{1}"}, [])
    retire(ledger, clock, A)
    assert [(r.state, r.paused) for r in ledger.sources.leaving("inv")] == [("retired", True)]
    ledger.sources.settled([A])
    ledger.sources.deleted([A])
    ledger.sources.apply("inv", {A: "{1}"}, [])
    assert states(ledger) == {} and ledger.sources.known("inv") == {A: "{1}"}


def test_another_bundle_takes_a_row_over(ledger: Ledger, clock: Clock) -> None:
    ledger.sources.apply("inv", {A: "{1}"}, [])
    ledger.sources.apply("other", {A: "{1}"}, [])
    retire(ledger, clock, A)  # the first bundle sees it gone
    assert (states(ledger), ledger.sources.known("other")) == ({}, {A: "{1}"})


def test_tables_are_marked_once_and_unmarked_when_the_row_is_back(ledger: Ledger, clock: Clock) -> None:
    def to_mark() -> list[tuple[str, str]]:
        return [(r.source_id, r.state) for r in ledger.sources.to_mark()]

    ledger.sources.apply("inv", {A: "{1}"}, [])
    assert to_mark() == []
    retire(ledger, clock, A)
    (record,) = ledger.sources.to_mark()
    ledger.sources.marked(record)
    assert to_mark() == []
    ledger.sources.deleted([A])
    assert to_mark() == []
    ledger.sources.apply("inv", {A: "{1}"}, [])
    ledger.sources.marked(record)  # by one who saw the state before
    assert to_mark() == [(A, "active")]
    ledger.sources.marked(ledger.sources.to_mark()[0])
    assert to_mark() == []


def claimed(ledger: Ledger, source: str, run: str) -> str:
    """A run of a source of that name, which comes as far as its claim: its table's key is what the ledger says."""
    key = f"{ledger.sources.state_id(source)}:orders -> sales.orders"
    ledger.batches.abandon(ledger.batches.claim(asking(run, run, table_key=key, source_id=source, target="sales.orders")))
    return key


def test_a_rename_moves_names_and_nothing_else(ledger: Ledger) -> None:
    key = claimed(ledger, A, "r1")
    assert ledger.sources.carry(B, A) == A
    assert ledger.sources.carry(B, A) == A  # again, by another task
    assert claimed(ledger, B, "r2") == key
    assert claimed(ledger, A, "r3") == key  # a run of the old name that was under way
    assert [t.table_key for t in ledger.tables.of_source(B)] == [key] and ledger.tables.of_source(A) == ()
    assert [(b.source_id, b.run) for b in ledger.batches.history(B)] == [(B, "r3"), (B, "r2"), (B, "r1")]
    assert ledger.batches.history(A) == () and len(ledger.batches.history()) == 3
    assert ledger.sources.former_ids() == {A: B}


def test_a_chain_of_renames_keeps_the_first_id(ledger: Ledger) -> None:
    key = claimed(ledger, A, "r1")
    ledger.sources.carry(B, A)
    ledger.sources.carry(C, B)
    assert {ledger.sources.state_id(name) for name in (A, B, C)} == {A}
    assert ledger.sources.former_ids() == {A: C, B: C}
    assert ledger.sources.carry(B, A) == A  # a late run of the name in the middle
    assert ledger.sources.former_ids() == {A: C, B: C}
    assert claimed(ledger, C, "r2") == key and len(ledger.batches.history(C)) == 2


def test_a_rename_back(ledger: Ledger) -> None:
    key = claimed(ledger, A, "r1")
    ledger.sources.carry(B, A)
    ledger.sources.carry(C, B)
    assert ledger.sources.carry(A, C) == A
    assert ledger.sources.former_ids() == {B: A, C: A}
    assert claimed(ledger, A, "r2") == key and len(ledger.batches.history(A)) == 2 and ledger.batches.history(C) == ()


def test_what_is_waiting_for_somebody_is_renamed_too(ledger: Ledger) -> None:
    load(ledger, asking(table_key=f"{A}:orders -> sales.orders", source_id=A), {MONDAY: 2})
    ledger.runs.record("r1", A, f"{A}:orders", {"source_table": "orders"})
    for sequence, columns in enumerate(("id int64", "id int64, city string"), 1):
        ledger.drift.observe(seen(columns, sequence, table_key=f"{A}:orders -> sales.orders", source_id=A))
    ledger.freshness.expect(A, ["sales.orders"])
    since = ledger.freshness.expect(A, ["sales.orders"])
    ledger.sources.carry(B, A)
    assert [entry["source_id"] for entry in ledger.runs.latest(B)] == [B]
    assert [event["source_id"] for event in ledger.drift.events(B)] == [B]
    assert ledger.freshness.expect(B, ["sales.orders"]) == since
    assert [t.source_id for t in ledger.tables.with_work()] == [B]
    assert (ledger.runs.latest(A), ledger.drift.events(A)) == ((), ())


def test_state_has_one_heir(ledger: Ledger) -> None:
    claimed(ledger, A, "r1")
    claimed(ledger, C, "r1")
    ledger.sources.carry(B, A)
    with pytest.raises(InventoryError, match=r"its state went to sales\.b -> nowhere else"):
        ledger.sources.carry("sales.d", A)
    with pytest.raises(InventoryError, match=r"sales\.c has tables of its own -> a name that never loaded any"):
        ledger.sources.carry(C, B)
    with pytest.raises(InventoryError, match=r"sales\.a is called sales\.b now -> a name that is free"):
        ledger.sources.carry(A, C)
    assert ledger.sources.former_ids() == {A: B}


_EXAMPLES = itertools.count()


@pytest.fixture(scope="module")
def one_ledger() -> Iterator[Ledger]:
    """For all examples: each has names of its own."""
    ledger = open_ledger("sqlite://")
    yield ledger
    ledger.close()


@given(steps=st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")).filter(lambda s: s[0] != s[1]), max_size=12))
def test_whatever_is_renamed_state_ids_never_change_and_never_meet(steps: Sequence[tuple[str, str]], one_ledger: Ledger) -> None:
    """Law: every source that once had state keeps reaching it by exactly one current name."""
    sources, prefix = one_ledger.sources, f"e{next(_EXAMPLES)}."
    owners = {f"{prefix}{name}": f"{prefix}{name}" for name in "ab"}  # current name → state id
    keys = {f"{name}:orders -> x" for name in owners}
    for source in owners:
        one_ledger.batches.claim(asking(table_key=f"{source}:orders -> x", source_id=source))
    for new, old in ((prefix + new, prefix + old) for new, old in steps):
        before = {name: sources.state_id(name) for name in owners}
        try:
            sources.carry(new, old)
        except InventoryError:
            assert {name: sources.state_id(name) for name in owners} == before
            continue
        if old in owners:
            owners[new] = owners.pop(old)
        formers = {former: now for former, now in sources.former_ids().items() if former.startswith(prefix)}
        assert {name: sources.state_id(name) for name in owners} == owners
        assert not formers.keys() & owners.keys() and not formers.keys() & set(formers.values())
        assert {t.table_key for name in owners for t in one_ledger.tables.of_source(name)} == keys
