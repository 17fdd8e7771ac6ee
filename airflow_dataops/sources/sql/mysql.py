"""MySQL and MariaDB through PyMySQL: an unbuffered cursor over a consistent snapshot, everything as the server's text.

TLS: `ssl` (a map of ca, cert, key) and `ssl_mode` come from the connection's extra. Without them a remote server's
certificate is verified against the system's authorities; on this machine TLS is not used.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.core.offset import Scalar
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.sql.database import FETCH_ROWS, Bound, RawColumn, Select, SqlColumn, SqlTable
from airflow_dataops.sources.sql.failures import changed, first_line, install_hint, inventory, unavailable
from airflow_dataops.sources.sql.mysql_query import column_of_field, prepared_fields
from airflow_dataops.sources.sql.mysql_types import column_of, quote
from airflow_dataops.sources.sql.names import TableName

try:
    import pymysql
    from pymysql.constants import CLIENT, FIELD_TYPE
    from pymysql.converters import conversions
    from pymysql.cursors import SSCursor
except ImportError:
    raise install_hint("pymysql", "mysql") from None

LOCAL = ("", "localhost", "127.0.0.1", "::1")
SYSTEM = ("mysql", "information_schema", "performance_schema", "sys")
LOST = (
    1040, 1053, 1077, 1079, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1205, 1213, 1317, 1927, 1969, 3024,
    2002, 2003, 2006, 2013, 2014,
)  # fmt: skip
"""Server and client error numbers that another try may not meet: connection, shutdown, locks, killed, time limits."""

DENIED = (1142, 1143, 1227, 1370, 1044)
LOGIN = (1045, 1049, 1698, 1820, 1862, 4151, 2059)
ABOUT_DATA = (1264, 1292, 1365, 1366, 1411, 1525, 1690, 3141)
MISSING = (1146, 1051, 1109)

TABLES = """
    SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS, DATA_LENGTH, TABLE_COMMENT, TABLE_TYPE
    FROM information_schema.TABLES
    WHERE TABLE_TYPE IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED') AND {where}
    ORDER BY BINARY TABLE_SCHEMA, BINARY TABLE_NAME
"""

COLUMNS = """
    SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), LOWER(COLUMN_TYPE), NUMERIC_PRECISION, NUMERIC_SCALE,
           IS_NULLABLE, COLUMN_COMMENT, COLLATION_NAME
    FROM information_schema.COLUMNS WHERE {where} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION
"""

KEYS = """
    SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, NULLABLE, SUB_PART
    FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND {where}
    ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX
