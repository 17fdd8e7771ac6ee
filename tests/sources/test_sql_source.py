"""One story over every database and driver: what is there, what a range holds, and what happens when things go wrong."""

from __future__ import annotations

import json
import threading
import time as clock
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, RangeError, UnavailableError
from airflow_dataops.core.offset import CursorRange, Everything, FileIdentity, FileSet
from airflow_dataops.sources.base import ReadRequest, Source
from tests.sources.sql_databases import (
    as_text,
    column_texts,
    connection_of,
    execute,
    letters_of,
    mysql_client,
    read_batches,
    rows_of,
    source_of,
)

KINDS = ["sqlite", "postgres-adbc", "postgres-dbapi", "mariadb", "generic-sqlite", "generic-postgres", "generic-mariadb"]
TEXT = {"sqlite": "TEXT", "postgres": "TEXT", "mariadb": "VARCHAR(200)"}
MOMENT = {"sqlite": "DATETIME", "postgres": "TIMESTAMP", "mariadb": "DATETIME(6)"}


@dataclass
class Shop:
    """An empty database, spoken to through one of the drivers."""

    kind: str
    url: str
    sources: list[Source]

    @property
    def server(self) -> str:
        return next(s for s in ("sqlite", "postgres", "mariadb") if s in self.kind)

    @property
    def generic(self) -> bool:
        return self.kind.startswith("generic")

    def connection(self, **extra: Any) -> Connection:
        found = connection_of(self.url, **extra)
        if not self.generic:
            return found
        scheme = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}[self.server]
        place = {"host": None, "schema": found.host} if self.server == "sqlite" else {"host": found.host, "schema": found.schema}
        return Connection(
            "test",
            "generic",
            place["host"],
            found.port,
            found.login,
            found.password,
            place["schema"],
            {"sqlalchemy_scheme": scheme},
        )

    def open(self, **options: Any) -> Source:
        if self.kind.startswith("postgres"):
            options |= {"driver": self.kind.partition("-")[2]}
        source = source_of(self.connection(), **options)
        self.sources.append(source)
        return source

    def run(self, *statements: str) -> None:
        execute(self.url, *statements)

    def name(self, table: str) -> str:
        return f"public.{table}" if self.kind.startswith("postgres") else table

    def quote(self, name: str) -> str:
        return f"`{name.replace('`', '``')}`" if self.server == "mariadb" else '"' + name.replace('"', '""') + '"'


@pytest.fixture
def new_shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Shop]]:
    made: list[Shop] = []

    def make(kind: str) -> Shop:
        if "sqlite" in kind:
            url = f"sqlite://{tmp_path / 'shop.db'}"
            execute(url, "PRAGMA journal_mode = WAL")
        else:
            server = request.getfixturevalue("postgres_server" if "postgres" in kind else "mariadb_server")
            url = server.new_database()
        made.append(Shop(kind, url, []))
        return made[-1]

    yield make
    for shop in made:
        for source in shop.sources:
            source.close()


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, new_shop: Callable[[str], Shop]) -> Shop:
    return new_shop(request.param)


def orders(shop: Shop, rows: int = 10) -> None:
    text, moment = TEXT[shop.server], MOMENT[shop.server]
    shop.run(
        f"CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY, code {text} NOT NULL, amount NUMERIC(10,2), at {moment}, day DATE)",
        "INSERT INTO orders VALUES "
        + ", ".join(f"({n}, '{n:03}', {n}.{n % 100:02}, '2024-01-{n % 28 + 1:02} 00:00:00.00000{n % 10}', '2024-02-{n % 28 + 1:02}')" for n in range(rows)),
    )  # fmt: skip


