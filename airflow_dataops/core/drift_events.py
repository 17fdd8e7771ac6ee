"""What a drift event says: the news of a table as changes that a person can act on, and what was done about each.

The contract's own words (`DriftPlan`) come first, because they say what becomes of the lake table; what the table did not
have to follow is told as the source's change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.drift import (
    MAX_COMMENT,
    Change,
    ColumnAdded,
    ColumnReturned,
    ColumnRetyped,
    ColumnVanished,
    TableCreated,
    TypeNarrowed,
    TypeWidened,
)
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.shown import News
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.storable import storable
from airflow_dataops.core.types_text import type_from_text, type_to_text

TRAITS = frozenset({"format", "compression", "encoding", "bom", "delimiter", "quote", "line_ends", "header", "server"})
"""The traits of a source whose change is infrastructure drift."""


@dataclass(frozen=True, slots=True)
class ColumnRetired(Change):
    """The column has not been shown for `contract.retire_runs` runs. It stays, NULL."""

    change: ClassVar[str] = "column_retired"
    name: str
    type: pa.DataType

    def __str__(self) -> str:
        return f"column {self.name!r} is retired: the source has not shown it for a while"


@dataclass(frozen=True, slots=True)
class TraitChanged(Change):
    """The form in which the source gives its data, or the server behind it, is another."""

    change: ClassVar[str] = "trait_changed"
    kind: ClassVar[str] = "infrastructure"
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.name} {self.before!r} -> {self.after!r}"


@dataclass(frozen=True, slots=True)
class TableGone(Change):
    """The source no longer lists the table. The lake's table stays as it is."""

    change: ClassVar[str] = "table_gone"
    name: str

    def __str__(self) -> str:
        return f"table {self.name!r} is gone from the source"


@dataclass(frozen=True, slots=True)
class TableReturned(Change):
    """A table that was gone is listed again."""

    change: ClassVar[str] = "table_returned"
    name: str

    def __str__(self) -> str:
        return f"table {self.name!r} is back in the source"


_RETIRED = re.compile(r"retired \d{4}-\d{2}-\d{2}(?:: |\Z)", re.ASCII)
"""Begins the comment of a retired column in the catalog."""

Decided = Mapping[str, Any]
"""A plan as it is kept with a batch: `{"apply": […], "hold": […], "dead_letter": […], "renames": […]}`."""

NOTHING_DECIDED: Decided = {"apply": [], "hold": [], "dead_letter": [], "renames": []}
_DONE = {"hold": "held", "dead_letter": "discarded", "apply": "applied"}
_OF_A_COLUMN = frozenset(c.change for c in (ColumnAdded, TypeWidened, TypeNarrowed, ColumnRetyped))


def is_retired(comment: str) -> bool:
    """Whether a column's comment in the catalog marks it as retired."""
    return _RETIRED.match(comment) is not None


def retired_comment(comment: str, day: str) -> str:
    """The comment behind the mark, cut at the metastore's limit. The ledger's schema history has it whole."""
    return (f"retired {day}: {comment}" if comment else f"retired {day}")[:MAX_COMMENT]


def unretired_comment(comment: str) -> str:
    return _RETIRED.sub("", comment, count=1) if is_retired(comment) else comment


def described(change: Change, done: str) -> dict[str, Any]:
    """The change as JSON, with its sentence and what was done about it."""
    return {**change.to_json(), "text": str(change), "done": done}


def decided(plan: DriftPlan) -> Decided:
    """What a plan decided, small enough to be kept with every batch: a new table is no drift."""
    lists = {"apply": plan.apply, "hold": plan.hold, "dead_letter": plan.dead_letter}
    return {
        **{
            name: [described(c, _DONE[name]) for c in changes if not isinstance(c, TableCreated)] for name, changes in lists.items()
        },
        "renames": [r.to_json() for r in plan.renames],
    }


def columns_shown(schema: TableSchema) -> tuple[dict[str, str], frozenset[str]]:
    """(lake name → type as the lake would store it, names without a type yet) of what a source shows."""
    types = {sanitise(column.name): storable(column.type) for column in schema}
    untyped = frozenset(name for name, kind in types.items() if pt.is_null(kind))
    return {name: type_to_text(kind) for name, kind in types.items() if name not in untyped}, untyped


def typed(shown: TableSchema, last: TableSchema | None) -> TableSchema:
    """The source's schema, where a column without a type (all NULL) keeps the type it had: no value is no news."""
    known = {column.name: column.type for column in last or ()}
    columns = (replace(c, type=known.get(c.name, c.type)) if pt.is_null(c.type) else c for c in shown)
    return replace(shown, columns=tuple(columns))


def structural_changes(
    news: Iterable[News], retired: Iterable[News], shown: TableSchema, plan: Decided, contract: ContractSpec
) -> tuple[dict[str, Any], ...]:
    """The news of columns, each with the contract's word where it spoke, then what is held beside them, then retirements."""
    spoken = {c["name"] if "name" in c else c["column"]["name"]: c for key in ("apply", "dead_letter", "hold") for c in plan[key]}
    origins = {sanitise(column.name): column for column in shown}
    changes: list[dict[str, Any]] = []
    for one in news:
        changes += [described(change, "applied") for change in _returned(one)]
        word = spoken.pop(one.name, None)
        if word is not None and word["change"] in _OF_A_COLUMN and one.after is not None:
            changes.append(dict(word))
        else:
            changes += [described(change, "applied") for change in _as_shown(one, origins, contract)]
    changes += [dict(c) for c in plan["hold"] if c not in changes] if changes else []
    return (*changes, *(described(ColumnRetired(r.name, type_from_text(r.last or "null")), "applied") for r in retired))


def infrastructure_changes(news: Iterable[News]) -> tuple[dict[str, Any], ...]:
    return tuple(described(TraitChanged(one.name, one.before, one.after), "noted") for one in news)


def decision_of(changes: Iterable[Mapping[str, Any]]) -> str:
    """The one word for an event: held, if anything in it is, else discarded, else what was done with all."""
    done = [change["done"] for change in changes]
    return next((word for word in ("held", "discarded", "applied") if word in done), "noted")


def _returned(one: News) -> list[Change]:
    back = one.before is None and one.after is not None and one.last is not None
    return [ColumnReturned(one.name, type_from_text(one.last or "null"))] if back else []


def _as_shown(one: News, origins: Mapping[str, Column], contract: ContractSpec) -> list[Change]:
    if one.after is None:
        return [ColumnVanished(one.name, type_from_text(one.before or one.last or "null"))]
    after = type_from_text(one.after)
    if one.last is None:
        origin = origins.get(one.name)
        source_name = origin.name if origin is not None and origin.name != one.name else None
        return [ColumnAdded(Column(one.name, after, comment=origin.comment if origin else "", source_name=source_name))]
    before = type_from_text(one.last)
    promotion = promote(before, after, contract)
    if promotion is None:
        return [ColumnRetyped(one.name, before, after)]
    if promotion.how == "widen":
        return [TypeWidened(one.name, before, after, promotion.type)]
    return [TypeNarrowed(one.name, before, after)] if promotion.how == "narrower" else []
