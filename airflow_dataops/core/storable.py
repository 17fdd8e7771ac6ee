"""Which Arrow type a lake column gets for a source type: what Hive and Parquet can hold, without losing a value.

| source type                          | lake type           | why                                                        |
|--------------------------------------|---------------------|------------------------------------------------------------|
| uint8, 16, 32, 64                    | int16, 32, 64, decimal(20,0) | Hive has no unsigned type: the next signed one    |
| float16                              | float32             | neither Hive nor most Parquet readers have it              |
| decimal of more than 38 digits       | string              | 38 is the limit of Hive and of Parquet's readers           |
| decimal of a negative scale          | decimal of scale 0  | Hive has none; the same numbers, spelled out               |
| date64                               | date                | one date type                                              |
| timestamp of seconds                 | timestamp[ms]       | Parquet has no seconds                                     |
| timestamp of a zone                  | the same in UTC     | a zone says how to show an instant, not which one it is    |
| time, duration, interval             | string (ISO 8601)   | Hive has none of them; text keeps every digit              |
| binary of a fixed width              | binary              | Hive has one binary type                                   |
| dictionary, run-end, view, large_, extension | the values' own type | how values are encoded is no part of what they are |
| list, map, struct                    | the same of storable ones, field names sanitised | one rule at every depth       |
| null, and what is made of it alone   | null                | *untyped*: no column until a value comes                   |
"""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import plan_names

MAX_DIGITS = 38
"""Digits of a decimal in Hive."""

_SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20, 0)}


@lru_cache(maxsize=4096)
def storable(t: pa.DataType) -> pa.DataType:
    """The lake type that holds every value of `t` exactly; `pa.null()` for an untyped column. Idempotent.

    InventoryError for a type without an agreed storage (unions), or a struct whose field names meet.
    """
    if isinstance(t, pa.BaseExtensionType):
        return pa.bool_() if t.extension_name == "arrow.bool8" else storable(t.storage_type)
    if pt.is_dictionary(t) or pt.is_run_end_encoded(t):
        return storable(t.value_type)
    if t in _SIGNED:
        return _SIGNED[t]
    if pt.is_null(t) or pt.is_boolean(t) or pt.is_integer(t) or pt.is_float32(t) or pt.is_float64(t):
        return t
    if pt.is_float16(t):
        return pa.float32()
    if pt.is_decimal(t):
        return _decimal(t.precision, t.scale)
    if pt.is_string(t) or pt.is_large_string(t) or pt.is_string_view(t):
        return pa.string()
    if pt.is_binary(t) or pt.is_large_binary(t) or pt.is_binary_view(t) or pt.is_fixed_size_binary(t):
        return pa.binary()
    if pt.is_date(t):
        return pa.date32()
    if pt.is_timestamp(t):
        return pa.timestamp("ms" if t.unit == "s" else t.unit, None if t.tz is None else "UTC")
    if pt.is_time(t) or pt.is_duration(t) or t == pa.month_day_nano_interval():
        return pa.string()
    if pt.is_nested(t) and not pt.is_union(t):
        return _nested(t)
    raise InventoryError(
        f"Cannot store a column of type {t}: no lake type holds its values -> a type of the table in "
        "`airflow_dataops/core/storable.py`. Cast it in `read.query`, or drop the column with `privacy.columns`."
    )


def _decimal(precision: int, scale: int) -> pa.DataType:
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return pa.decimal128(precision, scale) if precision <= MAX_DIGITS else pa.string()


def _nested(t: pa.DataType) -> pa.DataType:
    if pt.is_struct(t):
        fields = [t.field(i) for i in range(t.num_fields)]
        names = plan_names([f.name for f in fields])
        typed = [pa.field(names[f.name], storable(f.type)) for f in fields]
        typed = [f for f in typed if not pt.is_null(f.type)]
        return pa.struct(typed) if typed else pa.null()
    if pt.is_map(t):
        key, item = storable(t.key_type), storable(t.item_type)
        return pa.null() if pt.is_null(key) or pt.is_null(item) else pa.map_(key, item)
    item = storable(t.value_type)
    return pa.null() if pt.is_null(item) else pa.list_(item)