def test_discover_shows_tables_views_keys_and_nullability(shop: Shop) -> None:
    orders(shop)
    shop.run(
        "CREATE VIEW big_orders AS SELECT * FROM orders WHERE amount > 5",
        "CREATE TABLE lines (order_id INTEGER NOT NULL, line INTEGER NOT NULL, note VARCHAR(20), PRIMARY KEY (order_id, line))",
        "CREATE TABLE no_key (a INTEGER)",
    )
    source = shop.open()
    assert source.table_names() == tuple(shop.name(n) for n in ("big_orders", "lines", "no_key", "orders"))
    found = {t.name: t for t in source.discover()}
    assert tuple(found) == source.table_names()
    assert found[shop.name("orders")].schema.keys == ("id",)
    assert found[shop.name("lines")].schema.keys == ("order_id", "line")
    assert found[shop.name("no_key")].schema.keys == ()
    assert found[shop.name("orders")].schema.names == ("id", "code", "amount", "at", "day")
    assert not found[shop.name("orders")].schema.column("code").nullable
    assert found[shop.name("orders")].schema.column("amount").nullable
    assert found[shop.name("big_orders")].schema.names == found[shop.name("orders")].schema.names
    assert source.describe(shop.name("orders")).schema == found[shop.name("orders")].schema
    assert found[shop.name("orders")].traits["server"]


def test_comments_and_estimates(new_shop: Callable[[str], Shop]) -> None:
    postgres, mariadb = new_shop("postgres-adbc"), new_shop("mariadb")
    orders(postgres)
    postgres.run("COMMENT ON TABLE orders IS 'all of it'", "COMMENT ON COLUMN orders.code IS 'the code'", "ANALYZE orders")
    mariadb.run("CREATE TABLE orders (id INT PRIMARY KEY, code VARCHAR(9) COMMENT 'the code') COMMENT 'all of it'")
    mariadb.run("INSERT INTO orders VALUES (1, 'a'), (2, 'b')", "ANALYZE TABLE orders")
    for shop, rows in ((postgres, 10), (mariadb, 2)):
        found = shop.open().describe(shop.name("orders"))
        assert (found.comment, found.schema.column("code").comment) == ("all of it", "the code")
        assert found.rows_estimate == rows
        assert found.bytes_estimate and found.bytes_estimate > 0


def test_a_unique_key_stands_in_for_a_primary_one(new_shop: Callable[[str], Shop]) -> None:
    for kind in ("sqlite", "postgres-adbc", "mariadb"):
        shop = new_shop(kind)
        shop.run(
            "CREATE TABLE a (x INTEGER NOT NULL, y INTEGER NOT NULL, z INTEGER, UNIQUE (z), UNIQUE (x, y))",
            "CREATE TABLE b (x INTEGER NOT NULL, y INTEGER, UNIQUE (x, y))",
        )
        source = shop.open()
        assert source.describe(shop.name("a")).schema.keys == ("x", "y")
        assert source.describe(shop.name("b")).schema.keys == ()


