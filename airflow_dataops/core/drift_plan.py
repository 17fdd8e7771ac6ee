"""What is done about drift: every change is applied, held, refused or discarded, by contract (DESIGN §7).

| change          | evolve | freeze | discard_row                     | discard_value               |
|-----------------|--------|--------|---------------------------------|-----------------------------|
| TableCreated    | apply  | hold   | every row is dead-lettered      | (not offered)               |
| ColumnAdded     | apply  | hold   | rows with a value in it are     | its values are left out     |
| TypeWidened     | apply  | hold   | rows whose value does not fit   | such values become NULL     |
| ColumnRetyped   | hold   | hold   | the column as it is, are        | such values become NULL     |

`tables` rules the first line, `columns` the second, `types` the others. Discarded rows are dead letters; discarded
values are counted (`values_discarded`) and kept in a dead letter of 0 rows. Nothing else asks the contract, because it
changes no table: narrowed types, vanished and returned columns and comments are applied (recorded). Breaking whatever
the contract says: a *required* column that is gone or would change to text → hold; one that never was → refuse.
A retyped column under `to_string: shadow_column` lands as text in `<column>__str` beside it, once `columns` allows that.
What a person has approved of a table (`approval`) is applied, whatever the contract says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.approval import Approval, renames_of
from airflow_dataops.core.drift import (
    MAX_COMMENT,
    SHADOW,
    Change,
    ColumnAdded,
    ColumnRetyped,
    CommentChanged,
    NameRefused,
    RequiredGone,
    TableCreated,
    TypeNarrowed,
    TypeWidened,
    diff,
)
from airflow_dataops.core.errors import ConflictError
from airflow_dataops.core.naming import plan_names, sanitise
from airflow_dataops.core.promotion import LOOSENED, promote
from airflow_dataops.core.renames import RenameSuggestion, suggest_renames
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.storable import storable
from airflow_dataops.core.types_text import type_to_text

NO_TABLE = "absent"
"""`DriftPlan.assumes` of a table that does not exist."""


@dataclass(frozen=True, slots=True)
class DriftPlan:
    """The decision for one table and one observed schema.

    `schema` is the table after `apply` (lake names, old columns first, new ones last; without held ones); `names` maps
    every observed column to its lake column, also those that `schema` does not have (`untyped`, or discarded by
    contract). `assumes` is the fingerprint of the table it was made for. Nothing may be written while `hold` or
    `refuse` is not empty.
    """

    schema: TableSchema
    apply: tuple[Change, ...] = ()
    hold: tuple[Change, ...] = ()
    refuse: tuple[Change, ...] = ()
    dead_letter: tuple[Change, ...] = ()
    assumes: str = NO_TABLE
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    untyped: tuple[str, ...] = ()
    renames: tuple[RenameSuggestion, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """No change at all: the table shows what the source shows."""
        return not (self.apply or self.hold or self.refuse or self.dead_letter)

    def to_json(self) -> dict[str, Any]:
        return {
            "apply": [c.to_json() for c in self.apply],
            "hold": [c.to_json() for c in self.hold],
            "refuse": [c.to_json() for c in self.refuse],
            "dead_letter": [c.to_json() for c in self.dead_letter],
            "assumes": self.assumes,
            "names": dict(self.names),
            "untyped": list(self.untyped),
            "renames": [r.to_json() for r in self.renames],
        }


def plan_drift(
    table: TableSchema | None,
    observed: TableSchema,
    contract: ContractSpec,
    *,
    required: Collection[str] = (),
    reserved: Collection[str] = (),
    previous: TableSchema | None = None,
    approved: Collection[Approval] = (),
) -> DriftPlan:
    """Decides about every change between `table` (lake names; None: none yet) and `observed` (source names). `approved` is what a
    person has approved of this table so far.

    `required` columns (source or lake spelling) are those the row cannot work without; `reserved` lake names belong to
    partition and standard columns; `previous` as in `diff`. InventoryError when two source names meet.
    """
    names = plan_names(observed.names)
    needed = {sanitise(name): name for name in required}
    refuse: list[Change] = [NameRefused(target, source) for source, target in names.items() if target in reserved]
    sorted_out = _Sorted(contract, needed)
    for target, name in needed.items():
        if target not in names.values():
            known = table is not None and target in table
            gone = sorted_out.apply if Approval(RequiredGone.change, target) in approved else sorted_out.hold
            (gone if known else refuse).append(RequiredGone(name))
    for found in diff(table, observed, contract, previous=previous, reserved=reserved):
        done = _by_approval(found, approved, table, names, reserved)
        if done is not None:
            sorted_out.apply += done
            continue
        change: Change | None = found
        if isinstance(found, ColumnRetyped) and contract.to_string == "shadow_column" and found.name not in needed:
            change = _shadow(found, table, names, reserved)
        if change is not None:
            sorted_out.add(change)
    schema = _applied(table, sorted_out.apply)
    keys = tuple(names[key] for key in observed.keys if key in names)
    return DriftPlan(
        schema=replace(schema, keys=schema.keys or keys),
        apply=tuple(sorted_out.apply),
        hold=tuple(sorted_out.hold),
        refuse=tuple(refuse),
        dead_letter=tuple(sorted_out.dead_letter),
        assumes=NO_TABLE if table is None else table.fingerprint,
        names=MappingProxyType(names),
        untyped=tuple(c.name for c in observed if pt.is_null(storable(c.type))),
        renames=suggest_renames(table, observed, sorted_out.all, {one.after for one in renames_of(approved)}),
    )


def apply_drift(table: TableSchema | None, plan: DriftPlan) -> TableSchema:
    """The table after the plan. ConflictError when it is not the table the plan was made for: plan again."""
    found = NO_TABLE if table is None else table.fingerprint
    if found != plan.assumes:
        raise ConflictError(
            f"Cannot apply drift plan: the table is {found} -> {plan.assumes}. Somebody changed it since the plan was "
            "made. Plan again from the table as it is now."
        )
    schema = _applied(table, plan.apply)
    return replace(schema, keys=schema.keys or plan.schema.keys)


class _Sorted:
    """Changes by what is done about them."""

    def __init__(self, contract: ContractSpec, needed: Collection[str]) -> None:
        self.contract = contract
        self.needed = needed
        self.apply: list[Change] = []
        self.hold: list[Change] = []
        self.dead_letter: list[Change] = []

    @property
    def all(self) -> tuple[Change, ...]:
        return (*self.apply, *self.hold, *self.dead_letter)

    def add(self, change: Change) -> None:
        policy = self._policy(change)
        if policy == "freeze" or self._breaks_required(change, policy):
            self.hold.append(change)
        elif policy == "evolve":
            (self.hold if isinstance(change, ColumnRetyped) else self.apply).append(change)
        else:
            self.dead_letter.append(change)

    def _policy(self, change: Change) -> str:
        if isinstance(change, TableCreated):
            return self.contract.tables
        if isinstance(change, ColumnAdded):
            return self.contract.columns
        if isinstance(change, TypeWidened | ColumnRetyped):
            return self.contract.types
        return "evolve"

    def _breaks_required(self, change: Change, policy: str) -> bool:
        """A key, cursor or partition column never turns into text by policy (5 and '5' are two keys), and its values
        are never left out."""
        if not isinstance(change, TypeWidened | ColumnRetyped | ColumnAdded) or change.name not in self.needed:
            return False
        if policy == "discard_value" or (policy == "discard_row" and isinstance(change, ColumnAdded)):
            return True
        return isinstance(change, TypeWidened) and bool(pt.is_string(change.after))


def _by_approval(
    change: Change, approved: Collection[Approval], table: TableSchema | None, names: dict[str, str], reserved: Collection[str]
) -> list[Change] | None:
    """What is applied for a change that a person has approved (nothing, when its shadow is there already); None: nobody has."""
    given = {(a.change, a.name): a for a in approved}
    approval = given.get((change.change, getattr(change, "name", "")))
    match change:
        case TableCreated() | ColumnAdded() if approval is not None:
            return [change]
        case TypeWidened() if approval is not None and approval.type == type_to_text(change.after):
            return [change]
        case ColumnRetyped() if approval is not None and approval.how == "shadow":
            beside = _shadow(change, table, names, reserved)
            return None if beside is change else [beside] if beside is not None else []
        case ColumnRetyped() if approval is not None:
            wider = promote(change.before, change.incoming, LOOSENED)
            if wider is None:
                return None
            if wider.how == "widen":
                return [TypeWidened(change.name, change.before, change.incoming, wider.type)]
            return [TypeNarrowed(change.name, change.before, change.incoming)]
    return None


def _shadow(change: ColumnRetyped, table: TableSchema | None, names: dict[str, str], reserved: Collection[str]) -> Change | None:
    """The retyped column redirected to its text shadow: the shadow as a new column, or None when it is there already.
    The change itself where text cannot hold the values, or the shadow's name is taken."""
    source = next(s for s, target in names.items() if target == change.name)
    shadow = sanitise(change.name + SHADOW)
    if pt.is_nested(change.incoming) or pt.is_binary(change.incoming) or shadow in names.values() or shadow in reserved:
        return change
    have = table.get(shadow) if table is not None else None
    if have is not None and not pt.is_string(have.type):
        return change
    names[source] = shadow
    if have is not None:
        return None
    comment = f"text of {change.name} where it is not {type_to_text(change.before)}"[:MAX_COMMENT]
    return ColumnAdded(Column(shadow, pa.string(), comment=comment, source_name=source))


def _applied(table: TableSchema | None, changes: Collection[Change]) -> TableSchema:
    schema = TableSchema() if table is None else table
    for change in changes:
        if isinstance(change, TableCreated):
            schema = replace(schema, columns=change.columns)
        elif isinstance(change, ColumnAdded):
            schema = schema.with_column(change.column)
        elif isinstance(change, TypeWidened):
            schema = schema.with_column(replace(schema.column(change.name), type=change.after))
        elif isinstance(change, CommentChanged):
            schema = schema.with_column(replace(schema.column(change.name), comment=change.after))
    return schema
