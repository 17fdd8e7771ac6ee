"""A compiled fleet → the files of the bundle, by relative path.

    shard_0017.py     three lines; Airflow's DAG processor parses it
    shard_0017.json   the rows of that shard, one per line, so that a task reads its own line and no more
    errors/….py       a row, or a file, that cannot be used: raises one error
    errors/….json     its message
    dataops_maintenance.py, dataops_onboard.py, dataops_approvals.py, or named as the options `…_dag_id` say

The shard of a DAG is a checksum of its source's id, so a DAG never moves to another file: Airflow sends a pinned run's task
to the *current* path of its DAG inside the *pinned* version.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dag_factory.bundle.compiled import CompiledFleet
from dag_factory.bundle.units import RowText
from dag_factory.inventory.problem import Problem
from dag_factory.inventory.row import is_id
from dag_factory.plan import APPROVALS_DAG_ID, MAINTENANCE_DAG_ID, ONBOARD_DAG_ID

ERRORS = "errors"
MOST_ERROR_FILES = 500
"""Each costs Airflow a process; what is left is listed in one more file."""
MOST_PROBLEMS = 20
"""Shown of one row; the rest is counted."""
MESSAGE_CHARACTERS = 8_000

# Airflow's safe mode looks for the words "airflow" and "dag". The hash makes the time of a stub move exactly when the file
# beside it does; it is a comment only, because Python trusts compiled code of the same size and second.
HASH_DIGITS = 16
"""Of the sha256 that a stub tells of the file beside it."""
TRACKING = "current"
"""Name of the folder that the DAG processor watches."""

_STUB = """\
# Airflow dags made from the inventory: edit its rows, not this file. Content {content}
from dag_factory.bundle.shard import {loader}
{loader}(globals(){more})
"""


def shard_of(source_id: str, shards: int) -> int:
    """The shard of a source, the same for ever."""
    return zlib.crc32(source_id.encode()) % shards


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds; its sha256 is made once, because a fleet of 10,000 rows is 16 MB."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Content:
        return cls(data, hashlib.sha256(data).hexdigest())


Files = dict[str, Content]
"""Relative path → content."""


class BundleFiles:
    """Makes the files of one bundle; remembers the shards, so that only those whose rows changed are made anew."""

    def __init__(
        self,
        shards: int,
        maintenance_dag_id: str = MAINTENANCE_DAG_ID,
        onboard_dag_id: str | None = ONBOARD_DAG_ID,
        approvals_dag_id: str | None = APPROVALS_DAG_ID,
    ) -> None:
        self.shards = shards
        self.fleet: Files = {f"{maintenance_dag_id}.py": _stub("load_maintenance", "fixed", f", {approvals_dag_id!r}")}
        if onboard_dag_id is not None:
            self.fleet[f"{onboard_dag_id}.py"] = _stub("load_onboard", "fixed")
        if approvals_dag_id is not None:
            self.fleet[f"{approvals_dag_id}.py"] = _stub("load_approvals", "fixed")
        self._known: dict[int, tuple[list[str], Content]] = {}

    def make(self, fleet: CompiledFleet) -> Files:
        """The files of a fleet: the same for the same fleet, whatever was made before."""
        by_shard: dict[int, list[RowText]] = {}
        for row in fleet.rows.values():
            by_shard.setdefault(shard_of(row.id, self.shards), []).append(row)
        platform = fleet.platform.model_dump_json()
        files: Files = dict(self.fleet)
        known, self._known = self._known, {}
        for shard, rows in by_shard.items():
            told = [platform, *(row.text for row in rows)]
            made = known.get(shard)
            if made is None or made[0] != told:
                made = (told, _shard(platform, rows))
            self._known[shard] = made
            _pair(files, f"shard_{shard:04}", made[1], "load_shard")
        for name, message in error_messages(fleet.problems).items():
            _pair(files, f"{ERRORS}/{name}", Content.of(json.dumps({"message": message}).encode()), "raise_error")
        return files


def _shard(platform: str, rows: Sequence[RowText]) -> Content:
    lines = ",\n".join(f'"{row.dag_id}": {row.text}' for row in sorted(rows, key=lambda row: row.dag_id))
    return Content.of(f'{{"platform": {platform},\n"rows": {{\n{lines}\n}}}}\n'.encode())


def _pair(files: Files, name: str, content: Content, loader: str) -> None:
    files[f"{name}.json"] = content
    files[f"{name}.py"] = _stub(loader, content.sha256[:HASH_DIGITS])


def _stub(loader: str, content: str, more: str = "") -> Content:
    return Content.of(_STUB.format(loader=loader, content=content, more=more).encode())


def error_messages(problems: Sequence[Problem]) -> dict[str, str]:
    """File name (without suffix) → message, one for each row or file that has problems. Names are checked ids or hashes: no
    text of the inventory becomes a path."""
    about: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        about.setdefault((problem.row, "" if problem.row else problem.file), []).append(problem)
    subjects = sorted(about)
    few = subjects if len(subjects) <= MOST_ERROR_FILES else subjects[: MOST_ERROR_FILES - 1]
    messages = {_error_name(*subject): _message(*subject, about[subject]) for subject in few}
    rest: list[Any] = subjects[len(few) :]
    if rest:
        listed = "\n".join(str(about[subject][0]) for subject in rest[:MOST_PROBLEMS])
        messages["more"] = _cut(
            f"Cannot use {len(rest)} more rows and files of the inventory: problems -> none. {len(few)} have a file of their own "
            f"here. `dataops lint` lists all of them; these begin with\n{listed}"
        )
    return messages


def _error_name(row: str, file: str) -> str:
    domain, _, name = row.partition(".")
    if is_id(domain) and is_id(name):
        return f"{domain}__{name}"
    return hashlib.sha256(f"{row}\0{file}".encode(errors="surrogatepass")).hexdigest()[:16]


def _message(row: str, file: str, problems: Sequence[Problem]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    listed = "\n".join(str(problem) for problem in problems[:MOST_PROBLEMS])
    more = f"\nand {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
    if row:
        what = f"Cannot use row {row}: {count} -> none."
    else:
        what = f"Cannot use file {file}: {count} -> none. Rows that it gave when it was last good stay as they were."
    return _cut(f"{what}\n{listed}{more}\nCorrect the inventory; nothing else is affected.")


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS else text[:MESSAGE_CHARACTERS] + "…"
