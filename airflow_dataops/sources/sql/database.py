"""What one kind of database must be able to do. Everything else about `kind: sql` is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import pyarrow as pa

from airflow_dataops.core.offset import Scalar
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.sources.sql.names import TableName

UNCONSTRAINED_DECIMAL = pa.decimal128(38, 18)
"""What a NUMERIC without declared digits becomes (20 digits before the point, 18 after; Spark's own choice). It does not
depend on the data, so that the same table always gives the same type; a value that does not fit is a dead letter."""

DECIMAL_DIGITS = 76
"""The most digits an Arrow decimal holds. Declared wider numbers are read as exact text."""


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """One column: how the database declares it, what it becomes, and how it is asked for.

    `expression` is SQL over the column (quoted, cast where the driver would lose something). `compare` is the expression by
    which ranges are cut and the highest value is found: it orders the rows as Python orders their values (text by code point,
    whatever the column's collation), because positions are compared by the steps and in the lake, too. `unordered` says why
    there is no such expression, and so no cursor. `any_as_text` is for columns without a usable declared type: numbers there
    are written as exact text. `bytes_as_text`: the text is read as bytes, because not all of it may be UTF-8. `guard` is SQL that
    gives the value as text where the driver cannot give it whole, NULL elsewhere. `bind` is the SQL type of bound values.
    """

    name: str
    declared: str
    type: pa.DataType
    expression: str
    compare: str = ""
    nullable: bool = True
    comment: str = ""
    any_as_text: bool = False
    bytes_as_text: bool = False
    guard: str = ""
    bind: str = ""
    unordered: str = ""


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A table or view as declared. `problem` is set when its columns cannot be told (a view whose table is gone)."""

    name: TableName
    columns: tuple[SqlColumn, ...]
    keys: tuple[str, ...] = ()
    rows_estimate: int | None = None
    bytes_estimate: int | None = None
    comment: str = ""
    problem: str = ""
    traits: dict[str, str] = field(default_factory=dict)

    def schema(self) -> TableSchema:
        return TableSchema(tuple(Column(c.name, c.type, c.nullable, c.comment) for c in self.columns), self.keys)

    def column(self, name: str) -> SqlColumn | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: `column operator value`, with operator one of `<`, `<=`, `>`, `>=`; the value is of the column's
    own kind (`bounds.bound_value`)."""

    column: SqlColumn
    operator: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Select:
    """What to read: columns of a relation (quoted name or bracketed query, called `q`), the rows within the bounds.

    Expressions say `q.name`: a bare name in ORDER BY would mean the output column, after its cast to text."""

    columns: tuple[SqlColumn, ...]
    relation: str
    bounds: tuple[Bound, ...] = ()
    highest: bool = False
    """Only the row with the highest value of the first column."""
    batch_rows: int = 65536
    isolation: str = "snapshot"

    def text(self, bind: Callable[[int, Bound], str]) -> str:
        """The SELECT; `bind` gives the placeholder of the n-th bound's value (1-based)."""
        where = [f"{b.column.compare} {b.operator} {bind(n, b)}" for n, b in enumerate(self.bounds, 1)]
        order = ""
        if self.highest:
            top = self.columns[0].compare
            where.append(f"{top} IS NOT NULL")
            order = f" ORDER BY {top} DESC LIMIT 1"
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        wanted = [c.expression for c in self.columns] + [c.guard for c in self.columns if c.guard]
        return f"SELECT {', '.join(wanted)} FROM {self.relation} q{condition}{order}"


FETCH_ROWS = 16384
"""The most rows that are Python objects at a time: more of them take memory, and fall out of the processor's cache before
they become columns."""

RawColumn: TypeAlias = "pa.Array | Sequence[object]"
"""One column of some rows as the driver gives it: an Arrow array, or Python values."""


class RowStream(Protocol):
    """Rows as the driver gives them, as lists of columns of equal length (at most `batch_rows`): the selected columns,
    then the guards of those that have one."""

    def __iter__(self) -> Iterator[list[RawColumn]]: ...

    def cancel(self) -> None:
        """Makes a fetch that is under way in another thread end soon (with whatever error). May come after the end."""
        ...

    def close(self) -> None:
        """Ends the transaction and gives the connection back. Never waits for unread rows."""
        ...


class Database(Protocol):
    """One connection's database. Foreign exceptions are translated here and nowhere else."""

    dialect: str
    place: str
    """What the database is called in messages: host, port and name; never a credential."""

    def traits(self) -> dict[str, str]:
        """Facts about the server for infrastructure drift: product and version, encoding, driver."""
        ...

    def names(self) -> tuple[TableName, ...]: ...

    def tables(self, only: TableName | None = None) -> tuple[SqlTable, ...]:
        """All tables with their columns, in a fixed number of round trips; or the one asked for, if it is there."""
        ...

    def query_columns(self, query: str) -> tuple[SqlColumn, ...]:
        """The columns that a SELECT would give. InventoryError when the database refuses it."""
        ...

    def relation(self, name: TableName) -> str:
        """The quoted name, as it stands in FROM."""
        ...

    def now(self) -> float | None: ...

    def without_place(self, column: SqlColumn, relation: str) -> int:
        """How many rows no range over this cursor column can reach: NULL, or values not of the declared type."""
        ...

    def stream(self, select: Select) -> RowStream: ...

    def close(self) -> None: ...
