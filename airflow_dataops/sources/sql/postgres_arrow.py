"""Rows of PostgreSQL through ADBC: COPY in binary, decoded in C straight into Arrow, one batch in memory at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import pyarrow as pa

from airflow_dataops.sources.sql.database import RawColumn, Select
from airflow_dataops.sources.sql.postgres_values import ISOLATION, bound_sql, value_text

if TYPE_CHECKING:
    from airflow_dataops.sources.sql.postgres import Postgres

FAILURES = (adbc_driver_manager.Error, OSError, pa.ArrowException)
"""ADBC's own errors when a statement starts; in the middle of a result pyarrow raises what the stream reports."""


BATCH_BYTES = 8 * 1024 * 1024
"""About how large a batch gets; several are on their way at a time."""


class ArrowConnections:
    """ADBC connections of one database. They are kept for the next read, because a new one asks the server for all types
    first (0.1 s with 1,600 tables)."""

    def __init__(self, database: Postgres) -> None:
        self.database = database
        self._idle: list[Any] = []

    def stream(self, select: Select) -> ArrowStream:
        connection = self._idle.pop() if self._idle else self._connect()
        try:
            return ArrowStream(self, connection, select)
        except FAILURES as error:
            discard(connection)
            raise self.database.failure(error, "read from") from None

    def _connect(self) -> Any:
        try:
            return adbc_driver_postgresql.dbapi.connect(self.database.conninfo, autocommit=True)
        except FAILURES as error:
            raise self.database.failure(error, "connect to") from None

    def give_back(self, connection: Any) -> None:
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            discard(self._idle.pop())


class ArrowStream:
    """One SELECT in one read-only transaction."""

    def __init__(self, owner: ArrowConnections, connection: Any, select: Select) -> None:
        self._owner, self._connection, self._rows = owner, connection, select.batch_rows
        self._ended = False
        self._cursor = connection.cursor(adbc_stmt_kwargs={"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
        self._cursor.execute(f"BEGIN ISOLATION LEVEL {ISOLATION[select.isolation]} READ ONLY")
        # COPY takes no parameters; bound values travel as settings of the transaction, so they never are SQL.
        settings = [f"set_config('{k}', '{v}', true)" for k, v in owner.database.session().items()]
        values = [value_text(b.value) for b in select.bounds]
        settings += [f"set_config('dataops.bound_{n}', ${n}, true)" for n in range(1, len(values) + 1)]
        self._cursor.execute(f"SELECT {', '.join(settings)}", values or None)
        self._cursor.fetchall()
        self._cursor.execute(select.text(bound_sql))
        self._reader = self._cursor.fetch_record_batch()

    def __iter__(self) -> Iterator[list[RawColumn]]:
        while True:
            try:
                batch = self._reader.read_next_batch()
            except StopIteration:
                self._ended = True
                return
            except FAILURES as error:
                raise self._owner.database.failure(error, "read on from") from None
            for start in range(0, batch.num_rows, self._rows):
                yield batch.slice(start, self._rows).columns

    def cancel(self) -> None:
        with contextlib.suppress(adbc_driver_manager.Error):  # nothing was running: just as good
            self._cursor.adbc_cancel()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._ended:
            self.cancel()
            discard(connection)
            return
        try:
            self._cursor.execute("COMMIT")
            self._cursor.close()
        except FAILURES:
            discard(connection)  # everything was read; the next read opens another connection
            return
        self._owner.give_back(connection)


def discard(connection: Any) -> None:
    """Closes a connection that may be broken or in the middle of a result."""
    with contextlib.suppress(*FAILURES):
        connection.close()
