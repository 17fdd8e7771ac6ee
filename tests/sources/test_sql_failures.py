"""When things go wrong: what is worth a retry, what must be corrected, and what is never told."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.core.offset import Everything
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.sources.sql.postgres import Postgres
from tests.sources.sql_databases import (
    SERVERS,
    TEXT,
    NewShop,
    Shop,
    execute,
    mysql_client,
    new_shop_fixture,  # noqa: F401
    orders,
    read_batches,
    rows_of,
    shop_fixture,  # noqa: F401
    source_of,
)


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


@pytest.mark.parametrize("kind", SERVERS)
def test_a_wrong_password_is_a_fault_of_the_connection_and_is_not_told(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    secret = "s3cr3t/with@odd'chars"
    bad = shop.connection(password=secret)
    source = shop.open(bad)
    with pytest.raises((InventoryError, UnavailableError)) as caught:
        source.table_names()
    if not shop.generic:
        assert isinstance(caught.value, InventoryError)
    for text in (str(caught.value), repr(source), repr(bad)):
        assert secret not in text
        assert "s3cr3t" not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_is_down_is_worth_a_retry(new_shop: NewShop, kind: str) -> None:
    shop = new_shop(kind)
    with pytest.raises(UnavailableError, match="tried again"):
        shop.open(shop.connection(port=1)).table_names()


@pytest.mark.parametrize("driver", ["adbc", "dbapi"])
def test_a_table_that_may_not_be_read(new_shop: NewShop, driver: str) -> None:
    shop = new_shop("postgres-adbc")
    orders(shop)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    shop.run(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    good = shop.connection()
    source = source_of(Connection("test", "postgres", good.host, good.port, role, "x", good.schema), driver=driver)
    with pytest.raises(InventoryError, match=r"permission denied.*Grant the connection's user SELECT"):
        source.read(ReadRequest("public.orders", Everything()))
    source.close()


def test_a_mysql_user_without_rights(new_shop: NewShop) -> None:
    shop = new_shop("mariadb")
    orders(shop)
    role = f"r_{uuid.uuid4().hex[:8]}"
    shop.run(f"CREATE USER {role}@'127.0.0.1' IDENTIFIED BY 'x'")
    good = shop.connection()
    source = source_of(Connection("test", "mysql", good.host, good.port, role, "x", good.schema))
    with pytest.raises(InventoryError, match=r"Check login, password|Grant the connection"):
        source.table_names()


# Without MySQL through SQLAlchemy (`open_sql` never goes there): PyMySQL's own cursor complains when it is collected.
@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != "generic-mariadb"])
def test_a_connection_cut_in_the_middle_is_worth_a_retry(new_shop: NewShop, kind: str) -> None:
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


def test_a_statement_that_takes_too_long_is_cancelled(new_shop: NewShop) -> None:
    sleep = {"postgres-adbc": "SELECT pg_sleep(30)::text AS s", "mariadb": "SELECT SLEEP(30) AS s"}
    for kind, query in sleep.items():
        with pytest.raises(UnavailableError):  # else the statement ends well, half a minute later
            read_batches(new_shop(kind).open(statement_timeout_seconds=1), "x", query=query)


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
    for kind, reason in (("mysql", "no ADBC driver"), ("oracle", "."), ("sqlite", "types of the first rows")):
        with pytest.raises(InventoryError, match=reason):
            source_of(Connection("test", kind, "host"), driver="adbc").table_names()
    with pytest.raises(InventoryError, match="no ADBC driver"):
        source_of(Connection("test", "mysql", "host"), driver="adbc").table_names()


@pytest.mark.parametrize("driver", ["adbc", "dbapi"])
def test_a_value_that_the_database_stumbles_over_is_not_told(new_shop: NewShop, driver: str) -> None:
    shop = new_shop(f"postgres-{driver}")
    shop.run(
        "CREATE TABLE t (v text)",
        "INSERT INTO t SELECT i::text FROM generate_series(1, 300000) i",
        "INSERT INTO t VALUES ('my secret')",
        "CREATE VIEW numbers AS SELECT v::int AS n FROM t",
    )
    with pytest.raises(InventoryError, match=r"invalid input syntax.*Correct `read\.query`, or the view") as caught:
        read_batches(shop.open(), "public.numbers")
    assert "my secret" not in str(caught.value)


def test_tls_is_verified_unless_the_server_is_local(new_shop: NewShop) -> None:
    """The test servers speak no TLS, so whoever insists on it must be refused, by every driver."""
    for kind, extra in (
        ("postgres-adbc", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgres-dbapi", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("mariadb", {"ssl_mode": "VERIFY_IDENTITY"}),
        ("mariadb", {"ssl_mode": "REQUIRED"}),
    ):
        shop = new_shop(kind)
        with pytest.raises(InventoryError, match=r"Name its authority in the connection's extra|a valid connection"):
            shop.open(shop.connection(extra=extra)).table_names()
    with pytest.raises(InventoryError, match=r"one of DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"):
        shop.open(shop.connection(extra={"ssl_mode": "maybe"})).table_names()
    remote = Connection("test", "postgres", "db.example.com", 5432, "me", "pw", "shop")
    assert conninfo_of(remote)["sslmode"] == "verify-full"
    assert "sslmode" not in conninfo_of(replace(remote, host="127.0.0.1"))
    assert conninfo_of(replace(remote, extra={"sslmode": "require"}))["sslmode"] == "require"


def conninfo_of(connection: Connection) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    return dict(conninfo_to_dict(Postgres(connection, SqlOptions()).conninfo))
