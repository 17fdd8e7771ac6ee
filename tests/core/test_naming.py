"""Source names → lake names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import MAX_NAME, is_legal, plan_names, restore, sanitise

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "naming" / "names.yaml").read_text(encoding="utf-8"))
HIVE = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
anything = st.text(max_size=40)
legal = st.from_regex(r"[a-z_][a-z0-9_]{0,127}", fullmatch=True)


def fold(name: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in name)


@pytest.mark.parametrize("case", CASES["names"], ids=lambda case: repr(case["source"]))
def test_name(case: dict[str, str]) -> None:
    assert sanitise(case["source"]) == case["lake"]


@pytest.mark.parametrize("names", CASES["meet"], ids=repr)
def test_two_names_that_meet_are_refused_and_both_named(names: list[str]) -> None:
    with pytest.raises(InventoryError) as refused:
        plan_names(["other", *names])
    assert all(repr(name) in str(refused.value) for name in names)


@given(legal)
def test_a_legal_name_stays(name: str) -> None:
    assert sanitise(name) == name


@given(st.text(max_size=300))
@example("")
@example("x" * 129)
@example("\ud800")
@example("\uffff")
def test_every_name_becomes_legal_once_and_for_all(name: str) -> None:
    lake = sanitise(name)
    assert HIVE.fullmatch(lake) and len(lake) <= MAX_NAME and is_legal(lake)
    assert sanitise(lake) == lake


marked = st.text("_x0123ABab Ä\uffff", max_size=14)


@given(st.one_of(anything, marked))
@example("_x0020 ")
@example("A_x0020_B")
@example("_x0020_ _x0020_")
def test_an_escaped_name_has_its_way_back(name: str) -> None:
    lake = sanitise(name)
    if not is_legal(name) and "_xh_" not in lake:
        assert restore(lake) == fold(name)


@given(st.one_of(anything, marked), st.one_of(anything, marked))
def test_names_meet_only_by_case_or_as_a_look_alike(one: str, other: str) -> None:
    if sanitise(one) == sanitise(other) and fold(one) != fold(other):
        assert is_legal(one) != is_legal(other)


def test_long_names_differ_by_their_ends() -> None:
    long = ["column " * 30 + str(i) for i in range(200)]
    assert len(set(plan_names(long).values())) == 200
    with pytest.raises(ValueError, match="shortened"):
        restore(sanitise(long[0]))


@given(st.lists(anything, max_size=6))
def test_a_plan_has_one_lake_name_per_source_name_or_is_refused(names: list[str]) -> None:
    targets = [sanitise(name) for name in names]
    if len(set(targets)) < len(targets):
        with pytest.raises(InventoryError):
            plan_names(names)
    else:
        assert plan_names(names) == dict(zip(names, targets, strict=True))
