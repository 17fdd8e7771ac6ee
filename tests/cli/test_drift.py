"""`dataops drift`: what waits, why, and the answers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Dataops


@pytest.fixture
def drift(home: Path, dataops: Dataops) -> str:
    """A customer's limit is text all of a sudden; the id of that drift."""
    assert dataops("run", "shop.db", "--table", "customers", "--json").code == 0
    with sqlite3.connect(home / "shop.db") as database:
        database.executescript(
            "drop table customers; create table customers (id integer primary key, name text, limit_eur text);"
            "insert into customers values (1, 'Ann', 'none'), (2, 'Bob', '20');"
        )
    assert dataops("run", "shop.db", "--table", "customers", "--json").code == 1
    listed = dataops("drift", "list", "--json")
    assert listed.code == 1
    (found,) = listed.document["drifts"]
    return str(found["id"])


def test_held_drift_is_listed_shown_approved_and_gone(dataops: Dataops, drift: str) -> None:
    (queue,) = dataops("status", "--json").document["held"]
    assert (queue["table"], queue["batches"], queue["rows"], queue["undecided"]) == ("shop.db:customers", 1, 2, [drift])
    assert queue["oldest_seconds"] >= 0
    text = dataops("drift", "list").out
    assert drift in text and "limit_eur" in text
    shown = dataops("drift", "show", drift, "--json").document["drift"]
    assert (shown["decision"], shown["rows"], shown["approvers"]) == (None, 2, [])
    assert "anybody" in dataops("drift", "show", drift).out
    done = dataops("drift", "approve", drift, "--by", "ann", "--json")
    assert (done.code, len(done.document["published"]), done.document["drift"]["decided_by"]) == (0, 1, "ann")
    rows = dataops("sql", "select id, cast(limit_eur as text) as l from shop.customers order by id", "--json").document["rows"]
    assert [list(row.values()) if isinstance(row, dict) else row for row in rows] == [[1, "none"], [2, "20"]]
    assert dataops("drift", "list", "--json").code == 0
    status = dataops("status", "shop.db", "--json")
    assert (status.code, status.document["held"]) == (0, [])
    assert dataops("run", "shop.db", "--table", "customers", "--json").code == 0
    again = dataops("drift", "reject", drift, "--by", "bob", "--json")
    assert (again.code, "ann answered approve" in again.document["problems"][0]["message"]) == (3, True)


def test_a_rejected_batch_is_rejected_for_good(dataops: Dataops, drift: str) -> None:
    done = dataops("drift", "reject", drift, "--json")
    assert (done.code, len(done.document["rejected"])) == (0, 1)
    batch = dataops("status", "shop.db", "--json").document["batches"][0]
    assert (batch["state"], batch["rows_dead_lettered"], batch["rows_held"]) == ("rejected", 2, 0)
    (listed,) = dataops("drift", "list", "--decided", "--json").document["drifts"]
    assert listed["decision"] == "reject"


def test_who_may_decide_and_what_cannot_be_meant(home: Path, dataops: Dataops, drift: str) -> None:
    file = home / "inventory" / "shop.yaml"
    file.write_text(file.read_text().replace("defaults: {owner: ann}", "defaults: {owner: ann, approvers: [ann]}"))
    refused = dataops("drift", "approve", drift, "--by", "eve", "--json")
    assert (refused.code, "'eve' answers -> one of ann" in refused.document["problems"][0]["message"]) == (1, True)
    assert dataops("drift", "approve", drift, "--as", "text", "--json").code == 2
    assert dataops("drift", "approve", "drift-nobody", "--json").code == 2
    assert dataops("drift", "show", "drift-nobody", "--json").code == 2
    done = dataops("drift", "approve", drift, "--as", "new-column", "--by", "ann", "--json")
    assert (done.code, done.document["drift"]["decision"]) == (0, "new_column")
    rows = dataops("sql", "select id, limit_eur__str as l from shop.customers order by id", "--json").document["rows"]
    assert [list(row.values()) if isinstance(row, dict) else row for row in rows] == [[1, "none"], [2, "20"]]


