"""Rows that are good by every rule of ours and that Airflow refuses all the same: a cluster policy, a plugin, a release.

Nobody knows before the DAG is built, and that is done by the processes that parse. So the parse leaves the row out of its
file and notes why; the next `refresh` withholds the row and gives it an error file of its own. A note is about one text of one
row: an edited row is tried again, and so is everything after a restart of the DAG processor.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dag_factory.bundle.compiled import CompiledFleet
from dag_factory.bundle.units import RowText
from dag_factory.bundle.whole import write_whole
from dag_factory.inventory.problem import Problem

FOLDER = "refused"
MESSAGE_CHARACTERS = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """`content` is the hash of the row's text, `message` why it became no DAG."""

    content: str
    message: str


def note_refusal(folder: Path, dag_id: str, text: bytes, error: Exception) -> None:
    """Notes that the row with this text cannot become a DAG. OSError when it cannot be written."""
    told = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
    message = f"Airflow does not take its DAG: {type(error).__name__}: {told} -> a DAG that it takes. Correct the row"
    write_whole(folder / dag_id, json.dumps({"content": _hash(text), "message": message}).encode())


def read_refusals(folder: Path) -> dict[str, Refusal]:
    """The notes by DAG id. One that cannot be read is passed over: the parse writes it again."""
    found = {}
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if not file.name.startswith("."):
                try:
                    note = json.loads(file.read_bytes())
                    found[file.name] = Refusal(str(note["content"]), str(note["message"]))
                except (OSError, ValueError, KeyError, TypeError) as error:
                    log.warning("Cannot read note %s: %s", file, error)
    return found


def current_refusals(folder: Path, notes: Mapping[str, Refusal], rows: Mapping[str, RowText]) -> dict[str, str]:
    """DAG id → message of the notes that are about a row as it is now; the others are deleted."""
    current = {}
    for dag_id, note in notes.items():
        row = rows.get(dag_id)
        if row is not None and _hash(row.text.encode()) == note.content:
            current[dag_id] = note.message
        else:
            (folder / dag_id).unlink(missing_ok=True)
    return current


def withhold(fleet: CompiledFleet, why: Mapping[str, str]) -> CompiledFleet:
    """The fleet without these DAGs, each of them a problem of its row. Of a retired row nobody has to be told: there is nothing
    that could be corrected."""
    if not why:
        return fleet
    rows = {dag_id: row for dag_id, row in fleet.rows.items() if dag_id not in why}
    problems = [
        Problem("error", row.file, row.line, row.id, "", why[dag_id])
        for dag_id, row in fleet.rows.items()
        if dag_id in why and row.id in fleet.named
    ]
    ordered = sorted([*fleet.problems, *problems], key=lambda p: (p.file, p.line, p.field))
    return replace(fleet, rows=rows, problems=tuple(ordered))


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
