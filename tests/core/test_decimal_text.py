"""Arrow's silent overflow never reaches a column."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from airflow_dataops.core.decimal_text import decimal_of, parses_exactly


@pytest.mark.parametrize(
    ("text", "type_", "fits"),
    [
        ("58", pa.decimal128(38, 38), False), ("0.58", pa.decimal128(38, 38), True), ("-12.5", pa.decimal128(3, 1), True),
        ("123.5", pa.decimal128(3, 1), False), ("-00012.5", pa.decimal128(3, 1), True), ("1e30", pa.decimal128(38, 18), False),
        ("12345678901234567890123456789012345678", pa.decimal128(38, 10), False), ("abc", pa.decimal128(2, 0), False),
        ("99", pa.decimal128(2, 0), True), ("77.10000000010000000100001110010001000010000000", pa.decimal128(38, 5), False),
    ],
)  # fmt: skip
def test_digits_before_the_point_are_counted(text: str, type_: pa.DataType, fits: bool) -> None:
    assert parses_exactly(pa.array([None, "0", text]), type_) is fits


def test_nothing_fits_everywhere() -> None:
    assert parses_exactly(pa.array([], pa.string()), pa.decimal128(1, 1))
    assert parses_exactly(pa.array([None], pa.string()), pa.decimal128(1, 1))


@pytest.mark.parametrize(
    ("text", "type_", "found"),
    [
        ("1." + "5" + "0" * 50, pa.decimal128(38, 18), "1.5"), ("1." + "0" * 50 + "1", pa.decimal128(38, 18), None),
        ("1e30", pa.decimal128(38, 0), "1E+30"), ("1e30", pa.decimal128(38, 18), None), ("NaN", pa.decimal128(38, 0), None),
        ("abc", pa.decimal128(38, 0), None), ("-0.00", pa.decimal128(4, 1), "0"),
    ],
)  # fmt: skip
def test_one_text_is_held_exactly_or_not_at_all(text: str, type_: pa.DataType, found: str | None) -> None:
    number = decimal_of(text, type_)
    assert number == (None if found is None else Decimal(found))
    if number is not None:
        assert pa.array([number], type_)[0].as_py() == number
