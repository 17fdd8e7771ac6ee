"""From what a driver gives to the declared types, exactly: a value that does not fit costs its row, never its digits.

Columns are cast whole. Only when that fails is the culprit searched, by halving, so that one bad value among a million
costs twenty small casts. pyarrow's own conversions from Python are checked by type first: they would cut 2.5 to 2 and
take text for bytes without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.decimal_text import decimal_of, parses_exactly
from airflow_dataops.core.row_json import json_values
from airflow_dataops.sources.base import Batch
from airflow_dataops.sources.sql.database import RawColumn, SqlColumn
from airflow_dataops.sources.sql.values import (
    DAY_RANGE,
    MICROSECOND_RANGE,
    NOT_UTF8,
    TIME_RANGE,
    Unfit,
    as_text,
    exact,
    json_value,
    native_types,
    reason_of,
)

Misfits = dict[int, Unfit]
"""Row number in the batch → why its value cannot be held."""


def decode(table: str, columns: Sequence[SqlColumn], raw: Sequence[RawColumn], schema: pa.Schema) -> Batch:
    """One batch with exactly `schema`; rows with a value that does not fit are dead letters with the row as JSON."""
    arrays: list[pa.Array] = []
    misfits: dict[int, list[tuple[str, Unfit]]] = {}
    raw = list(raw)
    guards = iter(range(len(columns), len(raw)))
    for at, column in enumerate(columns):
        array, bad = to_arrow(raw[at], column)
        if column.guard:
            raw[at] = _guarded(raw[at], raw[next(guards)], bad)
        arrays.append(array)
        for row, unfit in bad.items():
            misfits.setdefault(row, []).append((column.name, unfit))
    raw = raw[: len(columns)]
    records = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if not misfits:
        return Batch(records)
    keep = np.ones(records.num_rows, dtype=bool)
    keep[list(misfits)] = False
    letters = tuple(_letter(table, columns, records, raw, row, misfits[row]) for row in sorted(misfits))
    return Batch(records.filter(pa.array(keep)), letters)


def to_arrow(values: RawColumn, column: SqlColumn) -> tuple[pa.Array, Misfits]:
    """The column in its declared type, NULL where a value does not fit, and why for each of those."""
    misfits: Misfits = {}
    array = _plain(values) if isinstance(values, pa.Array) else _of_python(values, column, misfits)
    if array.type != column.type:
        array = _cast(array, column.type, misfits)
    return _within_calendar(array, misfits), misfits


def _plain(array: pa.Array) -> pa.Array:
    """Without the extension types a driver puts around what it cannot name (also inside a list)."""
    if isinstance(array.type, pa.BaseExtensionType):
        return array.storage
    if pt.is_list(array.type) and isinstance(array.type.value_type, pa.BaseExtensionType):
        return _with_items(array, lambda items: items.storage)
    return array


def _of_python(values: Sequence[object], column: SqlColumn, misfits: Misfits) -> pa.Array:
    """In the target's type, or as text (or bytes) that `_cast` can read."""
    target = column.type
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), target)
    whole = _at_once(values, kinds, column)
    if whole is not None:
        return whole
    fitting: list[Any] = []
    for row, value in enumerate(values):
        try:
            fitting.append(exact(value, target, column.any_as_text))
        except Unfit as unfit:
            misfits[row] = unfit
            fitting.append(None)
    return pa.array(fitting, target)


def _at_once(values: Sequence[object], kinds: set[type], column: SqlColumn) -> pa.Array | None:
    """All values converted together, if they are of one kind that pyarrow takes unchanged; None otherwise."""
    target = column.type
    try:
        if kinds <= native_types(target):
            return pa.array(values, target)
        if kinds == {str}:
            return pa.array(values, pa.string())
        if kinds == {float} and pt.is_decimal(target):
            return pc.cast(pa.array(values, pa.float64()), pa.string())  # the shortest digits, as Python's repr has them
        if kinds <= {int, float, str} and (pt.is_decimal(target) or (column.any_as_text and pt.is_string(target))):
            return pa.array([None if v is None else as_text(v) for v in values], pa.string())  # type: ignore[arg-type]
        if kinds == {bytes} and column.bytes_as_text and pt.is_string(target):
            return pa.array(values, pa.binary())
        if kinds == {list} and pt.is_list(target):
            return _lists_of_python(values, target)
        if kinds == {int} and pt.is_boolean(target) and set(values) <= {0, 1, None}:
            return pa.array(values, pa.int8()).cast(target)
        if kinds == {datetime} and pt.is_timestamp(target) and _all_zoned(values, target.tz is not None):
            return pa.array(values, target)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError):
        return None  # some value does not fit
    return None


def _lists_of_python(values: Sequence[object], target: pa.ListType) -> pa.Array:
    """ArrowInvalid when the items are neither of the target's own Python types nor all text."""
    items = {type(item) for value in values if isinstance(value, list) for item in value} - {type(None)}
    if items <= native_types(target.value_type):
        return pa.array(values, target)
    if items == {str}:
        return pa.array(values, pa.list_(pa.string()))
    raise pa.ArrowInvalid("items of another kind")


def _all_zoned(values: Sequence[object], zoned: bool) -> bool:
    return all((v.tzinfo is not None) == zoned for v in values if isinstance(v, datetime))


