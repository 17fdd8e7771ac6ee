"""The overlap of two columns' values, from little."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.value_sketch import KEPT, ValueSketch, overlap


def sketch(*batches: pa.Array) -> ValueSketch:
    made = ValueSketch()
    for batch in batches:
        made.add(batch)
    return made


@given(st.lists(st.none() | st.integers(0, 50)), st.lists(st.none() | st.integers(0, 50)))
def test_of_few_values_it_is_exact(one: list[int | None], other: list[int | None]) -> None:
    a, b = set(one) - {None}, set(other) - {None}
    found = overlap(sketch(pa.array(one, pa.int64())), sketch(pa.array(other, pa.int64())))
    assert found == (round(len(a & b) / min(len(a), len(b)), 3) if a and b else None)


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (25_000, 0.5), (45_000, 0.1), (60_000, 0.0)])
def test_of_many_values_it_is_about_right(shift: int, expected: float) -> None:
    one = sketch(*(pa.array(range(n, n + 10_000)) for n in range(0, 50_000, 10_000)))
    other = sketch(pa.array(range(shift, shift + 50_000)))
    assert len(one.hashes) == KEPT
    assert overlap(one, other) == pytest.approx(expected, abs=0.06)
    assert one.distinct == pytest.approx(50_000, rel=0.15)


def test_few_values_among_many_are_found() -> None:
    many = sketch(pa.array(range(100_000)))
    assert overlap(many, sketch(pa.array(range(500)))) == pytest.approx(1.0, abs=0.3)
    assert overlap(many, sketch(pa.array(range(200_000, 200_500)))) == 0.0


def test_a_wider_type_has_the_same_values() -> None:
    assert overlap(sketch(pa.array([1, 2], pa.int32())), sketch(pa.array([2, 1], pa.int64()))) == 1.0
    assert overlap(sketch(pa.array(["1"])), sketch(pa.array([1]))) == 0.0
