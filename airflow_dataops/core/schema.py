"""The canonical schema of a table: ordered columns with Arrow types, and its fingerprint.

Arrow is the only type system of the product; Hive, Avro, Parquet and database types are mapped at the edges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from airflow_dataops.core.types_text import type_to_text


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `name` is the name in this schema; `source_name` how the source spells it, when that differs.

    `type` `pa.null()` means *untyped until a value comes* (DESIGN §7).
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    comment: str = ""
    source_name: str | None = None

    @property
    def origin(self) -> str:
        """The source's own spelling of the name."""
        return self.source_name or self.name


@dataclass(frozen=True, slots=True)
class TableSchema:
    """Ordered columns and the key columns of a table."""

    columns: tuple[Column, ...] = ()
    keys: tuple[str, ...] = ()

    @classmethod
    def of_arrow(cls, schema: pa.Schema, keys: Iterable[str] = ()) -> TableSchema:
        return cls(tuple(Column(f.name, f.type, f.nullable) for f in schema), tuple(keys))

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return any(c.name == name for c in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def get(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)

    def with_column(self, column: Column) -> TableSchema:
        """The same schema with this column replaced in place, or appended last."""
        if column.name in self:
            return replace(self, columns=tuple(column if c.name == column.name else c for c in self.columns))
        return replace(self, columns=(*self.columns, column))

    def to_arrow(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def fingerprint(self) -> str:
        """`s1:` + 32 hex digits over the set of (name, type). Column order, comments and nullability do not count:
        reordering is nothing (DESIGN §7), and a comment is not drift."""
        text = "\n".join(sorted(f"{c.name}\t{type_to_text(c.type)}" for c in self.columns))
        return "s1:" + hashlib.sha256(text.encode()).hexdigest()[:32]
