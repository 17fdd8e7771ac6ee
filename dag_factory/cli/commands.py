"""The commands as data: the one table that `dataops` (and `airflow dataops`) are made from. Imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["argument", "option", "flag"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `name` is Python's (`from_` where the word is taken); an option is written `--name`. `of` is the type of its
    value; an option with `many` may be given several times."""

    name: str
    kind: Kind
    help: str
    of: type[str] | type[int] = str
    default: Any = None
    required: bool = False
    metavar: str | None = None
    many: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.rstrip("_").replace("_", "-")


@dataclass(frozen=True, slots=True)
class Command:
    """One command; two words name a command of a group. `run` is `module:function`; the function takes a `Context` and the
    parameters by name and returns a `Report`."""

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
SETTINGS = frozenset({"inventory", "lake", "ledger", "airflow_url"})
"""Parameters that are settings: a flag goes before the environment, `airflow.cfg` and the default."""

_SELECT = Parameter(
    "select", "option", "which sources: `all`, a glob on the id, or terms as `domain=sales tag=daily state=failed`",
    default=(), metavar="TERMS", many=True,
)  # fmt: skip
_REPROCESS = Parameter(
    "reprocess", "option", "also periods that have a run: none, failed (unless said otherwise) or completed", default="failed",
    metavar="WHICH",
)  # fmt: skip
_DRY_RUN = Parameter("dry_run", "flag", "show what would be done, and do nothing", default=False)
_TARGET = Parameter("table", "argument", "the lake table, as <database>.<table>", required=True)
_MAX_ACTIVE = Parameter("max_active", "option", "runs at a time, at most, of all DAGs together", int, 16, metavar="N")
_AIRFLOW = (
    Parameter("airflow_url", "option", "address of Airflow's API server [setting: airflow_url]", metavar="URL"),
    INVENTORY,
    LEDGER,
    JSON,
)
_LETTERS = Parameter("what", "argument", "a source, as <domain>.<name>, or numbers of letters", required=True, many=True)
_REASON = Parameter("reason", "option", "only letters with this reason, for example ragged_row", metavar="CODE")
_DRIFT = Parameter("drift", "argument", "the id of the drift, as `drift list` shows it", required=True)
_BY = Parameter("by", "option", "who decides; your login without", metavar="NAME")
_NEWEST = Parameter("limit", "option", "most to show, the newest", int, 100, metavar="N")
GROUPS = {
    "dead-letters": "Records that could not go on: what they were, and what becomes of them.",

    "drift": "What changed in sources, what of it waits for an answer, and what was done to tables.",
    "fleet": "Many DAGs at once, through Airflow's REST API.",
    "partitions": "The partitions of one lake table: catalog against ledger against lake.",
}
"""Group → what its commands do."""

