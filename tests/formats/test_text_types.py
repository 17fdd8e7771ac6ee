"""Laws of text → type: nothing is lost, and the outcome does not depend on how the values were cut into pieces."""

from __future__ import annotations

import datetime as dt
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.formats.text_types import Evidence, firm_type, is_foreign, observe, resolve
from airflow_dataops.formats.text_values import convert, convert_some

NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(-5, 5).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9).map(lambda d: f"{d:f}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["007", "-0", "+1", "1.", ".5", "-.5", "0.10", "1e5", "1E-7", "NaN", "inf", "0x1F", " 1", "1 ", "1_0", "00.5", "-"]
    ),
)
WORDS = st.one_of(
    NUMBERS,
    st.dates(dt.date(1, 1, 1)).map(str),
    st.datetimes(dt.datetime(1, 1, 1)).map(lambda d: d.isoformat()),
    st.datetimes(dt.datetime(1900, 1, 1), timezones=st.just(dt.UTC)).map(lambda d: d.isoformat(" ")),
    st.sampled_from(
        ["true", "FALSE", "yes", "x", "", "2024-02-30", "2024-01-01T00:00:00.123456789", "1500-01-01T00:00:00.123456789"]
    ),
)
EXPECTED = st.sampled_from(
    [None, pa.int32(), pa.int64(), pa.uint8(), pa.float32(), pa.float64(), pa.decimal128(9, 2), pa.decimal128(38, 10), pa.bool_(),
     pa.date32(), pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.string(), pa.null()]
)  # fmt: skip


def texts(values: list[str | None]) -> pa.StringArray:
    return pa.array(values, pa.string())


def same(text: str, value: Any, t: pa.DataType) -> bool:
    """Whether the typed value says what the text says."""
    if pa.types.is_string(t):
        return bool(text == value)
    if text == "":
        return value is None
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, int):
        return Decimal(text) == value
    if isinstance(value, float):
        return float(text) == value if Decimal(text).is_finite() and Decimal(repr(value)) == Decimal(text) else str(value) in (
            text.lower(), text.lower().replace("infinity", "inf"))  # fmt: skip
    if isinstance(value, Decimal):
        return Decimal(text) == value
    return True


@given(st.lists(st.one_of(st.none(), WORDS), max_size=30), EXPECTED)
def test_every_value_is_kept_exactly_or_told_apart(values: list[str | None], expected: pa.DataType | None) -> None:
    firm = firm_type(expected)
    t = resolve(observe(texts(values), firm), firm)
    found, misfits = convert_some(texts(values), t)
    assert firm is not None or not misfits.any(), "without an expected type every value fits"
    stored = found.cast(pa.timestamp("us", t.tz), safe=False) if pa.types.is_timestamp(t) else found
    for text, value, misfit in zip(values, stored.to_pylist(), misfits.tolist(), strict=True):
        if text is None or misfit:
            assert value is None
            assert text is None or is_foreign(text, t)
        else:
            assert same(text, value, t), (text, value, t)


@given(st.lists(st.one_of(st.none(), WORDS), max_size=30), st.integers(0, 30), EXPECTED)
def test_evidence_merges(values: list[str | None], cut: int, expected: pa.DataType | None) -> None:
    firm = firm_type(expected)
    whole = resolve(observe(texts(values), firm), firm)
    merged = Evidence()
    for part in (values[cut:], values[:cut]):
        merged.add(observe(texts(part), firm))
    assert resolve(merged, firm) == whole
    one_by_one = Evidence()
    for value in values:
        one_by_one.add(observe(texts([value]), firm))
    assert resolve(one_by_one, firm) == whole


@given(st.lists(st.one_of(st.none(), WORDS), max_size=30), EXPECTED)
def test_a_resolved_type_is_stable(values: list[str | None], expected: pa.DataType | None) -> None:
    """Reading again with the outcome as the expectation changes nothing: one restart is enough."""
    firm = firm_type(expected)
    t = resolve(observe(texts(values), firm), firm)
    assert resolve(observe(texts(values), firm_type(t)), firm_type(t)) == t or pa.types.is_null(t)


@given(st.lists(st.one_of(st.none(), WORDS), min_size=1, max_size=30), EXPECTED.filter(lambda t: t is not None), st.integers(0, 9))
def test_slices_and_nulls_do_not_change_a_value(values: list[str | None], t: pa.DataType, skip: int) -> None:
    padded = texts([None, "x", *values, "y", None])
    piece = padded.slice(2, len(values)).slice(min(skip, len(values)))
    fresh = texts(values[min(skip, len(values)) :])
    a, b = convert(piece, t), convert(fresh, t)
    assert (a is None) == (b is None)
    assert a is None or a.equals(b) or str(a) == str(b)  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("values", "t"),
    [
        (["1", "2"], pa.int64()),
        (["1", "2.0"], pa.float64()),
        (["01", "2"], pa.string()),
        ([None, ""], pa.string()),
        ([None], pa.null()),
        (["9223372036854775808"], pa.decimal128(19, 0)),
        (["1" * 39], pa.string()),
        (["0.1", "1" * 20], pa.decimal128(21, 1)),
        (["9007199254740993", "0.5"], pa.decimal128(17, 1)),
        (["1e5", "2"], pa.float64()),
        (["1e400"], pa.string()),
        (["NaN"], pa.string()),
        (["NaN", "1"], pa.float64()),
        (["true", "False"], pa.bool_()),
        (["true", "1"], pa.string()),
        (["2024-01-01"], pa.date32()),
        (["2024-01-01T10:00:00.1234567"], pa.timestamp("ns")),
        (["2024-01-01T10:00:00+01:00"], pa.timestamp("us", "UTC")),
        (["1066-01-01T10:00:00.123456789"], pa.string()),
        (["2024-01-01 10:00", "2024-01-01"], pa.timestamp("us")),
        (["10:00"], pa.string()),
    ],
)
def test_types_on_first_load(values: list[str | None], t: pa.DataType) -> None:
    assert resolve(observe(texts(values), None), None) == t


DIGITS = st.text(st.sampled_from("0123456789"), min_size=1, max_size=45)
ZEROS = st.text(st.sampled_from("00000000001"), max_size=60)


@given(DIGITS, ZEROS, st.integers(1, 38), st.integers(0, 38))
def test_a_decimal_is_exact_or_refused_at_any_length(whole: str, fraction: str, precision: int, scale: int) -> None:
    """Arrow's own cast gives 0, or something else, for many texts of more than 38 digits."""
    text = (whole.lstrip("0") or "0") + ("." + fraction if fraction else "")
    t = pa.decimal128(precision, min(scale, precision))
    found = convert(texts([text]), t)
    fits = abs(Decimal(text)) < 10 ** (t.precision - t.scale) and Decimal(text) == Decimal(text).quantize(
        Decimal(1).scaleb(-t.scale), context=Context(prec=200)
    )
    assert (found is not None) == fits
    assert found is None or found[0].as_py() == Decimal(text)
