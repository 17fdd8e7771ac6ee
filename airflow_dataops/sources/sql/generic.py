"""Any other database, through SQLAlchemy: a streamed result, Python values, typed columns.

Which dialect: the extra's `sqlalchemy_scheme` (for example `oracle+oracledb`), else the connection's type. Its driver must
be installed beside this package. Tables of the default schema are called `table`; others are listed when
`options.schemas` names them, as `schema.table`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine.reflection import ObjectKind

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.sql.database import FETCH_ROWS, RawColumn, Select, SqlColumn, SqlTable
from airflow_dataops.sources.sql.failures import first_line, inventory, unavailable
from airflow_dataops.sources.sql.generic_types import MICROSECOND_DIGITS, arrow_type, second_digits, unordered, whole_text
from airflow_dataops.sources.sql.names import TableName

SNAPSHOTS = ("SNAPSHOT", "REPEATABLE READ", "SERIALIZABLE")
"""Isolation levels that keep one read consistent, the cheapest first."""


class Generic:
    """One database that SQLAlchemy has a dialect for."""

    def __init__(self, connection: Connection, options: SqlOptions) -> None:
        if options.driver == "adbc":
            raise InventoryError(
                f"Cannot open {connection.conn_type} with options.driver adbc: no ADBC driver is known for it -> auto or dbapi."
            )
        self._options, self._secrets = options, (connection.password,)
        scheme = str(connection.extra.get("sqlalchemy_scheme") or connection.conn_type)
        self.place = f"{scheme} {connection.host or ''}/{connection.schema or ''}"
        query = {k: str(v) for k, v in dict(connection.extra.get("sqlalchemy_query") or {}).items()}
        try:
            url = sa.URL.create(
                scheme, connection.login, connection.password, connection.host, connection.port, connection.schema, query
            )
            self._engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
        except (exc.SQLAlchemyError, ImportError, ValueError, TypeError) as error:
            raise InventoryError(
                f"Cannot open {self.place}: {first_line(error, self._secrets)} -> a dialect of SQLAlchemy, and "
                "its driver installed. Set `sqlalchemy_scheme` in the connection's extra, and install the driver."
            ) from None
        self.dialect = self._engine.dialect.name

    def traits(self) -> dict[str, str]:
        with self._connect() as client:
            version = ".".join(map(str, client.dialect.server_version_info or ())) or "unknown"
        return {"server": f"{self.dialect} {version}", "driver": self._engine.dialect.driver}

    def names(self) -> tuple[TableName, ...]:
        with self._connect() as client, self._translated("list the tables of"):
            look = sa.inspect(client)
            found = [
                TableName(schema, name)
                for schema in self._schemas()
                for name in (*look.get_table_names(schema), *look.get_view_names(schema))
            ]
        return tuple(sorted(found, key=str))

    def tables(self, only: TableName | None = None) -> tuple[SqlTable, ...]:
        schemas = self._schemas() if only is None else (only.schema,)
        chosen = {"filter_names": [only.table]} if only else {}
        found = []
        with self._connect() as client, self._translated("describe the tables of"), warnings.catch_warnings():
            # What a dialect cannot parse it leaves out with a warning: a column would be lost. (An unknown type is text.)
            warnings.simplefilter("error", exc.SAWarning)
            warnings.filterwarnings("ignore", "Did not recognize type", exc.SAWarning)
            look = sa.inspect(client)
            for schema in schemas:
                asked: dict[str, Any] = {"schema": schema, "kind": ObjectKind.ANY, **chosen}
                columns = look.get_multi_columns(**asked)
                keys: dict[Any, Any] = look.get_multi_pk_constraint(**asked)
                comments = self._comments(look, asked)
                for place, described in columns.items():
                    key = (keys.get(place) or {}).get("constrained_columns") or ()
                    problem = self._problem(described)
                    told = () if problem else tuple(self._column(c) for c in described)
                    name = TableName(schema, place[1])
                    found.append(SqlTable(name, told, tuple(key), comment=comments.get(place, ""), problem=problem))
        return tuple(sorted(found, key=lambda t: str(t.name)))

    def query_columns(self, query: str) -> tuple[SqlColumn, ...]:
        raise InventoryError(
            f"Cannot describe read.query on {self.place}: SQLAlchemy tells no types of a query's columns -> a table or view. "
            "Make a view of the query in the database, and name it in `tables`."
        )

    def relation(self, name: TableName) -> str:
        parts = [part for part in (name.schema, name.table) if part is not None]
        return ".".join(self._quote(part) for part in parts)

    def now(self) -> float | None:
        return None  # no statement for it works everywhere; the caller then uses its own clock

    def without_place(self, column: SqlColumn, relation: str) -> int:
        if not column.nullable:
            return 0
        with self._connect() as client, self._translated("query"):
            found = client.execute(_text(f"SELECT COUNT(*) FROM {relation} q WHERE {column.compare} IS NULL")).scalar_one()
        return int(found)

    def stream(self, select: Select) -> GenericStream:
        client = self._connect()
        try:
            with self._translated("read from"):
                return GenericStream(self, client, select)
        except DataOpsError:
            client.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def failure(self, error: BaseException, doing: str) -> DataOpsError:
        about_data = isinstance(error, exc.DataError | exc.IntegrityError)
        found = first_line(getattr(error, "orig", None) or error, self._secrets, may_quote_values=about_data)
        if isinstance(error, exc.NoSuchTableError):
            return inventory(self.place, doing, found, "a table that is there", "no_table")
        lost = isinstance(error, exc.DBAPIError) and (
            error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)
        )
        if lost or isinstance(error, exc.TimeoutError | OSError):
            return unavailable(self.place, doing, found)
        return inventory(self.place, doing, found, "a SELECT that works", "query")

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (exc.SQLAlchemyError, exc.SAWarning, OSError) as error:
            raise self.failure(error, doing) from None

    def _connect(self) -> sa.Connection:
        with self._translated("connect to"):
            return self._engine.connect()

    def _schemas(self) -> Sequence[str | None]:
        return self._options.schemas or (None,)

    def _comments(self, look: sa.Inspector, asked: Mapping[str, Any]) -> dict[Any, str]:
        if not look.dialect.supports_comments:
            return {}
        found = look.get_multi_table_comment(**asked)
        return {place: comment.get("text") or "" for place, comment in found.items()}

    def _problem(self, described: Sequence[Mapping[str, Any]]) -> str:
        """Why no row of a table with these columns could be read as it is; "" when all can."""
        for column in described:
            digits = second_digits(column["type"])
            if digits and whole_text(column["type"], "", self.dialect) is None:
                return (
                    f"column {column['name']} keeps {digits} digits of a second, and {MICROSECOND_DIGITS} are read; a view of the "
                    f"table that converts it to {MICROSECOND_DIGITS} digits, or to text, can be"
                )
        return ""

    def _column(self, described: Mapping[str, Any]) -> SqlColumn:
        target, any_as_text = arrow_type(described["type"])
        quoted = f"q.{self._quote(described['name'])}"
        expression = quoted
        if second_digits(described["type"]) and (text := whole_text(described["type"], quoted, self.dialect)):
            target, any_as_text, expression = pa.string(), False, text
        return SqlColumn(
            str(described["name"]),
            str(described["type"].__class__.__name__).lower(),
            target,
            expression,
            quoted,
            nullable=bool(described.get("nullable", True)),
            comment=described.get("comment") or "",
            any_as_text=any_as_text,
            unordered=unordered(described["type"], target, self.dialect),
        )

    def _quote(self, name: str) -> str:
        preparer = self._engine.dialect.identifier_preparer
        quoted = preparer.quote_identifier(str(name))
        # `text` doubles the % signs for drivers that need it; the preparer has done so already.
        return quoted.replace("%%", "%") if preparer._double_percents else quoted


class GenericStream:
    """One SELECT in one transaction (always rolled back), on a pooled connection."""

    def __init__(self, database: Generic, client: sa.Connection, select: Select) -> None:
        self._database, self._client, self._rows = database, client, min(select.batch_rows, FETCH_ROWS)
        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": self._rows}
        if select.isolation == "snapshot" and (level := _snapshot_level(client)):
            options["isolation_level"] = level
        client = client.execution_options(**options)
        values = {f"bound_{n}": b.value for n, b in enumerate(select.bounds, 1)}
        self._result = client.execute(_text(_statement(select), **values))

    def __iter__(self) -> Iterator[list[RawColumn]]:
        while True:
            with self._database._translated("read on from"):
                rows = self._result.fetchmany(self._rows)
            if not rows:
                return
            yield list(zip(*rows, strict=True))

    def cancel(self) -> None:
        """Nothing works with every driver; the fetch under way ends by itself."""

    def close(self) -> None:
        with contextlib.suppress(exc.SQLAlchemyError):  # the rows were read; what fails now is only the farewell
            self._result.close()
            self._client.close()


def _statement(select: Select) -> str:
    """Only SQL that every database knows: MAX, where others would say ORDER BY … LIMIT."""
    where = [f"{b.column.compare} {b.operator} \0{n}" for n, b in enumerate(select.bounds, 1)]
    wanted = [c.expression for c in select.columns]
    if select.highest:
        wanted = [f"MAX({wanted[0]})"]
        where.append(f"{select.columns[0].compare} IS NOT NULL")
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT {', '.join(wanted)} FROM {select.relation} q{condition}"


def _text(statement: str, **values: Any) -> sa.TextClause:
    """The statement with bound values; a colon of a name is a colon, not a parameter."""
    for number in range(len(values), 0, -1):
        statement = statement.replace(f"\0{number}", f"\0bound_{number}")
    statement = statement.replace(":", "\\:").replace("\0", ":")
    return sa.text(statement).bindparams(**values)


def _snapshot_level(client: sa.Connection) -> str | None:
    try:
        known = client.dialect.get_isolation_level_values(client.connection.dbapi_connection)  # type: ignore[arg-type]
    except RuntimeError:
        return None  # the dialect has no levels to choose from
    return next((level for level in SNAPSHOTS if level in known), None)