"""

SESSION = (
    "SET SESSION time_zone = '+00:00'",
    # A reader that computes between batches must not be taken for dead.
    "SET SESSION net_write_timeout = 3600, net_read_timeout = 3600",
)


class MySQL:
    """One MySQL or MariaDB server. With a database in the connection its tables are called `table`; those of others, or
    all without one, `database.table`."""

    dialect = "mysql"

    def __init__(self, connection: Connection, options: SqlOptions, session: Sequence[str] = SESSION) -> None:
        """`session`: statements at the begin of every connection."""
        if options.driver == "adbc":
            raise InventoryError(
                "Cannot open MySQL with options.driver adbc: there is no ADBC driver for it here -> auto or dbapi. Remove `driver`."
            )
        self._options, self._session = options, session
        self._secrets = (connection.password,)
        self._database = connection.schema or None
        host, port = connection.host or "localhost", connection.port or 3306
        self.place = f"MySQL {host}:{port}/{connection.schema or ''}"
        self._arguments = _arguments(connection, host, port)
        self._client: Any = None

    def traits(self) -> dict[str, str]:
        version, encoding = self._ask("SELECT VERSION(), @@character_set_server", ())[0]
        product = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        return {"server": f"{product} {version}", "encoding": encoding, "driver": "pymysql"}

    def names(self) -> tuple[TableName, ...]:
        where, values = self._scope()
        return tuple(self._name(schema, table) for schema, table, *_ in self._ask(TABLES.replace("{where}", where), values))

    def tables(self, only: TableName | None = None) -> tuple[SqlTable, ...]:
        where, values = self._scope()
        if only is not None:
            where, values = "TABLE_SCHEMA = %s AND TABLE_NAME = %s", (only.schema or self._database or "", only.table)
        columns: dict[tuple[str, str], list[SqlColumn]] = {}
        described = self._ask(COLUMNS.replace("{where}", where), values)
        for schema, table, name, kind, declared, precision, scale, nullable, comment, collation in described:
            column = column_of(
                name, kind, declared, _number(precision), _number(scale),
                collation=collation or "", nullable=nullable == "YES", comment=comment or "",
            )  # fmt: skip
            columns.setdefault((schema, table), []).append(column)
        keys = _keys(self._ask(KEYS.replace("{where}", where), values))
        found = []
        for schema, table, rows, size, comment, kind in self._ask(TABLES.replace("{where}", where), values):
            view = kind == "VIEW"
            its = tuple(columns.get((schema, table), ()))
            found.append(
                SqlTable(
                    name=self._name(schema, table),
                    columns=its,
                    keys=keys.get((schema, table), ()),
                    rows_estimate=None if view else _number(rows),
                    bytes_estimate=None if view else _number(size),
                    comment="" if view else comment or "",
                    problem="" if its else f"the {'view' if view else 'table'} shows no columns (what it reads may be gone)",
                )
            )
        return tuple(found)

    def query_columns(self, query: str) -> tuple[SqlColumn, ...]:
        client = self._connect(SSCursor)
        try:
            return tuple(column_of_field(f) for f in prepared_fields(client, f"SELECT * FROM (\n{query}\n) AS q"))
        except pymysql.MySQLError as error:
            raise self.failure(error, "describe the query on") from None
        finally:
            hang_up(client)

    def relation(self, name: TableName) -> str:
        schema = name.schema or self._database
        return f"{quote(schema)}.{quote(name.table)}" if schema else quote(name.table)

    def now(self) -> float | None:
        return float(self._ask("SELECT UNIX_TIMESTAMP(SYSDATE(6))", ())[0][0])

    def without_place(self, column: SqlColumn, relation: str) -> int:
        if not column.nullable:
            return 0
        where = f"FROM {relation} AS q WHERE q.{quote(column.name)} IS NULL"
        if not self._ask(f"SELECT 1 {where} LIMIT 1", ()):
            return 0
        return int(self._ask(f"SELECT COUNT(*) {where}", ())[0][0])

    def stream(self, select: Select) -> MySQLStream:
        client = self._connect(SSCursor)
        try:
            return MySQLStream(self, client, select, self._options.statement_timeout_seconds)
        except pymysql.MySQLError as error:
            hang_up(client)
            raise self.failure(error, "read from") from None

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            hang_up(client)

    def failure(self, error: BaseException, doing: str) -> DataOpsError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        found = first_line(error, self._secrets, may_quote_values=number in ABOUT_DATA)
        if isinstance(error, UnicodeDecodeError):
            return inventory(self.place, doing, "text that is not UTF-8", "text in its declared character set", "query")
        if number in LOST or number in (0, 2026):
            if number == 2026 or "CERTIFICATE_VERIFY_FAILED" in found or "SSL" in found:
                return inventory(self.place, doing, found, "a verified TLS connection", "tls")
            return unavailable(self.place, doing, found)
        if number in LOGIN:
            return inventory(self.place, doing, found, "a login it accepts", "login")
        if number in DENIED:
            return inventory(self.place, doing, found, "a table its user may read", "denied")
        if number in (1054, 1146) and doing == "read from":
            return changed(self.place, doing, found)
        if number in MISSING:
            return inventory(self.place, doing, found, "a table that is there", "no_table")
        return inventory(self.place, doing, found, "a SELECT that works", "query")

    def _connect(self, cursor: type[Any]) -> Any:
        try:
            client = pymysql.connect(**self._arguments, cursorclass=cursor)
            with client.cursor() as it:
                for setting in self._session:
                    it.execute(setting)
            return client
        except pymysql.MySQLError as error:
            raise self.failure(error, "connect to") from None

    def _ask(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._client is None or not self._client.open:
            self._client = self._connect(pymysql.cursors.Cursor)
        try:
            with self._client.cursor() as cursor:
                cursor.execute(query, values or None)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise self.failure(error, "query") from None

    def _scope(self) -> tuple[str, tuple[str, ...]]:
        """Which databases are listed: the row's `schemas`, else the connection's own, else all but the system's."""
        wanted = self._options.schemas or ((self._database,) if self._database else ())
        if wanted:
            return f"TABLE_SCHEMA IN ({', '.join(['%s'] * len(wanted))})", tuple(wanted)
        return f"TABLE_SCHEMA NOT IN ({', '.join(['%s'] * len(SYSTEM))})", SYSTEM

    def _name(self, schema: str, table: str) -> TableName:
        return TableName(None if schema == self._database else schema, table)


class MySQLStream:
    """One SELECT in one read-only transaction, on a connection of its own."""

    def __init__(self, database: MySQL, client: Any, select: Select, timeout_seconds: int | None) -> None:
        self._database, self._client, self._rows = database, client, min(select.batch_rows, FETCH_ROWS)
        values = [_literal(b.value) for b in select.bounds if b.value not in EMPTY]
        self._cursor = client.cursor()
        if timeout_seconds:
            maria = "mariadb" in str(client.server_version).lower()
            limit = f"max_statement_time = {timeout_seconds}" if maria else f"max_execution_time = {timeout_seconds * 1000}"
            self._cursor.execute(f"SET SESSION {limit}")
        if select.isolation == "snapshot":
            self._cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        else:
            self._cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            self._cursor.execute("START TRANSACTION READ ONLY")
        text = (_highest(select) if select.highest else select).text(_placeholder)
        # Only with values does the driver look for % signs, and the query may hold some of its own.
        self._cursor.execute(text.replace("%", "%%").replace(MARK, "%s") if values else text, values or None)

    def __iter__(self) -> Iterator[list[RawColumn]]:
        while True:
            try:
                rows = self._cursor.fetchmany(self._rows)
            except (pymysql.MySQLError, UnicodeDecodeError, OSError) as error:
                raise self._database.failure(error, "read on from") from None
            if not rows:
                return
            yield list(zip(*rows, strict=True))

    def cancel(self) -> None:
        sock = self._client._sock
        if sock is not None:
            with contextlib.suppress(OSError):  # gone already: just as good
                sock.shutdown(2)

    def close(self) -> None:
        hang_up(self._client)


