"""Ranges over a cursor: no row lost, none doubled, whatever the type and the database."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError, RangeError
from airflow_dataops.core.offset import CursorRange, FileIdentity, FileSet
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.sources.sql.mysql import SESSION, MySQL
from airflow_dataops.sources.sql.source import SqlSource
from tests.sources.range_law import check_law, filled
from tests.sources.sql_databases import (
    KINDS,
    NewShop,
    Shop,
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
    "text": ({"mariadb": "varchar(50)"}, ["", "A", "B", "a", "a'b\\", "zoë", "zz%"]),
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
        if shop.generic and declared == "text":
            continue  # how an unknown database sorts it cannot be known: refused
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


RARER: dict[str, dict[str, list[str]]] = {
    "postgres": {
        "boolean": ["true", "false"],
        "real": ["0.1", "'-0'", "0", "1e38", "1e-45", "16777217"],
        "double precision": ["'-inf'", "0.1", "'-0'", "0", "5e-324", "1.7976931348623157e308", "9007199254740993"],
        "numeric": ["0.1", "0.10", "1e18", "0.000000000000000001", "0.1234567890123456789", "'-infinity'", "1e18 + 0.5"],
        "numeric(50,20)": ["0.1", "0.00000000000000000001", "123456789012345678901234567890.12345678901234567890"],
        "numeric(5,-2)": ["1234500", "100", "0"],
        "timestamp": ["'2024-01-01 00:00:00.000001'", "'2024-01-01'", "'-infinity'", "'0044-03-15 BC'", "'9999-12-31 23:59'"],
        "timestamptz": ["'2024-10-27 02:30+02'", "'2024-10-27 02:30+01'", "'1890-01-01 00:00+00:53:28'", "'-infinity'"],
        "date": ["'2024-01-01'", "'-infinity'", "'0001-01-01'"],
        "time": ["'00:00'", "'23:59:59.999999'", "'12:00'"],
        "bytea": ["'\\x'", "'\\x00'", "'\\x0000'", "'\\xff'", "'\\xff00'", "'\\x80'"],
        "oid": ["0", "4294967295", "2147483648"],
        "uuid": ["'ffffffff-0000-1000-8000-000000000001'", "'00000000-ffff-1001-8000-000000000001'"],
    },
    "mariadb": {
        "bit(1)": ["b'0'", "b'1'"],
        "bit(64)": ["1", "9223372036854775808", "18446744073709551615", "18446744073709551614"],
        "bigint unsigned": ["0", "9223372036854775807", "18446744073709551615", "18446744073709551614"],
        "decimal(65,30)": ["0.000000000000000000000000000001", "0.000000000000000000000000000002", "-0.5", "9e34"],
        "float": ["0.1", "0.2", "16777217", "-0e0", "0", "3.4028234e38", "1e-45"],
        "double": ["0.1", "0.3", "0.30000000000000004", "-0e0", "0", "5e-324", "9007199254740993"],
        "datetime": ["'2024-01-01 00:00:00.5'", "'2024-01-01'", "'0000-00-00'", "'2023-00-00'", "'2024-02-29'"],
        "datetime(3)": ["'2024-01-01 00:00:00.0005'", "'2024-01-01'", "'9999-12-31 23:59:59.999'"],
        "timestamp(6) null": ["'2024-01-01'", "'2024-10-27 00:30:00.999999'", "'2038-01-19 01:14:07'", "0"],
        "year": ["1901", "2155", "0"],
        "binary(16)": ["unhex('00')", "unhex('FF00')", "unhex('8000')", "'a'", "'a '"],
        "varbinary(9)": ["unhex('00')", "unhex('0000')", "unhex('FF00')", "unhex('FF')", "''", "'a'", "'a '", "'A'"],
        "blob": ["concat(repeat('x', 1500), 'a')", "concat(repeat('x', 1500), 'c')", "concat(repeat('x', 1500), 'b')"],
    },
    "sqlite": {
        "REAL": ["-9e999", "0.1", "-0.0", "0", "1e300", "9007199254740993", "5e-324"],
        "DECIMAL(20,4)": ["0.1", "1234567890123456", "12345678901234.5678", "-0.0"],
        "NUMERIC": ["0.1", "1e18", "1e19", "0.1234567890123456789", "9007199254740993", "9007199254740993.5"],
        "TIMESTAMPTZ": ["'2024-01-01T00:00:00Z'", "'2024-01-01 00:00:00.5+00:00'", "'2024-01-01 00:00:00.500Z'"],
        "TIME": ["'00:00'", "'23:59:59.5'", "'23:59:59.500001'"],
        "BLOB": ["x''", "x'00'", "x'ff'", "x'ff00'"],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", ["postgres-adbc", "mariadb", "sqlite"])
@pytest.mark.parametrize("indexed", [False, True])
def test_rarer_types_are_cut_exactly(new_shop: NewShop, kind: str, indexed: bool) -> None:
    shop = new_shop(kind)
    source = shop.open()
    for number, (declared, literals) in enumerate(RARER[shop.server].items()):
        filled(shop, f"t{number}", declared, literals, lax=True)
        if indexed and declared != "blob":
            shop.run(f"CREATE INDEX i{number} ON t{number} (c)")
        check_law(source, shop.name(f"t{number}"))


def test_positions_that_another_type_left_behind_are_compared_exactly(new_shop: NewShop) -> None:
    shop = new_shop("postgres-adbc")
    shop.run("CREATE TABLE t (i bigint, d double precision)", "INSERT INTO t VALUES (5, 5), (6, 9007199254740996)")
    source = shop.open()
    assert len(rows_of(read_batches(source, "public.t", CursorRange("i", Decimal("5.5"), None)))) == 1
    assert len(rows_of(read_batches(source, "public.t", CursorRange("i", Decimal("5.00"), 2**70, True)))) == 2
    assert len(rows_of(read_batches(source, "public.t", CursorRange("d", 2**53 + 2, None)))) == 1
    for unlike_any_double in (2**53 + 3, 10**400):
        with pytest.raises(RangeError, match="Cannot compare d with a stored position"):
            source.read(ReadRequest("public.t", CursorRange("d", unlike_any_double, None)))
    shop = new_shop("sqlite")
    shop.run("CREATE TABLE t (i INTEGER)", "INSERT INTO t VALUES (5)")
    with pytest.raises(RangeError, match="Cannot compare i with a stored position"):
        shop.open().read(ReadRequest("t", CursorRange("i", None, 2**70)))


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


def test_null_in_a_postgres_cursor_is_seen_where_a_domain_forbids_it(new_shop: NewShop) -> None:
    shop = new_shop("postgres-adbc")
    shop.run(
        "CREATE DOMAIN moment AS timestamp NOT NULL",
        "CREATE TABLE t (at moment)",
        "INSERT INTO t VALUES ('2024-01-01')",
        "INSERT INTO t SELECT (SELECT at FROM t WHERE false)",
        "CREATE VIEW v AS SELECT n, at FROM (VALUES (1), (2)) AS a (n) LEFT JOIN t ON n = 3",
    )
    for name, nulls in (("public.t", 1), ("public.v", 2)):
        source = shop.open()
        with pytest.raises(RangeError, match=f"{nulls} rows without a usable value"):
            source.high_cursor(name, "at")
        assert source.describe(name).schema.column("at").nullable


def test_settings_of_a_mariadb_that_change_what_empty_text_means(new_shop: NewShop) -> None:
    shop = new_shop("mariadb")
    shop.run("CREATE TABLE t (c varchar(9), b varbinary(9), k char(3), at timestamp NULL)")
    shop.run("INSERT INTO t VALUES ('', '', 'a', NULL), ('a', 'a', 'a\t', NULL)")
    modes = "SET SESSION sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH'"
    session = (*SESSION, modes)  # as the server's own would
    source = SqlSource(lambda: MySQL(shop.connection(), SqlOptions(), session))
    shop.sources.append(source)
    assert [row["at"] for row in rows_of(read_batches(source, "t"))] == [None, None]
    for cursor, low, at_least, above in (("c", "", 2, 1), ("b", b"", 2, 1), ("k", "a  ", 1, 0)):
        high = source.high_cursor("t", cursor)
        assert len(rows_of(read_batches(source, "t", CursorRange(cursor, low, high, True)))) == at_least
        assert len(rows_of(read_batches(source, "t", CursorRange(cursor, low, high)))) == above


def test_long_bytes_are_ordered_to_their_end(new_shop: NewShop) -> None:
    shop = new_shop("mariadb")
    shop.run("CREATE TABLE t (c varbinary(2000))", *(f"INSERT INTO t VALUES (concat(repeat('x', 1500), '{c}'))" for c in "acb"))
    assert shop.open().high_cursor("t", "c") == b"x" * 1500 + b"c"


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
    moved: list[tuple[str, Any]] = [("id", "7"), ("at", datetime(2024, 1, 1, tzinfo=UTC)), ("day", datetime(2024, 1, 1, 5))]
    for cursor, low in moved if shop.generic else [*moved, ("code", 7)]:
        with pytest.raises(RangeError, match=f"Cannot compare {cursor} with a stored position"):
            source.read(ReadRequest(shop.name("orders"), CursorRange(cursor, low, None)))
    with pytest.raises(InventoryError, match="no such column -> one of id, code"):
        source.read(ReadRequest(shop.name("orders"), CursorRange("nope", 1, None)))
    with pytest.raises(InventoryError, match="is a database"):
        source.read(ReadRequest(shop.name("orders"), FileSet((FileIdentity("a", 1, "x"),))))
