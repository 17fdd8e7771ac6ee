"""The soak tells what happened: rounds, failures, what it did not come to, and the seed to see it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import soak

ROOT = Path(__file__).parents[1]
TESTS = """
import os, pytest, time
from hypothesis import given, strategies

@pytest.mark.soak
@pytest.mark.parametrize("n", [1, 2])
def test_ships(n, record_property):
    record_property("rounds", 10)

@pytest.mark.soak
def test_islands():
    assert os.environ["DATAOPS_SOAK_SEED"] == "8", "sunk"

@given(strategies.booleans())
def test_law(holds):
    pass

def test_never_run():
    raise AssertionError
"""


GOOD = ["seed 8: **22 rounds, all good**", "| ships (test_it.py) | 20 | 0 |", "| islands (test_it.py) | 1 | 0 |",
        "| law (test_it.py) | 1 | 0 |"]  # fmt: skip
FAILED = ["seed 9: **22 rounds, 1 failed**", "| islands (test_it.py) | 1 | 1 |", "- failed: `test_it.py::test_islands`"]
STOPPED = ["none failed; stopped at its limit with ", " of 4 tests not done**"]


@pytest.mark.parametrize(
    ("seed", "limit", "code", "told"),
    [("8", "9", 0, GOOD), ("9", "9", 1, FAILED), ("8", "0", 4, STOPPED)],
    ids=["good", "failed", "stopped"],
)
def test_a_soak_is_written_down(seed: str, limit: str, code: int, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = soak: long\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\n{soak.BEGIN}\nold\n{soak.END}\n\nStays.\n")
    command = [sys.executable, "-m", "tests.soak", "--seed", seed, "--minutes", limit, "--workers", "1", "--page", str(page)]
    ended = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    text = page.read_text()
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert [part for part in told if part not in text] == [], text
    assert text.startswith("# Mine\n") and text.endswith("\nStays.\n") and "old" not in text
    assert f"make soak SEED={seed}" in ended.stdout


def test_a_soak_that_ran_nothing_leaves_the_last_one_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("as it was")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = soak: long\n")
    command = [sys.executable, "-m", "tests.soak", "--workers", "1", "--page", str(page), str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120).returncode != 0
    assert page.read_text() == "as it was"


def test_the_page_has_its_place_for_the_result() -> None:
    assert "RESULT" in soak.written(soak.PAGE.read_text("utf-8"), "RESULT")
