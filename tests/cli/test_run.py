"""`run`, `status`, `verify`, `discover` and `sql` on a small shop, through the real edges."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.cli.run import COUNTS
from dag_factory.local import periods_of
from tests.cli.conftest import Dataops


def tables(document: dict[str, Any], period: int = 0) -> dict[str, dict[str, Any]]:
    return {t["source_table"]: t for t in document["periods"][period]["tables"]}


def counts(table: dict[str, Any]) -> dict[str, int]:
    return {name: table[name] for name in COUNTS if table[name]}


def test_the_counts_have_their_published_names() -> None:
    assert set(COUNTS) == set(Accounting().to_json())


def test_a_first_run_loads_and_a_second_one_rewrites_nothing(dataops: Dataops) -> None:
    first = dataops("run", "shop.db", "--json")
    assert first.code == 0, first.out
    loaded = tables(first.document)
    assert set(loaded) == {"customers", "orders"}
    assert [t["outcome"] for t in loaded.values()] == ["loaded", "loaded"]
    assert all(counts(t) == {"rows_read": 2, "rows_written": 2} for t in loaded.values())
    assert all(t["verified"] for t in loaded.values())
    again = tables(dataops("run", "shop.db", "--json").document)
    assert (again["customers"]["outcome"], counts(again["customers"])) == ("unchanged", {"rows_read": 2, "rows_unchanged": 2})
    assert again["customers"]["fingerprint"] == loaded["customers"]["fingerprint"]
    assert again["orders"]["outcome"] == "nothing_new"


def test_the_terminal_shows_periods_first_then_the_accounting(dataops: Dataops) -> None:
    answer = dataops("run", "shop.lists", "--partition", datetime.now(UTC).strftime("%Y-%m-%d"))
    assert answer.code == 0
    key = datetime.now(UTC).strftime("%Y-%m-%d")
    assert answer.err.startswith(f"shop.lists period {key} [{key}T00:00:00+00:00, ")
    assert "codes: loaded, 4 rows" in answer.err
    for name in ("rows_read", "rows_written", "rows_dead_lettered", "fingerprint"):
        assert name in answer.out
    assert "rows_held" not in answer.out


def test_one_table_of_a_source(dataops: Dataops) -> None:
    answer = dataops("run", "shop.db", "--table", "cust*", "--json")
    assert set(tables(answer.document)) == {"customers"}


def test_a_failing_table_does_not_stop_its_siblings(dataops: Dataops, home: Path) -> None:
    with sqlite3.connect(home / "shop.db") as database:
        database.executescript("alter table orders rename column changed_at to moved_at")
    answer = dataops("run", "shop.db", "--json")
    assert answer.code == 1
    found = tables(answer.document)
    assert (found["customers"]["outcome"], found["orders"]["outcome"]) == ("loaded", "failed")
    (problem,) = [p for p in answer.document["problems"] if p["table"] == "orders"]
    assert "changed_at" in problem["message"]
    status = dataops("status", "shop.db", "--json")
    assert status.code == 1
    assert {t["table"]: t["last_outcome"] for t in status.document["tables"]} == {
        "shop.db:customers": "loaded",
        "shop.db:orders": "failed",
    }


def test_a_limit_is_4(dataops: Dataops, home: Path) -> None:
    """One of four records cannot be read, and the row says that none may be lost."""
    text = (home / "inventory" / "shop.yaml").read_text()
    (home / "inventory" / "shop.yaml").write_text(text.replace("max_share: 0.5", "max_rows: 0"))
    answer = dataops("run", "shop.lists", "--json")
    assert answer.code == 4, answer.out
    assert answer.document["problems"][0]["code"] == "limit"


def test_status_of_a_source_has_the_profile_of_its_tables(dataops: Dataops) -> None:
    dataops("run", "shop.db")
    tables = {t["target"]: t for t in dataops("status", "shop.db", "--json").document["tables"]}
    assert tables["shop.customers"]["profile"] == {
        "rows": 2,
        "columns": {
            "id": {"nulls": 0, "min": {"t": "int", "v": "1"}, "max": {"t": "int", "v": "2"}},
            "name": {"nulls": 0, "min": {"t": "str", "v": "Ann"}, "max": {"t": "str", "v": "Bob"}},
            "limit_eur": {"nulls": 0, "min": {"t": "decimal", "v": "1.50"}, "max": {"t": "decimal", "v": "20.00"}},
        },
    }
    assert all(t["profile"] is None for t in dataops("status", "--json").document["tables"])


def test_status_shows_batches_watermark_and_lag(dataops: Dataops) -> None:
    assert dataops("status", "--json").document["batches"] == []
    dataops("run", "shop.db")
    document = dataops("status", "shop.db", "--json").document
    orders = next(t for t in document["tables"] if t["table"] == "shop.db:orders")
    assert orders["watermark"] == {"t": "datetime", "v": "2024-01-02T00:00:00"}
    assert orders["lag_seconds"] > 365 * 86400
    assert {b["state"] for b in document["batches"]} == {"committed"}
    assert {counts(b)["rows_written"] for b in document["batches"]} == {2}
    assert len(dataops("status", "--limit", "1", "--json").document["batches"]) == 1
    assert "shop.db:orders" in dataops("status").out


def test_verify_proves_and_sees_damage(dataops: Dataops, home: Path) -> None:
    dataops("run", "shop.db")
    answer = dataops("verify", "shop.db", "--json")
    assert answer.code == 0
    assert {(t["source_table"], t["ok"]) for t in answer.document["tables"]} == {("customers", True), ("orders", True)}
    (file,) = (home / "home" / "dataops" / "lake" / "shop" / "customers").rglob("*.parquet")
    file.unlink()
    damaged = dataops("verify", "shop.db", "--json")
    assert damaged.code == 1
    assert damaged.document["problems"][0]["table"] == "customers"
    assert dataops("verify", "shop.db", "--table", "orders").code == 0


def test_verify_against_the_source_names_the_rows_that_differ(dataops: Dataops, home: Path) -> None:
    dataops("run", "shop.db")
    answer = dataops("verify", "shop.db", "--against-source", "--json")
    assert answer.code == 0 and [t["ok"] for t in answer.document["tables"]] == [True, True]
    with sqlite3.connect(home / "shop.db") as database:
        database.execute("update customers set name = name || '!' where id = (select min(id) from customers)")
    database.close()
    answer = dataops("verify", "shop.db", "--against-source", "--json")
    (found,) = answer.document["problems"]
    assert answer.code == 1 and found["table"] == "customers" and "1 differ" in found["message"] and "id=" in found["message"]
    shown = dataops("verify", "shop.db", "--against-source", "--table", "customers")
    assert shown.code == 1 and "in the source" in shown.out and "(differs)" in shown.out + shown.err


def test_verify_works_while_the_source_is_down(dataops: Dataops, monkeypatch: pytest.MonkeyPatch) -> None:
    dataops("run", "shop.db")
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_DB")
    assert dataops("verify", "shop.db").code == 0


def test_discover_shows_the_blueprint_and_proposes_a_row(dataops: Dataops) -> None:
    document = dataops("discover", "shop.db", "--json").document
    found = {t["name"]: t for t in document["tables"]}
    assert {name: t["selected"] for name, t in found.items()} == {"customers": True, "orders": True, "scratch_tmp": False}
    assert found["customers"]["keys"] == ["id"]
    columns = [(c["name"], c["type"]) for c in found["customers"]["columns"]]
    assert columns == [("id", "int64"), ("name", "string"), ("limit_eur", "decimal(10,2)")]
    assert document["proposed"]["name"] == "db"
    assert set(tables_of(dataops("discover", "shop.lists", "--json").document)) == {"codes"}


def test_the_proposed_row_can_be_pasted_whatever_the_tables_are_called(dataops: Dataops, home: Path) -> None:
    names = ["a\nb", "{{ ds }}: # x", "[x]*?", "tail ", "\x7f\x85\u2028\ufeff", '"q" \\', "\U0001f600", "null"]
    with sqlite3.connect(home / "shop.db") as database:
        for name in names:
            quoted = name.replace('"', '""')
            database.execute(f'create table "{quoted}" (id integer primary key, updated_at timestamp)')
            database.execute(f"insert into \"{quoted}\" values (1, '2024-01-01 00:00:00')")
    proposed = dataops("discover", "shop.db").out.partition("begin with:")[2]
    (home / "inventory" / "pasted.yaml").write_text(f"sources:\n{proposed}")
    answer = dataops("run", "pasted.db", "--json")
    assert answer.code == 0, answer.out
    assert {name for name, t in tables(answer.document).items() if t["rows_written"] == 1} >= set(names) - {'"q" \\'}
    assert len(tables(answer.document)) == len(names) + 2  # what the row leaves out stays out


def tables_of(document: dict[str, Any]) -> list[str]:
    return [t["name"] for t in document["tables"]]


def test_the_proposed_row_is_a_row(dataops: Dataops, home: Path) -> None:
    """A table with keys and a column that dates its changes is proposed to be read by what is new."""
    with sqlite3.connect(home / "shop.db") as database:
        database.executescript("create table parts ([id] integer primary key, updated_at timestamp)")
    out = dataops("discover", "shop.db").out
    row = out[out.index("  - name: db") :]
    (home / "inventory" / "proposed.yaml").write_text("sources:\n" + row)
    document = dataops("explain", "proposed.db", "--table", "parts", "--json").document
    fields = {f["field"]: f["value"] for f in document["fields"]}
    assert (fields["read.mode"], fields["read.cursor"], fields["write.keys"]) == ("watermark", "updated_at", ["id"])


def spec(**more: Any) -> PipelineSpec:
    return PipelineSpec(**{"name": "a", "kind": "sql", "owner": "me", "domain": "d", **more})


NOW = datetime(2024, 5, 10, 12, tzinfo=UTC)


def test_the_period_of_a_click() -> None:
    (full,) = periods_of(spec(), now=NOW)
    assert (full.key, full.backfill) == ("2024-05-10", False)
    by_period = {"mode": "window", "cursor": "t"}
    for row in (spec(read=by_period), spec(tables=["*", {"match": "t", "read": by_period}])):
        (window,) = periods_of(row, now=NOW)
        assert (window.key, window.backfill) == ("2024-05-09", False)


def test_a_range_is_half_open_and_history_is_a_backfill() -> None:
    asked = periods_of(spec(), start="2024-05-07", end="2024-05-11", now=NOW)
    assert [(p.key, p.backfill) for p in asked] == [
        ("2024-05-07", True), ("2024-05-08", True), ("2024-05-09", False), ("2024-05-10", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        {"partition": "2024-5-1"}, {"partition": "2024-05-11"}, {"partition": "{{ ds }}"},
        {"start": "2024-05-11", "end": "2024-05-12"},
        {"start": "2024-05-01"}, {"start": "2024-05-02", "end": "2024-05-02"}, {"start": "0001-01-01", "end": "2024-05-02"},
    ],
)  # fmt: skip
def test_periods_that_cannot_be_meant(asked: dict[str, str]) -> None:
    with pytest.raises(InventoryError):
        periods_of(spec(), now=NOW, **asked)
