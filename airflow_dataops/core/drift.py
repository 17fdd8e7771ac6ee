"""What changed between a lake table and what its source shows now: structural drift as frozen records.

`diff` only states facts; whether a change is applied, held, refused or discarded is `drift_plan`'s business.
Reordered columns, nullability, and columns without a type yet are no change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.naming import plan_names, sanitise
from airflow_dataops.core.promotion import DEFAULT_CONTRACT, promote
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.storable import storable
from airflow_dataops.core.types_text import type_from_text, type_to_text

MAX_COMMENT = 256
"""Characters of a column comment in the metastore."""

SHADOW = "__str"
"""Ending of the text column that takes a column's values while their type does not fit (`to_string: shadow_column`)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one table. `str` is for people, `to_json` for the ledger. Names are lake names."""

    change: ClassVar[str] = ""
    kind: ClassVar[str] = "structural"

    def to_json(self) -> dict[str, Any]:
        """`{"change": "type_widened", "kind": "structural", …}`; types as text."""
        return {
            "change": self.change,
            "kind": self.kind,
            **{f.name: _json(getattr(self, f.name)) for f in fields(self)},
        }


@dataclass(frozen=True, slots=True)
class TableCreated(Change):
    """The lake has no such table yet."""

    change: ClassVar[str] = "table_created"
    columns: tuple[Column, ...]

    def __str__(self) -> str:
        return f"new table of {len(self.columns)} columns"


@dataclass(frozen=True, slots=True)
class ColumnAdded(Change):
    """The source shows a column the table does not have. `column` is as the lake would hold it."""

    change: ClassVar[str] = "column_added"
    column: Column

    @property
    def name(self) -> str:
        return self.column.name

    def __str__(self) -> str:
        return f"new column {self.column.origin!r} ({type_to_text(self.column.type)})"


@dataclass(frozen=True, slots=True)
class TypeWidened(Change):
    """`after` holds the column's values and the incoming ones."""

    change: ClassVar[str] = "type_widened"
    name: str
    before: pa.DataType
    incoming: pa.DataType
    after: pa.DataType

    def __str__(self) -> str:
        return f"column {self.name!r} {type_to_text(self.before)} -> {type_to_text(self.after)}"


@dataclass(frozen=True, slots=True)
class TypeNarrowed(Change):
    """The incoming values fit into the column as it is."""

    change: ClassVar[str] = "type_narrowed"
    name: str
    before: pa.DataType
    incoming: pa.DataType

    def __str__(self) -> str:
        return f"column {self.name!r} stays {type_to_text(self.before)}, the source now says {type_to_text(self.incoming)}"


@dataclass(frozen=True, slots=True)
class ColumnRetyped(Change):
    """No type holds both by the contract: breaking."""

    change: ClassVar[str] = "column_retyped"
    name: str
    before: pa.DataType
    incoming: pa.DataType

    def __str__(self) -> str:
        return f"column {self.name!r} is {type_to_text(self.before)}, the source now says {type_to_text(self.incoming)}"


@dataclass(frozen=True, slots=True)
class ColumnVanished(Change):
    """The source no longer shows the column; it stays, NULL from now on."""

    change: ClassVar[str] = "column_vanished"
    name: str
    type: pa.DataType

    def __str__(self) -> str:
        return f"column {self.name!r} is gone from the source"


@dataclass(frozen=True, slots=True)
class ColumnReturned(Change):
    """A column that had vanished is back."""

    change: ClassVar[str] = "column_returned"
    name: str
    type: pa.DataType

    def __str__(self) -> str:
        return f"column {self.name!r} is back in the source"


@dataclass(frozen=True, slots=True)
class RequiredGone(Change):
    """A key, cursor or partition column that the row names is not in the source: breaking."""

    change: ClassVar[str] = "required_gone"
    name: str

    def __str__(self) -> str:
        return f"column {self.name!r}, which the row uses as key, cursor or partition, is not in the source"


@dataclass(frozen=True, slots=True)
class CommentChanged(Change):
    """The source describes the column in other words. `after` is cut at the metastore's limit."""

    change: ClassVar[str] = "comment_changed"
    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"column {self.name!r} has a new comment"


