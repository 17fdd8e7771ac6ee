"""Words of Arrow values of every supported type, and the sum of the fields of a row or of a struct.

Types of one *kind* share a definition, so that widening (int8 → int64 → decimal, float32 → float64, string →
large_string, list → large_list, second → nanosecond) changes nothing. Kinds never meet: the kind is part of the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fingerprint_bytes import words_of_bytes
from airflow_dataops.core.fingerprint_mix import (
    PRIME_1,
    PRIME_2,
    PRIME_3,
    PRIME_4,
    Pair,
    Words,
    add_extra,
    mix_hi,
    mix_lo,
    place,
    seal,
    seed,
)
from airflow_dataops.core.fingerprint_numbers import words_of_decimals, words_of_integers, words_of_nanoseconds

NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MILLISECONDS_A_DAY = 86_400_000
_NULL = "null"

# Speed only, no effect on the result: when a text column looks repetitive enough to hash its distinct values only.
_SAMPLE_ROWS = 512
_SAMPLE_DISTINCT = 64
# Memory only: the words of nested elements take up to sixty times their bytes, so they are worked on in parts.
_NESTED_BYTES = 1 << 20
_FEWEST_ROWS = 16


class Values(NamedTuple):
    """Words of an array's values; where `valid` is False (None: nowhere) the value is NULL, its words mean nothing."""

    kind: str
    words: Pair
    valid: NDArray[np.bool_] | None


def sum_of_fields(names: Sequence[str], arrays: Sequence[pa.Array], rows: int, *, count_nulls: bool = False) -> Pair:
    """Per row the sum of the contributions of its fields: (field name, kind, value) each mixed on its own.

    NULL contributes nothing, like an absent field; with `count_nulls` it is a value of its own, of no kind.
    """
    total = Pair(np.zeros(rows, np.uint64), np.zeros(rows, np.uint64))
    placed, scratch = np.empty((2, rows), np.uint64)
    for name, array in zip(names, arrays, strict=True):
        if not count_nulls and array.null_count == len(array):
            continue
        values = words_of(array, name)
        at, null = seed("field", values.kind, name), seed("field", _NULL, name)
        invalid = None if values.valid is None else ~values.valid
        for lane, mix in enumerate((mix_hi, mix_lo)):
            np.bitwise_xor(values.words[lane], at[lane], out=placed)
            mix(placed, scratch)
            if invalid is not None:
                np.copyto(placed, null[lane] if count_nulls else np.uint64(0), where=invalid)
            np.add(total[lane], placed, out=total[lane])
    return total


