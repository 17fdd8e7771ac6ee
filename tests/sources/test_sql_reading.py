"""Reading: batches, one moment, rows that cannot be held, and queries in place of tables."""

from __future__ import annotations

import json
import threading
import time as clock
import uuid
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.offset import CursorRange, Everything
from airflow_dataops.sources.base import ReadRequest
from tests.sources.sql_databases import (
    NewShop,
    Shop,
    as_text,
    column_texts,
    connection_of,
    execute,
    letters_of,
    new_shop_fixture,  # noqa: F401
    orders,
    read_batches,
    rows_of,
    shop_fixture,  # noqa: F401
    source_of,
)


def test_batches_hold_at_most_batch_rows(shop: Shop) -> None:
    orders(shop, 100)
    sizes = [b.records.num_rows for b in read_batches(shop.open(), shop.name("orders"), batch_rows=7)]
    assert sum(sizes) == 100
    assert max(sizes) <= 7


def test_a_reading_sees_one_moment(shop: Shop) -> None:
    orders(shop, 100)
    source = shop.open()
    reading = source.read(ReadRequest(shop.name("orders"), Everything(), batch_rows=5))
    shop.run("UPDATE orders SET code = 'late'", "INSERT INTO orders (id, code) VALUES (1000, 'late')")
    codes = column_texts(reading, "code")
    reading.close()
    assert len(codes) == 100
    assert "late" not in codes


def test_without_a_snapshot_the_rows_are_the_same(shop: Shop) -> None:
    orders(shop, 20)
    assert len(rows_of(read_batches(shop.open(), shop.name("orders"), isolation="none"))) == 20


def test_a_reading_can_be_left_at_any_time_and_the_source_goes_on(shop: Shop) -> None:
    orders(shop, 500)
    source = shop.open()
    before = threading.active_count()
    for taken in (0, 1, 3):
        reading = source.read(ReadRequest(shop.name("orders"), Everything(), batch_rows=1))
        batches = iter(reading)
        for _ in range(taken):
            next(batches)
        reading.close()
        reading.close()
    assert threading.active_count() == before
    assert len(rows_of(read_batches(source, shop.name("orders")))) == 500


def test_two_readings_at_once(shop: Shop) -> None:
    orders(shop, 50)
    source = shop.open()
    first, second = (source.read(ReadRequest(shop.name("orders"), Everything(), batch_rows=5)) for _ in range(2))
    pairs = list(zip(first, second, strict=True))
    assert [a.records.num_rows for a, _ in pairs] == [b.records.num_rows for _, b in pairs]
    assert sum(a.records.num_rows for a, _ in pairs) == 50
    first.close()
    second.close()


def test_a_bad_value_costs_its_row_and_no_other(new_shop: NewShop) -> None:
    shop = new_shop("postgres-adbc")
    shop.run(
        "CREATE TABLE t (id int, amount numeric, at timestamp, note text, data bytea)",
        "INSERT INTO t SELECT i, i, '2024-01-01', 'n' || i, '\\x00' FROM generate_series(1, 5000) i",
        "UPDATE t SET amount = 'NaN', note = NULL WHERE id IN (1, 2500, 5000)",
        "UPDATE t SET at = 'infinity' WHERE id = 2500",
    )
    batches = read_batches(shop.open(), "public.t", batch_rows=1000)
    letters = letters_of(batches)
    assert len(rows_of(batches)) == 4997
    assert sorted(json.loads(letter.raw)["id"] for letter in letters) == [1, 2500, 5000]
    raw = {json.loads(letter.raw)["id"]: json.loads(letter.raw) for letter in letters}
    assert raw[2500] == {"id": 2500, "amount": "nan", "at": "infinity", "note": None, "data": "00"}
    assert {letter.column for letter in letters} == {"amount"}
    assert all("nan" not in letter.message.lower().replace("n that", "") for letter in letters)


