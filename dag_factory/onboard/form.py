"""The form of `dataops_onboard`: its fields, and from what was typed to a row. Pure: nothing is asked of the outside.

Everything typed is data. What looks like a credential is refused here, before anything is stored, logged or shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.options import OPTION_MODELS
from airflow_dataops.schedule import PRESETS
from dag_factory.inventory.reader import DEFAULTS, PLATFORM
from dag_factory.inventory.row import is_id
from dag_factory.inventory.secret_text import secret_kind, shown

INHERIT, CRON = "inherit", "cron"
"""Choices of a drop-down: what the domain's defaults say, and the cron expression in the field below."""

_ID = "a lower-case letter, then lower-case letters, digits and single `_`, at most 63 characters"
_WHERE, _WHAT, _HOW = "Which source", "What to take", "When and how"
MOST_CHARACTERS = 4096
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class FormField:
    """One field. `kind` is `text`, `lines` (a list, one entry per line), `choice` or `switch`. `choices` maps a value to its
    label. An optional field that is left empty says nothing."""

    name: str
    section: str
    title: str
    about: str
    kind: str = "text"
    default: Any = None
    required: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)


FIELDS = (
    FormField("domain", _WHERE, "Domain", f"The file of the inventory it belongs to: {_ID}.", required=True),
    FormField("name", _WHERE, "Name", f"Its id within the domain: {_ID}. The DAG is `ingest__<domain>__<name>`.", required=True),
    FormField("owner", _WHERE, "Owner", "Who is asked when it fails: a person or a team. Empty: as the domain says."),
    FormField("description", _WHERE, "Description", "What the source is, in a sentence."),
    FormField("kind", _WHAT, "Kind", "What kind of system it is.", "choice", "sql", choices={
        kind: {"sql": "sql: a database", "files": "files: files in folders or buckets"}.get(kind, kind) for kind in OPTION_MODELS
    }),
    FormField("conn_id", _WHAT, "Connection",
              "Id of the Airflow connection that opens it (Admin, Connections). **Never a password.**"),
    FormField("path", _WHAT, "Path", "For files: a file, a glob or a folder, relative to the connection; or `s3://bucket/prefix`."),
    FormField("tables", _WHAT, "Tables", "One name or glob per line, as `public.*`.", "lines", ["*"]),
    FormField("exclude", _WHAT, "Leave out", "Names or globs that are never taken, one per line.", "lines"),
    FormField("schedule", _HOW, "Schedule", "When it runs.", "choice", INHERIT, choices={
        INHERIT: "as the domain says (else daily)", **{preset: preset.removeprefix("@") for preset in PRESETS},
        "none": "by hand only", CRON: "the cron expression below",
    }),
    FormField("cron", _HOW, "Cron expression", "Five fields, as `30 6 * * 1-5`; with Schedule on *cron expression* only."),
    FormField("contract", _HOW, "When the source changes", "What new tables, new columns and other types may do to the lake.",
              "choice", INHERIT, choices={
        INHERIT: "as the domain says (else evolve)", "evolve": "evolve: the lake follows", "freeze": "freeze: held for a person",
        "discard_row": "discard_row: rows that do not fit become dead letters",
    }),
    FormField("database", _HOW, "Target database", "Where its tables land. Empty: named like the domain."),
    FormField("review", _HOW, "Show me first", "Wait with the proposed tables and the plan until somebody answers *Build*. A "
              "domain whose defaults name `approvers` always waits, for one of them.", "switch", True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Submission:
    """What was asked for: a row as it would be written, and whether to wait for an answer before it is."""

    domain: str
    row: Mapping[str, Any]
    review: bool

    @property
    def source_id(self) -> str:
        return f"{self.domain}.{self.row['name']}"


def read_form(typed: Mapping[str, Any]) -> Submission:
    """The submission. InventoryError lists every field that is wrong, and quotes no credential."""
    known = {f.name: f for f in FIELDS}
    problems = [_unknown(name, known) for name in typed if name not in known]
    values: dict[str, Any] = {}
    for f in FIELDS:
        try:
            values[f.name] = _value(f, typed.get(f.name))
        except ValueError as error:
            problems.append(f"{f.name}: {error}")
    problems += _together(values)
    if problems:
        raise refused("the form", problems)
    return Submission(values["domain"], _row(values), values["review"])


def refused(what: str, problems: list[str]) -> InventoryError:
    """The error that lists what is wrong with a submission, a line each."""
    listed = "\n".join(problems)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return InventoryError(f"Cannot onboard {what}: {count} -> none.\n{listed}\nCorrect the form, and submit it again.")


def _unknown(name: str, known: Mapping[str, FormField]) -> str:
    if secret_kind(name):
        return "a field name is a credential. Remove it, and change the credential: Airflow has stored it with the run"
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean `{near[0]}`?" if near else "Remove it"
    return f"{shown(name)} is no field of the form, known are {', '.join(known)}. {hint}"


def _value(f: FormField, found: Any) -> Any:
    """ValueError says what is wrong."""
    found = f.default if found is None else found
    if f.kind == "switch":
        if not isinstance(found, bool):
            raise ValueError(f"found {shown(found)} -> true or false")
        return found
    if f.kind == "lines":
        found = [] if found is None else found
        if not isinstance(found, list | tuple) or not all(isinstance(line, str) for line in found):
            raise ValueError(f"found {shown(found)} -> a list of texts")
        return [text for line in found if (text := _text(line))]
    if found is None:
        found = ""
    if not isinstance(found, str):
        raise ValueError(f"found {shown(found)} -> text")
    text = _text(found)
    if f.required and not text:
        raise ValueError("is required. Fill it in")
    if f.choices and text not in f.choices:
        raise ValueError(f"found {shown(text)} -> one of {', '.join(f.choices)}")
    return text


def _text(found: str) -> str:
    kind = secret_kind(found)
    if kind is not None:
        raise ValueError(
            f"holds {kind}. Credentials only ever come through an Airflow connection (`conn_id`). Put it there, and change the "
            "credential: Airflow has stored it with this run"
        )
    if _NO_TEXT.search(found):
        raise ValueError("holds a NUL character, or half of a character -> text that a file can hold. Type it anew")
    if len(found) > MOST_CHARACTERS:
        raise ValueError(f"found {len(found)} characters -> at most {MOST_CHARACTERS}")
    return found.strip()


def _together(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with fields that can be read, by themselves or beside each other. Those that cannot are absent."""
    problems = []
    for name in ("domain", "name"):
        if name in values and not is_id(values[name]):
            problems.append(f"{name}: found {shown(values[name])} -> an id: {_ID}")
    if f"{values.get('domain')}.yaml" in (DEFAULTS, PLATFORM):
        problems.append(f"domain: found {values['domain']!r} -> another name. That file holds what all domains share")
    schedule, cron = values.get("schedule"), values.get("cron")
    if schedule == CRON and cron == "":
        problems.append("cron: is required with this schedule. Fill it in, or choose another schedule")
    if schedule not in (None, CRON) and cron:
        problems.append(f"cron: found {shown(cron)} -> nothing with this schedule. Choose schedule `{CRON}`, or empty it")
    if values.get("kind", "files") != "files" and values.get("path"):
        problems.append(f"path: found {shown(values['path'])} -> nothing. Only files have a path")
    if values.get("tables") == []:
        problems.append("tables: is empty -> at least one name or glob. `*` takes all")
    return problems


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row that the form says something of."""
    row: dict[str, Any] = {name: values[name] for name in ("name", "kind", "conn_id", "owner", "description") if values[name]}
    if values["path"]:
        row["options"] = {"path": values["path"]}
    row["tables"] = values["tables"]
    if values["exclude"]:
        row["exclude"] = values["exclude"]
    if values["schedule"] != INHERIT:
        row["schedule"] = values["cron"] if values["schedule"] == CRON else values["schedule"]
    if values["contract"] != INHERIT:
        row["contract"] = dict.fromkeys(("tables", "columns", "types"), values["contract"])
    if values["database"]:
        row["target"] = {"database": values["database"]}
    return row
