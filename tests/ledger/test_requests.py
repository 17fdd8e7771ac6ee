"""A request for a new source: requested → approved → built, one open per name, whoever is first."""

from __future__ import annotations

import threading

import pytest

from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.sql_ledger import SqlLedger
from tests.ledger.actors import Clock
from tests.ledger.conftest import LEDGERS

ROW = {"row": {"name": "orders"}}


@pytest.fixture
def requested(ledger: SqlLedger) -> SqlLedger:
    ledger.requests.open("dag/r1", "sales.orders", "ann")
    return ledger


def test_who_and_when_is_kept_of_every_step(requested: SqlLedger, clock: Clock) -> None:
    requests, began = requested.requests, clock()
    clock.wait(10)
    requests.propose("dag/r1", ROW)
    assert not requests.propose("dag/r1", ROW).shown and requests.show("dag/r1").shown
    clock.wait(10)
    requests.decide("dag/r1", approved=True, by="bob")
    clock.wait(10)
    for _ in range(2):  # a retry after a lost answer
        found = requests.built("dag/r1")
    assert (found.state, found.requested_by, found.requested_at) == ("built", "ann", began)
    assert (found.decided_by, found.decided_at, found.built_at, found.proposal) == ("bob", began + 20, began + 30, ROW)
    assert requests.open_of("sales.orders") is None and requests.history("sales.orders") == (found,)


def test_a_name_has_one_open_request(requested: SqlLedger) -> None:
    requests = requested.requests
    assert requests.open("dag/r1", "sales.orders", "ann").state == "requested"  # a retry
    with pytest.raises(InventoryError, match=r"run 'dag/r1' of ann has it, requested -> one request"):
        requests.open("dag/r2", "sales.orders", "eve")
    assert requests.get("dag/r2") is None
    requests.open("dag/r3", "sales.items", "eve")
    requests.propose("dag/r1", ROW)
    requests.show("dag/r1")
    requests.decide("dag/r1", approved=False, by="bob")
    assert requests.open("dag/r2", "sales.orders", "eve").state == "requested"
    with pytest.raises(InventoryError, match="never opened again"):
        requests.open("dag/r1", "sales.orders", "ann")


def test_a_request_whose_run_is_over_gives_the_name_up_once(requested: SqlLedger) -> None:
    requests = requested.requests
    requests.open("dag/r2", "sales.orders", "eve", instead_of="dag/r1")
    with pytest.raises(InventoryError, match="dag/r2"):
        requests.open("dag/r3", "sales.orders", "mal", instead_of="dag/r1")
    found = requests.get("dag/r1")
    assert found is not None and found.state == "abandoned"
    for late in (lambda: requests.propose("dag/r1", ROW), lambda: requests.built("dag/r1"), lambda: requests.show("dag/r1")):
        with pytest.raises(ConflictError, match="abandoned"):
            late()


def test_only_what_was_shown_is_approved(requested: SqlLedger) -> None:
    requests = requested.requests
    for too_soon in (
        lambda: requests.show("dag/r1"),
        lambda: requests.decide("dag/r1", approved=True, by="bob"),
        lambda: requests.built("dag/r1"),
    ):
        with pytest.raises(ConflictError):
            too_soon()
    requests.propose("dag/r1", ROW)
    requests.show("dag/r1")
    requests.propose("dag/r1", {"row": {"name": "orders", "kind": "files"}})  # cleared and run again
    with pytest.raises(ConflictError, match="not shown"):
        requests.decide("dag/r1", approved=True, by="bob")
    requests.show("dag/r1")
    requests.decide("dag/r1", approved=True, by="bob")
    with pytest.raises(ConflictError, match="approved by bob"):
        requests.propose("dag/r1", ROW)
    with pytest.raises(ConflictError, match="approved by bob"):
        requests.decide("dag/r1", approved=False, by="eve")
    assert requests.decide("dag/r1", approved=True, by="eve").decided_by == "bob"


# A database in memory is one connection's.
@pytest.mark.parametrize("ledger_url", [name for name in LEDGERS if name != "sqlite-memory"], indirect=True)
def test_of_many_at_once_one_has_the_name(ledger_url: str) -> None:
    ledgers = [open_ledger(ledger_url) for _ in range(8)]
    won: list[str] = []
    told: list[str] = []
    start = threading.Barrier(len(ledgers))

    def ask(n: int) -> None:
        start.wait()
        try:
            ledgers[n].requests.open(f"dag/r{n}", "sales.orders", f"user{n}")
            won.append(f"dag/r{n}")
        except InventoryError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(ledgers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(told) == 7 and all(won[0] in text for text in told)
    for opened in ledgers:
        opened.close()