def test_what_happened_can_be_read(home: Path, dataops: Dataops, drift: str) -> None:
    """The held change and one that the contract took, newest first; then what became of the table."""
    (event,) = dataops("drift", "events", "shop.db", "--json").document["events"]
    assert (event["kind"], event["source_table"], event["decision"]) == ("structural", "customers", "held")
    assert [c["done"] for c in event["changes"]] == ["held"] and "limit_eur" in event["changes"][0]["text"]
    text = dataops("drift", "events").out
    assert "shop.db:customers" in text and "limit_eur" in text and "(held)" in text
    dataops("drift", "approve", drift, "--by", "ann", "--json")
    (event,) = dataops("drift", "events", "--json").document["events"]
    assert event["decided_by"] == "ann"
    altered, created = dataops("drift", "audit", "shop.customers", "--json").document["statements"]
    assert (created["statement"], created["drift"], created["before"]) == ("create_table", None, None)
    assert (altered["statement"], altered["drift"]) == ("alter_table", event["id"])
    assert [c for c in altered["after"] if c.startswith("limit_eur")] == ["limit_eur string"]
    text = dataops("drift", "audit", "shop.customers").out
    assert "- limit_eur" in text and "+ limit_eur string" in text
    assert len(dataops("drift", "audit", "shop.customers", "--limit", "1", "--json").document["statements"]) == 1


def test_a_history_that_is_empty_or_unknown(dataops: Dataops) -> None:
    assert dataops("drift", "events", "--json").document["events"] == []
    assert "Nothing has changed" in dataops("drift", "events", "shop.db").out
    wrong = {("events", "shop.nobody"): "shop.nobody", ("audit", "a.b"): "nothing was loaded", ("events", "--limit", "0"): "0"}
    for words, why in wrong.items():
        refused = dataops("drift", *words, "--json")
        assert refused.code == 2 and why in refused.document["problems"][0]["message"]


def renamed(home: Path, dataops: Dataops) -> str:
    """A column of customers has another name; the id of the question about it."""
    assert dataops("run", "shop.db", "--table", "customers", "--json").code == 0
    with sqlite3.connect(home / "shop.db") as database:
        database.execute("alter table customers rename column name to full_name")
    assert dataops("run", "shop.db", "--table", "customers", "--json").code == 0
    listed = dataops("drift", "list", "--json")
    assert listed.code == 0, "nothing waits"
    (found,) = listed.document["drifts"]
    assert found["suggestion"] and (found["batches"], found["decision"]) == (0, None)
    return str(found["id"])


def test_a_suggested_rename_is_listed_shown_approved_and_taken_back(home: Path, dataops: Dataops) -> None:
    drift = renamed(home, dataops)
    assert "column 'name' may be 'full_name' by now (values 100% shared" in dataops("drift", "list").out
    assert "name=full_name: 100% of values shared, same type, same position" in dataops("drift", "show", drift).out
    assert dataops("drift", "approve", drift, "--as", "rename:name=other", "--json").code == 1
    assert dataops("drift", "approve", drift, "--as", "rename:name", "--json").code == 2
    done = dataops("drift", "approve", drift, "--by", "ann", "--json")
    assert (done.code, done.document["drift"]["decision"], len(done.document["moved"])) == (0, "rename", 1)
    rows = dataops("sql", "select count(*) as n from shop.customers where full_name is not null or name is null", "--json")
    assert next(iter(rows.document["rows"]))["n"] == 0
    assert dataops("run", "shop.db", "--table", "customers", "--json").code == 0
    assert dataops("verify", "shop.db", "--against-source", "--json").code == 0
    taken = dataops("drift", "revoke", drift, "--by", "bob", "--json")
    assert (taken.code, taken.document["drift"]["decision"], taken.document["drift"]["decided_by"]) == (0, "revoked", "bob")
    assert dataops("drift", "revoke", drift, "--by", "ann", "--json").code == 1
