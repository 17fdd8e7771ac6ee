"""What a database shows of itself: tables, columns, keys, comments, in any spelling."""

from __future__ import annotations

import time as clock
from datetime import date

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.offset import CursorRange, Everything
from airflow_dataops.sources.base import ReadRequest
from tests.sources.sql_databases import (
    KINDS,
    NewShop,
    Shop,
    connection_of,
    new_shop_fixture,  # noqa: F401
    orders,
    read_batches,
    rows_of,
    shop_fixture,  # noqa: F401
    source_of,
)


def test_discover_shows_tables_views_keys_and_nullability(shop: Shop) -> None:
    orders(shop)
    shop.run(
        "CREATE VIEW big_orders AS SELECT * FROM orders WHERE amount > 5",
        "CREATE TABLE items (order_id INTEGER NOT NULL, line INTEGER NOT NULL, note VARCHAR(20), PRIMARY KEY (order_id, line))",
        "CREATE TABLE no_key (a INTEGER)",
    )
    source = shop.open()
    assert source.table_names() == tuple(shop.name(n) for n in ("big_orders", "items", "no_key", "orders"))
    found = {t.name: t for t in source.discover()}
    assert tuple(found) == source.table_names()
    assert found[shop.name("orders")].schema.keys == ("id",)
    assert found[shop.name("items")].schema.keys == ("order_id", "line")
    assert found[shop.name("no_key")].schema.keys == ()
    assert found[shop.name("orders")].schema.names == ("id", "code", "amount", "at", "day")
    assert not found[shop.name("orders")].schema.column("code").nullable
    assert found[shop.name("orders")].schema.column("amount").nullable
    assert found[shop.name("big_orders")].schema.names == found[shop.name("orders")].schema.names
    assert source.describe(shop.name("orders")).schema == found[shop.name("orders")].schema
    assert found[shop.name("orders")].traits["server"]


def test_comments_and_estimates(new_shop: NewShop) -> None:
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


def test_a_unique_key_stands_in_for_a_primary_one(new_shop: NewShop) -> None:
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


@pytest.mark.parametrize("kind", KINDS)
def test_any_name_is_a_name_and_never_sql(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    # MariaDB's names end at Unicode's basic plane.
    names = [n.replace("🦊", "ø") if shop.server == "mariadb" else n for n in HOSTILE]
    if kind == "generic-mariadb":
        names = [n for n in names if n not in ("line\nbreak", "ba`ck")]  # SQLAlchemy cannot parse them: the next test
    for name in names:
        table, column = shop.quote(name), shop.quote(name + " col")
        shop.run(f"CREATE TABLE {table} ({column} INTEGER NOT NULL)", f"INSERT INTO {table} VALUES (1), (2), (3)")
    source = shop.open()
    found = {t.schema.names[0]: t for t in source.discover()}
    assert sorted(found) == sorted(name + " col" for name in names)
    assert sorted(t.name for t in found.values()) == sorted(source.table_names())
    for column, table in found.items():
        assert source.describe(table.name) == table
        assert source.high_cursor(table.name, column) == 3
        assert rows_of(read_batches(source, table.name, CursorRange(column, 1, 3))) == [{column: 2}, {column: 3}]


def test_what_sqlalchemy_cannot_describe_is_an_error_not_a_missing_column(new_shop: NewShop) -> None:
    shop = new_shop("generic-mariadb")
    shop.run("CREATE TABLE orders (id INTEGER, `line\nbreak` INTEGER)")
    with pytest.raises(InventoryError, match="Cannot describe the tables"):
        shop.open().describe("orders")


def test_system_and_temporary_tables_and_partitions_stay_out(new_shop: NewShop) -> None:
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


def test_other_databases_of_a_mysql_server_are_named_with_their_database(new_shop: NewShop) -> None:
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


def test_a_broken_view_does_not_hide_its_neighbours(new_shop: NewShop) -> None:
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


def test_discovery_asks_as_often_for_300_tables_as_for_3(new_shop: NewShop) -> None:
    shop = new_shop("postgres-adbc")
    counted = []
    for tables in (3, 300):
        table = f"CREATE TABLE t%s_{tables} (id int PRIMARY KEY, v numeric(10,2)[], d date)"
        shop.run(f"DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('{table}', i); END LOOP; END $$")
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