@dataclass(frozen=True, slots=True)
class ColumnRenamed(Change):
    """The table's column `before` goes on as `after` at the source. Only ever a person's word."""

    change: ClassVar[str] = "column_renamed"
    before: str
    after: str

    def __str__(self) -> str:
        return f"column {self.before!r} is {self.after!r} in the source"


@dataclass(frozen=True, slots=True)
class NameRefused(Change):
    """A source column whose lake name is taken by a partition column or a standard column."""

    change: ClassVar[str] = "name_refused"
    name: str
    source_name: str

    def __str__(self) -> str:
        return f"column {self.source_name!r} would be {self.name!r}, which is a partition column or a standard column"


def diff(
    table: TableSchema | None,
    observed: TableSchema,
    contract: ContractSpec = DEFAULT_CONTRACT,
    *,
    previous: TableSchema | None = None,
    reserved: Collection[str] = (),
) -> tuple[Change, ...]:
    """Changes from `table` (lake names; None: no table yet) to `observed` (source names), in order of columns.

    `previous` is what the source showed last time: with it a column vanishes or returns once, not on every run.
    `reserved` names (partition and standard columns) are not the source's and never drift. InventoryError when two
    source names meet in one lake name.
    """
    names = plan_names(observed.names)
    columns = [_as_stored(c, names[c.name]) for c in observed]
    typed = tuple(c for c in columns if not pt.is_null(c.type) and c.name not in reserved)
    if table is None:
        return (TableCreated(typed),)
    before = None if previous is None else {sanitise(name) for name in previous.names}
    changes: list[Change] = []
    for column in typed:
        have = table.get(column.name)
        if have is None:
            changes.append(ColumnAdded(column))
            continue
        if before is not None and column.name not in before:
            changes.append(ColumnReturned(column.name, have.type))
        changes += _type_change(have, column, contract)
        if column.comment and column.comment != have.comment:
            changes.append(CommentChanged(column.name, have.comment, column.comment))
    shown = {c.name for c in columns}
    for have in table:
        gone = have.name not in shown and have.name.removesuffix(SHADOW) not in shown and have.name not in reserved
        if gone and (before is None or have.name in before):
            changes.append(ColumnVanished(have.name, have.type))
    return tuple(changes)


def _type_change(have: Column, incoming: Column, contract: ContractSpec) -> list[Change]:
    promotion = promote(have.type, incoming.type, contract)
    if promotion is None:
        return [ColumnRetyped(have.name, have.type, incoming.type)]
    if promotion.how == "widen":
        return [TypeWidened(have.name, have.type, incoming.type, promotion.type)]
    if promotion.how == "narrower":
        return [TypeNarrowed(have.name, have.type, incoming.type)]
    return []


def _as_stored(column: Column, target: str) -> Column:
    return replace(
        column,
        name=target,
        type=storable(column.type),
        nullable=True,
        comment=column.comment[:MAX_COMMENT],
        source_name=column.origin if column.origin != target else None,
    )


def _json(value: Any) -> Any:
    if isinstance(value, pa.DataType):
        return type_to_text(value)
    if isinstance(value, Column):
        return {
            "name": value.name,
            "type": type_to_text(value.type),
            "comment": value.comment,
            "source_name": value.source_name,
        }
    return [_json(v) for v in value] if isinstance(value, tuple) else value


def change_of_json(data: Mapping[str, Any]) -> Change:
    """The inverse of `Change.to_json`. KeyError for a change nobody knows."""
    of = _CHANGES[data["change"]]
    return of(**{f.name: _of_json(str(f.type), data[f.name]) for f in fields(of)})


_CHANGES: dict[str, type[Change]] = {of.change: of for of in Change.__subclasses__()}


def _of_json(annotation: str, value: Any) -> Any:
    match annotation:
        case "pa.DataType":
            return type_from_text(value)
        case "Column":
            return Column(value["name"], type_from_text(value["type"]), comment=value["comment"], source_name=value["source_name"])
        case "tuple[Column, ...]":
            return tuple(_of_json("Column", one) for one in value)
    return value
