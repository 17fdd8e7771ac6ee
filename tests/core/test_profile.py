"""Profiles merge: whatever the order and the grouping, unknown stays unknown, and nothing is made up."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.profile import NO_VALUES, TEXT_CHARACTERS, ColumnProfile, Profile

VALUES = st.one_of(
    st.integers(-5, 5), st.decimals(-5, 5, places=1), st.sampled_from([1.5, -0.25, math.inf]), st.booleans(),
    st.text(max_size=3), st.dates(date(2024, 1, 1), date(2024, 1, 9)),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 9)),
)  # fmt: skip


def column(values: list[Any]) -> ColumnProfile:
    """By the definition: one profile per value, merged."""
    return reduce(add, (ColumnProfile.of(0 if v is None else 1, v, v) for v in values), NO_VALUES)


@st.composite
def profiles(draw: Any) -> Profile:
    rows = draw(st.integers(0, 4))
    of = {
        name: column(draw(st.lists(st.one_of(st.none(), draw(st.sampled_from([VALUES, st.integers(0, 9)]))), max_size=rows)))
        for name in draw(st.sets(st.sampled_from("abc")))
    }
    return Profile(rows, of)


@given(profiles(), profiles(), profiles())
def test_merging_is_associative_and_commutative_and_nothing_is_its_identity(a: Profile, b: Profile, c: Profile) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Profile.NOTHING == a == Profile.NOTHING + a


@given(profiles())
def test_json_gives_it_back(profile: Profile) -> None:
    assert Profile.of_json(json.loads(json.dumps(profile.to_json()))) == profile


@given(st.lists(st.one_of(st.none(), st.integers(-99, 99)), max_size=20))
def test_it_says_what_counting_says(values: list[int | None]) -> None:
    there = [v for v in values if v is not None]
    found = Profile(len(values), {"x": column(values)})
    assert found.nulls("x") == len(values) - len(there)
    assert (found.columns["x"].low, found.columns["x"].high) == ((min(there), max(there)) if there else (None, None))
    assert found.nulls("never seen") == len(values)


@pytest.mark.parametrize(
    ("low", "high"),
    [("a" * (TEXT_CHARACTERS + 1), "b"), ("a", "b" * (TEXT_CHARACTERS + 1)), (b"a", b"b"), (math.nan, 1.0), (1, "a"), (None, None)],
)
def test_bounds_that_may_not_be_kept_are_unknown(low: Any, high: Any) -> None:
    found = ColumnProfile.of(7, low, high)
    assert found == ColumnProfile(7, bounded=False)
    assert (found + ColumnProfile.of(1, 1, 1)).bounded is False


def test_kinds_without_an_order_are_unknown_and_numbers_have_one() -> None:
    moments = ColumnProfile.of(1, datetime(2024, 1, 1), datetime(2024, 1, 1))
    zoned = ColumnProfile.of(1, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))
    assert not (moments + zoned).bounded
    widened = ColumnProfile.of(2, 1, 7) + ColumnProfile.of(1, Decimal("0.50"), Decimal("0.50"))
    assert widened == ColumnProfile(3, Decimal("0.50"), 7)


def test_a_hidden_column_keeps_its_number_only() -> None:
    found = Profile(3, {"name": column(["a", None]), "empty": NO_VALUES, "id": column([1, 2, 3])}).hiding({"name", "empty"})
    assert found.columns == {"name": ColumnProfile(1, bounded=False), "empty": NO_VALUES, "id": ColumnProfile(3, 1, 3)}