def _highest(select: Select) -> Select:
    """By MAX: for ORDER BY the server looks at the first `max_sort_length` bytes only."""
    column = select.columns[0]
    name = quote(column.name)
    if pa.types.is_string(column.type):  # the highest is found among bytes
        column = replace(column, expression=f"CONVERT(q.{name} USING utf8mb4)")
    relation = f"(SELECT MAX({column.compare}) AS {name} FROM {select.relation} q)"
    return replace(select, columns=(column,), relation=relation, highest=False)


MARK = "\0value\0"
"""Stands for a bound value until the query's own % signs are safe; no query may hold a NUL."""


EMPTY = ("", b"")
"""As literals they would be NULL under sql_mode EMPTY_STRING_IS_NULL."""


def _placeholder(number: int, bound: Bound) -> str:
    return "x''" if bound.value in EMPTY else MARK


def _literal(value: Scalar) -> object:
    """The value in a form that PyMySQL writes exactly."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment.isoformat(" ")
    if isinstance(value, Decimal):
        return Decimal(format(value, "f"))
    return value


def hang_up(client: Any) -> None:
    """Ends a connection that may be in the middle of a result. (An SSCursor's own close would read all the rest.)"""
    if client._result is not None and client._result.unbuffered_active:
        client._result.unbuffered_active = False
        client._force_close()
    elif client.open:
        client.close()


def _arguments(connection: Connection, host: str, port: int) -> dict[str, Any]:
    extra = connection.extra
    text_only = {k: v for k, v in conversions.items() if not isinstance(k, int)} | {FIELD_TYPE.NULL: None}
    arguments: dict[str, Any] = {
        "host": host, "port": port, "user": connection.login, "password": connection.password or "",
        "database": connection.schema or None, "charset": "utf8mb4", "conv": text_only, "autocommit": True,
        "connect_timeout": int(extra.get("connect_timeout") or 15), "client_flag": CLIENT.FOUND_ROWS,
        "program_name": "airflow-dataops",
    }  # fmt: skip
    if extra.get("unix_socket"):
        arguments["unix_socket"] = str(extra["unix_socket"])
    context = _tls(extra, host)
    if context is not None:
        arguments["ssl"] = context
    else:
        arguments["ssl_disabled"] = True
    return arguments


def _tls(extra: Any, host: str) -> ssl.SSLContext | None:
    given = extra.get("ssl") or {}
    default = "VERIFY_IDENTITY" if given or not (host in LOCAL or extra.get("unix_socket")) else "DISABLED"
    mode = str(extra.get("ssl_mode") or default).upper()
    if mode in ("DISABLED", "PREFERRED"):
        return None
    if mode not in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"):
        raise InventoryError(
            f"Cannot use ssl_mode {mode!r} of the connection's extra -> one of DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY."
        )
    try:
        context = ssl.create_default_context(cafile=given.get("ca"))
        if given.get("cert"):
            context.load_cert_chain(given["cert"], given.get("key"))
    except OSError as error:
        raise InventoryError(
            f"Cannot read the TLS files of the connection's extra: {error.strerror} -> readable PEM files. Correct `ssl` there."
        ) from None
    if mode != "VERIFY_IDENTITY":
        context.check_hostname = False
    if mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    return context


def _number(text: Any) -> int | None:
    return None if text is None else int(text)


def _keys(found: list[tuple[Any, ...]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Primary key per table; without one the shortest unique key whose columns are all NOT NULL (and whole)."""
    indexes: dict[tuple[str, str, str], list[str]] = {}
    unfit = set()
    for schema, table, index, column, nullable, part in found:
        indexes.setdefault((schema, table, index), []).append(column)
        if nullable == "YES" or part is not None or column is None:
            unfit.add((schema, table, index))
    best: dict[tuple[str, str], tuple[Any, ...]] = {}
    for (schema, table, index), columns in indexes.items():
        if (schema, table, index) not in unfit:
            rank = (index != "PRIMARY", len(columns), columns)
            best[schema, table] = min(best.get((schema, table), rank), rank)
    return {table: tuple(rank[2]) for table, rank in best.items()}
