"""The inventory's files → the fleet: rows as JSON by DAG id, and the problems. The same files give the same fleet."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_dataops.core.platform import PlatformSpec
from dag_factory.bundle.units import RowText, Unit, UnitCache, at_home, factory_version, read_unit
from dag_factory.inventory.collecting import without_collecting
from dag_factory.inventory.lint_target import rivals
from dag_factory.inventory.problem import Problem
from dag_factory.inventory.reader import DEFAULTS, PLATFORM, SharedFiles, collapsed, read_shared

SHARED = (PLATFORM, DEFAULTS)


@dataclass(frozen=True, slots=True)
class InventoryFile:
    """One file as its place gave it. `stamp` is the place's own sign that it has not changed; "" is never trusted. `fault`: it
    is there and cannot be read, and why."""

    name: str
    data: bytes
    sha256: str
    stamp: str = ""
    fault: str = ""

    @classmethod
    def of(cls, name: str, data: bytes, stamp: str = "") -> InventoryFile:
        return cls(name, data, hashlib.sha256(data).hexdigest(), stamp)

    @classmethod
    def unreadable(cls, name: str, fault: str, stamp: str) -> InventoryFile:
        """Its rows stay as they were when it was last good: nobody can tell which of them are meant to go."""
        return cls(name, b"", hashlib.sha256(fault.encode()).hexdigest(), stamp, fault)


@dataclass(frozen=True, slots=True)
class CompiledFleet:
    """`rows` by DAG id, those not enabled too; `problems` are the errors, each told once, in order of file and line. `good`
    are the files that the rows come from: of a broken file, the last that was not. `named` are the ids of all rows, the bad ones
    too; in `doubtful` domains there may be more, in something that could not be read."""

    rows: Mapping[str, RowText]
    problems: tuple[Problem, ...]
    platform: PlatformSpec
    good: Mapping[str, InventoryFile]
    named: Set[str] = frozenset()
    doubtful: Set[str] = frozenset()


@without_collecting()
def compile_fleet(
    files: Mapping[str, InventoryFile], label: str, cache: UnitCache, last_good: Mapping[str, InventoryFile] | None = None
) -> CompiledFleet:
    """Compiles every file by itself, then looks at what only all of them together can tell.

    `label` names the inventory in texts (`inventory/sales.yaml:12`). A file that cannot be read as a whole gives one problem
    and the rows of its `last_good` text; `platform.yaml` and `defaults.yaml` likewise, both together. The reader reads
    folders, so the files that are not in the cache lie in a private one meanwhile.
    """
    return _Compiling(files, label, cache, last_good or {}).fleet()


class _Compiling:
    def __init__(
        self, files: Mapping[str, InventoryFile], label: str, cache: UnitCache, last_good: Mapping[str, InventoryFile]
    ) -> None:
        self.files, self.label, self.cache, self.last_good = files, label, cache, last_good
        self.good: dict[str, InventoryFile] = {}
        self.used: set[str] = set()
        self.problems: list[Problem] = []
        self.named: set[str] = set()
        self.doubtful: set[str] = set()

    def fleet(self) -> CompiledFleet:
        with tempfile.TemporaryDirectory(prefix="inventory-") as private:
            self.folder = Path(private) / self.label
            self.folder.mkdir()
            shared = self.shared()
            units = [self.unit(name, shared) for name in sorted(self.files) if self.is_domain(name)]
        self.cache.keep(self.used)
        self.cache.known.keep(self.files.keys())
        rows = {row.dag_id: row for unit in units for row in unit.rows}
        placed = [told for row in rows.values() for told in row.claims]
        met = list(rivals(claim for claim, _, _ in placed))
        where = {id(claim): (file, line) for claim, file, line in placed} if met else {}
        for claim, finding in met:
            file, line = where[id(claim)]
            self.problems.append(Problem("error", file, line, claim.row, finding.field, finding.message))
            rows.pop(_dag_id(claim.row), None)
        errors = collapsed([problem for problem in self.problems if problem.severity == "error"])
        ordered = tuple(sorted(errors, key=lambda p: (p.file, p.line, p.field)))
        return CompiledFleet(rows, ordered, shared.platform, self.good, self.named, self.doubtful)

    def is_domain(self, name: str) -> bool:
        if name in SHARED:
            return False
        if name.endswith(".yml"):
            self.doubtful.add(name.removesuffix(".yml"))
            message = f"files end in .yaml here, so this one is not read. Rename it to {name.removesuffix('.yml')}.yaml"
            self.problems.append(Problem("error", f"{self.label}/{name}", 1, "", "", message))
            return False
        return True

    def shared(self) -> SharedFiles:
        there = {name: self.files[name] for name in SHARED if name in self.files}
        faulty = [self.unread(file) for file in there.values() if file.fault]
        self.problems += faulty
        self.base = {name: file for name, file in there.items() if not file.fault}
        found = self.read_shared()
        self.problems += [at_home(problem, self.label) for problem in found.problems]
        known = {name: self.last_good[name] for name in SHARED if name in self.last_good}
        if (faulty or not found.layers.sound) and known != self.base:
            for name in self.base:
                (self.folder / name).unlink()
            self.base = known
            found = self.read_shared()
        self.good |= self.base
        return found

    def read_shared(self) -> SharedFiles:
        for name, file in self.base.items():
            (self.folder / name).write_bytes(file.data)
        return read_shared(self.folder)

    def unit(self, name: str, shared: SharedFiles) -> Unit:
        file, before = self.files[name], self.last_good.get(name)
        unit = Unit((), (self.unread(file),), True, (), True) if file.fault else self.compiled(file, shared)
        self.named |= {*unit.named}
        if unit.unnamed:
            self.doubtful.add(name.removesuffix(".yaml"))
        if unit.broken and before is not None:
            self.problems += [replace(problem, severity="error") for problem in unit.problems if not problem.row]
            unit = self.compiled(before, shared)
            self.named |= {*unit.named}
            self.good[name] = before
            return unit
        self.problems += unit.problems
        if not file.fault:
            self.good[name] = file
        return unit

    def unread(self, file: InventoryFile) -> Problem:
        return Problem("error", f"{self.label}/{file.name}", 1, "", "", f"cannot be read: {file.fault} -> a readable file. Mend it")

    def compiled(self, file: InventoryFile, shared: SharedFiles) -> Unit:
        context = (factory_version(), self.label, file.name, *(f"{n}={f.sha256}" for n, f in self.base.items()))
        key = hashlib.sha256("\0".join((*context, file.sha256)).encode()).hexdigest()
        self.used.add(key)
        unit = self.cache.get(key)
        if unit is None:

            def read(data: bytes) -> Unit:
                (self.folder / file.name).write_bytes(data)
                return read_unit(self.folder, file.name, shared, self.label)

            unit = self.cache.known.unit(file.name, file.data, context, read)
            self.cache.put(key, unit)
        return unit


def _dag_id(source_id: str) -> str:
    return "ingest__" + source_id.replace(".", "__")
