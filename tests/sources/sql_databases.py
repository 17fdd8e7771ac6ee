"""What the tests of `kind: sql` share: connections from URLs, sources over them, and values as text."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import date, time
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pyarrow as pa
import pymysql

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.offset import Everything, OffsetRange
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.sources.base import Batch, ReadRequest, Source
from airflow_dataops.sources.sql import open_sql


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
