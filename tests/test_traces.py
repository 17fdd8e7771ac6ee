"""docs/order-of-effects.md against the tests: each trace of the model has its line, and what the line names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "order-of-effects.md"
TRACES = [*(f"A{n}" for n in range(1, 22)), *(f"B{n}" for n in range(1, 8)), *(f"C{n}" for n in range(1, 6))]
"""As the model of the order of effects numbers them."""
MISSING = {"kafka": not (TESTS.parent / "airflow_dataops" / "transport").exists()}
"""Features without which a trace cannot happen, and whether they are really not there."""

ROW = re.compile(r"^\| ([ABC]\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


def rows() -> dict[str, str]:
    """Trace → what holds it."""
    found = ROW.findall(PAGE.read_text("utf-8"))
    assert [trace for trace, *_ in found] == TRACES
    return {trace: held_by for trace, _, _, held_by in found}


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_trace_is_held_by_a_test_or_by_what_is_not_there_yet() -> None:
    for trace, held_by in rows().items():
        later = re.findall(r"not yet: (\w+)", held_by)
        assert NAMED.search(held_by) or later, trace
        assert [name for name in later if not MISSING[name]] == [], f"{trace} can happen now: it needs its test"


def test_every_test_that_the_page_names_exists() -> None:
    named = set(NAMED.findall(PAGE.read_text("utf-8")))
    assert [f"{file}::{f}" for file, f in named if not (TESTS / file).exists() or (f and f not in functions(TESTS / file))] == []


def test_every_test_named_after_a_trace_stands_in_its_line() -> None:
    held_by = rows()
    unlisted = []
    for file in sorted(TESTS.rglob("test_*.py")):
        for function in functions(file):
            numbers = re.match(r"test((?:_[abc]\d+)+)_", function)
            for kind, number in re.findall(r"_([abc])0*(\d+)", numbers[1]) if numbers else ():
                trace, name = kind.upper() + number, f"`{file.relative_to(TESTS).as_posix()}::{function}`"
                unlisted += [f"{trace}: {name}"] if name not in held_by[trace] else []
    assert unlisted == []
