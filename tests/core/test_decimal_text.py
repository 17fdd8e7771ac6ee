"""Arrow's silent overflow never reaches a column."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_dataops.core.decimal_text import whole_digits_fit


@pytest.mark.parametrize(
    ("text", "type_", "fits"),
    [
        ("58", pa.decimal128(38, 38), False), ("0.58", pa.decimal128(38, 38), True), ("-12.5", pa.decimal128(3, 1), True),
        ("123.5", pa.decimal128(3, 1), False), ("-00012.5", pa.decimal128(3, 1), True), ("1e30", pa.decimal128(38, 18), False),
        ("12345678901234567890123456789012345678", pa.decimal128(38, 10), False), ("abc", pa.decimal128(2, 0), False),
        ("99", pa.decimal128(2, 0), True),
    ],
)  # fmt: skip
def test_digits_before_the_point_are_counted(text: str, type_: pa.DataType, fits: bool) -> None:
    assert whole_digits_fit(pa.array([None, "0", text]), type_) is fits


def test_nothing_fits_everywhere() -> None:
    assert whole_digits_fit(pa.array([], pa.string()), pa.decimal128(1, 1))
    assert whole_digits_fit(pa.array([None], pa.string()), pa.decimal128(1, 1))
