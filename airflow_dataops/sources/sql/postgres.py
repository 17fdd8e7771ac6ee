"""PostgreSQL: metadata through psycopg, rows through ADBC (COPY in binary, straight into Arrow) or psycopg.

TLS: `sslmode` and its companions come from the connection's extra. Without one, a remote server's certificate is verified
(`verify-full` against the system's authorities); on this machine libpq's `prefer` applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.sql.database import RowStream, Select, SqlColumn, SqlTable
from airflow_dataops.sources.sql.failures import changed, first_line, install_hint, inventory, unavailable
from airflow_dataops.sources.sql.names import TableName
from airflow_dataops.sources.sql.postgres_catalog import DEFAULT_BY_CODE_POINT, read_names, read_tables, read_types
from airflow_dataops.sources.sql.postgres_types import column_of, quote

if TYPE_CHECKING:
    import psycopg

LIBPQ_KEYS = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "channel_binding", "gssencmode", "krbsrvname",
    "connect_timeout", "options", "target_session_attrs", "hostaddr", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "application_name",
)  # fmt: skip
"""Keys of the connection's extra that go to libpq."""

LOCAL = ("", "localhost", "127.0.0.1", "::1")

TRANSIENT = ("08", "40", "53", "57P", "55P03", "57014", "25P", "58")
"""SQLSTATEs (or their classes) that another try may not meet: connection, rollback, resources, shutdown, cancelled."""

PASSING = ("terminating connection", "canceling statement", "conflict with recovery", "deadlock", "could not serialize")

SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
}
"""So that values cast to text read the same whatever the server's and the user's settings are."""


DECLARED = f"""
    SELECT format_type(kind, modifier), format_type(kind, -1), {DEFAULT_BY_CODE_POINT}
    FROM unnest(%s::oid[], %s::int4[]) WITH ORDINALITY AS t (kind, modifier, place) ORDER BY place
"""


