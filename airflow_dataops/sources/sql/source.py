"""`kind: sql`: tables of a database as a source. What differs between databases is behind `Database`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from airflow_dataops.core.errors import InventoryError, RangeError
from airflow_dataops.core.offset import CursorRange, FileIdentity, FileSet, Scalar
from airflow_dataops.sources.base import ReadRequest, SourceTable
from airflow_dataops.sources.sql.bounds import bound_value
from airflow_dataops.sources.sql.database import Bound, Database, Select, SqlColumn, SqlTable
from airflow_dataops.sources.sql.decode import Decoder
from airflow_dataops.sources.sql.names import TableName, parse_name
from airflow_dataops.sources.sql.query import check_query
from airflow_dataops.sources.sql.reading import SqlReading


class SqlSource:
    """One database behind one connection. Not for use by two threads at once; the readings it gives are independent of it
    and of each other. Close it when done."""

    kind = "sql"

    def __init__(self, connect: Callable[[], Database]) -> None:
        self._connect = connect
        self._opened: Database | None = None
        self._traits: dict[str, str] | None = None

    @property
    def _database(self) -> Database:
        """Connected at first use, so that opening a source costs nothing and fails where an error is reported."""
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    def _facts(self) -> dict[str, str]:
        if self._traits is None:
            self._traits = self._database.traits()
        return dict(self._traits)

    def discover(self) -> tuple[SourceTable, ...]:
        return tuple(self._source_table(t) for t in self._database.tables())

    def table_names(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self._database.names())

    def describe(self, table: str, query: str | None = None) -> SourceTable:
        return self._source_table(self._declared(table, query)[0])

    def high_cursor(self, table: str, cursor: str, query: str | None = None) -> Scalar | None:
        declared, relation = self._declared(table, query)
        column = self._cursor(declared, cursor)
        lost = self._database.without_place(column, relation)
        if lost:
            raise RangeError(
                f"Cannot read {table} by cursor {cursor}: {lost} rows without a usable value -> a {column.declared} in every row. "
                "No range would ever read a row with NULL (or a value of another type) there. Fix the rows, leave them out with "
                "`read.query`, or read in mode `full`."
            )
        stream = self._database.stream(Select((column,), relation, highest=True, batch_rows=1))
        try:
            decoder = Decoder(table, (column,), SqlTable(TableName(None, table), (column,)).schema().to_arrow())
            for raw in stream:
                batch = decoder(raw)
                if batch.dead_letters or _endless(batch.records.column(0)[0].as_py()):
                    raise RangeError(
                        f"Cannot read {table} by cursor {cursor}: its highest value is infinite or out of range -> a finite "
                        f"{column.type}. No later row could ever be above it. Correct that row, or leave it out with `read.query`."
                    )
                value: Scalar = batch.records.column(0)[0].as_py()
                return value
            return None
        finally:
            stream.close()

    def now(self) -> float | None:
        return self._database.now()

    def files(self, table: str) -> tuple[FileIdentity, ...]:
        return ()

    def identify(self, file: FileIdentity) -> FileIdentity:
        raise InventoryError(
            f"Cannot identify file {file.path}: the source is a database -> a source of files. "
            "Use read.mode full, window or watermark."
        )

    def read(self, request: ReadRequest) -> SqlReading:
        declared, relation = self._declared(request.table, request.query)
        if not declared.columns:
            raise InventoryError(
                f"Cannot read {request.table}: {declared.problem or 'it has no columns'} -> at least one readable column. "
                "Repair it at the source, or exclude it."
            )
        select = Select(
            declared.columns,
            relation,
            self._bounds(request, declared),
            batch_rows=request.batch_rows,
            isolation=request.isolation,
        )
        schema = declared.schema()
        traits = self._facts()
        stream = self._database.stream(select)
        return SqlReading(schema, traits, stream, Decoder(request.table, declared.columns, schema.to_arrow()))

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _bounds(self, request: ReadRequest, declared: SqlTable) -> tuple[Bound, ...]:
        asked = request.range
        if isinstance(asked, FileSet):
            raise InventoryError(
                f"Cannot read files of {request.table}: the source is a database -> a cursor range or everything. "
                "`read.mode: new_files` is for sources of files."
            )
        if not isinstance(asked, CursorRange):
            return ()
        column = self._cursor(declared, asked.cursor)
        bounds = []
        if asked.low is not None:
            bounds.append(Bound(column, ">=" if asked.low_inclusive else ">", bound_value(column, asked.low)))
        if asked.high is not None:
            bounds.append(Bound(column, "<=" if asked.high_inclusive else "<", bound_value(column, asked.high)))
        return tuple(bounds)

    def _declared(self, table: str, query: str | None) -> tuple[SqlTable, str]:
        """The table as declared now, and what stands for it in FROM."""
        if query is not None:
            text = check_query(query)
            columns = self._database.query_columns(text)
            names = [c.name for c in columns]
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise InventoryError(
                    f"Cannot read query of {table}: two columns are called {', '.join(twice)} -> a name of its own for each. "
                    "Give one of them another name with AS."
                )
            return SqlTable(TableName(None, table), columns), f"(\n{text}\n)"
        name = parse_name(table)
        found = self._database.tables(name)
        if not found:
            near = difflib.get_close_matches(table, self.table_names(), 3)
            hint = f" Did you mean {' or '.join(near)}?" if near else " `dataops discover` lists the tables."
            raise InventoryError(
                f"Cannot read table {table}: not in {self._database.place} -> a table or view the connection's user may see.{hint}"
            )
        return found[0], self._database.relation(name)

    @staticmethod
    def _cursor(declared: SqlTable, name: str) -> SqlColumn:
        column = declared.column(name)
        if column is None:
            known = ", ".join(c.name for c in declared.columns[:20])
            raise InventoryError(
                f"Cannot read {declared.name} by cursor {name}: no such column -> one of {known}. Fix `read.cursor`."
            )
        if column.unordered:
            raise RangeError(
                f"Cannot read {declared.name} by cursor {name}: {column.unordered} -> a number, date, timestamp, or text that can "
                "be put in the order of its code points. Which rows are new could not be told for sure. Use another cursor, or "
                "cast this one (in `read.query` or a view)."
            )
        return column

    def _source_table(self, table: SqlTable) -> SourceTable:
        traits = self._facts() | table.traits
        if table.problem:
            traits["problem"] = table.problem
        return SourceTable(str(table.name), table.schema(), table.rows_estimate, table.bytes_estimate, table.comment, traits)


def _endless(value: Scalar) -> bool:
    return isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
