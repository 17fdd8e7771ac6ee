"""The commands as data: the one table that `dataops` (and `airflow dataops`) are made from. Imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["argument", "option", "flag"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `name` is Python's; an option is written `--name`. `of` is the type of its value."""

    name: str
    kind: Kind
    help: str
    of: type[str] | type[int] = str
    default: Any = None
    required: bool = False
    metavar: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `run` is `module:function`; the function takes a `Context` and the parameters by name and returns a
    `Report`."""

    name: str
    help: str
    run: str
    parameters: tuple[Parameter, ...] = ()

    def load(self) -> Callable[..., Any]:
        module, _, function = self.run.partition(":")
        return getattr(importlib.import_module(module), function)


def _source(required: bool = True) -> Parameter:
    what = "the source, as <domain>.<name>"
    return Parameter("source", "argument", what if required else what + "; all of them without", required=required)


JSON = Parameter("json", "flag", "print exactly one JSON document on stdout", default=False)
INVENTORY = Parameter("inventory", "option", "folder of the inventory [setting: inventory]", metavar="PATH")
LAKE = Parameter("lake", "option", "address of the default lake [setting: lake]", metavar="URI")
LEDGER = Parameter("ledger", "option", "URL of the ledger [setting: ledger]", metavar="URL")
TABLE = Parameter("table", "option", "only source tables that match this glob", metavar="GLOB")
SYSTEM = (INVENTORY, LAKE, LEDGER)
SETTINGS = frozenset(p.name for p in SYSTEM)
"""Parameters that are settings: a flag goes before the environment, `airflow.cfg` and the default."""

COMMANDS: tuple[Command, ...] = (
    Command("lint", "Show every problem of the inventory at once.", "dag_factory.cli.lint:lint", (INVENTORY, JSON)),
    Command(
        "explain",
        "Show a source's resolved row, and where each value came from.",
        "dag_factory.cli.explain:explain",
        (
            _source(),
            Parameter("table", "option", "the row as this source table gets it", metavar="TABLE"),
            INVENTORY,
            JSON,
        ),
    ),
    Command(
        "discover",
        "Show a source's tables, columns, keys and sizes, and a proposed row.",
        "dag_factory.cli.discover:discover",
        (_source(), TABLE, *SYSTEM, JSON),
    ),
    Command(
        "run",
        "Load a source in this process, with the steps of its DAG.",
        "dag_factory.cli.run:run",
        (
            _source(),
            TABLE,
            Parameter("partition", "option", "the period with this key, for example 2024-05-01", metavar="KEY"),
            Parameter("start", "option", "first period of a range: a date or a time", metavar="WHEN"),
            Parameter("end", "option", "end of the range, not part of it", metavar="WHEN"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "status",
        "Show the last batches with their accounting, watermark and lag.",
        "dag_factory.cli.status:status",
        (
            _source(required=False),
            Parameter("limit", "option", "most batches to show", int, 50, metavar="N"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "verify",
        "Re-read the lake and compare it with the recorded fingerprints.",
        "dag_factory.cli.verify:verify",
        (_source(), TABLE, *SYSTEM, JSON),
    ),
    Command(
        "sql",
        "Query the current partitions of the catalog with DuckDB.",
        "dag_factory.cli.sql:sql",
        (
            Parameter("query", "argument", "one SELECT; tables are called <database>.<table>", required=True),
            Parameter("max_rows", "option", "stop (exit code 4) when the answer has more rows", int, 100_000, metavar="N"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "import-csv",
        "Turn a spreadsheet (CSV, a column per field) into a domain file.",
        "dag_factory.cli.import_csv:import_csv",
        (
            Parameter("file", "argument", "the CSV file; columns are called as fields: name, read.mode, …", required=True),
            Parameter("out", "option", "write this file instead of the terminal; never replaces one", metavar="FILE"),
            JSON,
        ),
    ),
)
