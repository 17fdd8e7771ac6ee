"""Whether values fit a lake type, and the column of those that do: exact or not at all, never rounded or cut.

A value fits when the type holds precisely it. Nothing is guessed: text is a number only in its plain spelling (a code
with leading zeros is none), a naive timestamp is no instant, a boolean is no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types as pt

from airflow_dataops.core.exact_text import exact_text
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.nested_parts import list_parts, map_parts
from airflow_dataops.core.storable import storable

_DIGITS = {
    pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19,
    pa.uint8(): 3, pa.uint16(): 5, pa.uint32(): 10, pa.uint64(): 20,
}  # fmt: skip
_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}"
_BOOLEAN = r"^(true|false)$"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fitted:
    """`values` in the target type; NULL where `unfit` (shape (rows,); None: everything fits)."""

    values: pa.Array
    unfit: Mask | None = None


def fit(array: pa.Array, target: pa.DataType) -> Fitted:
    """`array` as `target`, a storable type, with the values that do not fit as NULL."""
    t = array.type
    if t == target:
        return Fitted(array)
    if isinstance(array, pa.ExtensionArray):
        is_bool8 = t.extension_name == "arrow.bool8"
        return fit(pc.not_equal(array.storage, pa.scalar(0, pa.int8())) if is_bool8 else array.storage, target)
    if pt.is_dictionary(t):
        return fit(array.dictionary_decode(), target)
    if pt.is_run_end_encoded(t):
        return fit(pc.run_end_decode(array), target)
    if pt.is_null(t) or array.null_count == len(array):
        return Fitted(pa.nulls(len(array), target))
    if pt.is_nested(t) or pt.is_nested(target):
        return _fit_nested(array, target)
    return _fit_scalars(array, target)


def untyped_values(array: pa.Array) -> Mask | None:
    """Where a value has a part without a type yet, which `storable` leaves out: shape (rows,), None for nowhere.

    Such a part can only be empty (`[]`, `{}`), but empty is not NULL, so it is counted as discarded.
    """
    if not _has_untyped(array.type):
        return None
    found = _untyped(array)
    return found if found.any() else None


@lru_cache(maxsize=4096)
def _has_untyped(t: pa.DataType) -> bool:
    if not pt.is_nested(t) or pt.is_union(t) or pt.is_run_end_encoded(t):
        return False
    if pt.is_null(storable(t)):
        return True
    return any(_has_untyped(t.field(i).type) for i in range(t.num_fields))


def _untyped(array: pa.Array) -> Mask:
    t = array.type
    if not _has_untyped(t):
        return np.zeros(len(array), np.bool_)
    if pt.is_null(storable(t)):
        return _valid(array)
    if pt.is_struct(t):
        result: Mask = np.logical_or.reduce([_untyped(field) for field in array.flatten()])
        return result
    if pt.is_map(t):
        lengths, _, elements = map_parts(array)
    else:
        lengths, elements = list_parts(array)
    return _any_of(_untyped(elements), lengths)


def _fit_scalars(array: pa.Array, target: pa.DataType) -> Fitted:
    t = array.type
    if _is_text(t):
        return _fit_text(array, target)
    if pt.is_string(target):
        return _nothing(array, target) if _is_bytes(t) else Fitted(exact_text(array))
    if _is_bytes(t) and pt.is_binary(target):
        return Fitted(pc.cast(array, target))
    if pt.is_floating(t) or pt.is_floating(target):
        is_binary_number = all(pt.is_floating(x) or pt.is_integer(x) for x in (t, target))  # no decimal: 0.1 is no float
        return _fit_floats(array, target) if is_binary_number else _nothing(array, target)
    if _is_number(t) and _is_number(target):
        return _fit_exact(array, target)
    if pt.is_timestamp(t) and pt.is_timestamp(target) and (t.tz is None) == (target.tz is None):
        return _cast(array, target)
    if pt.is_date(t) and (pt.is_date(target) or (pt.is_timestamp(target) and target.tz is None)):
        return _cast(array, target)
    return _nothing(array, target)


def _fit_text(array: pa.Array, target: pa.DataType) -> Fitted:
    if pt.is_string(target):
        return _cast(array, target)
    array = _cast(array, pa.string()).values
    if pt.is_floating(target):
        spelled = _cast(array, target)
        return _only(spelled, array, np.asarray(pc.fill_null(pc.equal(exact_text(spelled.values), array), False)))
    if pt.is_integer(target):
        pattern = _WHOLE
    elif pt.is_decimal(target):
        pattern = _decimal_pattern(target.precision - target.scale)
    elif pt.is_date(target):
        pattern = _DATE
    elif pt.is_timestamp(target):
        pattern = _TIME
    elif pt.is_boolean(target):
        pattern = _BOOLEAN
    else:
        return _nothing(array, target)
    plain = pc.match_substring_regex(array, pattern)
    cast = _cast(pc.if_else(plain, array, pa.scalar(None, pa.string())), target)
    return _only(cast, array, np.asarray(pc.fill_null(plain, False)))


def _decimal_pattern(whole: int) -> str:
    """A plain number of at most `whole` digits before the point: Arrow's parser overflows silently on more."""
    digits = f"(0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
    return rf"^-?{digits}(\.[0-9]+)?$"


