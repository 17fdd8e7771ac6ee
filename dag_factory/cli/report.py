"""What a command answers: one JSON document or something to read, and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.errors import DataOpsError, InventoryError, LimitError, RetryError

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.settings import Settings
    from dag_factory.inventory import Problem

SCHEMA = 1
"""Version of the JSON documents."""


class Code(IntEnum):
    """Exit codes, the same for every command."""

    GOOD = 0
    PROBLEMS = 1
    WRONG_USE = 2
    NOT_DONE = 3
    LIMIT = 4


class UsageError(Exception):
    """The command was called in a way that cannot be meant. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every command gets: the settings, where progress goes (stderr), and whether stdout is for a program."""

    settings: Settings
    progress: Console
    json: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A command's answer. `data` goes into the JSON document, `show` writes the same for a person."""

    data: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Mapping[str, Any], ...] = ()
    code: Code = Code.GOOD
    show: Callable[[Console], None] | None = None

    def document(self) -> dict[str, Any]:
        """The one JSON document."""
        return {"schema": SCHEMA, "ok": self.code is Code.GOOD, "problems": list(self.problems), **self.data}


def problem(message: str, code: str = "problem", **more: Any) -> dict[str, Any]:
    """A problem that has no place in the inventory, in the shape of those that have."""
    return {"severity": "error", "code": code, "message": message, **more}


def inventory_problems(problems: Iterable[Problem]) -> tuple[dict[str, Any], ...]:
    """Problems of the inventory for a document."""
    return tuple({**p.to_json(), "code": "inventory"} for p in problems)


def code_of(error: DataOpsError) -> Code:
    """The exit code for an error of the product."""
    if isinstance(error, LimitError):
        return Code.LIMIT
    return Code.NOT_DONE if isinstance(error, RetryError) else Code.PROBLEMS


def report_of(error: BaseException) -> Report:
    """The answer when a command could not give its own."""
    if isinstance(error, UsageError):
        return Report(problems=(problem(str(error), "usage"),), code=Code.WRONG_USE)
    if isinstance(error, DataOpsError):
        kind = "inventory" if isinstance(error, InventoryError) else error.code
        return Report(problems=(problem(str(error), kind),), code=code_of(error))
    # Only its name: nobody knows what its text quotes, a password of a URL or a value of a row.
    text = f"Cannot go on: {type(error).__name__} -> no error. This is a defect; set DATAOPS_TRACEBACK=1 to see where and why."
    return Report(problems=(problem(text, "unexpected"),), code=Code.NOT_DONE)
