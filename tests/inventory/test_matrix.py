"""Read mode × write mode, cell by cell (INVENTORY.md "What goes with what")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dag_factory.inventory import Inventory, read_inventory
from dag_factory.inventory.lint_modes import REFUSED

READS = ("full", "window", "watermark", "new_files", "cdc")
WRITES = ("append", "overwrite_partition", "merge")
# Copied from the contract, not from the code.
ALLOWED = {
    "full": {"overwrite_partition", "merge"},
    "window": {"overwrite_partition", "append", "merge"},
    "watermark": {"append", "merge"},
    "new_files": {"append", "merge"},
    "cdc": {"append", "merge"},
}
PERIOD = [{"name": "dt", "from": "period_start"}]


def row(read: str, write: str, **more: Any) -> dict[str, Any]:
    """A row that says everything these two modes need."""
    kind = "files" if read == "new_files" else "sql"
    return {
        "name": "orders",
        "kind": kind,
        "owner": "me",
        **({"options": {"path": "x"}} if kind == "files" else {"conn_id": "pg"}),
        "read": {"mode": read, **({"cursor": "changed_at"} if read in ("window", "watermark") else {})},
        "write": {"mode": write, **({"keys": ["id"]} if write == "merge" else {})},
        "target": {"partition_by": PERIOD},
        **more,
    }


def lint(folder: Path, row: dict[str, Any]) -> Inventory:
    (folder / "sales.yaml").write_text(json.dumps({"sources": [row]}))
    return read_inventory(folder)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("read", READS)
def test_each_cell(read: str, write: str, tmp_path: Path) -> None:
    inventory = lint(tmp_path, row(read, write))
    told = {problem.field: problem.message for problem in inventory.problems}
    if read == "cdc":
        assert "not available yet" in told.pop("read.mode")
    if write in ALLOWED[read]:
        assert told == {}
        assert (read == "cdc") or inventory.rows
    else:
        assert set(told) == {"write.mode"}
        assert f"`{write}` does not go with `read.mode: {read}`: " in told["write.mode"]
        assert "Use `write.mode: " in told["write.mode"]
        assert inventory.rows == ()


def test_the_table_of_refusals_is_the_contract() -> None:
    assert set(REFUSED) == {(read, write) for read in READS for write in WRITES if write not in ALLOWED[read]}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("read", [r for r in READS if r != "cdc"])
def test_each_cell_inside_a_tables_entry(read: str, write: str, tmp_path: Path) -> None:
    """The row is fine as it is; only the entry brings the two together."""
    whole = row(read, write)
    sound = row("full", "overwrite_partition", kind=whole["kind"], options=whole.get("options", {}))
    entry = {"match": "orders", "read": whole["read"], "write": whole["write"]}
    inventory = lint(tmp_path, {**sound, "conn_id": "pg", "tables": ["*", entry]})
    wrong = [problem.field for problem in inventory.problems]
    assert wrong == ([] if write in ALLOWED[read] else ["tables[1].write.mode"])


@pytest.mark.parametrize("read", ["window", "watermark"])
def test_a_cursor_is_needed(read: str, tmp_path: Path) -> None:
    inventory = lint(tmp_path, {**row(read, "append"), "read": {"mode": read}})
    (problem,) = inventory.problems
    assert (problem.field, problem.severity) == ("read.cursor", "error")
    assert "cursor: <column>" in problem.message


def test_merge_needs_keys(tmp_path: Path) -> None:
    (problem,) = lint(tmp_path, {**row("full", "merge"), "write": {"mode": "merge"}}).problems
    assert problem.field == "write.keys"


@pytest.mark.parametrize(("read", "write"), [(r, w) for r in ALLOWED for w in sorted(ALLOWED[r]) if r != "cdc"])
def test_a_partition_of_a_data_column(read: str, write: str, tmp_path: Path) -> None:
    """It needs `append` or `merge`, or `full`."""
    by = [{"name": "area", "from": "column:region"}]
    inventory = lint(tmp_path, row(read, write, target={"partition_by": by}))
    fine = write in ("append", "merge") or read == "full"
    assert [p.field for p in inventory.problems] == ([] if fine else ["target.partition_by"])


@pytest.mark.parametrize(("kind", "read"), [("files", "window"), ("files", "watermark"), ("sql", "new_files")])
def test_a_kind_gives_only_its_modes(kind: str, read: str, tmp_path: Path) -> None:
    given = row(read, "append") | {"kind": kind, "conn_id": "c", "options": {"path": "x"} if kind == "files" else {}}
    fields = {problem.field for problem in lint(tmp_path, given).problems}
    assert "read.mode" in fields
