"""A row that is not in the inventory yet, checked as if it were: by the same reading and lint as all others."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.bundle.compiled import InventoryFile
from dag_factory.bundle.units import at_home
from dag_factory.inventory import Inventory, Problem, read_inventory
from dag_factory.inventory.merge import Tree
from dag_factory.inventory_plan import InventoryPlan, plan_inventory
from dag_factory.onboard.domain_file import with_row
from dag_factory.onboard.form import refused
from dag_factory.plan import plan_dag

Files = Mapping[str, InventoryFile]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A good row with everything it inherits. `tree` tells where each value is from; `inventory` has the row in it."""

    spec: PipelineSpec
    tree: Tree
    inventory: Inventory

    @property
    def platform(self) -> PlatformSpec:
        return self.inventory.platform

    @property
    def file(self) -> str:
        """As people know it: `inventory/sales.yaml`."""
        return self.spec.file


def check_row(files: Files, label: str, domain: str, row: Mapping[str, Any]) -> Candidate:
    """The row as it would be in these files. `label` names the inventory in texts. InventoryError lists what is wrong with the
    row, and what it would break for others; what is wrong with others anyway is none of its business."""
    source_id, name = f"{domain}.{row['name']}", f"{domain}.yaml"
    added = with_row(files[name].data if name in files else None, f"{label}/{name}", row)
    found = _read({**{n: f.data for n, f in files.items()}, name: added}, label)
    errors = [p for p in found.errors if p.row == source_id]
    others = [p for p in found.errors if p.row != source_id]
    if others:
        before = {_said(p) for p in _read({n: f.data for n, f in files.items()}, label).errors}
        errors += [p for p in others if _said(p) not in before]
    spec = found.get(source_id)
    # No row is good below a broken `defaults.yaml` or file, and then it is the row's business too.
    errors += others if spec is None and not errors else []
    if spec is not None and not errors:
        plan_dag(spec, found.platform.pools)
        return Candidate(spec, found.all_rows[source_id].tree, found)
    raise refused(source_id, [_told(p, source_id) for p in errors] or ["the row gives no source. Look at its domain's defaults"])


def plan_of(candidate: Candidate) -> InventoryPlan:
    """What the row adds to the fleet."""
    mine, after = candidate.spec.id, candidate.inventory
    others = {name: row for name, row in after.all_rows.items() if name != mine}
    before = replace(after, rows=tuple(row for row in after.rows if row.id != mine), all_rows=others)
    return plan_inventory(before, after)


def _read(files: Mapping[str, bytes], label: str) -> Inventory:
    with tempfile.TemporaryDirectory(prefix="inventory-") as private:
        folder = Path(private) / label
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        found = read_inventory(folder)
    return replace(found, folder=label, problems=tuple(at_home(problem, label) for problem in found.problems))


def _said(problem: Problem) -> tuple[str, str, str, str]:
    """A problem apart from its line, which the new row may have moved."""
    return problem.file, problem.row, problem.field, problem.message


def _told(problem: Problem, source_id: str) -> str:
    """A field of the row by its name: nobody sees the line of a row that is not written. Others with their place."""
    return f"{problem.field or 'row'}: {problem.message}" if problem.row == source_id else str(problem)
