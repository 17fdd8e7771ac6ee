"""One domain file, compiled: the rows that it gives, as the JSON that tasks read, and its problems. Kept by content, so that
one edited file costs one file, also after a restart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

import airflow_dataops
import dag_factory
from airflow_dataops.core.errors import InventoryError
from dag_factory.bundle.known_rows import KnownRows
from dag_factory.bundle.whole import write_whole
from dag_factory.inventory.lint_target import Claim, claims
from dag_factory.inventory.problem import Problem
from dag_factory.inventory.reader import SharedFiles, read_domain
from dag_factory.inventory.row import Row
from dag_factory.plan import check_plan, source_pool


@dataclass(frozen=True, slots=True)
class RowText:
    """A good row. `text` is its `PipelineSpec` as JSON, every default written out: what it says stays the same when a later
    release has other defaults. It knows no line, which moves with every edit above it. Beside it the row's place, the Airflow
    pool that its tasks ask for ("" for none), the id that it was `renamed_from` (""), and each claimed target, with the place
    where the row says so."""

    id: str
    dag_id: str
    text: str
    file: str
    line: int
    enabled: bool
    pool: str
    was: str
    claims: tuple[tuple[Claim, str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """What one domain file gives. `broken`: a fault of the file as a whole hides rows that have no fault of their own. `named`
    are the ids of all its rows, the bad ones too; `unnamed`: there may be rows in it whose id nobody can tell."""

    rows: tuple[RowText, ...]
    problems: tuple[Problem, ...]
    broken: bool
    named: tuple[str, ...] = ()
    unnamed: bool = False


def read_unit(folder: Path, name: str, shared: SharedFiles, label: str) -> Unit:
    """Compiles `folder/name`. `label` stands for the folder in every text: where the inventory is really kept."""
    rows, found = read_domain(folder, name, shared)
    problems = [at_home(problem, label) for problem in found]
    good: list[RowText] = []
    for row in rows:
        if row.spec is None:
            continue
        problem = _unplanned(row)
        if problem is None:
            told, wrong = claims(row.spec)
            text = row.spec.model_dump_json(by_alias=True, exclude={"line"})
            placed = tuple((claim, *_placed(row, claim.field, label)) for claim in told)
            pool = source_pool(row.spec) or ""
            was = f"{row.domain}.{row.spec.renamed_from}" if row.spec.renamed_from else ""
            kept = RowText(row.id, row.spec.dag_id, text, f"{label}/{name}", row.line, row.spec.enabled, pool, was, placed)
            good += [kept] if not wrong else []
            problems += [at_home(row.problem(finding), label) for finding in wrong]
        else:
            problems.append(at_home(problem, label))
    errors = [problem for problem in problems if problem.severity == "error"]
    # An empty file is only worth a warning to lint. Here it once gave rows: `sources: []` would say that they are meant to go.
    of_file = any(not problem.row for problem in (errors if rows else problems))
    faulty = {problem.row for problem in errors}
    hidden = not rows or any(row.spec is None and row.id not in faulty for row in rows)
    named = tuple(row.id for row in rows)
    return Unit(tuple(good), tuple(problems), of_file and hidden, named, unnamed=of_file or not faulty <= {*named})


def at_home(problem: Problem, label: str) -> Problem:
    """The problem in the file as people know it, not in the private copy that was read."""
    return replace(problem, file=f"{label}/{os.path.basename(problem.file)}")


def _placed(row: Row, field: str, label: str) -> tuple[str, int]:
    file, line = row.place(field)
    return f"{label}/{os.path.basename(file)}", line


def _unplanned(row: Row) -> Problem | None:
    """What only Airflow would refuse."""
    if row.spec is None or not row.spec.enabled:
        return None
    try:
        check_plan(row.spec)
    except InventoryError as error:
        return Problem("error", row.file, row.line, row.id, "", str(error))
    return None


@lru_cache(maxsize=1)
def factory_version() -> str:
    """The release, and a hash of the code that turns rows into DAGs: a version of the bundle says who compiled it. The
    release alone would not do, because a checkout changes without one."""
    try:
        release = version("airflow-dataops")
    except PackageNotFoundError:
        release = "unknown"
    digest = hashlib.sha256()
    for package in (airflow_dataops, dag_factory):
        root = Path(package.__path__[0])
        for file in sorted(root.rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return f"{release}+{digest.hexdigest()[:12]}"


class UnitCache:
    """Units by key, in memory and below a folder. A damaged or foreign file there is read as absent. In memory only: the
    `known` rows of each file, for its next version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._units: dict[str, Unit] = {}
        self.known = KnownRows()

    def get(self, key: str) -> Unit | None:
        unit = self._units.get(key)
        if unit is None:
            unit = self._stored(key)
            if unit is not None:
                self._units[key] = unit
        return unit

    def put(self, key: str, unit: Unit) -> None:
        self._units[key] = unit
        write_whole(self.folder / key, orjson.dumps(unit))

    def keep(self, keys: Collection[str]) -> None:
        """Forgets everything else."""
        if keys == self._units.keys():
            return
        self._units = {key: unit for key, unit in self._units.items() if key in keys}
        if self.folder.is_dir():
            for file in self.folder.iterdir():
                if file.name not in keys and not file.name.startswith("."):
                    file.unlink(missing_ok=True)

    def _stored(self, key: str) -> Unit | None:
        try:
            return _unit(orjson.loads((self.folder / key).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):  # a cache: what cannot be read is compiled again
            return None


def _unit(data: Mapping[str, Any]) -> Unit:
    return Unit(
        tuple(map(_row, data["rows"])),
        tuple(Problem(**p) for p in data["problems"]),
        data["broken"],
        tuple(data["named"]),
        data["unnamed"],
    )


def _row(data: Mapping[str, Any]) -> RowText:
    told = tuple((Claim(**{**claim, "place": tuple(claim["place"])}), file, line) for claim, file, line in data["claims"])
    return RowText(**{**data, "claims": told})