HOSTILE = [
    "o'clock",
    'say "hi"',
    "a.b",
    "../../etc/passwd",
    "line\nbreak",
    "{{ 1 + 1 }}",
    "50%",
    "semi;colon",
    "a:b",
    "ba`ck",
    "-- x",
    "Ünïcode 🦊",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_any_name_is_a_name_and_never_sql(new_shop: Callable[[str], Shop], kind: str, name: str) -> None:
    if "mariadb" in kind and "🦊" in name:
        name = name.replace("🦊", "ø")  # MariaDB's names end at the basic plane
    shop = new_shop(kind)
    table, column = shop.quote(name), shop.quote(name + " col")
    statement = f"CREATE TABLE {table} ({column} INTEGER NOT NULL)"
    if shop.server == "mariadb":
        client = mysql_client(shop.url)
        client.cursor().execute(statement)
        client.cursor().execute(f"INSERT INTO {table} VALUES (1), (2), (3)")
        client.close()
    else:
        shop.run(statement, f"INSERT INTO {table} VALUES (1), (2), (3)")
    source = shop.open()
    (called,) = source.table_names()
    (found,) = source.discover()
    assert found.name == called
    assert found.schema.names == (name + " col",)
    assert source.high_cursor(called, name + " col") == 3
    batches = read_batches(source, called, CursorRange(name + " col", 1, 3))
    assert rows_of(batches) == [{name + " col": 2}, {name + " col": 3}]


def test_system_and_temporary_tables_and_partitions_stay_out(new_shop: Callable[[str], Shop]) -> None:
    shop = new_shop("postgres-adbc")
    shop.run(
        "CREATE TABLE sales (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE sales_2024 PARTITION OF sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "INSERT INTO sales VALUES (1, '2024-05-01')",
        "ANALYZE sales",
        "CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM sales",
        "CREATE SCHEMA warehouse CREATE TABLE stock (id int)",
        "CREATE SEQUENCE numbers",
    )
    source = shop.open()
    assert source.table_names() == ("public.sales", "public.totals", "warehouse.stock")
    assert rows_of(read_batches(source, "public.sales")) == [{"id": 1, "at": date(2024, 5, 1)}]
    assert source.describe("public.sales").rows_estimate == 1
    assert rows_of(read_batches(source, "public.sales_2024")) == [{"id": 1, "at": date(2024, 5, 1)}]
    assert rows_of(read_batches(source, "public.totals")) == [{"n": 1}]
    assert shop.open(schemas=["warehouse"]).table_names() == ("warehouse.stock",)


def test_other_databases_of_a_mysql_server_are_named_with_their_database(new_shop: Callable[[str], Shop]) -> None:
    shop, other = new_shop("mariadb"), new_shop("mariadb")
    orders(shop)
    orders(other)
    elsewhere = other.url.rpartition("/")[2]
    assert shop.open().table_names() == ("orders",)
    assert len(rows_of(read_batches(shop.open(), f"{elsewhere}.orders"))) == 10
    assert shop.open(schemas=[elsewhere]).table_names() == (f"{elsewhere}.orders",)
    server = source_of(connection_of(shop.url.rpartition("/")[0] + "/"))
    names = server.table_names()
    assert f"{elsewhere}.orders" in names
    assert not [n for n in names if n.startswith(("mysql.", "information_schema.", "performance_schema.", "sys."))]
    server.close()


def test_a_broken_view_does_not_hide_its_neighbours(new_shop: Callable[[str], Shop]) -> None:
    for kind in ("sqlite", "mariadb"):
        shop = new_shop(kind)
        shop.run("CREATE TABLE gone (a INTEGER)", "CREATE VIEW broken AS SELECT a FROM gone", "CREATE TABLE fine (a INTEGER)")
        shop.run("DROP TABLE gone")
        source = shop.open()
        found = {t.name: t for t in source.discover()}
        assert found["fine"].schema.names == ("a",)
        assert found["broken"].traits["problem"]
        with pytest.raises(InventoryError, match="Cannot read broken"):
            source.read(ReadRequest("broken", Everything()))


# -- ranges ----------------------------------------------------------------------------------------------------------

CURSORS: dict[str, tuple[dict[str, str], list[Any]]] = {
    "integer": ({}, [-5, 0, 0, 7, 2**31 - 1]),
    "bigint": ({}, [-(2**63), 2**53, 2**53 + 1, 2**53 + 1, 2**63 - 1]),
    "numeric(20,4)": ({"sqlite": "NUMERIC(10,4)"}, [Decimal("-1.0001"), Decimal("0.1000"), Decimal("0.1000"), Decimal("99999.9999")]),
    "double precision": ({"sqlite": "REAL"}, [-1.5, 0.1, 0.1 + 2**-56, 0.30000000000000004, 1e300]),
    "text": ({"mariadb": "varchar(50) collate utf8mb4_bin"}, ["", "A", "B", "a", "a'b\\", "zoë", "zz%"]),
    "date": ({}, [date(1, 1, 1), date(2024, 2, 28), date(2024, 2, 29), date(2024, 2, 29), date(9999, 12, 31)]),
    "timestamp": (
        {"sqlite": "DATETIME", "mariadb": "datetime(6)"},
        [datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 0, 0, 1), datetime(2024, 1, 1, 0, 0, 0, 2), datetime(2024, 1, 1, 0, 0, 0, 2), datetime(9999, 12, 31)],
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


@pytest.mark.parametrize("declared", list(CURSORS))
@pytest.mark.parametrize("kind", KINDS)
def test_ranges_over_a_cursor_neither_lose_nor_double_a_row(new_shop: Callable[[str], Shop], kind: str, declared: str) -> None:
    shop = new_shop(kind)
    spelled, values = CURSORS[declared]
    if shop.generic and shop.server == "sqlite":
        pytest.skip("SQLAlchemy compares SQLite's texts as they stand; our own SQLite edge is the one to use")
    zone = ["SET time_zone = '+00:00'"] if shop.server == "mariadb" else []
    shop.run(
        *zone,
        f"CREATE TABLE t (n INTEGER, c {spelled.get(shop.server, declared)} NOT NULL)",
        *(f"INSERT INTO t VALUES ({n}, {literal(v, shop.server)})" for n, v in enumerate(values)),
    )
    source, table = shop.open(), shop.name("t")
    top = source.high_cursor(table, "c")
    assert type(top) is type(values[-1])
    assert top == max(values)
    for low in (None, *values):
        for high in (None, *values):
            for low_in, high_in in ((False, True), (True, False), (True, True), (False, False)):
                batches = read_batches(source, table, CursorRange("c", low, high, low_in, high_in))
                expected = {
                    n for n, v in enumerate(values)
                    if (low is None or v > low or (low_in and v == low)) and (high is None or v < high or (high_in and v == high))
                }  # fmt: skip
                assert {row["n"] for row in rows_of(batches)} == expected
                if low is None or high is None:
                    break


def test_datetimes_in_sqlite_are_compared_as_moments_however_they_are_spelled(new_shop: Callable[[str], Shop]) -> None:
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


def test_cursors_that_the_database_orders_in_its_own_way(new_shop: Callable[[str], Shop]) -> None:
    shop = new_shop("postgres-adbc")
    ids = sorted(str(uuid.UUID(int=i * 2**120 + 5)) for i in range(1, 6))
    shop.run(
        "CREATE TYPE size AS ENUM ('small', 'large', 'huge')",
        "CREATE TABLE t (u uuid NOT NULL, s size NOT NULL, r real NOT NULL, o oid NOT NULL)",
        *(f"INSERT INTO t VALUES ('{u}', '{s}', {r}, {r})" for u, s, r in zip(ids, ["small", "huge", "large", "small", "large"], range(1, 6), strict=True)),
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
def test_a_cursor_without_an_end_is_refused(new_shop: Callable[[str], Shop], declared: str, value: str) -> None:
    shop = new_shop("postgres-adbc")
    shop.run(f"CREATE TABLE t (c {declared})", f"INSERT INTO t VALUES ({value})")
    with pytest.raises(RangeError, match="infinite or out of range"):
        shop.open().high_cursor("public.t", "c")


def test_values_of_another_kind_in_a_sqlite_cursor_are_counted(new_shop: Callable[[str], Shop]) -> None:
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


# -- reading ---------------------------------------------------------------------------------------------------------


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


def test_a_bad_value_costs_its_row_and_no_other(new_shop: Callable[[str], Shop]) -> None:
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
    assert raw[2500] == {"id": 2500, "amount": "nan", "at": "infinity", "note": None, "data": {"base64": "AA=="}}
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


# -- queries ---------------------------------------------------------------------------------------------------------


def test_a_query_stands_for_a_table(new_shop: Callable[[str], Shop]) -> None:
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


def test_expressions_in_sqlite_get_the_type_of_their_values(new_shop: Callable[[str], Shop]) -> None:
    shop = new_shop("sqlite")
    orders(shop)
    shop.run("CREATE VIEW totals AS SELECT count(*) AS n, avg(id) AS mean, max(code) AS top, NULL AS nothing FROM orders")
    found = shop.open().describe("totals")
    assert [str(c.type) for c in found.schema] == ["int64", "double", "string", "null"]
    assert rows_of(read_batches(shop.open(), "totals")) == [{"n": 10, "mean": 4.5, "top": "009", "nothing": None}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS a; DROP TABLE orders",
        "SELECT 1 AS a) q; DROP TABLE orders; SELECT * FROM (SELECT 2",
        "DELETE FROM orders",
        "DROP TABLE orders",
        "selec",
        "SELECT * FROM nope",
        "",
        " ; ",
        "SELECT 1 AS a, 2 AS a",
        "SELECT 1 AS a \0",
    ],
)
@pytest.mark.parametrize("kind", ["sqlite", "postgres-adbc", "postgres-dbapi", "mariadb"])
def test_a_query_that_is_not_one_select_is_refused_and_writes_nothing(
    new_shop: Callable[[str], Shop], kind: str, query: str
) -> None:
    shop = new_shop(kind)
    orders(shop)
    source = shop.open()
    with pytest.raises(InventoryError):
        reading = source.read(ReadRequest("shipped", Everything(), query=query))
        reading.close()
    assert len(rows_of(read_batches(shop.open(), shop.name("orders")))) == 10


def test_a_function_that_writes_meets_a_read_only_transaction(new_shop: Callable[[str], Shop]) -> None:
    shop = new_shop("postgres-adbc")
    orders(shop)
    shop.run("CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM orders; SELECT 1'")
    with pytest.raises(InventoryError, match="read-only transaction"):
        read_batches(shop.open(), "x", query="SELECT wipe() AS n")
    assert len(rows_of(read_batches(shop.open(), "public.orders"))) == 10


# -- failures --------------------------------------------------------------------------------------------------------


def test_an_unknown_table_is_named_with_what_is_near(shop: Shop) -> None:
    orders(shop)
    for call in (
        lambda s, t: s.describe(t),
        lambda s, t: s.read(ReadRequest(t, Everything())),
        lambda s, t: s.high_cursor(t, "id"),
    ):
        with pytest.raises(InventoryError, match=f"Did you mean {shop.name('orders')}"):
            call(shop.open(), shop.name("ordes"))
    for bad in ("", ".", "a.b.c", '"open', "a..b"):
        with pytest.raises(InventoryError, match="Cannot read table"):
            shop.open().describe(bad)


@pytest.mark.parametrize("kind", [k for k in KINDS if "sqlite" not in k])
def test_a_wrong_password_is_a_fault_of_the_connection_and_is_not_told(new_shop: Callable[[str], Shop], kind: str) -> None:
    shop = new_shop(kind)
    good, secret = shop.connection(), "s3cr3t/with@odd'chars"
    bad = Connection("test", good.conn_type, good.host, good.port, good.login, secret, good.schema, good.extra)
    source = source_of(bad)
    with pytest.raises((InventoryError, UnavailableError)) as caught:
        source.table_names()
    if not shop.generic:
        assert isinstance(caught.value, InventoryError)
    for text in (str(caught.value), repr(source), repr(bad)):
        assert secret not in text
        assert "s3cr3t" not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", [k for k in KINDS if "sqlite" not in k])
def test_a_server_that_is_down_is_worth_a_retry(new_shop: Callable[[str], Shop], kind: str) -> None:
    shop = new_shop(kind)
    good = shop.connection()
    down = Connection("test", good.conn_type, good.host, 1, good.login, good.password, good.schema, good.extra)
    with pytest.raises(UnavailableError, match="tried again"):
        source_of(down).table_names()


@pytest.mark.parametrize("driver", ["adbc", "dbapi"])
def test_a_table_that_may_not_be_read(new_shop: Callable[[str], Shop], driver: str) -> None:
    shop = new_shop("postgres-adbc")
    orders(shop)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    shop.run(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    good = shop.connection()
    source = source_of(Connection("test", "postgres", good.host, good.port, role, "x", good.schema), driver=driver)
    with pytest.raises(InventoryError, match=r"permission denied.*Grant the connection's user SELECT"):
        source.read(ReadRequest("public.orders", Everything()))
    source.close()


def test_a_mysql_user_without_rights(new_shop: Callable[[str], Shop]) -> None:
    shop = new_shop("mariadb")
    orders(shop)
    role = f"r_{uuid.uuid4().hex[:8]}"
    shop.run(f"CREATE USER {role}@'127.0.0.1' IDENTIFIED BY 'x'")
    good = shop.connection()
    source = source_of(Connection("test", "mysql", good.host, good.port, role, "x", good.schema))
    with pytest.raises(InventoryError, match="Check login, password|Grant the connection"):
        source.table_names()


@pytest.mark.parametrize("kind", [k for k in KINDS if "sqlite" not in k])
def test_a_connection_cut_in_the_middle_is_worth_a_retry(new_shop: Callable[[str], Shop], kind: str) -> None:
    shop = new_shop(kind)
    wide = "x" * 150
    shop.run(
        f"CREATE TABLE t (id INTEGER, v {TEXT[shop.server]})",
        f"INSERT INTO t VALUES {', '.join(f'({n}, {wide!r})' for n in range(2000))}",
    )
    double = "INSERT INTO t SELECT id, v FROM t"
    shop.run(*[double] * 7)  # 256,000 rows, more than any buffer on the way holds
    source = shop.open()
    reading = source.read(ReadRequest(shop.name("t"), Everything(), batch_rows=1000))
    batches = iter(reading)
    next(batches)
    _cut(shop)
    with pytest.raises(UnavailableError):
        for _ in batches:
            pass
    reading.close()
    orders(shop)
    assert len(rows_of(read_batches(shop.open(), shop.name("orders")))) == 10


def _cut(shop: Shop) -> None:
    if shop.server == "postgres":
        execute(
            shop.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        return
    client = mysql_client(shop.url)
    with client.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")
    client.close()


def test_a_statement_that_takes_too_long_is_cancelled(new_shop: Callable[[str], Shop]) -> None:
    sleep = {"postgres-adbc": "SELECT pg_sleep(30)::text AS s", "mariadb": "SELECT SLEEP(30) AS s"}
    for kind, query in sleep.items():
        started = clock.monotonic()
        with pytest.raises(UnavailableError):
            read_batches(new_shop(kind).open(statement_timeout_seconds=1), "x", query=query)
        assert clock.monotonic() - started < 15


def test_a_missing_sqlite_file_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    for found in (str(path), "", str(tmp_path), "a\0b"):
        with pytest.raises(InventoryError, match="Cannot open SQLite"):
            source_of(Connection("test", "sqlite", found)).table_names()
    assert not path.exists()
    path.write_bytes(b"this is no database, but long enough to be looked at" * 100)
    with pytest.raises(InventoryError, match="not a database"):
        source_of(Connection("test", "sqlite", str(path))).table_names()


def test_an_unknown_dialect_says_what_to_install() -> None:
    with pytest.raises(InventoryError, match=r"sqlalchemy_scheme.*driver"):
        source_of(Connection("test", "nosuchdb", "host")).table_names()
    with pytest.raises(InventoryError, match="no ADBC driver"):
        source_of(Connection("test", "mysql", "host"), driver="adbc").table_names()


def test_discovery_asks_as_often_for_300_tables_as_for_3(new_shop: Callable[[str], Shop]) -> None:
    shop = new_shop("postgres-adbc")
    counted = []
    for tables in (3, 300):
        shop.run(
            f"DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('CREATE TABLE t%s_{tables} (id int PRIMARY KEY, v numeric(10,2)[], d date)', i); END LOOP; END $$"
        )
        before = _commits(shop)
        source = shop.open()
        assert len(source.discover()) >= tables
        source.close()
        counted.append(_commits(shop) - before)
    assert counted[0] == counted[1] > 0


def _commits(shop: Shop) -> int:
    import psycopg

    with psycopg.connect(shop.url.rpartition("/")[0] + "/postgres", autocommit=True) as client:
        last = -1
        for _ in range(50):  # a backend reports its statements when it ends: wait until nothing more comes
            row = client.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (shop.url.rpartition("/")[2],)
            ).fetchone()
            found = int(row[0]) if row else 0
            busy = client.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (shop.url.rpartition("/")[2],)
            ).fetchone()
            if found == last and busy == (0,):
                return found
            last = found
            clock.sleep(0.2)
        return last
