"""`python -m benchmarks`: figures are found, shown, and written without harming what a person wrote."""

from __future__ import annotations

import datetime as dt

import pytest

from benchmarks.__main__ import BEGIN, END, figures, flat, measurements, written

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