COMMANDS: tuple[Command, ...] = (
    Command("lint", "Show every problem of the inventory at once.", "dag_factory.cli.lint:lint", (INVENTORY, JSON)),
    Command(
        "plan",
        "Show what an edit of the inventory does to DAGs and tables, and what of it is dangerous.",
        "dag_factory.cli.plan:plan",
        (
            Parameter("against", "option", "a git revision, or another inventory's folder", default="HEAD", metavar="REV-or-PATH"),
            Parameter("markdown", "flag", "write it as the comment of a pull request", default=False),
            INVENTORY,
            JSON,
        ),
    ),
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
        "drift list",
        "Show the drift that waits for somebody's answer, and what waits behind it.",
        "dag_factory.cli.drift:list_",
        (
            _source(required=False),
            Parameter("decided", "flag", "also what is decided and done", default=False),
            INVENTORY,
            LEDGER,
            JSON,
        ),
    ),
    Command(
        "drift show",
        "Show one drift: its changes, what waits for it, who may decide.",
        "dag_factory.cli.drift:show",
        (_DRIFT, INVENTORY, LEDGER, JSON),
    ),
    Command(
        "drift approve",
        "Approve a drift: the table changes, and what was held is published.",
        "dag_factory.cli.drift:approve",
        (
            _DRIFT,
            Parameter(
                "as_", "option",
                "new-column: values of another type go as text into a column beside. rename (or rename:OLD=NEW): the suggested new "
                "column is the old one",
                metavar="HOW",
            ),
            _BY,
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "drift revoke",
        "Take an approved rename back: what comes from now on lands in the new column.",
        "dag_factory.cli.drift:revoke",
        (_DRIFT, _BY, *SYSTEM, JSON),
    ),
    Command(
        "drift reject",
        "Reject a drift: the table stays as it is, and what was held becomes dead letters.",
        "dag_factory.cli.drift:reject",
        (_DRIFT, _BY, *SYSTEM, JSON),
    ),
    Command(
        "drift events",
        "Show what changed in the shape of sources: every change once, newest first.",
        "dag_factory.cli.drift_history:events",
        (_source(required=False), _NEWEST, INVENTORY, LEDGER, JSON),
    ),
    Command(
        "drift audit",
        "Show every statement that changed a lake table: what, why, who.",
        "dag_factory.cli.drift_history:audit",
        (_TARGET, _NEWEST, LEDGER, JSON),
    ),
    Command(
        "verify",
        "Re-read the lake and compare it with the recorded fingerprints.",
        "dag_factory.cli.verify:verify",
        (
            _source(),
            TABLE,
            Parameter("against_source", "flag", "read the source again instead, and name the rows that differ", default=False),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "partitions list",
        "Show a table's partitions as the ledger decided them, and whether the catalog shows them so.",
        "dag_factory.cli.partitions:list_",
        (
            _TARGET,
            Parameter("after", "option", "begin behind this partition, for example dt=2024-05-01", metavar="PARTITION"),
            Parameter("limit", "option", "most partitions to show", int, 100, metavar="N"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "partitions repair",
        "Show readers what is decided where the catalog differs; tell what is foreign or gone.",
        "dag_factory.cli.partitions:repair",
        (
            _TARGET,
            _DRY_RUN,
            Parameter("yes", "flag", "also drop partitions whose files are gone from the lake", default=False),
            Parameter("deep", "flag", "read and prove every row, too", default=False),
            Parameter("most_partitions", "option", "drop no more than this [setting: drop_most_partitions]", int, metavar="N"),
            Parameter("most_percent", "option", "drop no larger share [setting: drop_most_percent]", int, metavar="PERCENT"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "partitions expire",
        "Drop the partitions that are older than the row's `target.retention_days`.",
        "dag_factory.cli.partitions:expire",
        (
            _TARGET,
            _DRY_RUN,
            Parameter("limit", "option", "drop the oldest N, however large a share that is", int, metavar="N"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "partitions compact",
        "Write many small files of a partition as few, and files that engines cannot read any more; columns follow the table.",
        "dag_factory.cli.partitions_compact:compact",
        (
            _TARGET,
            Parameter("partition", "option", "only this one, for example dt=2024-05-01", metavar="PARTITION"),
            _DRY_RUN,
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "dead-letters list",
        "List the records that could not go on, with a masked preview.",
        "dag_factory.cli.dead_letters:list_letters",
        (
            _source(required=False),
            Parameter("state", "option", "open, replaying, replayed, discarded, superseded or expired", metavar="STATE"),
            _REASON,
            TABLE,
            Parameter("limit", "option", "most letters to show", int, 50, metavar="N"),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "dead-letters show",
        "Show one letter; the record itself only with `--raw`, and the access of the dead-letter place.",
        "dag_factory.cli.dead_letters:show_letter",
        (
            Parameter("id", "argument", "the letter's number", int, required=True),
            Parameter("raw", "flag", "also the record as it was", default=False),
            *SYSTEM,
            JSON,
        ),
    ),
    Command(
        "dead-letters replay",
        "Send open letters through the present contract into their partition, each once.",
        "dag_factory.cli.dead_letters:replay_letters",
        (_LETTERS, TABLE, _REASON, *SYSTEM, JSON),
    ),
    Command(
        "dead-letters discard",
        "Close open letters that nobody needs; the reason stays with them.",
        "dag_factory.cli.dead_letters:discard_letters",
        (
            Parameter("why", "option", "why nobody needs these records", required=True, metavar="TEXT"),
            _LETTERS,
            TABLE,
            _REASON,
            *SYSTEM,
            JSON,
        ),
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
        "doctor",
        "Say what is wrong with Airflow's configuration for so many rows, and how to fix it.",
        "dag_factory.cli.doctor:doctor",
        (
            Parameter("rows", "option", "judge it for so many rows; for those of the inventory without", int, metavar="N"),
            Parameter("airflow_url", "option", "address of Airflow's API server [setting: airflow_url]", metavar="URL"),
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
    Command(
        "fleet status",
        "Show how the selected sources and their DAGs stand.",
        "dag_factory.cli.fleet:status",
        (_SELECT, *_AIRFLOW),
    ),
    Command(
        "fleet backfill",
        "Load past periods of the selected DAGs; what is loaded already is recognised.",
        "dag_factory.cli.fleet:backfill",
        (
            _SELECT,
            Parameter("from_", "option", "first period: a date, or a time on the wall clock of the row's zone", metavar="WHEN"),
            Parameter("to", "option", "last period, part of the range", metavar="WHEN"),
            _REPROCESS,
            _MAX_ACTIVE,
            _DRY_RUN,
            *_AIRFLOW,
        ),
    ),
    Command("fleet pause", "Pause the selected DAGs.", "dag_factory.cli.fleet:pause", (_SELECT, _DRY_RUN, *_AIRFLOW)),
    Command("fleet unpause", "Unpause the selected DAGs.", "dag_factory.cli.fleet:unpause", (_SELECT, _DRY_RUN, *_AIRFLOW)),
    Command(
        "fleet trigger",
        "Start a run of each selected DAG, and wait for it.",
        "dag_factory.cli.fleet:trigger",
        (
            _SELECT,
            Parameter("partition", "option", "the period with this key, for example 2024-05-01", metavar="KEY"),
            Parameter("label", "option", "name of this operation: the same one again does only what is missing", metavar="NAME"),
            _MAX_ACTIVE,
            _DRY_RUN,
            *_AIRFLOW,
        ),
    ),
    Command(
        "fleet cancel",
        "End the backfills and runs of the selected DAGs that are under way.",
        "dag_factory.cli.fleet:cancel",
        (_SELECT, _DRY_RUN, *_AIRFLOW),
    ),
    Command(
        "fleet retry",
        "Try the newest run of each selected DAG again, if it failed.",
        "dag_factory.cli.fleet:retry",
        (_SELECT, _MAX_ACTIVE, _DRY_RUN, *_AIRFLOW),
    ),
)
