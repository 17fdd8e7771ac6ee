"""Values into lake types: exactly, or not at all."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import types as pt

from airflow_dataops.core.fit import fit, untyped_values
from airflow_dataops.core.storable import storable
from tests.core.arrow_values import SCALARS, columns, types

NUMBERS = tuple(t for t in SCALARS if pt.is_integer(t) or pt.is_decimal(t) or pt.is_floating(t))
NUMERIC_TARGETS = tuple({storable(t) for t in NUMBERS} - {pa.string()})
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def number(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None if value is None else str(value)
    return Fraction(value)


def holds(value: Any, t: pa.DataType) -> bool:
    """Whether the type can hold the number, by arithmetic alone."""
    if isinstance(value, str):
        return bool(pt.is_floating(t))
    if pt.is_integer(t):
        return value.denominator == 1 and -(2 ** (t.bit_width - 1)) <= value < 2 ** (t.bit_width - 1)
    if pt.is_decimal(t):
        unscaled = value * 10**t.scale
        return unscaled.denominator == 1 and abs(unscaled) < 10**t.precision
    try:
        return Fraction(pa.array([float(value)], t)[0].as_py()) == value
    except OverflowError:
        return False


@given(st.data(), st.sampled_from(NUMBERS), st.sampled_from(NUMERIC_TARGETS))
def test_numbers_fit_exactly_or_are_unfit(data: st.DataObject, source: pa.DataType, target: pa.DataType) -> None:
    column = data.draw(columns(source, 5))
    fitted = fit(column, target)
    assert fitted.values.type == target
    mixed = pt.is_floating(source) != pt.is_floating(target) and (pt.is_decimal(source) or pt.is_decimal(target))
    for row, (before, after) in enumerate(zip(column.to_pylist(), fitted.values.to_pylist(), strict=True)):
        is_unfit = fitted.unfit is not None and bool(fitted.unfit[row])
        if before is None:
            assert after is None and not is_unfit
        elif is_unfit:
            assert after is None and (mixed or not holds(number(before), target))
        else:
            assert number(after) == number(before)


@given(st.data(), types(), types())
def test_every_value_comes_through_or_is_unfit(data: st.DataObject, source: pa.DataType, other: pa.DataType) -> None:
    column, target = data.draw(columns(source, 4)), storable(other)
    fitted = fit(column, target)
    fitted.values.validate(full=True)
    assert len(fitted.values) == len(column) and fitted.values.type == target
    untyped = untyped_values(column)
    for row in range(len(column)):
        is_unfit = fitted.unfit is not None and bool(fitted.unfit[row])
        is_there = column[row].is_valid and not is_unfit
        assert fitted.values[row].is_valid == is_there or (untyped is not None and bool(untyped[row]))


@given(st.data(), st.sampled_from(SCALARS))
def test_storing_loses_nothing(data: st.DataObject, t: pa.DataType) -> None:
    column = data.draw(columns(t, 4))
    fitted = fit(column, storable(t))
    assert fitted.unfit is None and fitted.values.type == storable(t)
    for before, after in zip(column, fitted.values, strict=True):
        assert meaning(before) == meaning(after, of=t)


def meaning(scalar: pa.Scalar, of: pa.DataType | None = None) -> Any:
    """What a value says, apart from how it is stored; text is read back as a value of type `of`."""
    t = scalar.type
    if not scalar.is_valid:
        return None
    if pt.is_timestamp(t) or pt.is_time(t) or pt.is_duration(t):
        return t.tz is None if pt.is_timestamp(t) else "", scalar.value * UNITS[t.unit]
    if pt.is_string(t) and of is not None and not pt.is_string(of) and not pt.is_large_string(of):
        return _read(scalar.as_py(), of)
    value = scalar.as_py()
    if isinstance(value, float):
        return str(value) if value != value else (value, math.copysign(1, value))
    return Fraction(value) if isinstance(value, Decimal) or type(value) is int else value


def _read(text: str, t: pa.DataType) -> Any:
    if pt.is_decimal(t):
        return Fraction(text)
    if pt.is_time(t):
        hours, minutes, seconds = text.split(":")
        return "", (int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) * 10**9
    if pt.is_duration(t):
        sign, seconds = re.fullmatch(r"(-?)PT(.+)S", text).groups()
        return "", Fraction(seconds) * 10**9 * (-1 if sign else 1)
    months, days, seconds = re.fullmatch(r"P(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(.+)S)?", text).groups()
    return pa.MonthDayNano([int(months or 0), int(days or 0), int(Fraction(seconds or 0) * 10**9)])


@pytest.mark.parametrize(
    ("text", "target", "value"),
    [
        ("12", pa.int64(), 12),
        ("-3", pa.int64(), -3),
        ("-0", pa.int64(), None),
        ("007", pa.int64(), None),
        ("+5", pa.int64(), None),
        (" 5", pa.int64(), None),
        ("5.0", pa.int64(), None),
        ("9223372036854775808", pa.int64(), None),
        ("1.50", pa.decimal128(5, 2), Decimal("1.50")),
        ("1.505", pa.decimal128(5, 2), None),
        ("01.5", pa.decimal128(5, 2), None),
        ("58", pa.decimal128(38, 38), None),
        ("-0.5", pa.decimal128(38, 38), Decimal("-0.5")),
        ("12345678901234567890123456789012345678", pa.decimal128(38, 10), None),
        ("1e3", pa.decimal128(8, 2), None),
        ("0.1", pa.float64(), 0.1),
        ("0.10000000000000000001", pa.float64(), None),
        ("true", pa.bool_(), True),
        ("1", pa.bool_(), None),
        ("2024-02-30", pa.date32(), None),
        ("20240229", pa.date32(), None),
        ("2024-02-29 10:00:00+02:00", pa.timestamp("us"), None),
        ("2024-02-29 10:00:00", pa.timestamp("us", "UTC"), None),
        ("2024-02-29", pa.timestamp("us"), None),
        ("2024-02-29 10:00:00.1234567", pa.timestamp("us"), None),
        ("text", pa.binary(), None),
    ],
    ids=str,
)
def test_text_is_a_value_only_in_its_plain_spelling(text: str, target: pa.DataType, value: object) -> None:
    fitted = fit(pa.array([text, None, text]), target)
    assert fitted.values.to_pylist() == [value, None, value]
    assert (fitted.unfit is None) == (value is not None)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (pa.array([1], pa.timestamp("us")), pa.timestamp("us", "UTC")),
        (pa.array([1], pa.timestamp("us", "UTC")), pa.timestamp("us")),
        (pa.array([True]), pa.int64()),
        (pa.array([1]), pa.bool_()),
        (pa.array([b"abc"]), pa.string()),
        (pa.array([0], pa.timestamp("us")), pa.date32()),
        (pa.array([[1]]), pa.int64()),
        (pa.array([{"a": 1, "b": "x"}]), pa.struct([("a", pa.int64())])),
    ],
    ids=lambda a: str(a.type if isinstance(a, pa.Array) else a),
)
def test_nothing_is_guessed(source: pa.Array, target: pa.DataType) -> None:
    fitted = fit(source, target)
    assert fitted.unfit is not None and fitted.unfit.tolist() == [True]
    assert fitted.values.null_count == 1


def test_a_time_that_nanoseconds_cannot_hold_is_unfit() -> None:
    times = pa.array(["2024-05-01", "9999-12-31", "1500-01-01"]).cast(pa.timestamp("us"))
    fitted = fit(times, pa.timestamp("ns"))
    assert fitted.unfit is not None and fitted.unfit.tolist() == [False, True, True]


def test_one_bad_value_among_many_is_found() -> None:
    numbers = pa.array([*range(50_000), 2**40, *range(50_000)])
    fitted = fit(numbers, pa.int32())
    assert fitted.unfit is not None and fitted.unfit.nonzero()[0].tolist() == [50_000]
    assert fitted.values[50_001].as_py() == 0


def test_nested_values_are_matched_by_name_at_every_depth() -> None:
    source = pa.array([[{"Id": 1, "Tags": ["a"]}], None, [], [{"Id": None, "Tags": None}, None]])
    target = pa.list_(pa.struct([("new", pa.date32()), ("tags", pa.list_(pa.string())), ("id", pa.decimal128(20, 0))]))
    fitted = fit(source, target)
    assert fitted.unfit is None
    assert fitted.values.to_pylist() == [
        [{"new": None, "tags": ["a"], "id": Decimal(1)}],
        None,
        [],
        [{"new": None, "tags": None, "id": None}, None],
    ]


def test_one_unfit_element_makes_its_row_unfit() -> None:
    lists = fit(pa.array([[1, 300], [2], None]), pa.list_(pa.int8()))
    assert lists.unfit is not None and lists.unfit.tolist() == [True, False, False]
    assert lists.values.to_pylist() == [None, [2], None]
    source = pa.array([[(1, "a"), (300, "b")], [(2, "c")], None], pa.map_(pa.int64(), pa.string()))
    maps = fit(source, pa.map_(pa.int8(), pa.string()))
    assert maps.unfit is not None and maps.unfit.tolist() == [True, False, False]
    assert maps.values.to_pylist() == [None, [(2, "c")], None]


def test_encodings_are_no_part_of_a_value() -> None:
    plain = pa.array(["a", None, "b"])
    for encoded in (
        plain.dictionary_encode(),
        pc.run_end_encode(plain),
        plain.cast(pa.string_view()),
        plain.cast(pa.large_string()),
    ):
        assert fit(encoded, pa.string()).values == plain
    assert fit(pa.array([1, 0, None], pa.int8()).cast(pa.bool8()), pa.bool_()).values.to_pylist() == [True, False, None]
    lists = pa.array([[1], None, [2, 3]], pa.list_view(pa.int64()))
    assert fit(lists, pa.list_(pa.int64())).values.to_pylist() == [[1], None, [2, 3]]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([5025], pa.time32("ms")), "00:00:05.025"),
        (pa.array([0], pa.time64("ns")), "00:00:00"),
        (pa.array([10_000_000_000], pa.time64("ns")), "00:00:10"),
        (pa.array([-1_500], pa.duration("ms")), "-PT1.5S"),
        (pa.array([0], pa.duration("s")), "PT0S"),
        (pa.array([pa.MonthDayNano([1, -2, -1_500_000_000])]), "P1M-2DT-1.5S"),
        (pa.array([pa.MonthDayNano([0, 0, 0])]), "PT0S"),
        (pa.array([Decimal("0.0000000015")]), "0.0000000015"),
        (pa.array([Decimal(10) ** 49], pa.decimal256(50, 0)), "1" + "0" * 49),
    ],
    ids=str,
)
def test_what_the_lake_has_no_type_for_is_text(array: pa.Array, text: str) -> None:
    assert fit(array, pa.string()).values.to_pylist() == [text]


def test_a_slice_of_nested_maps_is_taken_apart_rightly() -> None:
    """Arrow's own cast of such a slice to lists of pairs gives wrong offsets."""
    inner = pa.map_(pa.string(), pa.int32())
    values = [[("a", {"m": [("x", 1), ("y", 2)]})], None, [("b", {"m": None}), ("c", {"m": [("z", 3)]})], []]
    source = pa.array(values, pa.map_(pa.string(), pa.struct([("m", inner)])))
    wider = pa.map_(pa.string(), pa.struct([("m", pa.map_(pa.string(), pa.int64()))]))
    for start in range(4):
        fitted = fit(source[start:], wider)
        assert fitted.unfit is None and fitted.values.to_pylist() == values[start:]


def test_what_stands_behind_a_null_map_is_nothing() -> None:
    keys, items = pa.array([1, 300, 2]), pa.array(["a", "b", "c"])
    maps = pa.MapArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), keys, items, mask=pa.array([False, True, False]))
    fitted = fit(maps, pa.map_(pa.int8(), pa.string()))
    assert fitted.unfit is None and fitted.values.to_pylist() == [[(1, "a")], None, [(2, "c")]]
