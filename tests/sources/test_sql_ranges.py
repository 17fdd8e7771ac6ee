"""Ranges over a cursor: no row lost, none doubled, whatever the type and the database."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError, RangeError
from airflow_dataops.core.offset import CursorRange, FileIdentity, FileSet
from airflow_dataops.sources.base import ReadRequest
from tests.sources.sql_databases import (
    KINDS,
    NewShop,
    Shop,
    column_texts,
    new_shop_fixture,  # noqa: F401
    orders,
    read_batches,
    rows_of,
    shop_fixture,  # noqa: F401
)

CURSORS: dict[str, tuple[dict[str, str], list[Any]]] = {
    "integer": ({}, [-5, 0, 0, 7, 2**31 - 1]),
    "bigint": ({}, [-(2**63), 2**53, 2**53 + 1, 2**53 + 1, 2**63 - 1]),
    "numeric(20,4)": ({"sqlite": "NUMERIC(10,4)"}, [Decimal(n) for n in ("-1.0001", "0.1", "0.1", "99999.9999")]),
    "double precision": ({"sqlite": "REAL"}, [-1.5, 0.1, 0.1 + 2**-56, 0.30000000000000004, 1e300]),
    "text": ({"mariadb": "varchar(50) collate utf8mb4_bin"}, ["", "A", "B", "a", "a'b\\", "zoë", "zz%"]),
    "date": ({}, [date(1, 1, 1), date(2024, 2, 28), date(2024, 2, 29), date(2024, 2, 29), date(9999, 12, 31)]),
    "timestamp": (
        {"sqlite": "DATETIME", "mariadb": "datetime(6)"},
        [datetime(2024, 1, 1, 0, 0, 0, us) for us in (0, 1, 2, 2)] + [datetime(9999, 12, 31)],
    ),
    "timestamptz": (
        {"sqlite": "TIMESTAMPTZ", "mariadb": "timestamp(6)"},
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(2024, 6, 1, 12, tzinfo=UTC)],
    ),
}  # fmt: skip


def literal(value: Any, server: str) -> str:
    if isinstance(value, datetime):
        zone = "" if value.tzinfo is None or server == "mariadb" else "Z"
        return f"'{value.replace(tzinfo=None).isoformat(' ')}{zone}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    if isinstance(value, str):
        escaped = value.replace("'", "''")
        return "'" + (escaped.replace("\\", "\\\\") if server == "mariadb" else escaped) + "'"
    return repr(value) if isinstance(value, float) else str(value)


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_over_a_cursor_neither_lose_nor_double_a_row(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    source = shop.open()
    for number, (declared, (spelled, values)) in enumerate(CURSORS.items()):
        if kind == "generic-mariadb" and declared == "timestamptz":
            continue  # SQLAlchemy reflects MySQL's TIMESTAMP without its zone
        shop.run(
            *(["SET time_zone = '+00:00'"] if shop.server == "mariadb" else []),
            f"CREATE TABLE t{number} (n INTEGER, c {spelled.get(shop.server, declared)} NOT NULL)",
            *(f"INSERT INTO t{number} VALUES ({n}, {literal(v, shop.server)})" for n, v in enumerate(values)),
        )
        table = shop.name(f"t{number}")

        def found(low: Any, high: Any, low_in: bool = False, high_in: bool = True, table: str = table) -> set[int]:
            return {row["n"] for row in rows_of(read_batches(source, table, CursorRange("c", low, high, low_in, high_in)))}

        top = source.high_cursor(table, "c")
        assert type(top) is type(values[-1])
        assert top == max(values)
        for low in values:
            assert found(None, low) == {n for n, v in enumerate(values) if v <= low}, declared
            assert found(low, top) == {n for n, v in enumerate(values) if v > low}, declared
            assert found(low, low, True, True) == {n for n, v in enumerate(values) if v == low}, declared
            assert found(low, top, True, False) == {n for n, v in enumerate(values) if low <= v < top}, declared


def test_datetimes_in_sqlite_are_compared_as_moments_however_they_are_spelled(new_shop: NewShop) -> None:
    shop = new_shop("sqlite")
    spelled = [
        "2024-01-01",
        "2024-01-01 00:00",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00.0",
        "2024-01-01T00:00:00.000001",
        "2024-01-01 00:00:01",
    ]
    shop.run("CREATE TABLE t (at DATETIME)", *(f"INSERT INTO t VALUES ('{s}')" for s in spelled))
    source = shop.open()
    first = datetime(2024, 1, 1)
    assert len(rows_of(read_batches(source, "t", CursorRange("at", None, first)))) == 4
    assert len(rows_of(read_batches(source, "t", CursorRange("at", first, None)))) == 2
    assert source.high_cursor("t", "at") == first + timedelta(seconds=1)


def test_cursors_that_the_database_orders_in_its_own_way(new_shop: NewShop) -> None:
    shop = new_shop("postgres-adbc")
    sizes = ["small", "huge", "large", "small", "large"]
    ids = sorted(str(uuid.UUID(int=i * 2**120 + 5)) for i in range(1, 6))
    shop.run(
        "CREATE TYPE size AS ENUM ('small', 'large', 'huge')",
        "CREATE TABLE t (u uuid NOT NULL, s size NOT NULL, r real NOT NULL, o oid NOT NULL)",
        *(f"INSERT INTO t VALUES ('{u}', '{s}', {r}, {r})" for u, s, r in zip(ids, sizes, range(1, 6), strict=True)),
    )  # fmt: skip
    source = shop.open()
    assert source.high_cursor("public.t", "u") == ids[-1]
    assert source.high_cursor("public.t", "s") == "huge"
    assert len(rows_of(read_batches(source, "public.t", CursorRange("u", ids[1], ids[3])))) == 2
    assert sorted(column_texts(read_batches(source, "public.t", CursorRange("s", "small", "huge")), "s")) == [
        "huge",
        "large",
        "large",
    ]
    assert len(rows_of(read_batches(source, "public.t", CursorRange("r", source.high_cursor("public.t", "r"), None, True)))) == 1
    assert len(rows_of(read_batches(source, "public.t", CursorRange("o", 2, 2**40)))) == 3


def test_an_empty_table_has_no_high_cursor_and_no_batches(shop: Shop) -> None:
    orders(shop)
    shop.run("DELETE FROM orders")
    source = shop.open()
    assert source.high_cursor(shop.name("orders"), "id") is None
    assert rows_of(read_batches(source, shop.name("orders"))) == []


def test_null_in_the_cursor_is_refused_with_the_number_of_rows(shop: Shop) -> None:
    orders(shop)
    shop.run("UPDATE orders SET at = NULL WHERE id < 3")
    with pytest.raises(RangeError, match=r"orders by cursor at: 3 rows without a usable value"):
        shop.open().high_cursor(shop.name("orders"), "at")


@pytest.mark.parametrize(
    ("declared", "value"),
    [("double precision", "'NaN'"), ("timestamp", "'infinity'"), ("date", "'infinity'"), ("numeric", "'NaN'")],
)
def test_a_cursor_without_an_end_is_refused(new_shop: NewShop, declared: str, value: str) -> None:
    shop = new_shop("postgres-adbc")
    shop.run(f"CREATE TABLE t (c {declared})", f"INSERT INTO t VALUES ({value})")
    with pytest.raises(RangeError, match="infinite or out of range"):
        shop.open().high_cursor("public.t", "c")


def test_values_of_another_kind_in_a_sqlite_cursor_are_counted(new_shop: NewShop) -> None:
    shop = new_shop("sqlite")
    shop.run("CREATE TABLE t (c INTEGER, d DATETIME)", "INSERT INTO t VALUES (1, '2024-01-01'), ('x', 5)")
    for cursor in ("c", "d"):
        with pytest.raises(RangeError, match="1 rows without a usable value"):
            shop.open().high_cursor("t", cursor)


def test_a_stored_position_of_another_kind_is_refused(shop: Shop) -> None:
    orders(shop)
    source = shop.open()
    for cursor, low in (("id", "7"), ("code", 7), ("at", datetime(2024, 1, 1, tzinfo=UTC)), ("day", datetime(2024, 1, 1, 5))):
        with pytest.raises(RangeError, match=f"Cannot compare {cursor} with a stored position"):
            source.read(ReadRequest(shop.name("orders"), CursorRange(cursor, low, None)))
    with pytest.raises(InventoryError, match="no such column -> one of id, code"):
        source.read(ReadRequest(shop.name("orders"), CursorRange("nope", 1, None)))
    with pytest.raises(InventoryError, match="is a database"):
        source.read(ReadRequest(shop.name("orders"), FileSet((FileIdentity("a", 1, "x"),))))
