"""What sources show, as the ledger keeps it: one event per transition, whoever tells it and how often."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from airflow_dataops.core.approval import Approval
from airflow_dataops.core.offset import Everything
from airflow_dataops.core.renames import RenameSuggestion
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.ledger.tables import schema_history, shown_table
from tests.ledger.actors import ORDERS, SCHEMA, Clock, asking, seen

CUSTOMERS = "sales.shop:customers"
ADDED = "id int64, city string"


def texts(event: Any) -> list[str]:
    return [change["text"] for change in event["changes"]]


def test_an_event_says_enough_to_act_on(ledger: Ledger, clock: Clock) -> None:
    assert ledger.drift.observe(seen("id int64", 1)).events == ()  # the first sight is no drift
    clock.wait(60)
    (event_id,) = ledger.drift.observe(seen(ADDED, 2)).events
    event = ledger.drift.event(event_id)
    assert event is not None
    assert {key: value for key, value in event.items() if key not in ("before", "after", "changes")} == {
        "id": event_id, "kind": "structural", "source_id": "sales.shop", "source_table": "orders", "target": "sales.orders",
        "table_key": ORDERS, "batch_id": "b2", "rows": 7, "decision": "applied", "decided_by": "contract",
        "decided_at": clock(), "at": clock(), "renames": [], "flips": {}, "settled": {},
        "before_schema": [{"name": "id", "type": "int64", "comment": ""}],
        "after_schema": [{"name": "id", "type": "int64", "comment": ""}, {"name": "city", "type": "string", "comment": ""}],
    }  # fmt: skip
    assert texts(event) == ["new column 'city' (string)"] and event["before"] != event["after"]
    assert [(c["change"], c["done"]) for c in event["changes"]] == [("column_added", "applied")]
    (listed,) = ledger.drift.events("sales.shop")
    assert listed == {key: value for key, value in event.items() if not key.endswith("_schema")}
    assert (ledger.drift.events("sales.other"), ledger.drift.event(event_id + 1)) == ((), None)


def test_the_same_batch_again_and_an_older_one_tell_nothing_new(ledger: Ledger) -> None:
    for sequence, columns in ((1, "id int64"), (3, ADDED), (3, ADDED), (2, "id int64"), (4, ADDED), (1, "id int64")):
        ledger.drift.observe(seen(columns, sequence))
    assert [texts(e) for e in ledger.drift.events()] == [["new column 'city' (string)"]]
    late = ledger.drift.schema(ORDERS)
    assert late is not None and late.names == ("id", "city")


def test_an_older_batch_may_add_what_nobody_knew(ledger: Ledger) -> None:
    for sequence, columns, late in ((1, "id int64", False), (3, "id int64", False), (2, ADDED, False), (4, ADDED, True)):
        ledger.drift.observe(seen(columns, sequence, late=late))
    (event,) = ledger.drift.events()
    assert (texts(event), event["batch_id"]) == (["new column 'city' (string)"], "b2")
    assert ledger.drift.schema(ORDERS) == TableSchema((Column("id", pa.int64()),))


def test_a_declaration_and_the_batch_after_it_are_one_event(ledger: Ledger) -> None:
    ledger.drift.observe(seen("id int64", 1))
    (event_id,) = ledger.drift.observe(seen(ADDED, None, rows=0)).events
    assert (ledger.drift.event_of(ORDERS, None), ledger.drift.event_of(ORDERS, "b2")) == (event_id, None)
    assert ledger.drift.observe(seen(ADDED, 2)).events == ()
    assert (ledger.drift.event_of(ORDERS, None), ledger.drift.event_of(ORDERS, "b2")) == (None, event_id)
    (event,) = ledger.drift.events()
    assert (event["id"], event["batch_id"], event["rows"]) == (event_id, "b2", 7)


def test_a_batch_that_is_finished_after_a_newer_declaration_takes_nothing_back(ledger: Ledger) -> None:
    plain = ContractSpec(debounce_runs=0)
    ledger.drift.observe(seen("id int64", 1, contract=plain))
    ledger.drift.observe(seen(ADDED, None, contract=plain))
    assert ledger.drift.observe(seen("id int64", 1, contract=plain)).events == ()
    last = ledger.drift.schema(ORDERS)
    assert len(ledger.drift.events()) == 1 and last is not None and last.names == ("id", "city")


def runs(ledger: Ledger, *shown: str, contract: ContractSpec) -> list[list[list[str]]]:
    """One batch of a run of its own after the other; the events of each."""
    told = []
    for number, columns in enumerate(shown, 1):
        claim = ledger.batches.claim(asking(f"b{number}", f"r{number}", read=Everything(), scope=f"dt={number}"))
        one = replace(seen(columns, claim.sequence, contract=contract), batch_id=claim.batch_id)
        events = [ledger.drift.event(event_id) for event_id in ledger.drift.observe(one).events]
        told.append([texts(event) for event in events])
    return told


def test_a_column_that_comes_and_goes_makes_one_event(ledger: Ledger) -> None:
    both, one = ADDED, "id int64"
    gone = "column 'city' is gone from the source"
    told = runs(ledger, both, one, both, one, both, both, both, both, one, contract=ContractSpec(debounce_runs=3))
    assert told == [[], [[gone]], [], [], [], [], [], [], [[gone]]]
    second, first = ledger.drift.events()
    assert (first["flips"], first["settled"], second["flips"], second["settled"]) == ({"city": 3}, {"city": "string"}, {}, {})


def test_without_debouncing_each_change_is_an_event(ledger: Ledger) -> None:
    told = runs(ledger, ADDED, "id int64", ADDED, "id int64", contract=ContractSpec(debounce_runs=0))
    assert [len(events) for events in told] == [0, 1, 1, 1]


def test_a_column_is_retired_once_and_comes_back(ledger: Ledger) -> None:
    contract = ContractSpec(debounce_runs=1, retire_runs=3)
    told = runs(ledger, ADDED, *["id int64"] * 5, "id int64, city int64", contract=contract)
    retired = "column 'city' is retired: the source has not shown it for a while"
    assert told[1:] == [
        [["column 'city' is gone from the source"]], [], [[retired]], [], [],
        [["column 'city' is back in the source", "column 'city' is string, the source now says int64"]],
    ]  # fmt: skip
    assert ledger.drift.observe(seen("id int64, city int64", 99)).retired == frozenset()


def test_traits_are_infrastructure_and_hold_nothing(ledger: Ledger) -> None:
    for sequence, encoding in enumerate(("utf-8", "utf-8", "windows-1252", "windows-1252"), 1):
        ledger.drift.observe(seen("id int64", sequence, traits={"encoding": encoding, "driver": str(sequence)}))
    (event,) = ledger.drift.events()
    assert (event["kind"], texts(event), event["decision"]) == ("infrastructure", ["encoding 'utf-8' -> 'windows-1252'"], "noted")
    assert (event["before"], event["after"]) == (None, None)


@pytest.mark.parametrize(("tables", "decision"), [("evolve", "noted"), ("freeze", "held")])
def test_a_table_that_is_gone_is_told_once_and_when_it_is_back(ledger: Ledger, tables: str, decision: str) -> None:
    one = seen(None, None, contract=ContractSpec(tables=tables))
    told = [ledger.drift.observe_table(one, present=present) for present in (True, False, False, True, True)]
    assert [event_id is not None for event_id in told] == [False, True, False, True, False]
    back, gone = ledger.drift.events()
    assert (texts(gone), gone["decision"]) == (["table 'orders' is gone from the source"], decision)
    assert (texts(back), back["decision"]) == (["table 'orders' is back in the source"], "noted")
    ledger.drift.observe(seen("id int64", 1))
    assert ledger.drift.event(gone["id"])["batch_id"] is None  # type: ignore[index]


def test_other_comments_are_history_and_no_event(ledger: Ledger) -> None:
    long = "x" * 400
    for sequence, comment in enumerate(("", long, long), 1):
        shown = TableSchema((Column("id", pa.int64(), comment=comment), Column("n", pa.null())))
        ledger.drift.observe(seen(None, sequence, schema=shown))
    assert ledger.drift.events() == ()
    kept = ledger.drift.schema(ORDERS)
    assert kept is not None and kept.column("id").comment == long
    with ledger.drift._database.read() as connection:  # type: ignore[attr-defined]
        assert connection.execute(sa.select(sa.func.count()).select_from(schema_history)).scalar() == 2


def test_reordering_and_nulls_are_nothing(ledger: Ledger) -> None:
    ledger.drift.observe(seen(None, 1, schema=SCHEMA))
    ledger.drift.observe(seen(None, 2, schema=TableSchema(SCHEMA.columns[::-1], SCHEMA.keys)))
    ledger.drift.observe(seen(None, 3, schema=TableSchema((SCHEMA.columns[0], Column("total", pa.null())))))
    assert ledger.drift.events() == () and ledger.drift.schema(ORDERS) == SCHEMA and ledger.drift.schema(CUSTOMERS) is None


def test_a_ledger_of_before_goes_on_from_its_last_schema(ledger: Ledger) -> None:
    ledger.drift.observe(seen("id int64", 1))
    with ledger.drift._database.write() as connection:  # type: ignore[attr-defined]
        connection.execute(shown_table.delete())
    ledger.drift.observe(seen(ADDED, 2))
    assert len(ledger.drift.events()) == 1


def test_what_is_known_of_a_settled_table_is_small(ledger: Ledger) -> None:
    ledger.drift.observe(seen(", ".join(f"column_number_{n} int64" for n in range(900)), 1))
    with ledger.drift._database.read() as connection:  # type: ignore[attr-defined]
        state = connection.execute(sa.select(shown_table.c.state)).scalar()
    assert len(json.dumps(state)) < 50_000


def test_an_approved_rename_is_told_once_and_either_name_is_the_column_then(ledger: Ledger) -> None:
    ledger.batches.claim(asking("b1", "r1"))
    ledger.drift.observe(seen("id int64, cust_nm string", 1))
    assert len(ledger.drift.observe(seen("id int64, cust_name string", 2)).events) == 1
    pair = RenameSuggestion("cust_nm", "cust_name", True, True, 0.9)
    (hold_id,) = ledger.holds.suggest(ORDERS, "sales.shop", "b2", [pair])
    ledger.holds.decide(hold_id, "rename", "ann", [Approval("column_renamed", "cust_name", rename=pair.rename)])
    told = ledger.drift.events()
    assert texts(told[0]) == ["column 'cust_nm' is 'cust_name' in the source"]
    for number, name in enumerate(("cust_name", "cust_nm", "cust_name"), 3):
        found = ledger.drift.observe(seen(f"id int64, {name} string", number))
        assert (found.events, found.retired) == ((), {"cust_name"})
    assert ledger.drift.events() == told
    last = ledger.drift.schema(ORDERS)
    assert last is not None and last.names == ("id", "cust_name"), "the history has the source's own names"
    ledger.holds.revoke(hold_id, "bob")
    (event,) = ledger.drift.observe(seen("id int64, cust_name string", 6)).events
    back = ledger.drift.event(event)
    assert back is not None
    assert texts(back) == ["column 'cust_nm' is gone from the source", "column 'cust_name' is back in the source"]
