"""The reference pages of the Airflow face, made from the code: `python -m airflow_dataops.operators.reference FOLDER`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from airflow_dataops.get_provider_info import get_provider_info
from airflow_dataops.operators.approvals import AnswerOperator, AskOperator, StartQuestionsOperator
from airflow_dataops.operators.compact import CompactOperator
from airflow_dataops.operators.discover import DiscoverOperator
from airflow_dataops.operators.drift_sync import DriftSyncOperator
from airflow_dataops.operators.expire import ExpireOperator
from airflow_dataops.operators.fleet import FleetOperator
from airflow_dataops.operators.freshness import FreshnessOperator
from airflow_dataops.operators.load import LoadOperator
from airflow_dataops.operators.notify import DataOpsNotifier
from airflow_dataops.operators.onboard import (
    ApproveOperator,
    BuildOperator,
    CheckRequestOperator,
    FirstRunOperator,
    OnboardOperator,
    ProposeOperator,
)
from airflow_dataops.operators.partition_sync import PartitionSyncOperator
from airflow_dataops.operators.replay import ReplayOperator
from airflow_dataops.operators.step import StepOperator
from airflow_dataops.operators.sweep import SweepOperator
from airflow_dataops.operators.verify import FingerprintOperator
from airflow_dataops.plugins.timetable import PeriodTimetable
from airflow_dataops.settings import OPTIONS, SECTION

MADE = "Made from the code by `python -m airflow_dataops.operators.reference docs/reference`; do not edit."


def pages() -> dict[str, str]:
    """File name → Markdown."""
    return {"settings.md": _settings(), "operators.md": _operators(), "connections.md": _connections()}


def _settings() -> str:
    rows = [
        f"| `{o.name}` | `AIRFLOW__{SECTION.upper()}__{o.name.upper()}` | {o.kind} | "
        f"{f'`{o.default}`' if o.default else 'empty'} | {o.description}{' *Sensitive.*' if o.sensitive else ''} |"
        for o in OPTIONS
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            f"{MADE}",
            "",
            f"Section `[{SECTION}]` of Airflow's configuration. A value comes from, the first that is there: a flag of the",
            "`dataops` command, the environment variable, `airflow.cfg` (`$AIRFLOW_CONFIG`, else in `$AIRFLOW_HOME`), the",
            "default. `$NAME` and `~` in a value are replaced, as Airflow does. The `dataops` command and Airflow see the same",
            "values. A sensitive option may also come from a command or a secrets backend (`…_CMD`, `…_SECRET`), as with any",
            "sensitive option of Airflow; the `dataops` command then has to import Airflow, which takes it some seconds.",
            "",
            "| option | environment variable | type | default | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _operators() -> str:
    lines = [
        "# Operators, timetable, notifier",
        "",
        MADE,
        "",
        "The factory makes the DAG of a row from these four tasks: `discover` → `drift_sync` → `load` → `verify`. Beside them",
        "there is one DAG for the whole fleet, `dataops_maintenance`, with the tasks `sweep`, `expire`, `freshness`, `compact` and",
        "`ask`; the setting `maintenance_schedule` says when it runs. The DAG `dataops_onboard`",
        "[adds rows by a form](../onboarding.md), and `dataops_approvals` [asks about held drift](../drift.md#in-airflow).",
        "",
        "## Operators of a row",
        "",
        inspect.getdoc(StepOperator) or "",
        "",
        "Errors become Airflow's in one place: an error that may go away by itself uses up a retry, every other product",
        "error fails the task at once, and what nobody foresaw is retried.",
        "",
    ]
    tasks: dict[str, type[StepOperator]] = {
        "discover": DiscoverOperator, "drift_sync": DriftSyncOperator, "load": LoadOperator, "verify": FingerprintOperator,
        "replay": ReplayOperator,
    }  # fmt: skip
    for task_id, operator in tasks.items():
        lines += [f"## {operator.__name__}", "", f"Task `{task_id}`, `{operator.__module__}`.", ""]
        lines += [inspect.getdoc(operator) or "", ""]
    lines += ["## PartitionSyncOperator", "", f"`{PartitionSyncOperator.__module__}`, in no DAG of the factory.", ""]
    lines += [inspect.getdoc(PartitionSyncOperator) or "", ""]
    lines += ["## Operators of the fleet", "", inspect.getdoc(FleetOperator) or "", ""]
    of_all: dict[str, type[FleetOperator]] = {
        "sweep": SweepOperator, "expire": ExpireOperator, "freshness": FreshnessOperator, "compact": CompactOperator,
        "ask": StartQuestionsOperator,
    }  # fmt: skip
    for task_id, of_fleet in of_all.items():
        lines += [f"## {of_fleet.__name__}", "", f"Task `{task_id}`, `{of_fleet.__module__}`.", ""]
        lines += [inspect.getdoc(of_fleet) or "", ""]
    lines += ["## Operators of onboarding", "", inspect.getdoc(OnboardOperator) or "", ""]
    steps: dict[str, type] = {
        "check": CheckRequestOperator, "propose": ProposeOperator, "approve": ApproveOperator, "build": BuildOperator,
        "first_run": FirstRunOperator,
    }  # fmt: skip
    for task_id, step in steps.items():
        lines += [f"## {step.__name__}", "", f"Task `{task_id}`, `{step.__module__}`.", "", inspect.getdoc(step) or "", ""]
    lines += ["## Operators of approvals", "", "A run of `dataops_approvals` is about one drift, whose id is the run's.", ""]
    questions: dict[str, type] = {"ask": AskOperator, "answer": AnswerOperator}
    for task_id, step in questions.items():
        lines += [f"## {step.__name__}", "", f"Task `{task_id}`, `{step.__module__}`.", "", inspect.getdoc(step) or "", ""]
    for helper in (PeriodTimetable, DataOpsNotifier):
        lines += [f"## {helper.__name__}", "", f"`{helper.__module__}`.", "", inspect.getdoc(helper) or "", ""]
    return "\n".join(lines)


def _connections() -> str:
    lines = [
        "# Connections",
        "",
        MADE,
        "",
        "Credentials only ever come through Airflow connections. An `AIRFLOW_CONN_<ID>` in the environment (URI or JSON) is",
        "read at once; any other connection is asked of Airflow: its secrets backend, its metadata database, or, in a task,",
        "its execution API. In a URI special characters are percent-encoded; typed extras go into `__extra__` or JSON.",
        "",
        "| used for | type | what is read |",
        "|---|---|---|",
        "| `kind: sql` | `postgres` | host, port, login, password, schema (the database); extras of the driver |",
        "| `kind: sql` | `mysql` | host, port, login, password, schema (the database); extras of the driver |",
        "| `kind: sql` | `sqlite` | host: the path of the file |",
        "| `kind: files` | `fs` | extra `path`: where relative paths begin, and what the row may not leave |",
        "| `kind: files`, lakes, dead letters on S3 | `aws` | login and password: the keys; extras `region_name`, `endpoint_url` |",
        "| catalogs of kind `hive` | `hive_metastore` | host, port, login, password; extras in [hive.md](hive.md) |",
        "| `notify` | `http` | host, port, schema (`https`), password (a bearer token), extra `endpoint` |",
        "| `notify` | `smtp` | host, port, login, password; extras `from_email`, `to_email`, `disable_tls` |",
    ]
    for own in get_provider_info()["connection-types"]:
        relabelled = own["ui-field-behaviour"]["relabeling"]
        read = ", ".join(f"{name}: {label}" for name, label in relabelled.items())
        lines.append(f"| `privacy.key_conn_id` | `{own['connection-type']}` ({own['hook-name']}) | {read} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for file_name, text in pages().items():
        Path(sys.argv[1], file_name).write_text(text, encoding="utf-8")