def test_text_of_an_unencoded_database_is_checked(postgres_server: Any) -> None:
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    execute(postgres_server.url(), f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    url = postgres_server.url(name)
    execute(url, "CREATE TABLE t (id int, v text)", "INSERT INTO t VALUES (1, 'zoë'), (2, convert_from('\\xff41', 'SQL_ASCII'))")
    source = source_of(connection_of(url))
    batches = read_batches(source, "public.t")
    source.close()
    assert rows_of(batches) == [{"id": 1, "v": "zoë"}]
    assert [(letter.reason, json.loads(letter.raw)) for letter in letters_of(batches)] == [
        ("bad_encoding", {"id": 2, "v": {"base64": "/0E="}})
    ]


def test_now_is_the_databases_clock(shop: Shop) -> None:
    told = shop.open().now()
    if shop.server == "sqlite" or shop.generic:
        assert told is None
    else:
        assert told == pytest.approx(clock.time(), abs=60)


def test_a_query_stands_for_a_table(new_shop: NewShop) -> None:
    for kind in ("sqlite", "postgres-adbc", "postgres-dbapi", "mariadb"):
        shop = new_shop(kind)
        orders(shop)
        source = shop.open()
        query = "SELECT id, amount, at, '50%; :x' AS label FROM orders WHERE code LIKE '00%' -- to the end ;"
        described = source.describe("shipped", query)
        assert described.schema.names == ("id", "amount", "at", "label")
        assert str(described.schema.column("amount").type) == "decimal128(10, 2)"
        assert source.high_cursor("shipped", "id", query) == 9
        batches = read_batches(source, "shipped", CursorRange("id", 7, 9), query=query)
        assert [as_text(row["amount"]) for row in rows_of(batches)] == ["8.08", "9.09"]
        assert {row["label"] for row in rows_of(batches)} == {"50%; :x"}


def test_expressions_in_sqlite_get_the_type_of_their_values(new_shop: NewShop) -> None:
    shop = new_shop("sqlite")
    orders(shop)
    shop.run("CREATE VIEW totals AS SELECT count(*) AS n, avg(id) AS mean, max(code) AS top, NULL AS none FROM orders")
    found = shop.open().describe("totals")
    assert [str(c.type) for c in found.schema] == ["int64", "double", "string", "null"]
    assert rows_of(read_batches(shop.open(), "totals")) == [{"n": 10, "mean": 4.5, "top": "009", "none": None}]


QUERIES_REFUSED = [
    "SELECT 1 AS a; DROP TABLE orders",
    "SELECT 1 AS a) q; DROP TABLE orders; SELECT * FROM (SELECT 2",
    "DELETE FROM orders",
    "DROP TABLE orders",
    "selec",
    "SELECT * FROM nope",
    "",
    " ; ",
    "SELECT 1 AS a \0",
]


@pytest.mark.parametrize("kind", ["sqlite", "postgres-adbc", "postgres-dbapi", "mariadb"])
def test_a_query_that_is_not_one_select_is_refused_and_writes_nothing(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    orders(shop)
    source = shop.open()
    twice = [] if kind == "sqlite" else ["SELECT 1 AS a, 2 AS a"]  # SQLite itself gives the second a name of its own
    for query in QUERIES_REFUSED + twice:
        with pytest.raises(InventoryError):
            source.read(ReadRequest("shipped", Everything(), query=query)).close()
    assert len(rows_of(read_batches(shop.open(), shop.name("orders")))) == 10


def test_a_function_that_writes_meets_a_read_only_transaction(new_shop: NewShop) -> None:
    shop = new_shop("postgres-adbc")
    orders(shop)
    shop.run("CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1'")
    with pytest.raises(InventoryError, match="read-only transaction"):
        read_batches(shop.open(), "x", query="SELECT wipe() AS n")
    assert len(rows_of(read_batches(shop.open(), "public.orders"))) == 10
