"""Text as a cursor: cut by code point, whatever collation the column has, so that no row is lost or doubled.

The law is told by Python: what a range holds are the rows whose value, as it is read, lies between the range's ends.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from airflow_dataops.core.errors import RangeError
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.sources.sql import SqlSource
from airflow_dataops.sources.sql.database import Bound, Select
from airflow_dataops.sources.sql.names import parse_name
from airflow_dataops.sources.sql.postgres_values import bound_sql
from tests.sources.range_law import check_law, filled, text_literal
from tests.sources.sql_databases import (
    NewShop,
    Shop,
    connection_of,
    execute,
    mysql_client,
    new_shop_fixture,  # noqa: F401
    read_batches,
    rows_of,
    source_of,
)

SHORT = [
    "", "a", "A", "a ", "a  ", "a\t", "a\x01b", "á", "Ä", "ae", "az", "B", "b", "z", "ß", "SS", "é", "e\u0301", "10", "9", "'\\%",
]  # fmt: skip
WIDE = ["\ufb00", "\uffee", "\U0001f600", "x" * 1100 + "a", "x" * 1100 + "b", "x" * 1100 + "B"]
"""Beyond two bytes, and longer than MariaDB looks when it sorts."""

IN_LATIN = ["a", "A", "a ", "b", "ä", "Ä", "ÿ", "ß", "~", "a\t"]
IN_WINDOWS = [*IN_LATIN, "€", "Œ"]
"""Windows-1252, which MariaDB calls latin1: the bytes of € and Œ lie below those of ÿ, their code points above."""

IN_JAPAN = ["a", "A", "ア", "あ", "一", "丁", "亜"]
"""Sorted by their sound in EUC_JP: 亜 comes before 一."""

COLLATIONS = [
    "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
    "CREATE COLLATION phone_book (provider = icu, locale = 'de-u-co-phonebk')",
    "CREATE COLLATION numbers (provider = icu, locale = 'und-u-kn-true')",
    "CREATE EXTENSION citext",
    "CREATE DOMAIN code AS text COLLATE blind",
    "CREATE DOMAIN loose AS citext NOT NULL",
]
POSTGRES = {
    "text": WIDE, 'text COLLATE "C"': WIDE, "varchar(2000) COLLATE blind": WIDE, "text COLLATE phone_book": WIDE,
    "text COLLATE numbers": WIDE, "citext": WIDE, "code": WIDE, "loose": WIDE, "char(9)": [], 'char(9) COLLATE "C"': [],
    "char(9) COLLATE blind": [], "bpchar": [], "name": [],
}  # fmt: skip
MARIADB = {
    "varchar(2000)": WIDE, "varchar(2000) COLLATE utf8mb4_bin": WIDE, "varchar(2000) COLLATE utf8mb4_nopad_bin": WIDE,
    "text COLLATE utf8mb4_general_ci": WIDE, "varchar(2000) COLLATE utf8mb4_german2_ci": WIDE, "char(9)": [],
    "char(9) COLLATE utf8mb4_nopad_bin": [], "varchar(2000) CHARACTER SET utf16": WIDE, "longtext COLLATE utf8mb4_nopad_bin": WIDE,
}  # fmt: skip
SQLITE = {"TEXT": WIDE, "TEXT COLLATE NOCASE": WIDE, "VARCHAR(9) COLLATE RTRIM": WIDE, "": WIDE, "TEXT COLLATE BINARY": WIDE}


def literals(values: Sequence[str], shop: Shop) -> list[str]:
    return [text_literal(value, shop.server) for value in values]


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        *(("postgres-adbc", declared) for declared in POSTGRES),
        *(("postgres-dbapi", declared) for declared in ("loose", "char(9)")),
        *(("mariadb", declared) for declared in MARIADB),
        *(("sqlite", declared) for declared in SQLITE),
    ],
)
def test_text_is_cut_by_code_point_under_every_collation(new_shop: NewShop, kind: str, declared: str) -> None:
    shop = new_shop(kind)
    if shop.server == "postgres":
        shop.run(*COLLATIONS)
    wide = {"postgres": POSTGRES, "mariadb": MARIADB, "sqlite": SQLITE}[shop.server][declared]
    filled(shop, "t", declared, literals(SHORT + wide, shop))
    check_law(shop.open(), shop.name("t"))


@pytest.mark.parametrize(
    ("kind", "declared", "joined"),
    [
        ("sqlite", "TEXT COLLATE NOCASE", "c || 'é'"),
        ("postgres-adbc", "text COLLATE blind", "c || 'é'"),
        ("mariadb", "varchar(2000)", "concat(c, 'é')"),
    ],
)
def test_text_of_a_query_is_cut_by_code_point(new_shop: NewShop, kind: str, declared: str, joined: str) -> None:
    shop = new_shop(kind)
    if shop.server == "postgres":
        shop.run(*COLLATIONS)
    filled(shop, "t", declared, literals(SHORT + WIDE, shop))
    for query in ("SELECT n, c FROM t WHERE n <> 3", f"SELECT n, {joined} AS c FROM t"):
        check_law(shop.open(), "asked", query)


@pytest.mark.parametrize(
    ("encoding", "values"),
    [("WIN1252", IN_WINDOWS), ("LATIN1", IN_LATIN), ("SQL_ASCII", IN_WINDOWS + IN_JAPAN), ("EUC_JP", IN_JAPAN)],
)
def test_text_in_another_encoding_of_postgres(postgres_server: Any, encoding: str, values: list[str]) -> None:
    name = f"text_{encoding.lower()}_{uuid.uuid4().hex[:8]}"
    execute(postgres_server.url(), f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    url = postgres_server.url(name)
    rows = ", ".join(f"({n}, '{v}')" for n, v in enumerate(values))
    source = source_of(connection_of(url))
    for declared in ("text", "char(3)", "name"):
        table = f'"{declared}"'
        execute(
            url, "SET client_encoding = 'UTF8'", f"CREATE TABLE {table} (n int, c {declared})", f"INSERT INTO {table} VALUES {rows}"
        )
        check_law(source, f"public.{declared}")
    check_law(source, "asked", "SELECT n, c FROM text")
    source.close()


def test_text_in_another_character_set_of_mariadb(new_shop: NewShop) -> None:
    shop = new_shop("mariadb")
    for number, collation in enumerate(("latin1_swedish_ci", "latin1_bin", "latin1_nopad_bin")):
        filled(shop, f"t{number}", f"varchar(9) COLLATE {collation}", literals(IN_WINDOWS, shop))
        check_law(shop.open(), f"t{number}")


def test_text_of_a_sqlite_file_in_utf16_is_no_cursor(new_shop: NewShop) -> None:
    shop = new_shop("sqlite")
    shop.url += "-utf16"
    shop.run("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE t (c TEXT, n INTEGER)", "INSERT INTO t VALUES ('a', 1), ('\u0100', 2)")
    source = shop.open()
    with pytest.raises(RangeError, match="UTF-16le"):
        source.high_cursor("t", "c")
    assert source.high_cursor("t", "n") == 2
    assert source.high_cursor("q", "k", "SELECT count(*) AS k FROM t") == 2


IN_THEIR_TEXTS_ORDER = {
    "postgres-adbc": {
        "uuid": [str(uuid.UUID(int=n)) for n in (5, 2**127, 2**120 + 1, 2**64)],
        "macaddr": ["08:00:2b:01:02:03", "0a:00:2b:01:02:03", "a8:00:2b:01:02:03"],
        "macaddr8": ["08:00:2b:01:02:03:04:05", "a8:00:2b:01:02:03:04:05"],
        "bit(4)": ["0001", "1000", "0101"],
        "bit varying(9)": ["0", "00", "01", "001", "1", "10"],
    },
    # Two uuids of version 1: MariaDB itself sorts them by the time in them.
    "mariadb": {"uuid": ["ffffffff-0000-1000-8000-000000000001", "00000000-ffff-1001-8000-000000000001", str(uuid.UUID(int=7))]},
}


@pytest.mark.parametrize("kind", IN_THEIR_TEXTS_ORDER)
def test_types_that_are_read_as_text_and_sorted_like_it(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    source = shop.open()
    for number, (declared, values) in enumerate(IN_THEIR_TEXTS_ORDER[kind].items()):
        filled(shop, f"t{number}", declared, literals(values, shop))
        check_law(source, shop.name(f"t{number}"))


SORTED_IN_THEIR_OWN_WAY = {
    "postgres-adbc": [
        "size", "inet", "interval", "money", "jsonb", "json", "timetz", "int4range", "int[]", "numeric(100,2)", "pair", "xml",
        '"char"',
    ],
    "mariadb": ["enum('small','large')", "set('a','b')", "time", "inet6", "point"],
    "generic-postgres": ["text", "uuid", "size"],
    "generic-mariadb": ["varchar(9)", "enum('small','large')"],
}  # fmt: skip


@pytest.mark.parametrize("kind", SORTED_IN_THEIR_OWN_WAY)
def test_what_cannot_be_put_in_the_order_of_its_text_is_no_cursor(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    if shop.server == "postgres":
        shop.run("CREATE TYPE size AS ENUM ('small', 'large')", "CREATE TYPE pair AS (a int, b int)")
    source = shop.open()
    for number, declared in enumerate(SORTED_IN_THEIR_OWN_WAY[kind]):
        shop.run(f"CREATE TABLE t{number} (c {declared})")
        with pytest.raises(RangeError, match=r"by cursor c: .* -> a number, date"):
            source.high_cursor(shop.name(f"t{number}"), "c")
        with pytest.raises(RangeError, match=r"by cursor c: .* -> a number, date"):
            source.read(ReadRequest(shop.name(f"t{number}"), CursorRange("c", "a", None)))
        assert rows_of(read_batches(source, shop.name(f"t{number}"))) == []
    if kind == "mariadb":
        with pytest.raises(RangeError, match="orders enum in a way of its own"):
            source.high_cursor("asked", "c", "SELECT c FROM t0")


def range_plan(shop: Shop, table: str, query: str | None = None) -> str:
    """How the server would find the rows above a position: its own words."""
    source = shop.open()
    assert isinstance(source, SqlSource)
    database = source._database
    if query is not None:
        columns, relation = database.query_columns(query), f"({query})"
    else:
        name = parse_name(shop.name(table))
        columns, relation = database.tables(name)[0].columns, database.relation(name)
    cursor = next(c for c in columns if c.name == "c")
    select = Select((cursor,), relation, (Bound(cursor, ">", "0500"),))
    if shop.server == "postgres":
        with psycopg.connect(shop.url) as client:
            client.execute("SET enable_seqscan = off")
            client.execute("SELECT set_config('dataops.bound_1', '0500', false)")
            return str(client.execute(f"EXPLAIN {select.text(bound_sql)}".encode()).fetchall())
    if shop.server == "sqlite":
        with closing(sqlite3.connect(shop.url.removeprefix("sqlite://"))) as client:
            return str(client.execute(f"EXPLAIN QUERY PLAN {select.text(lambda n, bound: '?')}", ("0500",)).fetchall())
    with closing(mysql_client(shop.url)) as client, client.cursor() as asked:
        asked.execute(f"EXPLAIN {select.text(lambda n, bound: '%s')}", ("0500",))
        return str(asked.fetchall())


@pytest.mark.parametrize(
    ("kind", "declared", "indexed", "found"),
    [
        ("postgres-adbc", 'text COLLATE "C"', "c", "Index Cond"),
        ("postgres-adbc", "varchar(9)", 'c COLLATE "C"', "Index Cond"),
        ("postgres-adbc", "name", "c", "Index Cond"),
        ("mariadb", "varchar(9) COLLATE utf8mb4_nopad_bin", "c", "'range'"),
        ("sqlite", "TEXT", "c", "SEARCH"),
        ("sqlite", "TEXT COLLATE NOCASE", "c COLLATE BINARY", "SEARCH"),
    ],
)
def test_an_index_in_the_order_of_code_points_is_used(
    new_shop: NewShop, kind: str, declared: str, indexed: str, found: str
) -> None:
    shop = new_shop(kind)
    shop.run(f"CREATE TABLE t (c {declared})", f"CREATE INDEX i ON t ({indexed})")
    shop.run("INSERT INTO t VALUES " + ", ".join(f"('{n:04}')" for n in range(1000)))
    assert found in range_plan(shop, "t")
    if shop.server != "mariadb":  # it does not tell the collation of a query's column
        assert found in range_plan(shop, "t", "SELECT c FROM t")


def test_the_indexes_of_a_postgres_that_sorts_by_bytes_are_used(postgres_server: Any) -> None:
    name = f"bytes_{uuid.uuid4().hex[:8]}"
    execute(postgres_server.url(), f"CREATE DATABASE {name} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    shop = Shop("postgres-adbc", postgres_server.url(name), [])
    shop.run("CREATE TABLE t (c text)", "CREATE INDEX ON t (c)", "INSERT INTO t SELECT i::text FROM generate_series(1, 999) i")
    assert "Index Cond" in range_plan(shop, "t")
    assert "Index Cond" in range_plan(shop, "t", "SELECT c FROM t")
    for source in shop.sources:
        source.close()