def words_of(array: pa.Array, name: str) -> Values:
    """The words of any supported array; `name` is for the error of an unsupported one.

    Raises InventoryError for a union or an interval of days and milliseconds: no engine agrees on their equality.
    """
    t = array.type
    if isinstance(array, pa.ExtensionArray):
        if t.extension_name == "arrow.bool8":
            return words_of(pc.not_equal(array.storage, pa.scalar(0, pa.int8())), name)
        return words_of(array.storage, name)
    if pa.types.is_dictionary(t):
        return _dictionary(array, name)
    if pa.types.is_run_end_encoded(t):
        return words_of(pc.run_end_decode(array), name)
    if pa.types.is_null(t):
        return Values(_NULL, _nothing(len(array)), np.zeros(len(array), np.bool_))
    if pa.types.is_nested(t) and array.nbytes > _NESTED_BYTES:
        step = max(_FEWEST_ROWS, len(array) * _NESTED_BYTES // array.nbytes)
        if step < len(array):
            return _joined([words_of(array.slice(start, step), name) for start in range(0, len(array), step)])
    kind, words = _of_type(array, t, name)
    return Values(kind, words, _valid(array))


def kind_of(t: pa.DataType, name: str) -> str:
    """The kind of a type's values. Raises as `words_of`."""
    return words_of(pa.array([], t), name).kind


def _joined(parts: list[Values]) -> Values:
    hi, lo = (np.concatenate([part.words[lane] for part in parts]) for lane in (0, 1))
    valid = [np.ones(len(p.words.hi), np.bool_) if p.valid is None else p.valid for p in parts]
    return Values(parts[0].kind, Pair(hi, lo), np.concatenate(valid))


def _of_type(array: pa.Array, t: pa.DataType, name: str) -> tuple[str, Pair]:
    is_ = pa.types
    if is_.is_boolean(t):
        word = _bits(array, array.buffers()[1]).astype(np.uint64)
        return "bool", Pair(word, word)
    if is_.is_integer(t):
        return "number", words_of_integers(_fixed(array, np.dtype(t.to_pandas_dtype())))
    if is_.is_decimal(t):
        return "number", _decimals(array, t)
    if is_.is_floating(t):
        return "float", _floats(array, t)
    if is_.is_date(t):
        return "date", _dates(array, t)
    if is_.is_timestamp(t):
        # A zone says how to show an instant, not which one it is; without a zone there is no instant.
        return "instant" if t.tz else "timestamp", words_of_nanoseconds(_fixed(array, np.int64), NANOSECONDS[t.unit])
    if is_.is_time(t):
        storage = np.int32 if is_.is_time32(t) else np.int64
        return "time", words_of_nanoseconds(_fixed(array, storage).astype(np.int64), NANOSECONDS[t.unit])
    if is_.is_duration(t):
        return "duration", words_of_nanoseconds(_fixed(array, np.int64), NANOSECONDS[t.unit])
    if t == pa.month_day_nano_interval():
        parts = _fixed(array, np.dtype([("months_days", "<u8"), ("nanoseconds", "<u8")]))
        word = np.ascontiguousarray(parts["nanoseconds"])
        return "interval", add_extra(Pair(word, word), 1, np.ascontiguousarray(parts["months_days"]))
    if is_.is_string(t) or is_.is_large_string(t) or is_.is_string_view(t):
        return "text", _spans(array.cast(pa.large_string()) if is_.is_string_view(t) else array)
    if is_.is_binary(t) or is_.is_large_binary(t) or is_.is_binary_view(t) or is_.is_fixed_size_binary(t):
        return "bytes", _spans(array.cast(pa.large_binary()) if is_.is_binary_view(t) else array)
    if is_.is_struct(t):
        return "struct", _struct(array, t, name)
    if is_.is_map(t):
        return "map", _map(array, name)
    if hasattr(array, "flatten") and hasattr(t, "value_field"):  # list, large, fixed-size, and the two list views
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return "list", _list(lengths, words_of(array.flatten(), name))
    raise InventoryError(
        f"Cannot fingerprint column {name!r}: type {t} -> a type whose equality every engine agrees on. "
        "A fingerprint must not depend on who reads the value. Cast the column in the source's query, or drop it."
    )


def _nothing(rows: int) -> Pair:
    word = np.zeros(rows, np.uint64)
    return Pair(word, word)


def _valid(array: pa.Array) -> NDArray[np.bool_] | None:
    return None if array.null_count == 0 else _bits(array, array.buffers()[0])


def _bits(array: pa.Array, bitmap: pa.Buffer) -> NDArray[np.bool_]:
    first, end = array.offset >> 3, (array.offset + len(array) + 7) >> 3
    packed = np.frombuffer(bitmap, np.uint8, count=end - first, offset=first)
    begin = array.offset & 7
    return np.unpackbits(packed, count=begin + len(array), bitorder="little")[begin:].view(np.bool_)


def _fixed(array: pa.Array, dtype: np.dtype[Any] | type[np.generic]) -> NDArray[Any]:
    """The values buffer of a fixed-width array, without a copy; whatever lies under NULLs included."""
    dtype = np.dtype(dtype)
    if len(array) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, count=len(array), offset=array.offset * dtype.itemsize)


def _decimals(array: pa.Array, t: pa.DataType) -> Pair:
    if t.bit_width == 32:
        return words_of_decimals(_fixed(array, np.int32).astype(np.int64).reshape(-1, 1), t.scale)
    words = t.bit_width // 64
    values = _fixed(array, np.dtype(("<i8", (words,)))) if words > 1 else _fixed(array, np.int64).reshape(-1, 1)
    return words_of_decimals(values, t.scale)


def _floats(array: pa.Array, t: pa.DataType) -> Pair:
    stored = _fixed(array, np.dtype(f"<f{t.bit_width // 8}"))
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        values = stored.astype(np.float64, copy=False) + 0.0  # -0.0 + 0.0 is 0.0
    nan = np.isnan(values)
    if nan.any():
        values[nan] = np.nan
    word = values.view(np.uint64)
    return Pair(word, word)


def _dates(array: pa.Array, t: pa.DataType) -> Pair:
    if pa.types.is_date32(t):
        return words_of_integers(_fixed(array, np.int32))
    milliseconds = _fixed(array, np.int64)
    days = milliseconds // _MILLISECONDS_A_DAY
    rest = milliseconds - days * _MILLISECONDS_A_DAY  # not zero only where a writer broke Arrow's rule: still content
    return add_extra(words_of_integers(days), 1, rest.view(np.uint64))


