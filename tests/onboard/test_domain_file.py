"""A row is added to a domain file at one place; every other character stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from dag_factory.inventory.yaml_nodes import plain, read_yaml
from dag_factory.onboard.domain_file import row_in, with_row

CASES = Path(__file__).parents[1] / "cases" / "onboard"
TABLES = ["*", {"match": "orders", "read": {"mode": "watermark", "cursor": "at"}}]
NEW = {"name": "new", "kind": "sql", "tables": TABLES, "owner": "o"}


def stories() -> dict[str, dict[str, Any]]:
    return {case["story"]: case for case in yaml.safe_load((CASES / "domain_file.yaml").read_text())}


@pytest.mark.parametrize("story", stories())
def test_a_file_gets_the_row(story: str) -> None:
    case = stories()[story]
    before = case["before"].encode() if case["before"] is not None else None
    if "refused" in case:
        with pytest.raises(InventoryError, match=case["refused"]):
            with_row(before, "inventory/sales.yaml", NEW)
    else:
        assert with_row(before, "inventory/sales.yaml", NEW).decode() == case["after"]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_line_ends_and_the_byte_order_mark_stay(end: str) -> None:
    before = b"\xef\xbb\xbf" + f"sources:{end}  - name: a{end}    kind: sql{end}".encode()
    after = with_row(before, "inventory/sales.yaml", NEW)
    assert after.startswith(before) and after.count(b"\n") - after.count(b"\r\n") == (0 if end == "\r\n" else after.count(b"\n"))


def test_two_kinds_of_line_ends_are_refused() -> None:
    with pytest.raises(InventoryError, match="two kinds of line ends"):
        with_row(b"sources:\r\n  - name: a\n    kind: sql\n", "inventory/sales.yaml", NEW)


def test_many_rows_one_after_the_other() -> None:
    data: bytes | None = None
    for n in range(50):
        data = with_row(data, "inventory/sales.yaml", {**NEW, "name": f"row{n}"})
    assert data is not None
    assert [row_in(data, "inventory/sales.yaml", f"row{n}") for n in range(50)] == [{**NEW, "name": f"row{n}"} for n in range(50)]


ITEMS = st.sampled_from([
    "{i}- name: {n}\n{i}  kind: sql\n",
    "{i}- {{name: {n}, kind: sql}}\n",
    "{i}-\n{i}    name: {n}\n",
    "{i}- name: {n}   # why\n",
    "{i}- name: {n}\n{i}  description: |\n{i}    two\n\n{i}    lines\n",
    "{i}- name: {n}\n{i}  tables:\n{i}  - a\n{i}  - match: b\n",
    "{i}- name: {n}\n{i}  description: >-\n{i}    folded\n",
    "{i}- name: {n}\n{i}  owner:\n",
    '{i}- name: {n}\n{i}  owner: "a\n{i}    b"\n',
])
BETWEEN = st.sampled_from(["", "\n", "\n\n", "{i}# about the next\n", "\n# left\n", "{i}    # set in\n"])
HEADS = st.sampled_from(["", "version: 1\n", "# the domain\ndefaults: {{owner: ann}}\n", "---\n"])
TAILS = st.sampled_from(["", "\n# end\n", "defaults:\n  owner: ann\n", "\n", "...\n"])


@given(HEADS, st.lists(st.tuples(ITEMS, BETWEEN), min_size=1, max_size=4), TAILS, st.integers(0, 6), st.booleans())
def test_whatever_the_layout_nothing_else_changes(
    head: str, items: list[tuple[str, str]], tail: str, indent: int, ends: bool
) -> None:
    i = " " * indent
    body = "".join((item + gap).format(i=i, n=f"row{n}") for n, (item, gap) in enumerate(items))
    text = head.format() + "sources:\n" + body + (tail if "defaults" not in head or "defaults" not in tail else "")
    text = text if ends else text.rstrip("\n")
    assume(ends or "|" not in items[-1][0])  # a line end more would change that text, so it is refused
    before = plain(read_yaml(text, "x"))
    after = with_row(text.encode(), "inventory/sales.yaml", NEW).decode()
    assert plain(read_yaml(after, "x")) == {**before, "sources": [*before["sources"], NEW]}
    old, new = text.rstrip("\n").split("\n"), after.split("\n")
    start = next(n for n in range(len(new)) if n >= len(old) or new[n] != old[n])
    assert new[len(new) - (len(old) - start) :] == old[start:] or "\n".join(new).rstrip("\n").endswith("\n".join(old[start:]))
