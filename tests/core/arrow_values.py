"""Hypothesis strategies: Arrow types the product supports, and columns and batches of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import types as pt

from airflow_dataops.core.naming import sanitise

INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
TIMESTAMPS = tuple(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin"))
SCALARS = (
    pa.bool_(), *INTEGERS, pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary(), pa.binary(16),
    pa.decimal128(5, 2), pa.decimal128(10, 2), pa.decimal128(12, 8), pa.decimal128(38, 0), pa.decimal128(38, 38),
    pa.decimal256(50, 10), pa.date32(), *TIMESTAMPS,
    pa.time32("s"), pa.time64("us"), pa.time64("ns"), pa.duration("ms"), pa.duration("ns"), pa.month_day_nano_interval(),
)  # fmt: skip

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # the years 0001 to 9999
_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
names = st.text(st.characters(codec="utf-8"), min_size=0, max_size=12)
scalar_types = st.sampled_from(SCALARS)


def types(depth: int = 2) -> st.SearchStrategy[pa.DataType]:
    """Supported types, nested ones up to `depth`."""
    leaves = st.one_of(scalar_types, st.just(pa.null()))
    if depth == 0:
        return leaves
    inner = types(depth - 1)
    fields = st.lists(inner, min_size=1, max_size=3).map(lambda ts: pa.struct([(f"f{i}", t) for i, t in enumerate(ts)]))
    maps = st.builds(pa.map_, st.sampled_from((pa.string(), pa.int32())), inner)
    return st.one_of(leaves, leaves, inner.map(pa.list_), fields, maps)


def values(t: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of `t` as `pa.array(…, t)` takes them, NULL among them."""
    return st.one_of(st.none(), _values(t))


def _values(t: pa.DataType) -> st.SearchStrategy[Any]:
    if pt.is_null(t):
        return st.none()
    if pt.is_boolean(t):
        return st.booleans()
    if pt.is_unsigned_integer(t):
        return st.integers(0, 2**t.bit_width - 1)
    if pt.is_integer(t):
        return st.integers(-(2 ** (t.bit_width - 1)), 2 ** (t.bit_width - 1) - 1)
    if pt.is_floating(t):
        return st.floats(width=t.bit_width)
    if pt.is_decimal(t):
        return st.integers(-(10**t.precision) + 1, 10**t.precision - 1).map(
            lambda unscaled, t=t: Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -t.scale))
        )
    if pt.is_string(t) or pt.is_large_string(t):
        return st.text(st.characters(codec="utf-8"), max_size=8)
    if pt.is_fixed_size_binary(t):
        return st.binary(min_size=t.byte_width, max_size=t.byte_width)
    if pt.is_binary(t):
        return st.binary(max_size=8)
    if pt.is_date(t):
        return st.dates()
    if pt.is_timestamp(t) or pt.is_time(t) or pt.is_duration(t):
        return st.integers(*_ticks(t))
    if t == pa.month_day_nano_interval():
        return st.builds(lambda *v: pa.MonthDayNano(v), st.integers(-99, 99), st.integers(-99, 99), st.integers(-(10**15), 10**15))
    if pt.is_list(t):
        return st.lists(values(t.value_type), max_size=3)
    if pt.is_map(t):
        return st.lists(st.tuples(_values(t.key_type), values(t.item_type)), max_size=3, unique_by=lambda pair: pair[0])
    return st.fixed_dictionaries({t.field(i).name: values(t.field(i).type) for i in range(t.num_fields)})


def _ticks(t: pa.DataType) -> tuple[int, int]:
    unit = _UNIT[t.unit]
    if pt.is_time(t):
        return 0, 86_400 * 10**9 // unit - 1
    if pt.is_duration(t):
        return -(2**62) // unit, 2**62 // unit
    if t.unit == "ns":
        return -(2**62), 2**62
    return _FIRST_SECOND * 10**9 // unit, _LAST_SECOND * 10**9 // unit


@st.composite
def columns(draw: st.DrawFn, t: pa.DataType, rows: int) -> pa.Array:
    """A column of `rows` values, sometimes a slice with an offset."""
    drawn = draw(st.lists(values(t), min_size=rows + 1, max_size=rows + 1))
    array = array_of(drawn, t)
    return array[1:] if draw(st.booleans()) else array[:rows]


def array_of(drawn: list[Any], t: pa.DataType) -> pa.Array:
    """`pa.array`, but ticks of times given as integers at any depth."""
    if pt.is_timestamp(t) or pt.is_time(t) or pt.is_duration(t):
        storage = pa.int32() if pt.is_time32(t) else pa.int64()
        return pa.array(drawn, storage).view(t)
    if pt.is_list(t):
        flat = array_of([v for row in drawn if row is not None for v in row], t.value_type)
        offsets, at = [0], 0
        for row in drawn:
            at += len(row or ())
            offsets.append(at)
        mask = pa.array([row is None for row in drawn], pa.bool_())
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=t, mask=mask)
    if pt.is_map(t):
        offsets, at = [0], 0
        for row in drawn:
            at += len(row or ())
            offsets.append(at)
        pairs = [pair for row in drawn if row is not None for pair in row]
        keys, items = array_of([k for k, _ in pairs], t.key_type), array_of([v for _, v in pairs], t.item_type)
        mask = pa.array([row is None for row in drawn], pa.bool_())
        return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items, type=t, mask=mask)
    if pt.is_struct(t):
        fields = [
            array_of([None if row is None else row[t.field(i).name] for row in drawn], t.field(i).type) for i in range(t.num_fields)
        ]
        mask = pa.array([row is None for row in drawn], pa.bool_())
        return pa.StructArray.from_arrays(fields, type=t, mask=mask)
    return pa.array(drawn, t)


@st.composite
def batches(draw: st.DrawFn, depth: int = 1, max_rows: int = 6) -> pa.RecordBatch:
    """A batch of at least one column, whose lake names differ."""
    spelled = draw(st.lists(names, min_size=1, max_size=4, unique_by=sanitise))
    rows = draw(st.integers(0, max_rows))
    arrays = [draw(columns(draw(types(depth)), rows)) for _ in spelled]
    return pa.RecordBatch.from_arrays(arrays, names=spelled)