def _fit_exact(array: pa.Array, target: pa.DataType) -> Fitted:
    if array.type in _DIGITS and pt.is_integer(target):
        mine, theirs = (np.iinfo(t.to_pandas_dtype()) for t in (array.type, target))
        least, most = pa.scalar(max(mine.min, theirs.min), array.type), pa.scalar(min(mine.max, theirs.max), array.type)
        inside = pc.and_(pc.greater_equal(array, least), pc.less_equal(array, most))
        good = pc.if_else(inside, array, pa.scalar(None, array.type))
        return _only(Fitted(pc.cast(good, target)), array, np.asarray(pc.fill_null(inside, False)))
    if array.type in _DIGITS and pt.is_decimal(target) and target.precision - target.scale < _DIGITS[array.type]:
        # Arrow wants room for every value of the integer type; ask for the values at hand instead.
        array = pc.cast(array, pa.decimal128(_DIGITS[array.type], 0))
    if pt.is_decimal(array.type) and pt.is_decimal(target):
        whole = target.precision - target.scale
        if whole < array.type.precision - array.type.scale:
            # Arrow's rescaling overflows without a word (58 -> decimal(38,38) becomes 0.15…): too large is found before.
            inside = pc.less(pc.abs(array), pa.scalar(Decimal(10) ** whole, array.type))
            cast = _cast(pc.if_else(inside, array, pa.scalar(None, array.type)), target)
            return _only(cast, array, np.asarray(pc.fill_null(inside, False)))
    return _cast(array, target)


def _fit_floats(array: pa.Array, target: pa.DataType) -> Fitted:
    """Arrow rounds silently between floats, and refuses whole numbers beyond 2^24 or 2^53 although every second one is
    a float: so into floats without its checks, and only what comes back the same has fitted."""
    if pt.is_float16(array.type):
        array = pc.cast(array, pa.float32())
    if array.type == target:
        return Fitted(array)
    there = _into_float(array, target) if pt.is_floating(target) else _cast(array, target)
    back = (_into_float if pt.is_floating(array.type) else _cast)(there.values, array.type).values
    same = pc.equal(back, array)
    if pt.is_floating(array.type) and pt.is_floating(target):
        same = pc.or_(same, pc.and_(pc.is_nan(back), pc.is_nan(array)))
    return _only(there, array, np.asarray(pc.fill_null(same, False)))


def _into_float(array: pa.Array, target: pa.DataType) -> Fitted:
    return Fitted(pc.cast(array, target, safe=False))


def _fit_nested(array: pa.Array, target: pa.DataType) -> Fitted:
    t = array.type
    if pt.is_struct(t) and pt.is_struct(target):
        return _fit_struct(array, target)
    if pt.is_map(t) and pt.is_map(target):
        return _fit_map(array, target)
    if pt.is_list(target) and pt.is_nested(t) and hasattr(t, "value_type") and not pt.is_map(t):
        lengths, elements = list_parts(array)
        inner = fit(elements, target.value_type)
        lists = pa.ListArray.from_arrays(_offsets(lengths), inner.values, type=target, mask=array.is_null())
        return _with_inner(lists, inner.unfit, lengths)
    return _nothing(array, target)