def _cast(array: pa.Array, target: pa.DataType, misfits: Misfits) -> pa.Array:
    if pt.is_list(target) and pt.is_list(array.type):
        return _cast_items(array, target, misfits)
    if pt.is_time(target) and pt.is_string(array.type):
        # Arrow cannot parse a time of day, but a timestamp of the day zero.
        moments, bad = _halving(array, lambda a: pc.cast(_on_day_zero(a), pa.timestamp("us")))
        result = pc.cast(moments, target)
    else:
        result, bad = _halving(array, lambda a: _safe_cast(a, target))
    for row in bad:
        misfits[row] = NOT_UTF8 if pt.is_binary(array.type) else reason_of(array[row].as_py(), target)
    return result


def _safe_cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    if pt.is_decimal(target) and pt.is_string(array.type) and not parses_exactly(array, target):
        number = decimal_of(array[0].as_py(), target) if len(array) == 1 else None
        if number is None:
            raise pa.ArrowInvalid("digits that Arrow would lose without a word")
        return pa.array([number], target)
    return pc.cast(array, target, safe=True)


def _on_day_zero(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise("1970-01-01", texts, " ")


def _halving(array: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> tuple[pa.Array, list[int]]:
    """The cast array with NULL at the rows that do not fit, and those rows."""
    try:
        return cast(array), []
    except pa.ArrowInvalid:
        if len(array) == 1:
            return pa.nulls(1, cast(pa.nulls(1, array.type)).type), [0]
    middle = len(array) // 2
    left, bad = _halving(array.slice(0, middle), cast)
    right, more = _halving(array.slice(middle), cast)
    return pa.concat_arrays([left, right]), bad + [middle + row for row in more]


def _with_items(array: pa.ListArray, change: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """The same lists with changed items (as many of them)."""
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int32)
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), change(array.flatten()), mask=mask)


def _cast_items(array: pa.ListArray, target: pa.ListType, misfits: Misfits) -> pa.Array:
    inner: Misfits = {}

    def change(items: pa.Array) -> pa.Array:
        if items.type != target.value_type:
            items = _cast(items, target.value_type, inner)
        return _within_calendar(items, inner)

    result = _with_items(array, change)
    if inner:
        parents = pc.list_parent_indices(array)
        for item, unfit in inner.items():
            misfits.setdefault(parents[item].as_py(), unfit)
        rows = np.zeros(len(array), dtype=bool)
        rows[list(misfits)] = True
        result = pc.if_else(pa.array(rows), pa.scalar(None, result.type), result)
    return result.cast(target)


def _within_calendar(array: pa.Array, misfits: Misfits) -> pa.Array:
    """Dates and times outside 0001-01-01 … 9999-12-31 (00:00 … 24:00) do not exist for most readers of the lake, and a
    database's infinity arrives as one of them."""
    if pt.is_date32(array.type):
        numbers, (low, high) = array.view(pa.int32()), DAY_RANGE
    elif pt.is_timestamp(array.type) and array.type.unit == "us":
        numbers, (low, high) = array.view(pa.int64()), MICROSECOND_RANGE
    elif pt.is_time64(array.type):
        numbers, (low, high) = array.view(pa.int64()), TIME_RANGE
    else:
        return array
    ends = pc.min_max(numbers)
    if ends["min"].as_py() is None or (ends["min"].as_py() >= low and ends["max"].as_py() <= high):
        return array
    outside = pc.fill_null(pc.or_(pc.less(numbers, low), pc.greater(numbers, high)), False)
    for row in pc.indices_nonzero(outside).to_pylist():
        misfits[row] = Unfit("value_out_of_range", f"a {array.type} outside the calendar 0001-01-01 … 9999-12-31, or infinite")
    return pc.if_else(outside, pa.scalar(None, array.type), array)


def _guarded(values: RawColumn, guard: RawColumn, misfits: Misfits) -> RawColumn:
    """The raw values with the guard's text in place of what the driver could not give whole; those rows are misfits."""
    texts = guard.to_pylist() if isinstance(guard, pa.Array) else guard
    caught = {row: text for row, text in enumerate(texts) if text is not None}
    if not caught:
        return values
    misfits.update(dict.fromkeys(caught, Unfit("value_unreadable", "an array of several dimensions or not from 1 on")))
    return [caught.get(row, value) for row, value in enumerate(values)]


def _letter(
    table: str, columns: Sequence[SqlColumn], records: pa.RecordBatch, raw: Sequence[RawColumn], row: int,
    found: list[tuple[str, Unfit]],
) -> DeadLetter:  # fmt: skip
    """The row with each value that was read as its type has it, and those that were not as the driver gave them."""
    unread = {name for name, _ in found}
    typed = {c.name: json_values(values)[0] for c, values in zip(columns, records.slice(row, 1).columns, strict=True)}
    given = {c.name: json_value(values[row]) for c, values in zip(columns, raw, strict=True) if c.name in unread}
    why = "; ".join(f"{name} holds {unfit.why}" for name, unfit in found)
    declared = {c.name: c.declared for c in columns}
    name, first = found[0]
    return DeadLetter(
        reason=first.reason,
        message=f"Cannot read a row of {table}: {why} -> {declared[name]} as declared. Correct it at the source, or cast it "
        "in `read.query`.",
        raw=json.dumps(typed | given, ensure_ascii=False).encode(),
        column=name,
        form=LetterForm.of_row(pa.schema([f for f in records.schema if f.name not in unread]), tuple(sorted(unread))),
    )


@dataclass(frozen=True, slots=True)
class Decoder:
    """`decode` bound to one read."""

    table: str
    columns: tuple[SqlColumn, ...]
    schema: pa.Schema

    def __call__(self, raw: Sequence[RawColumn]) -> Batch:
        return decode(self.table, self.columns, raw, self.schema)
