"""A small inventory on disk and a bundle over it, as the tests of this folder use them."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow.sdk import DAG

from dag_factory.bundle import InventoryBundle
from dag_factory.bundle.compiled import CompiledFleet, InventoryFile, compile_fleet
from dag_factory.bundle.units import UnitCache

ROW = "  - {{name: {name}, kind: sql, conn_id: pg, owner: o, target: {{database: {database}}}{more}}}\n"


def row(name: str, more: str = "", database: str | None = None) -> str:
    """One good row; each writes to a database of its own."""
    return ROW.format(name=name, database=database or f"d_{name}", more=f", {more}" if more else "")


def domain(*rows: str) -> str:
    return "sources:\n" + "".join(rows)


def files(**texts: str | bytes) -> dict[str, InventoryFile]:
    """`sales="…"` → `sales.yaml`."""
    return {
        f"{name}.yaml": InventoryFile.of(f"{name}.yaml", text.encode() if isinstance(text, str) else text)
        for name, text in texts.items()
    }


def compiled(cache: Path, last_good: dict[str, InventoryFile] | None = None, **texts: str | bytes) -> CompiledFleet:
    return compile_fleet(files(**texts), "inventory", UnitCache(cache), last_good)


class Site:
    """Where an inventory, its snapshots and the bundles of several machines are."""

    def __init__(self, root: Path) -> None:
        self.root, self.inventory, self.snapshots = root, root / "inventory", root / "snapshots"
        self.inventory.mkdir()

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.inventory / f"{name}.yaml").write_text(text)

    @contextmanager
    def machine(self, name: str) -> Iterator[None]:
        """A machine with a bundle storage path of its own; the snapshots are shared."""
        with patch.dict(os.environ, {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.root / name)}):
            yield

    def bundle(self, **options: Any) -> InventoryBundle:
        """The bundle as a new process on the machine of now makes it."""
        here = {
            "inventory": str(self.inventory), "snapshots": str(self.snapshots), "name": "inv", "onboard_dag_id": None,
            "approvals_dag_id": None,
        }  # fmt: skip
        return InventoryBundle(**here | options)


def tree(folder: Path) -> dict[str, bytes]:
    """Relative path → bytes of everything in a folder but Python's compiled files."""
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {path: file.read_bytes() for path, file in found.items() if "__pycache__" not in path}


def active(folder: Path) -> set[str]:
    """The DAGs that the files of a bundle give, but for the retired ones."""
    return {dag_id for dag_id, dag in loaded(folder).items() if "retired" not in dag.tags}


def loaded(folder: Path, wanted: str | None = None) -> dict[str, DAG]:
    """The DAGs that the files of a bundle give; of a task's parse, its own file's only."""
    context = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": wanted, "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "load"} if wanted else {}
    found: dict[str, DAG] = {}
    with patch.dict(os.environ, context):
        for file in sorted(folder.glob("*.py")):
            found |= {name: value for name, value in runpy.run_path(str(file)).items() if isinstance(value, DAG)}
    return found