def _fit_struct(array: pa.Array, target: pa.DataType) -> Fitted:
    mine = {sanitise(array.type.field(i).name): column for i, column in enumerate(array.flatten())}
    columns, unfit = [], np.zeros(len(array), np.bool_)
    for i in range(target.num_fields):
        wanted = target.field(i)
        column = mine.pop(wanted.name, None)
        if column is None:
            columns.append(pa.nulls(len(array), wanted.type))
            continue
        fitted = fit(column, wanted.type)
        columns.append(fitted.values)
        if fitted.unfit is not None:
            unfit |= fitted.unfit
    for left_over in mine.values():  # a field the table does not have: its values would be lost
        if not pt.is_null(storable(left_over.type)):
            unfit |= _valid(left_over)
    structs = pa.StructArray.from_arrays(columns, type=target, mask=array.is_null())
    return _without(structs, unfit)


def _fit_map(array: pa.Array, target: pa.DataType) -> Fitted:
    lengths, key, item = map_parts(array)
    keys, items = fit(key, target.key_type), fit(item, target.item_type)
    inner = _either(keys.unfit, items.unfit)
    if keys.unfit is not None:  # a map's key is never NULL, so maps with an unfit key are rebuilt without it
        bad = _any_of(keys.unfit, lengths)
        kept = fit(array.filter(pa.array(~bad)), target)
        place = pa.array(np.where(bad, -1, np.cumsum(~bad) - 1), mask=bad)
        return Fitted(kept.values.take(place), _either(bad, _spread(kept.unfit, ~bad)))
    maps = pa.MapArray.from_arrays(_offsets(lengths), keys.values, items.values, type=target, mask=array.is_null())
    return _with_inner(maps, inner, lengths)


def _cast(array: pa.Array, target: pa.DataType) -> Fitted:
    """Arrow's safe cast; when it refuses, halves are tried until the values that do not fit stand alone."""
    try:
        return Fitted(pc.cast(array, target))
    except pa.ArrowInvalid:
        if len(array) == 1:
            return Fitted(pa.nulls(1, target), np.ones(1, np.bool_))
    except pa.ArrowNotImplementedError:
        return _nothing(array, target)
    middle = len(array) // 2
    left, right = _cast(array[:middle], target), _cast(array[middle:], target)
    unfit = np.concatenate([_mask(left, middle), _mask(right, len(array) - middle)])
    return Fitted(pa.concat_arrays([left.values, right.values]), unfit)


def _nothing(array: pa.Array, target: pa.DataType) -> Fitted:
    return Fitted(pa.nulls(len(array), target), _valid(array))


def _only(fitted: Fitted, array: pa.Array, good: Mask) -> Fitted:
    """`fitted` without the values of `array` that are not good after all."""
    return _without(fitted.values, _valid(array) & (~good | _mask(fitted, len(array))))


def _without(values: pa.Array, unfit: Mask) -> Fitted:
    if not unfit.any():
        return Fitted(values)
    index = pa.array(np.arange(len(values)), mask=unfit)
    return Fitted(values.take(index), unfit)


def _with_inner(values: pa.Array, inner: Mask | None, lengths: NDArray[np.int64]) -> Fitted:
    return Fitted(values) if inner is None else _without(values, _any_of(inner, lengths))


def _any_of(inner: Mask, lengths: NDArray[np.int64]) -> Mask:
    """Which lists of these lengths have an element where `inner` is True."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    result: Mask = np.bincount(owners[inner], minlength=len(lengths)) > 0
    return result


def _spread(mask: Mask | None, where: Mask) -> Mask | None:
    if mask is None:
        return None
    result = np.zeros(len(where), np.bool_)
    result[where] = mask
    return result


def _either(a: Mask | None, b: Mask | None) -> Mask | None:
    if a is None or b is None:
        return b if a is None else a
    result: Mask = a | b
    return result


def _mask(fitted: Fitted, rows: int) -> Mask:
    return np.zeros(rows, np.bool_) if fitted.unfit is None else fitted.unfit


def _valid(array: pa.Array) -> Mask:
    result: Mask = array.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
    return result


def _offsets(lengths: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _is_text(t: pa.DataType) -> bool:
    return bool(pt.is_string(t) or pt.is_large_string(t) or pt.is_string_view(t))


def _is_bytes(t: pa.DataType) -> bool:
    return bool(pt.is_binary(t) or pt.is_large_binary(t) or pt.is_fixed_size_binary(t) or pt.is_binary_view(t))


def _is_number(t: pa.DataType) -> bool:
    return bool(pt.is_integer(t) or pt.is_decimal(t))