def _spans(array: pa.Array) -> Pair:
    rows = len(array)
    if rows >= 8 * _SAMPLE_ROWS and len(array.slice(0, _SAMPLE_ROWS).unique()) <= _SAMPLE_DISTINCT:
        encoded = array.dictionary_encode()
        return _take(_spans_of(encoded.dictionary), encoded.indices)
    return _spans_of(array)


def _spans_of(array: pa.Array) -> Pair:
    t, rows = array.type, len(array)
    if rows == 0:
        return _nothing(0)
    if pa.types.is_fixed_size_binary(t):
        lengths = np.full(rows, t.byte_width, np.int64)
        starts = np.arange(array.offset, array.offset + rows, dtype=np.int64) * t.byte_width
        data = array.buffers()[1]
    else:
        wide = pa.types.is_large_string(t) or pa.types.is_large_binary(t)
        stored = np.dtype(np.int64 if wide else np.int32)
        _, ends, data = array.buffers()
        offsets = np.frombuffer(ends, stored, count=rows + 1, offset=array.offset * stored.itemsize).astype(np.int64)
        starts, lengths = offsets[:-1], np.diff(offsets)
    return words_of_bytes(np.frombuffer(data or b"", np.uint8), starts, lengths)


def _dictionary(array: pa.Array, name: str) -> Values:
    if len(array.dictionary) > len(array):  # a slice of something larger: do not pay for values that are not here
        return words_of(array.dictionary_decode(), name)
    distinct = words_of(array.dictionary, name)
    if len(distinct.words.hi) == 0:
        return Values(distinct.kind, _nothing(len(array)), np.zeros(len(array), np.bool_))
    valid = _valid(array.indices)
    if distinct.valid is not None:
        chosen = distinct.valid.take(_indices(array.indices))
        valid = chosen if valid is None else valid & chosen
    return Values(distinct.kind, _take(distinct.words, array.indices), valid)


def _indices(indices: pa.Array) -> NDArray[np.intp]:
    plain = indices.fill_null(0) if indices.null_count else indices
    at: NDArray[np.intp] = plain.to_numpy(zero_copy_only=False).astype(np.intp)
    return at


def _take(words: Pair, indices: pa.Array) -> Pair:
    if len(words.hi) == 0:  # nothing but NULLs
        return _nothing(len(indices))
    at = _indices(indices)
    hi = words.hi.take(at)
    return Pair(hi, hi if words.lo is words.hi else words.lo.take(at))


def _struct(array: pa.Array, t: pa.DataType, name: str) -> Pair:
    names = [t.field(k).name for k in range(t.num_fields)]
    if len(set(names)) != len(names):
        raise InventoryError(
            f"Cannot fingerprint column {name!r}: fields {names} -> different names. A value is known by its field's "
            "name. Rename the fields in the source's query, or drop the column."
        )
    return sum_of_fields(names, [array.field(k) for k in range(t.num_fields)], len(array))


def _map(array: pa.Array, name: str) -> Pair:
    """Entries in any order: engines do not keep it. An entry with a NULL value is still an entry."""
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    first, size = int(offsets[0]), int(offsets[-1] - offsets[0])
    entries = sum_of_fields(["key", "value"], [array.keys.slice(first, size), array.items.slice(first, size)], size)
    seal(entries)
    return _segments(entries, np.diff(offsets))


def _list(lengths: NDArray[np.int64], elements: Values) -> Pair:
    """Elements at their positions; a NULL element is an element. The name of the element's field does not count."""
    hi, lo = place(elements.words, seed("element", elements.kind))
    if elements.valid is not None:
        null = seed("element", _NULL)
        hi[~elements.valid], lo[~elements.valid] = null
    ends = np.cumsum(lengths)
    position = (np.arange(1, len(hi) + 1, dtype=np.int64) - np.repeat(ends - lengths, lengths)).view(np.uint64)
    hi += position * PRIME_1
    lo += position * PRIME_4
    scratch = np.empty_like(hi)
    mix_hi(hi, scratch)
    mix_lo(lo, scratch)
    return _segments(Pair(hi, lo), lengths)


def _segments(parts: Pair, lengths: NDArray[np.int64]) -> Pair:
    """Sums of consecutive runs of `parts`, and the runs' lengths."""
    ends = np.cumsum(lengths)
    size = lengths.astype(np.uint64)
    return Pair(
        _run_sums(parts.hi, ends, ends - lengths) + size * PRIME_2,
        _run_sums(parts.lo, ends, ends - lengths) + size * PRIME_3,
    )


def _run_sums(parts: Words, ends: NDArray[np.int64], starts: NDArray[np.int64]) -> Words:
    upto = np.zeros(len(parts) + 1, np.uint64)
    np.cumsum(parts, out=upto[1:])
    sums: Words = upto[ends] - upto[starts]
    return sums
