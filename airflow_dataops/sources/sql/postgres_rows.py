"""Rows of PostgreSQL through psycopg: a server-side cursor, where no ADBC driver can be installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from pyarrow import types as pt

from airflow_dataops.sources.sql.database import FETCH_ROWS, RawColumn, Select, SqlColumn
from airflow_dataops.sources.sql.postgres_values import ISOLATION, bound_sql, value_text

if TYPE_CHECKING:
    from airflow_dataops.sources.sql.postgres import Postgres


class PsycopgStream:
    """One SELECT in one read-only transaction, on a connection of its own."""

    def __init__(self, database: Postgres, select: Select) -> None:
        self._database, self._rows = database, min(select.batch_rows, FETCH_ROWS)
        self._connection = database.connect()
        try:
            self._connection.execute(f"BEGIN ISOLATION LEVEL {ISOLATION[select.isolation]} READ ONLY".encode())
            for number, bound in enumerate(select.bounds, 1):
                values = (f"dataops.bound_{number}", value_text(bound.value))
                self._connection.execute("SELECT set_config(%s, %s, true)", values)
            self._cursor = self._connection.cursor(name="dataops")
            self._cursor.execute(replace(select, columns=tuple(map(_as_text, select.columns))).text(bound_sql).encode())
        except psycopg.Error as error:
            self._connection.close()
            raise database.failure(error, "read from") from None

    def __iter__(self) -> Iterator[list[RawColumn]]:
        while True:
            try:
                rows = self._cursor.fetchmany(self._rows)
            except psycopg.Error as error:
                raise self._database.failure(error, "read on from") from None
            if not rows:
                return
            yield list(zip(*rows, strict=True))

    def cancel(self) -> None:
        with contextlib.suppress(psycopg.Error):  # nothing was running: just as good
            self._connection.cancel_safe(timeout=5)

    def close(self) -> None:
        self._connection.close()


def _as_text(column: SqlColumn) -> SqlColumn:
    """psycopg's Python types cannot hold every number, date and time that PostgreSQL has; text can."""
    kind = column.type
    if pt.is_decimal(kind) or pt.is_temporal(kind) or column.declared in ("json", "jsonb"):
        return replace(column, expression=f"({column.expression})::text")
    return column
