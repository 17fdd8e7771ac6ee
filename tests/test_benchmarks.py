"""`python -m benchmarks`: figures are found, shown, and written without harming what a person wrote."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from benchmarks.__main__ import BEGIN, END, figures, flat, measurements, written
from benchmarks._fleet_report import markdown
from benchmarks._fleet_rows import FleetRows
from benchmarks.fleet import compile_inventory

DAY = dt.date(2024, 5, 1)


def test_every_measurement_of_the_folder_is_known() -> None:
    assert {"fingerprint", "database_to_lake"} <= set(measurements())
    assert "__main__" not in measurements()


@pytest.mark.parametrize("printed", ['{"a": 1}', 'warming up\n{"a": 1}\n', 'x {y}\n{\n "a": 1\n}'])
def test_figures_are_the_last_object_printed(printed: str) -> None:
    assert figures("x", printed) == {"a": 1}


@pytest.mark.parametrize("printed", ["", "done", "[1]", '{"a": 1}\ntrailing'])
def test_a_measurement_without_figures_is_an_error(printed: str) -> None:
    with pytest.raises(RuntimeError, match="Cannot measure x"):
        figures("x", printed)


def test_figures_are_shown_flat() -> None:
    assert list(flat({"rows": 10, "ours": {"wall": 1.23456, "void": []}})) == [
        ("rows", "10"), ("ours.wall", "1.235"), ("ours.void", "[]"),
    ]  # fmt: skip


def test_only_the_measured_part_of_the_page_changes() -> None:
    page = f"# Performance\n\nWhat the figures mean.\n\n{BEGIN}\nold\n{END}\n\nA last word.\n"
    once = written(page, {"fingerprint": {"rows": 7}}, DAY)
    assert once.startswith("# Performance\n\nWhat the figures mean.\n") and once.endswith("\n\nA last word.\n")
    assert "old" not in once and "| rows | 7 |" in once and "2024-05-01" in once
    assert written(once, {"fingerprint": {"rows": 7}}, DAY) == once
    assert written("", {"a": {"b": 1}}, DAY).startswith("# Performance\n\n" + BEGIN)


def test_an_edit_of_the_fleet_touches_one_row(tmp_path: Path) -> None:
    fleet = FleetRows(tmp_path, 20, per_file=10)

    def lines() -> set[str]:
        return {row for file in tmp_path.glob("team*.yaml") for row in file.read_text().split("  - ")[1:]}

    before = lines()
    fleet.remove("team0001", "source_3")
    fleet.add("team0000", "new_7")
    assert len(before - lines()) == 1 and len(lines() - before) == 1
    changed = lines()
    assert fleet.edit("team0001", "source_8") in fleet.dag_ids
    assert len(changed - lines()) == 1 and len(fleet.dag_ids) == 20


def test_a_fleet_is_compiled_and_shown_beside_its_aims(tmp_path: Path) -> None:
    found = {"rows": 40, "compile": compile_inventory(tmp_path, 40, 1)}
    assert found["compile"]["rows"] == 40
    table = markdown(found).splitlines()
    assert len(table) == 5 and table[2].startswith("| compile 40 rows, cold | ≤ 3 s at 10,000") and "ms" in table[4]
