"""Lists and maps taken apart: how long each one is, and all their elements in a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Lengths = NDArray[np.int64]


def list_parts(array: pa.Array) -> tuple[Lengths, pa.Array]:
    """(length of every list, NULL has 0; the elements) of any list type, slices and views included."""
    lengths: Lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths, array.flatten()


def map_parts(array: pa.Array) -> tuple[Lengths, pa.Array, pa.Array]:
    """(length of every map, NULL has 0; the keys; the values).

    By offsets, not by a cast to a list of pairs: on a slice of nested maps Arrow's cast gives wrong offsets, up to
    aborting the process.
    """
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    lengths, start, end = np.diff(offsets), int(offsets[0]), int(offsets[-1])
    keys, items = array.keys.slice(start, end - start), array.items.slice(start, end - start)
    valid = array.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
    if lengths[~valid].any():  # what stands behind a NULL is nothing
        shown = pa.array(np.repeat(valid, lengths))
        keys, items, lengths = keys.filter(shown), items.filter(shown), np.where(valid, lengths, 0)
    return lengths, keys, items
