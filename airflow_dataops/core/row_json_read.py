"""Rows back from their JSON (`row_json`): exactly the values that were written, or an error.

The inverse is proved value by value: what was read is written again and must be the same JSON, so nothing is ever
rounded or guessed on the way back.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.row_json import json_values


class UnreadableError(ValueError):
    """The JSON holds no value of the type. Its text names the type, never the value."""


def array_of_json(values: list[Any], t: pa.DataType) -> pa.Array:
    """The values as an array of the type. UnreadableError when one of them is none of it, exactly."""
    try:
        array = _array(values, t)
        same = json_values(array) == values
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError, OverflowError, KeyError):
        raise UnreadableError(f"no value of type {t}") from None
    if not same:
        raise UnreadableError(f"no value that type {t} holds exactly")
    return array


def record_of_json(raw: bytes) -> dict[str, Any]:
    """Column → JSON value of one row. UnreadableError when the bytes are no JSON object."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnreadableError("no JSON") from None
    if not isinstance(record, dict):
        raise UnreadableError("no JSON object")
    return record


def _array(values: list[Any], t: pa.DataType) -> pa.Array:
    if pt.is_null(t) or pt.is_boolean(t) or pt.is_integer(t) or pt.is_string(t):
        return pa.array(values, t)
    if pt.is_floating(t):
        return pa.array([float(v) if isinstance(v, str) else v for v in values], t)
    if pt.is_binary(t) or pt.is_fixed_size_binary(t):
        return pa.array([None if v is None else bytes.fromhex(v) for v in values], t)
    if pt.is_struct(t):
        fields = [t.field(i) for i in range(t.num_fields)]
        children = [_array([None if v is None else v[f.name] for v in values], f.type) for f in fields]
        missing = pa.array([v is None for v in values], pa.bool_())
        return pa.StructArray.from_arrays(children, fields=fields, mask=missing)
    if pt.is_map(t):
        pairs = [pair for v in values if v is not None for pair in v]
        keys, items = _array([k for k, _ in pairs], t.key_type), _array([i for _, i in pairs], t.item_type)
        return pa.MapArray.from_arrays(_offsets(values), keys, items, type=t)
    if pt.is_list(t):
        items = _array([item for v in values if v is not None for item in v], t.value_type)
        return pa.ListArray.from_arrays(_offsets(values), items, type=t)
    text = pa.array(values, pa.string())
    if pt.is_time(t):  # Arrow cannot parse a time of day, but a timestamp of the day zero
        moment = pc.binary_join_element_wise("1970-01-01", text, " ")
        return pc.cast(pc.cast(moment, pa.timestamp("ns" if t == pa.time64("ns") else "us")), t)
    return pc.cast(text, t)


def _offsets(values: list[Any]) -> pa.Array:
    """Where each list begins and ends; NULL where there is none, as `from_arrays` wants it."""
    lengths = [0 if v is None else len(v) for v in values]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = np.array([v is None for v in values] + [False])
    return pa.array(ends, pa.int32(), mask=mask)
