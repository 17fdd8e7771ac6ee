"""SQLite through the standard library, read-only: the connection's host (or schema) is the file's path.

Not through ADBC, although it is twice as fast: that driver takes the types of the first rows for those of all. A column of
integers that begins with NULLs, or holds one text far below, then ends the read, and a large integer among floating
numbers is rounded without a word.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as day_time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError, InventoryError, RangeError
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.sql.database import FETCH_ROWS, Bound, RawColumn, Select, SqlColumn, SqlTable
from airflow_dataops.sources.sql.failures import changed, first_line, inventory, unavailable
from airflow_dataops.sources.sql.names import TableName
from airflow_dataops.sources.sql.sqlite_types import Kinds, column_of, in_order, misplaced, quote

WAIT_SECONDS = 30
TRANSIENT = ("locked", "busy", "disk i/o error", "interrupted")

TABLES = """
    SELECT name, type FROM sqlite_master
    WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
      AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow') {only}
    ORDER BY name COLLATE BINARY
"""

COLUMNS = """
    SELECT m.name, x.name, x.type, x."notnull", x.pk FROM ({tables}) AS m, pragma_table_xinfo(m.name) AS x
    WHERE x.hidden <> 1 ORDER BY m.name, x.cid
"""

UNIQUE = """
    SELECT m.name, i.name, c.name FROM ({tables}) AS m, pragma_index_list(m.name) AS i, pragma_index_info(i.name) AS c
    WHERE m.type = 'table' AND i."unique" AND NOT i.partial ORDER BY m.name, i.name, c.seqno
