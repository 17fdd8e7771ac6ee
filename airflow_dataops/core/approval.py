"""What a person's answer about held drift means: which changes are made, now and for every later batch of the table.

| held change    | approve                             | new_column                        | neither                       |
|----------------|-------------------------------------|-----------------------------------|-------------------------------|
| TableCreated   | the table is made                   | as approve                        |                               |
| ColumnAdded    | the column is added                 | as approve                        |                               |
| TypeWidened    | the column takes that type          | as approve                        | text for a column at work     |
| ColumnRetyped  | the wider type if there is one,     | such values as text in            | a column at work, and values  |
|                | else text                           | `<column>__str` beside it         | that text cannot hold         |
| RequiredGone   | the column is NULL                  | as approve                        | a column at work              |

A column is *at work* when rows are told apart, ordered, found or placed by it. `reject` needs no meaning here: what waits becomes
dead letters, the table stays as it is, and the same drift of a later batch is asked about anew. An approval stands: it is kept
per table and given to `plan_drift`, so that nobody is asked twice.

The answer `rename` is about pairs of columns, one gone and one new: the new one is the old one from then on (`core.continued`).
What else was held beside them is approved with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyarrow import types as pt

from airflow_dataops.core.continued import Rename
from airflow_dataops.core.drift import Change, ColumnAdded, ColumnRenamed, ColumnRetyped, RequiredGone, TableCreated, TypeWidened
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.promotion import LOOSENED, promote
from airflow_dataops.core.types_text import type_to_text

APPROVE, NEW_COLUMN, RENAME, REJECT = "approve", "new_column", "rename", "reject"
ANSWERS = (APPROVE, NEW_COLUMN, RENAME, REJECT)
REVOKED = "revoked"
"""What an answer `rename` becomes that was taken back."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One approved change of a table. `name` is the lake column ("" for the table itself); `how`: `apply`, or for a retyped column
    `text` or `shadow`; `type` is the type of an approved widening, as text. `rename`: `name` is the new one of an old column."""

    change: str
    name: str
    how: Literal["apply", "text", "shadow"] = "apply"
    type: str | None = None
    rename: Rename | None = None

    def to_json(self) -> dict[str, Any]:
        told = {"change": self.change, "name": self.name, "how": self.how, "type": self.type}
        return told if self.rename is None else told | {"rename": self.rename.to_json()}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Approval:
        rename = data.get("rename")
        return cls(data["change"], data["name"], data["how"], data["type"], Rename.of_json(rename) if rename else None)


def renames_of(approved: Iterable[Approval]) -> tuple[Rename, ...]:
    """The renames among what was approved of a table."""
    return tuple(one.rename for one in approved if one.rename is not None)


@dataclass(frozen=True, slots=True)
class TableNow:
    """What an approved rename must go with. `standing`: those approved before; `shown`: the table's columns that the source showed
    last; `at_work` as for the others, `fixed` of it those that the source is asked by, or rows are placed by."""

    standing: tuple[Rename, ...]
    shown: Collection[str]
    at_work: Mapping[str, str]
    fixed: Mapping[str, str]


def plan_renames(held: Sequence[Change], pairs: Sequence[Rename], now: TableNow) -> tuple[Approval, ...]:
    """What the answer `rename` approves: these pairs, and of the held changes what is none of them as `approve` does.
    InventoryError naming every pair that cannot be one column, and why; then nothing is approved."""
    pairs = [_resolved(one, now.standing) for one in pairs]
    refused = [f"{one.before!r} as {one.after!r}: {why}" for one in pairs if (why := _not_one(one, pairs, now)) is not None]
    if refused or not pairs:
        raise InventoryError(
            f"Cannot rename: {'; '.join(refused) or 'no column is suggested to be another'} -> a column that is gone and a new one "
            "in its place, that no row is placed by and the source is not asked by. Give the column its old name in `read.query`, "
            "approve the new one beside it, or reject it."
        )
    explained = {one.after for one in pairs} | {one.before for one in pairs}
    rest = [c for c in held if not isinstance(c, ColumnRenamed) and sanitise(getattr(c, "name", "")) not in explained]
    made = tuple(Approval(ColumnRenamed.change, one.after, rename=one) for one in pairs)
    return made + (plan_approval(rest, APPROVE, now.at_work) if rest else ())


def _resolved(one: Rename, standing: Iterable[Rename]) -> Rename:
    """The pair with the column that the table has: what goes on under a name that goes on under the next."""
    first = next((o for o in standing if o.after == one.before), None)
    return one if first is None else replace(one, before=first.before, before_origin=first.before_origin)


def _not_one(one: Rename, pairs: Sequence[Rename], now: TableNow) -> str | None:
    """Why the pair cannot be one column."""
    others = [o for o in (*now.standing, *pairs) if o != one]
    if one.before in now.fixed:
        return f"the row uses it as {now.fixed[one.before]}"
    if one.after in now.at_work:
        return f"the row uses {one.after!r} as {now.at_work[one.after]}, and the column is {one.before!r} in the table"
    if one.before in now.shown:
        return "it is back in the source"
    if any(one.after in (o.before, o.after) for o in others) or one.before == one.after:
        return "the new name stands for another column"
    if any(one.before == o.before for o in pairs if o is not one):
        return "two columns cannot both go on as it"
    return None


def plan_approval(held: Sequence[Change], answer: str, at_work: Mapping[str, str]) -> tuple[Approval, ...]:
    """What `answer` (approve or new_column) approves. `at_work`: lake column → what the row does with it. InventoryError naming
    every change that cannot be approved, and why; then nothing is."""
    found: list[Approval] = []
    refused: list[str] = []
    for change in held:
        made = _approval(change, answer, at_work)
        if isinstance(made, Approval):
            found.append(made)
        else:
            refused.append(f"{change}: {made}")
    if refused:
        raise InventoryError(
            f"Cannot {answer.replace('_', ' ')} the drift: {'; '.join(refused)} -> changes that keep every value and let rows be "
            "told apart. Reject it; edit the row so that it does without the column, and run the period again."
        )
    if answer == NEW_COLUMN and not any(approval.how == "shadow" for approval in found):
        raise InventoryError(
            "Cannot approve the drift as a new column: no column of it has another type -> at least one. There is nothing to put "
            "beside. Approve it, or reject it."
        )
    return tuple(found)


def _approval(change: Change, answer: str, at_work: Mapping[str, str]) -> Approval | str:
    """The approval, or why there is none."""
    match change:
        case TableCreated():
            return Approval(change.change, "")
        case ColumnAdded():
            return Approval(change.change, change.name)
        case TypeWidened():
            if change.name in at_work and pt.is_string(change.after):
                return _works(change.name, at_work)
            return Approval(change.change, change.name, type=type_to_text(change.after))
        case RequiredGone():
            name = sanitise(change.name)
            return _works(name, at_work) if name in at_work else Approval(change.change, name)
        case ColumnRetyped():
            if change.name in at_work:
                return _works(change.name, at_work)
            if answer == NEW_COLUMN:
                if pt.is_nested(change.incoming) or pt.is_binary(change.incoming):
                    return f"text cannot hold {type_to_text(change.incoming)}"
                return Approval(change.change, change.name, "shadow")
            if promote(change.before, change.incoming, LOOSENED) is None:
                return f"no type holds both {type_to_text(change.before)} and {type_to_text(change.incoming)}"
            return Approval(change.change, change.name, "text")
    return "it is never approved"


def _works(name: str, at_work: Mapping[str, str]) -> str:
    return f"the row uses {name!r} as {at_work[name]}, with the type that it has"


def columns_at_work(keys: Collection[str], order: str | None, cursor: str | None, partitions: Collection[str]) -> dict[str, str]:
    """Lake column → what the row does with it, from source names (the arguments of the same names)."""
    roles = {order: "the order of its rows", cursor: "cursor"}
    named = [*((n, "partition") for n in partitions), *roles.items(), *((n, "key") for n in keys)]
    return {sanitise(name): role for name, role in named if name}
