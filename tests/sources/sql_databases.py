"""What the tests of `kind: sql` share: an empty database behind each driver, sources over it, and values as text."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pyarrow as pa
import pymysql
import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.offset import Everything, OffsetRange
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.sources.base import Batch, ReadRequest, Source
from airflow_dataops.sources.sql import SqlSource, open_sql
from airflow_dataops.sources.sql.generic import Generic


def connection_of(url: str, **extra: Any) -> Connection:
    """The connection that Airflow would make of the URL."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return Connection("test", "sqlite", parts.path, extra=extra)
    return Connection(
        "test", parts.scheme, parts.hostname, parts.port, parts.username, unquote(parts.password or ""), parts.path[1:], extra
    )


def source_of(connection: Connection, **options: Any) -> Source:
    return open_sql(PipelineSpec(name="shop", domain="sales", kind="sql", owner="tests", options=options), connection)


def execute(url: str, *statements: str) -> None:
    """Runs statements as the owner of the database: what somebody else does to the source."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        with closing(sqlite3.connect(parts.path)) as client, client:
            for statement in statements:
                client.execute(statement)
    elif parts.scheme == "mysql":
        with closing(mysql_client(url)) as client, client.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    else:
        with psycopg.connect(url, autocommit=True) as client:
            for statement in statements:
                client.execute(statement.encode())


def mysql_client(url: str) -> Any:
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=parts.username,
        password=parts.password or "",
        database=parts.path[1:],
        charset="utf8mb4",
        autocommit=True,
    )


def read_batches(source: Source, table: str, asked: OffsetRange | None = None, **request: Any) -> list[Batch]:
    reading = source.read(ReadRequest(table, asked or Everything(), **request))
    try:
        batches = list(reading)
    finally:
        reading.close()
    schema = reading.schema.to_arrow()
    for batch in batches:
        batch.records.validate(full=True)
        assert batch.records.schema.equals(schema)
    return batches


def rows_of(batches: Iterable[Batch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.records.to_pylist()]


def letters_of(batches: Iterable[Batch]) -> list[Any]:
    return [letter for batch in batches for letter in batch.dead_letters]


def as_text(value: Any) -> Any:
    """One spelling per value, so that cases can be written in YAML: -0.0, NaN and 1.50 are told from 0.0, null and 1.5."""
    if value is None:
        return None
    if isinstance(value, list):
        return [as_text(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def column_texts(batches: Iterable[Batch], name: str) -> list[Any]:
    columns = [batch.records.column(name) for batch in batches]
    return [as_text(v) for c in columns for v in (c.cast(pa.string()).to_pylist() if pa.types.is_null(c.type) else c.to_pylist())]


KINDS = ["sqlite", "postgres-adbc", "postgres-dbapi", "mariadb", "generic-postgres", "generic-mariadb"]
"""Our own edges, PostgreSQL's twice, and the SQLAlchemy fallback on two of the same servers."""

SERVERS = [kind for kind in KINDS if kind != "sqlite"]
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

    def connection(self, **changes: Any) -> Connection:
        found = connection_of(self.url)
        if self.generic:
            scheme = {"postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}[self.server]
            found = replace(found, conn_type="generic", extra={"sqlalchemy_scheme": scheme})
        return replace(found, **changes)

    def open(self, connection: Connection | None = None, **options: Any) -> Source:
        asked = connection or self.connection()
        if self.generic:  # `open_sql` would choose our own edge for these servers
            source: Source = SqlSource(lambda: Generic(asked, SqlOptions(**options)))
        else:
            driver = {"driver": self.kind.partition("-")[2]} if self.server == "postgres" else {}
            source = source_of(asked, **driver, **options)
        self.sources.append(source)
        return source

    def run(self, *statements: str) -> None:
        execute(self.url, *statements)

    def name(self, table: str) -> str:
        return f"public.{table}" if self.kind.startswith("postgres") else table

    def quote(self, name: str) -> str:
        return f"`{name.replace('`', '``')}`" if self.server == "mariadb" else '"' + name.replace('"', '""') + '"'


NewShop = Callable[[str], Shop]


def new_shop_of(kind: str, path: Path, request: pytest.FixtureRequest) -> Shop:
    """`path` is where an SQLite file goes; servers are started when first asked for."""
    if kind == "sqlite":
        url = f"sqlite://{path}"
        execute(url, "PRAGMA journal_mode = WAL")
    else:
        url = request.getfixturevalue("postgres_server" if "postgres" in kind else "mariadb_server").new_database()
    return Shop(kind, url, [])


@pytest.fixture(name="new_shop")
def new_shop_fixture(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NewShop]:
    made: list[Shop] = []

    def make(kind: str) -> Shop:
        made.append(new_shop_of(kind, tmp_path / f"shop{len(made)}.db", request))
        return made[-1]

    yield make
    for shop in made:
        for source in shop.sources:
            source.close()


@pytest.fixture(name="shop", params=KINDS)
def shop_fixture(request: pytest.FixtureRequest, new_shop: NewShop) -> Shop:
    return new_shop(request.param)


def orders(shop: Shop, rows: int = 10) -> None:
    """A table `orders` with `rows` rows: id 0…, code 000…, amount, at, day."""
    text, moment = TEXT[shop.server], MOMENT[shop.server]
    shop.run(
        f"CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY, code {text} NOT NULL, amount NUMERIC(10,2), at {moment}, day DATE)",
        "INSERT INTO orders VALUES " + ", ".join(_order(n) for n in range(rows)),
    )


def _order(n: int) -> str:
    day = f"{n % 28 + 1:02}"
    return f"({n}, '{n:03}', {n}.{n % 100:02}, '2024-01-{day} 00:00:00.00000{n % 10}', '2024-02-{day}')"