class Postgres:
    """One PostgreSQL database."""

    dialect = "postgres"

    def __init__(self, connection: Connection, options: SqlOptions) -> None:
        self._options = options
        self._secrets = (connection.password, str(connection.extra.get("sslpassword") or ""))
        host, port = connection.host or "", connection.port or 5432
        self.place = f"PostgreSQL {host or 'local socket'}:{port}/{connection.schema or connection.login or ''}"
        self._conninfo = _conninfo(connection)
        self._client: psycopg.Connection[Any] | None = None
        self._arrow: Any = None

    def traits(self) -> dict[str, str]:
        told = self._connected().info.parameter_status
        return {
            "server": f"PostgreSQL {told('server_version') or 'unknown'}",
            "encoding": self._encoding(),
            "driver": self._driver(),
        }

    def names(self) -> tuple[TableName, ...]:
        return read_names(self._ask, self._options.schemas)

    def tables(self, only: TableName | None = None) -> tuple[SqlTable, ...]:
        if only is not None and only.schema is None:
            return ()
        return read_tables(self._ask, self._options.schemas, only, self._encoding())

    def query_columns(self, query: str) -> tuple[SqlColumn, ...]:
        import psycopg

        try:
            with self._connected().transaction(), self._connected().cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
                # Prepared: the server itself then refuses a second statement.
                cursor.execute(f"SELECT * FROM (\n{query}\n) AS q LIMIT 0".encode(), prepare=True)
                result = cursor.pgresult
                if result is None:
                    return ()
                found = [((result.fname(i) or b"").decode(), result.ftype(i), result.fmod(i)) for i in range(result.nfields)]
                declared = cursor.execute(DECLARED, ([f[1] for f in found], [f[2] for f in found])).fetchall()
        except psycopg.Error as error:
            raise self.failure(error, "describe the query on") from None
        types = read_types(self._ask, {oid for _, oid, _ in found})
        return tuple(
            # The collation of a query's column is not told. `default`, where that is the order asked for, keeps its indexes.
            column_of(name, full, bare, oid, modifier, types, encoding=self._encoding(), collate="default" if plain else "C")
            for (name, oid, modifier), (full, bare, plain) in zip(found, declared, strict=True)
        )

    def relation(self, name: TableName) -> str:
        return f"{quote(name.schema or '')}.{quote(name.table)}"

    def now(self) -> float | None:
        return float(self._ask("SELECT extract(epoch FROM clock_timestamp())::float8", ())[0][0])

    def without_place(self, column: SqlColumn, relation: str) -> int:
        if not column.nullable:
            return 0
        where = f"FROM {relation} AS q WHERE q.{quote(column.name)} IS NULL"
        if not self._ask(f"SELECT EXISTS (SELECT {where})", ())[0][0]:
            return 0
        return int(self._ask(f"SELECT count(*) {where}", ())[0][0])

    def stream(self, select: Select) -> RowStream:
        if self._driver() == "psycopg":
            from airflow_dataops.sources.sql.postgres_rows import PsycopgStream

            return PsycopgStream(self, select)
        from airflow_dataops.sources.sql.postgres_arrow import ArrowConnections

        if self._arrow is None:
            self._arrow = ArrowConnections(self)
        stream: RowStream = self._arrow.stream(select)
        return stream

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._arrow is not None:
            self._arrow.close()
            self._arrow = None

    @property
    def conninfo(self) -> str:
        """libpq's keyword form; holds the password."""
        return self._conninfo

    def session(self) -> dict[str, str]:
        """Settings of a reading transaction."""
        timeout = self._options.statement_timeout_seconds
        return SESSION | ({"statement_timeout": f"{timeout}s"} if timeout else {})

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection with a fixed session."""
        try:
            import psycopg
        except ImportError:
            raise install_hint("psycopg", "postgres") from None
        try:
            client = psycopg.connect(self._conninfo, autocommit=True)
            client.execute(_set_config(self.session(), local=False))
            return client
        except psycopg.Error as error:
            raise self.failure(error, "connect to") from None

    def failure(self, error: BaseException, doing: str) -> DataOpsError:
        """A driver's error as ours. ADBC and psycopg both carry the server's SQLSTATE; without one it is the connection."""
        state = getattr(error, "sqlstate", None) or _state_in(str(error))
        about_data = state.startswith(("22", "23")) if state else "ERROR:" in str(error)
        found = first_line(error, self._secrets, may_quote_values=about_data)
        if state is None:
            if any(s in found for s in ("authentication failed", "no password supplied", "pg_hba.conf", "does not exist")):
                return inventory(self.place, doing, found, "a login it accepts", "login")
            if "SSL" in found and "connection to server" in found and "closed" not in found:
                return inventory(self.place, doing, found, "a verified TLS connection", "tls")
            if "invalid" in found and "connection" in found:
                return inventory(self.place, doing, found, "a valid connection", "driver")
            # In the middle of a result only the server's words arrive, not its code.
            if "ERROR:" in found and not any(s in found for s in PASSING):
                return inventory(self.place, doing, found, "a SELECT that works", "query")
            return unavailable(self.place, doing, found)
        if state.startswith(TRANSIENT):
            # In the middle of a result only the server's words arrive, not its code.
            if "ERROR:" in found and not any(s in found for s in PASSING):
                return inventory(self.place, doing, found, "a SELECT that works", "query")
            return unavailable(self.place, doing, found)
        if state.startswith("28") or state == "3D000":
            return inventory(self.place, doing, found, "a login it accepts", "login")
        if state == "42501":
            return inventory(self.place, doing, found, "a table its user may read", "denied")
        if state in ("42703", "42P01") and doing == "read from":
            return changed(self.place, doing, found)
        if state in ("42P01", "3F000"):
            return inventory(self.place, doing, found, "a table that is there", "no_table")
        return inventory(self.place, doing, found, "a SELECT that works", "query")

    def _driver(self) -> str:
        if self._options.driver == "dbapi":
            return "psycopg"
        try:
            import adbc_driver_postgresql.dbapi  # noqa: F401
        except ImportError:
            if self._options.driver == "adbc":
                raise install_hint("adbc-driver-postgresql", "postgres") from None
            return "psycopg"
        return "adbc"

    def _encoding(self) -> str:
        return self._connected().info.parameter_status("server_encoding") or "unknown"

    def _connected(self) -> psycopg.Connection[Any]:
        if self._client is None or self._client.closed:
            self._client = self.connect()
        return self._client

    def _ask(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        import psycopg

        try:
            return self._connected().execute(query.encode(), values or None).fetchall()
        except psycopg.Error as error:
            raise self.failure(error, "query") from None


def _conninfo(connection: Connection) -> str:
    try:
        from psycopg.conninfo import make_conninfo
    except ImportError:
        raise install_hint("psycopg", "postgres") from None
    extra = {k: connection.extra[k] for k in LIBPQ_KEYS if connection.extra.get(k) not in (None, "")}
    host = connection.host or ""
    if "sslmode" not in extra and host not in LOCAL and not host.startswith("/"):
        extra = {"sslmode": "verify-full", "sslrootcert": "system"} | extra
    defaults = {"connect_timeout": 15, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}
    given = {
        "host": host or None, "port": connection.port, "user": connection.login, "password": connection.password,
        "dbname": connection.schema, "application_name": "airflow-dataops", "client_encoding": "UTF8",
    }  # fmt: skip
    return make_conninfo("", **{k: v for k, v in (defaults | given | extra).items() if v is not None})


def _set_config(settings: dict[str, str], local: bool) -> str:
    """One SELECT that sets all of them; names and values are our own constants."""
    return "SELECT " + ", ".join(f"set_config('{k}', '{v}', {'true' if local else 'false'})" for k, v in settings.items())


def _state_in(text: str) -> str | None:
    _, found, rest = text.rpartition("SQLSTATE: ")
    return rest[:5] if found and len(rest) >= 5 else None
