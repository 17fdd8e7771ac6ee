"""Scalars as text, exactly: what a value looks like in a string column, a partition name or a dead letter.

Numbers without exponent (floats excepted: their shortest form that reads back as the same float), dates and times in
ISO 8601, a space between date and time as SQL writes it, `Z` behind instants; durations as `PT3723.5S`, intervals as
`P1M2DT3.5S`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def exact_text(array: pa.Array) -> pa.Array:
    """The text of every value of a scalar array (no binary), as `string`; NULL stays NULL."""
    t = array.type
    if pt.is_decimal(t):
        return _decimals(array)
    if pt.is_time(t):
        return trim_fraction(pc.cast(array, pa.string()))
    if pt.is_duration(t):
        ticks = pc.cast(array, pa.int64())
        per_second = _PER_SECOND[t.unit]
        return _each(ticks, lambda tick: ("-" if tick < 0 else "") + f"PT{_seconds(abs(tick), per_second)}S")
    if t == pa.month_day_nano_interval():
        return pa.array([None if v is None else _interval(v) for v in array.to_pylist()], pa.string())
    if pt.is_nested(t) or pt.is_binary(t) or pt.is_large_binary(t) or pt.is_fixed_size_binary(t) or pt.is_binary_view(t):
        raise InventoryError(
            f"Cannot write values of type {t} as text: no text is exact -> a scalar type. Bytes and nested values have "
            "no one spelling. Cast the column in `read.query`."
        )
    return pc.cast(array, pa.string())


def trim_fraction(text: pa.Array) -> pa.Array:
    """`10:00:00.500000` → `10:00:00.5`, `10:00:00.000` → `10:00:00`: one text for one time in whatever unit."""
    return pc.replace_substring_regex(text, r"\.0+$|(\.\d*[1-9])0+$", r"\1")


def _decimals(array: pa.Array) -> pa.Array:
    text = pc.cast(array, pa.string())
    if not pc.any(pc.match_substring(text, "E")).as_py():
        return text
    return _each(text, lambda value: format(Decimal(value), "f"))


def _each(array: pa.Array, of: Callable[[Any], str]) -> pa.Array:
    """`of` of every distinct value, once."""
    coded = array.dictionary_encode()
    values = pa.array([of(v) for v in coded.dictionary.to_pylist()], pa.string())
    return values.take(coded.indices)


def _interval(value: Any) -> str:
    months, days, nanoseconds = value
    date = (f"{months}M" if months else "") + (f"{days}D" if days else "")
    sign = "-" if nanoseconds < 0 else ""
    clock = f"T{sign}{_seconds(abs(nanoseconds), 1_000_000_000)}S" if nanoseconds or not date else ""
    return f"P{date}{clock}"


def _seconds(ticks: int, per_second: int) -> str:
    whole, rest = divmod(ticks, per_second)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(per_second)) - 1, '0').rstrip('0')}"
