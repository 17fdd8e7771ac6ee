"""Fingerprints by the compiled kernel (`fast/` in the repository), where it is installed: the same, in a quarter of the time.

The kernel is one C function over the buffers of a batch; it runs without the interpreter's lock. What it does not know
(nested types, 256-bit decimals, dictionaries, views) is turned into words by numpy and only placed and summed there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.errors import ProofError
from airflow_dataops.core.fingerprint_bytes import SHORT_BYTES, digests_of_long
from airflow_dataops.core.fingerprint_mix import VERSION, Words, seed
from airflow_dataops.core.fingerprint_values import NANOSECONDS, words_of

_NO_SEED = (0, 0)
_MOST_PLACES = {4: 18, 8: 18, 16: 38}  # by the bytes of a decimal: those that the kernel can divide by


def _kernel() -> ModuleType | None:
    try:
        kernel = import_module("airflow_dataops_fast")
    except ModuleNotFoundError:
        return None
    except ImportError as error:  # it is there and broken: never silently slow
        warnings.warn(f"airflow_dataops_fast cannot be used, fingerprints are computed with numpy: {error}", stacklevel=2)
        return None
    if kernel.DEFINITION != VERSION:
        warnings.warn(
            f"airflow_dataops_fast computes fingerprints {kernel.DEFINITION!r}, not {VERSION!r}, and is not used: build it again.",
            stacklevel=2,
        )
        return None
    return kernel


KERNEL: ModuleType | None = _kernel()
"""The compiled module; None: it is not installed, and everything is computed with numpy."""


class _Form(NamedTuple):
    """How the kernel reads a type's buffer: bytes of a value (or of an offset), decimal places, nanoseconds of a tick."""

    name: str
    kind: str
    width: int = 0
    scale: int = 0
    factor: int = 1


@lru_cache(maxsize=1024)
def _form_of(t: pa.DataType) -> _Form | None:
    """None where the words come from numpy. The kinds are those of `fingerprint_values`."""
    if pt.is_boolean(t):
        return _Form("BITS", "bool")
    if pt.is_signed_integer(t):
        return _Form("SIGNED", "number", t.bit_width // 8)
    if pt.is_unsigned_integer(t):
        return _Form("UNSIGNED", "number", t.bit_width // 8)
    if pt.is_decimal(t):
        width = t.bit_width // 8
        return _Form("DECIMAL", "number", width, t.scale) if 0 <= t.scale <= _MOST_PLACES.get(width, -1) else None
    if pt.is_float32(t) or pt.is_float64(t):
        return _Form("FLOAT", "float", t.bit_width // 8)
    if pt.is_date32(t):
        return _Form("SIGNED", "date", 4)
    if pt.is_timestamp(t):
        return _Form("SIGNED", "instant" if t.tz else "timestamp", 8, factor=NANOSECONDS[t.unit])
    if pt.is_time(t):
        return _Form("SIGNED", "time", t.bit_width // 8, factor=NANOSECONDS[t.unit])
    if pt.is_duration(t):
        return _Form("SIGNED", "duration", 8, factor=NANOSECONDS[t.unit])
    if pt.is_string(t) or pt.is_large_string(t):
        return _Form("SPANS", "text", 4 if pt.is_string(t) else 8)
    if pt.is_binary(t) or pt.is_large_binary(t):
        return _Form("SPANS", "bytes", 4 if pt.is_binary(t) else 8)
    if pt.is_fixed_size_binary(t) and t.byte_width <= SHORT_BYTES:
        return _Form("FIXED", "bytes", t.byte_width)
    return None


def fill_fingerprints(
    kernel: ModuleType, out: Words, names: Sequence[str], arrays: Sequence[pa.Array], *, count_nulls: bool
) -> None:
    """Writes the fingerprints of rows into `out`, of shape (rows, 2) and contiguous; `arrays` have that many rows each.

    Raises InventoryError for a type without an agreed equality, ProofError where an array's buffers contradict each other.
    """
    fields = [
        _field(kernel, name, array, count_nulls)
        for name, array in zip(names, arrays, strict=True)
        if count_nulls or array.null_count < len(array)
    ]
    try:
        kernel.row_fingerprints(out, fields)
    except ValueError as error:
        raise ProofError(
            f"Cannot fingerprint columns {list(names)}: {error} -> a valid Arrow array. What produced the rows is broken, and "
            "nothing it says can be proved. Report it with the source's kind."
        ) from error


@lru_cache(maxsize=16384)
def _seed(kind: str, name: str) -> tuple[int, int]:
    at = seed("field", kind, name)
    return int(at.hi), int(at.lo)


def _field(kernel: ModuleType, name: str, array: pa.Array, count_nulls: bool) -> tuple[Any, ...]:
    form = None if isinstance(array, pa.ExtensionArray) else _form_of(array.type)
    null = _seed("null", name) if count_nulls else _NO_SEED
    if form is None:
        kind, words, valid = words_of(array, name)
        at = _seed(kind, name)
        return (kernel.WORDS, 8, 0, 1, 0, valid, True, _whole(words.hi), _whole(words.lo), None, at, count_nulls, null)
    buffers = array.buffers()
    validity = buffers[0] if array.null_count else None
    data, more, digests = buffers[1], None, None
    if form.name == "SPANS":
        more, data = buffers[1:]
        digests = _digests(array, form.width, more, data)
    return (
        getattr(kernel, form.name), form.width, form.scale, form.factor, array.offset, validity, False, data, more, digests,
        _seed(form.kind, name), count_nulls, null,
    )  # fmt: skip


def _whole(words: Words) -> Words:
    return np.ascontiguousarray(words)


def _digests(array: pa.Array, width: int, ends: pa.Buffer, data: pa.Buffer | None) -> Words | None:
    """XXH3-128 of the long values, NULL ones included, in their order: shape (long values, 2), high word first."""
    rows, stored = len(array), np.dtype(f"<i{width}")
    if rows == 0 or data is None or len(data) <= SHORT_BYTES or len(ends) < (array.offset + rows + 1) * width:
        return None  # no long value (or no array: the kernel says so)
    offsets = np.frombuffer(ends, stored, count=rows + 1, offset=array.offset * width)
    long = np.flatnonzero(np.diff(offsets) > SHORT_BYTES)
    if len(long) == 0:
        return None
    starts, after = offsets[long].astype(np.int64), offsets[long + 1].astype(np.int64)
    hi, lo = digests_of_long(np.frombuffer(data, np.uint8), starts, after - starts)
    return np.stack((hi, lo), axis=1)
