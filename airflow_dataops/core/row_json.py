"""Rows as JSON for dead letters: every value exactly, in JSON's own types where those are exact.

Text, booleans, NULL, integers and finite floats are JSON values; decimals, dates and times are text (`exact_text`),
binary is hex, lists and structs are arrays and objects, maps are arrays of [key, value]; NaN and infinities are text.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.exact_text import exact_text
from airflow_dataops.core.nested_parts import Lengths, list_parts, map_parts


def rows_to_json(records: pa.RecordBatch) -> list[bytes]:
    """One JSON object per row, keyed by column name, UTF-8."""
    names = records.schema.names
    columns = [json_values(column) for column in records.columns]
    rows = zip(*columns, strict=True) if columns else iter([()] * records.num_rows)
    return [dump(dict(zip(names, row, strict=True))) for row in rows]


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8; lone surrogates, which UTF-8 cannot hold, as escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def json_values(array: pa.Array) -> list[Any]:
    """The values as `json.dumps` takes them."""
    t = array.type
    if isinstance(array, pa.ExtensionArray):
        return json_values(array.storage)
    if pt.is_dictionary(t):
        return json_values(array.dictionary_decode())
    if pt.is_run_end_encoded(t):
        return json_values(pc.run_end_decode(array))
    if pt.is_null(t) or pt.is_boolean(t) or pt.is_integer(t):
        return list(array.to_pylist())
    if pt.is_string(t) or pt.is_large_string(t) or pt.is_string_view(t):
        return [_text(v) for v in array.cast(pa.large_binary()).to_pylist()]
    if pt.is_floating(t):
        return [v if v is None or math.isfinite(v) else str(v) for v in array.to_pylist()]
    if pt.is_binary(t) or pt.is_large_binary(t) or pt.is_binary_view(t) or pt.is_fixed_size_binary(t):
        return [None if v is None else v.hex() for v in array.to_pylist()]
    if pt.is_struct(t):
        return _objects(array)
    if pt.is_map(t):
        lengths, keys, items = map_parts(array)
        return _cut([list(pair) for pair in zip(json_values(keys), json_values(items), strict=True)], lengths, array)
    if pt.is_nested(t) and not pt.is_union(t):
        lengths, elements = list_parts(array)
        return _cut(json_values(elements), lengths, array)
    if pt.is_union(t):
        return [str(v) for v in array.to_pylist()]
    return list(exact_text(array).to_pylist())


def _text(value: bytes | None) -> str | None:
    """Bytes that are not the UTF-8 they claim to be survive as backslash escapes: a dead letter must always be written."""
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _objects(array: pa.Array) -> list[Any]:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    columns = [json_values(field) for field in array.flatten()]
    valid = array.is_valid().to_pylist()
    return [
        {name: column[row] for name, column in zip(names, columns, strict=True)} if there else None
        for row, there in enumerate(valid)
    ]


def _cut(elements: list[Any], lengths: Lengths, array: pa.Array) -> list[Any]:
    ends = np.cumsum(lengths).tolist()
    pieces = zip(array.is_valid().to_pylist(), ends, lengths.tolist(), strict=True)
    return [elements[end - length : end] if there else None for there, end, length in pieces]