"""


class SQLite:
    """One SQLite file. Its tables are called by their bare names."""

    dialect = "sqlite"

    def __init__(self, connection: Connection, options: SqlOptions) -> None:
        if options.driver == "adbc":
            raise InventoryError(
                "Cannot open SQLite with options.driver adbc: its ADBC driver takes the types of the first rows for those of all, "
                "and SQLite's columns may hold anything -> auto or dbapi. Remove `driver`."
            )
        self._options = options
        self._path = _path(connection)
        self.place = f"SQLite {Path(self._path).name}"
        self._client: sqlite3.Connection | None = None

    def traits(self) -> dict[str, str]:
        encoding = str(self._ask("PRAGMA encoding")[0][0])
        return {"server": f"SQLite {sqlite3.sqlite_version}", "encoding": encoding, "driver": "sqlite3"}

    def names(self) -> tuple[TableName, ...]:
        return tuple(TableName(None, name) for name, _ in self._ask(TABLES.replace("{only}", "")))

    def tables(self, only: TableName | None = None) -> tuple[SqlTable, ...]:
        if only is not None and only.schema not in (None, "main"):
            return ()
        listed = TABLES.replace("{only}", "" if only is None else "AND name = ?")
        values = () if only is None else (only.table,)
        names = [name for name, _ in self._ask(listed, values)]
        try:
            columns = self._ask(COLUMNS.replace("{tables}", listed), values)
        except InventoryError:
            if only is not None:
                return tuple(self._broken(name) for name in names)
            # One view that reads what is gone fails the query for all: ask for each.
            return tuple(table for name in names for table in self.tables(TableName(None, name)))
        unique: dict[str, list[tuple[str, str | None]]] = {}
        for table, index, column in self._ask(UNIQUE.replace("{tables}", listed), values):
            unique.setdefault(table, []).append((index, column))
        rows = self._row_counts()
        by_name: dict[str, list[tuple[Any, ...]]] = {name: [] for name in names}
        for table, *described in columns:
            by_name[table].append(tuple(described))
        return tuple(
            SqlTable(
                name=TableName(None, name),
                columns=self._typed([column_of(n, kind, nullable=not required) for n, kind, required, _ in found], quote(name)),
                keys=_key(found, unique.get(name, [])),
                rows_estimate=rows.get(name),
            )
            for name, found in by_name.items()
        )

    def query_columns(self, query: str) -> tuple[SqlColumn, ...]:
        client = self._connect()
        try:
            # A view of this connection alone (the file is not touched): it keeps the declared types of plain columns.
            client.execute(f"CREATE TEMP VIEW dataops_query AS SELECT * FROM (\n{query}\n) AS q")
            found = client.execute("SELECT name, type FROM pragma_table_xinfo('dataops_query')").fetchall()
        except sqlite3.Error as error:
            raise self.failure(error, "describe the query on") from None
        finally:
            client.close()
        return self._typed([column_of(name, kind) for name, kind in found], f"(\n{query}\n)")

    def relation(self, name: TableName) -> str:
        return f"main.{quote(name.table)}"

    def now(self) -> float | None:
        return None  # a file has no clock of its own

    def without_place(self, column: SqlColumn, relation: str) -> int:
        return int(self._ask(f"SELECT count(*) FROM {relation} AS q WHERE {misplaced(column)}")[0][0])

    def stream(self, select: Select) -> SQLiteStream:
        values = [_bound(b) for b in select.bounds]
        client = self._connect()
        try:
            return SQLiteStream(self, client, select, values, self._options.statement_timeout_seconds)
        except sqlite3.Error as error:
            client.close()
            raise self.failure(error, "read from") from None

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def failure(self, error: BaseException, doing: str) -> DataOpsError:
        found = first_line(error, ())
        if any(word in found for word in TRANSIENT):
            return unavailable(self.place, doing, found)
        if found.startswith(("no such column", "no such table")) and doing == "read from":
            return changed(self.place, doing, found)
        if "no such table" in found:
            return inventory(self.place, doing, found, "a table that is there", "no_table")
        if "unable to open" in found or "not a database" in found:
            return inventory(self.place, doing, found, "a readable SQLite file", "driver")
        return inventory(self.place, doing, found, "a SELECT that works", "query")

    def _connect(self) -> sqlite3.Connection:
        try:
            file = f"file:{url_quote(self._path)}?mode=ro"
            # The rows are fetched in the reading's thread, and the connection closed in the caller's: never both at once.
            client = sqlite3.connect(file, uri=True, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            client.execute("SELECT 1 FROM sqlite_master LIMIT 1")
            return client
        except sqlite3.Error as error:
            raise self.failure(error, "open") from None

    def _ask(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self._client is None:
            self._client = self._connect()
        try:
            return self._client.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self.failure(error, "query") from None

    def _typed(self, columns: list[SqlColumn], relation: str) -> tuple[SqlColumn, ...]:
        """Columns without any declaration (expressions of views and queries, mostly) get the type that their values have:
        there is nothing else to go by, and a count that arrives as text would help nobody."""
        encoding = self.traits()["encoding"]
        bare = [c for c in columns if c.declared == "without a type"]
        if not bare:
            return tuple(in_order(c, encoding) for c in columns)
        kinds = ", ".join(f"group_concat(DISTINCT typeof({c.expression}))" for c in bare)
        held = dict(zip((c.name for c in bare), self._ask(f"SELECT {kinds} FROM {relation} AS q")[0], strict=True))
        typed = []
        for column in columns:
            kind = Kinds(frozenset((held[column.name] or "").split(",")) - {""}).type() if column.name in held else None
            typed.append(in_order(column if kind is None else replace(column, type=kind, any_as_text=False), encoding))
        return tuple(typed)

    def _row_counts(self) -> dict[str, int]:
        """What ANALYZE left behind, if it ever ran: the first number of each index's statistics is the table's rows."""
        if not self._ask("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'"):
            return {}
        return {t: int(stat.split()[0]) for t, stat in self._ask("SELECT tbl, stat FROM sqlite_stat1") if stat}

    def _broken(self, name: str) -> SqlTable:
        try:
            self._ask(f"SELECT * FROM {quote(name)} LIMIT 0")
        except InventoryError as error:
            return SqlTable(TableName(None, name), (), problem=str(error))
        return SqlTable(TableName(None, name), (), problem="its columns cannot be told")


class SQLiteStream:
    """One SELECT in one read transaction, on a connection of its own."""

    def __init__(
        self,
        database: SQLite,
        client: sqlite3.Connection,
        select: Select,
        values: list[Any],
        timeout_seconds: int | None,
    ) -> None:
        self._database, self._client, self._values = database, client, values
        self._rows = min(select.batch_rows, FETCH_ROWS)
        self._text = select.text(lambda n, bound: "?")
        if timeout_seconds:
            deadline = time.monotonic() + timeout_seconds
            client.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
        client.execute("BEGIN")
        self._cursor = client.execute(self._text, self._values)

    def __iter__(self) -> Iterator[list[RawColumn]]:
        done = 0
        while True:
            try:
                rows = self._cursor.fetchmany(self._rows)
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error) or self._client.text_factory is not str:
                    raise self._database.failure(error, "read on from") from None
                self._start_again(done)
                continue
            except sqlite3.Error as error:
                raise self._database.failure(error, "read on from") from None
            if not rows:
                return
            done += len(rows)
            yield list(zip(*rows, strict=True))

    def _start_again(self, done: int) -> None:
        """Some text is not UTF-8, which stops the plain conversion: read on from the same row with a slower one that keeps
        the bytes. Same transaction, same statement: the same rows in the same order."""
        self._client.text_factory = _keeping_bytes
        self._cursor = self._client.execute(self._text, self._values)
        while done:
            done -= len(self._cursor.fetchmany(min(done, self._rows)))

    def cancel(self) -> None:
        self._client.interrupt()

    def close(self) -> None:
        self._client.close()


def _keeping_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bound(bound: Bound) -> int | float | str | bytes:
    """The value in the form in which the column is compared (see `sqlite_types`)."""
    value = bound.value
    if isinstance(value, Decimal | int):
        return _number(value, bound)
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment.isoformat(" ", "microseconds")
    if isinstance(value, day_time):
        return value.isoformat("microseconds")
    return value.isoformat() if isinstance(value, date) else value


def _number(value: Decimal | int, bound: Bound) -> int | float:
    """SQLite has no decimals: a DECIMAL column holds integers and doubles, compared as such."""
    number = Decimal(value)
    if number == number.to_integral_value() and -(2**63) <= number < 2**63:
        return int(number)
    if Decimal(repr(float(number))) != number:
        raise RangeError(
            f"Cannot compare {bound.column.name} with a stored position: it has more digits than SQLite's numbers -> at most 15. "
            "Load the table anew."
        )
    return float(number)


def _path(connection: Connection) -> str:
    path = "/".join(part for part in (connection.host, connection.schema) if part)
    if not path:
        raise InventoryError(
            f"Cannot open SQLite connection {connection.conn_id}: it names no file -> a path as host. "
            'Set it to {"conn_type": "sqlite", "host": "/path/to/file.db"}.'
        )
    if "\0" in path or not Path(path).is_file():
        raise InventoryError(
            f"Cannot open SQLite connection {connection.conn_id}: no file at {path!r} -> an existing SQLite file. "
            "Check the path; a relative one starts where the process runs."
        )
    return path


def _key(columns: list[tuple[Any, ...]], unique: list[tuple[str, str | None]]) -> tuple[str, ...]:
    """The primary key; without one the shortest unique index whose columns are all NOT NULL."""
    primary = [name for name, _, _, place in sorted((c for c in columns if c[3]), key=lambda c: c[3])]
    if primary:
        return tuple(primary)
    required = {name for name, _, not_null, _ in columns if not_null}
    indexes: dict[str, list[str | None]] = {}
    for index, column in unique:
        indexes.setdefault(index, []).append(column)
    fit = [tuple(c) for c in indexes.values() if all(name in required for name in c)]
    return min(fit, key=lambda c: (len(c), c), default=())  # type: ignore[arg-type]
