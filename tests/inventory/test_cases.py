"""Inventories as plain files (tests/cases/inventory) and exactly what lint says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dag_factory.inventory import Inventory, read_inventory

CASES = Path(__file__).parents[1] / "cases" / "inventory"


def cases() -> list[Any]:
    found = []
    for file in sorted(CASES.glob("*.yaml")):
        for case in yaml.safe_load(file.read_text(encoding="utf-8")):
            found.append(pytest.param(case, id=f"{file.stem}: {case['story']}"))
    return found


def written(folder: Path, case: dict[str, Any]) -> Inventory:
    """The case's inventory; a `row` becomes line 2 and on of sales.yaml, a field per line."""
    files = case.get("files") or {"sales.yaml": one_row(case["row"])}
    for name, text in files.items():
        path = folder / "inventory" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_inventory("inventory")


def one_row(row: Any) -> str:
    if not isinstance(row, dict):
        return f"sources:\n  - {json.dumps(row)}\n"
    lines = [f"  {' ' if index else '-'} {key}: {json.dumps(value)}\n" for index, (key, value) in enumerate(row.items())]
    return "sources:\n" + "".join(lines)


@pytest.mark.parametrize("case", cases())
def test_lint_says_exactly_this(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inventory = written(tmp_path, case)
    told = [str(problem).removeprefix("inventory/") for problem in inventory.problems]
    assert told == case["problems"]
    errors = any(": warning: " not in line for line in told)
    rows = case.get("rows", [] if errors else [f"sales.{case['row']['name']}"] if "row" in case else None)
    assert [row.id for row in inventory.rows] == rows
    for row_id, fields in case.get("expect", {}).items():
        spec = inventory.get(row_id)
        assert spec is not None
        data = spec.model_dump(mode="json", by_alias=True)
        for path, value in fields.items():
            assert _at(data, path) == value, path


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[part]
    return data


@pytest.mark.parametrize("case", [c for c in cases() if "XYZZY" in json.dumps(c.values[0])])
def test_no_secret_is_ever_told(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XYZZY stands in every secret of the cases."""
    monkeypatch.chdir(tmp_path)
    inventory = written(tmp_path, case)
    told = json.dumps([problem.to_json() for problem in inventory.problems]) + "".join(map(str, inventory.problems))
    assert inventory.errors
    assert "XYZZY" not in told
    assert inventory.rows == ()
