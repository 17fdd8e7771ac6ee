"""The explicit privacy rules of a row: keep, mask, hash or drop a column's values before anything is stored.

`mask`: text becomes `***`, everything else NULL (NULL stays NULL, types stay). `hash`: text of 32 hex digits, blake2b of
128 bits keyed by the row's secret; one value has one digest in every column, table and run of that key, and keeps it
when its column is widened (5 = 5.00, date = midnight). `drop`: the column is not there.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.exact_text import exact_text, trim_fraction
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.row_json import dump, json_values
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PrivacySpec

Action = Literal["keep", "mask", "hash", "drop"]

MASK = "***"
DIGEST_BYTES = 16


def plan_privacy(columns: Sequence[str], privacy: PrivacySpec) -> dict[str, Action]:
    """Column → what happens to its values. Globs match the source's or the lake's spelling; the last match wins.
    Without a match: keep, or mask when the row asks for `mask_unclassified`."""
    default: Action = "mask" if privacy.mode == "mask_unclassified" else "keep"
    actions: dict[str, Action] = {}
    for name in columns:
        actions[name] = default
        for glob, action in privacy.columns.items():
            if any(glob == spelled or fnmatch.fnmatchcase(spelled, glob) for spelled in (name, sanitise(name))):
                actions[name] = action
    return actions


def privacy_schema(schema: TableSchema, actions: Mapping[str, Action]) -> TableSchema:
    """The schema of what `apply_privacy` gives: hashed columns are text, dropped ones absent."""
    columns = tuple(
        replace(c, type=pa.string()) if _action(actions, c.name) == "hash" and not pt.is_null(c.type) else c
        for c in schema
        if _action(actions, c.name) != "drop"
    )
    return replace(schema, columns=columns, keys=tuple(k for k in schema.keys if _action(actions, k) != "drop"))


def apply_privacy(records: pa.RecordBatch, actions: Mapping[str, Action], key: bytes | None) -> pa.RecordBatch:
    """`records` with every column treated as planned; columns that are not in `actions` are refused, not kept.

    InventoryError when something is to be hashed and there is no key.
    """
    if all(_action(actions, name) == "keep" for name in records.schema.names):
        return records
    arrays, fields = [], []
    for column, array in zip(records.schema, records.columns, strict=True):
        action = _action(actions, column.name)
        if action == "drop":
            continue
        if action == "mask":
            array = _masked(array)
        elif action == "hash" and not pt.is_null(array.type):
            array = _hashed(array, _usable(key, column.name))
        arrays.append(array)
        fields.append(pa.field(column.name, array.type))
    if not arrays:
        raise InventoryError(
            "Cannot apply privacy: every column is dropped -> at least one that stays. A table needs a column. "
            "Correct `privacy.columns`, or exclude the table."
        )
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def key_mark(key: bytes) -> str:
    """8 hex digits that tell two keys apart and nothing else of them: digests of one key can be compared, others cannot."""
    return hashlib.blake2b(b"which key", digest_size=4, key=_short(key)).hexdigest()


def digest_text(text: str, key: bytes) -> str:
    """The digest of a text value, for looking somebody up."""
    return _digest(b"text\0" + text.encode("utf-8", "surrogatepass"), key)


def _action(actions: Mapping[str, Action], name: str) -> Action:
    try:
        return actions[name]
    except KeyError:
        raise InventoryError(
            f"Cannot apply privacy: column {name!r} was not planned -> one of {sorted(actions)}. A column without a "
            "decision is never stored. Plan again from the source as it is now."
        ) from None


def _usable(key: bytes | None, column: str) -> bytes:
    if not key:
        raise InventoryError(
            f"Cannot hash column {column!r}: no key -> a secret in the connection `privacy.key_conn_id`. A digest "
            "without a key can be guessed by trying values. Create that connection and name it in the row."
        )
    return _short(key)


def _short(key: bytes) -> bytes:
    return key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()


def _masked(array: pa.Array) -> pa.Array:
    t = array.type.value_type if pt.is_dictionary(array.type) else array.type
    if not (pt.is_string(t) or pt.is_large_string(t) or pt.is_string_view(t)):
        return pa.nulls(len(array), t)
    return pc.if_else(array.is_valid(), pa.scalar(MASK, pa.string()), pa.scalar(None, pa.string())).cast(t)


def _hashed(array: pa.Array, key: bytes) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _hashed(array.storage, key)
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    coded = None if pt.is_nested(array.type) else array.dictionary_encode()
    values = array if coded is None else coded.dictionary
    digests = pa.array([None if c is None else _digest(c, key) for c in _canonical(values)], pa.string())
    return digests if coded is None else digests.take(coded.indices)


def _digest(content: bytes, key: bytes) -> str:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=key).hexdigest()


def _canonical(array: pa.Array) -> list[bytes | None]:
    """Bytes of each value, equal for equal values of types that widen into each other, different otherwise."""
    t = array.type
    if pt.is_string(t) or pt.is_large_string(t) or pt.is_string_view(t):
        return _tagged(b"text\0", array.cast(pa.large_binary()).to_pylist())
    if pt.is_binary(t) or pt.is_large_binary(t) or pt.is_fixed_size_binary(t) or pt.is_binary_view(t):
        return _tagged(b"bytes\0", array.to_pylist())
    if pt.is_integer(t) or pt.is_decimal(t):
        return _tagged(b"number\0", _encoded(trim_fraction(exact_text(array))))
    if pt.is_floating(t):
        return _tagged(b"float\0", [None if v is None else (v + 0.0).hex().encode() for v in array.to_pylist()])
    if pt.is_date(t) or pt.is_timestamp(t):
        tag = b"instant\0" if pt.is_timestamp(t) and t.tz else b"time\0"
        points = array.cast(pa.timestamp("s")) if pt.is_date(t) else array
        points = points.cast(pa.timestamp(points.type.unit, "UTC")) if tag == b"instant\0" else points
        return _tagged(tag, _encoded(trim_fraction(pc.replace_substring(exact_text(points), "Z", ""))))
    if pt.is_nested(t) and not pt.is_union(t):
        return _tagged(b"nested\0", [None if v is None else dump(v) for v in json_values(array)])
    return _tagged(str(t).split("[")[0].encode() + b"\0", _encoded(exact_text(array)))


def _encoded(text: pa.Array) -> list[bytes | None]:
    return [None if v is None else v.encode() for v in text.to_pylist()]


def _tagged(tag: bytes, values: Sequence[bytes | None]) -> list[bytes | None]:
    return [None if v is None else tag + v for v in values]
