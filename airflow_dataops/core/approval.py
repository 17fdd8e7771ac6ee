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
per table and given to `plan_drift`, so that nobody is asked twice. Other answers (`rename:<column>`) have their seat in the
ledger, and none here yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pyarrow import types as pt

from airflow_dataops.core.drift import Change, ColumnAdded, ColumnRetyped, RequiredGone, TableCreated, TypeWidened
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.promotion import LOOSENED, promote
from airflow_dataops.core.types_text import type_to_text

APPROVE, NEW_COLUMN, REJECT = "approve", "new_column", "reject"
ANSWERS = (APPROVE, NEW_COLUMN, REJECT)


@dataclass(frozen=True, slots=True)
class Approval:
    """One approved change of a table. `name` is the lake column ("" for the table itself); `how`: `apply`, or for a retyped column
    `text` or `shadow`; `type` is the type of an approved widening, as text."""

    change: str
    name: str
    how: Literal["apply", "text", "shadow"] = "apply"
    type: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Approval:
        return cls(data["change"], data["name"], data["how"], data["type"])


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
