"""Which values a column has, in little memory: the smallest of their hashes, from which the overlap of two columns follows.

Hashes are those of fingerprints, so a safe widening of the type changes none. They stay in memory: no hash of a value is ever
kept, only the share of values in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from airflow_dataops.core.fingerprint import key_fingerprints

KEPT = 1024
"""Hashes of a sketch. With fewer distinct values the overlap is exact; beyond that it is right within a few percent."""

_SPAN = float(1 << 64)


@dataclass(slots=True)
class ValueSketch:
    """The smallest hashes of the distinct values that were added, in order. NULL is no value."""

    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))

    def add(self, values: pa.Array) -> None:
        known = values.drop_null()
        if len(known):
            prints = key_fingerprints(pa.record_batch({"value": known}), ["value"])[:, 0]
            self.hashes = np.unique(np.concatenate([self.hashes, np.unique(prints)[:KEPT]]))[:KEPT]

    @property
    def distinct(self) -> float:
        """How many distinct values, about."""
        if len(self.hashes) < KEPT:
            return float(len(self.hashes))
        return (KEPT - 1) / ((float(self.hashes[-1]) + 1.0) / _SPAN)


def overlap(one: ValueSketch, other: ValueSketch) -> float | None:
    """The share, from 0 to 1, of the distinct values of the column that has fewer which the other has, too. None when one of them
    has no value."""
    if not len(one.hashes) or not len(other.hashes):
        return None
    fewer = min(one.distinct, other.distinct)
    common = np.intersect1d(one.hashes, other.hashes, assume_unique=True)
    if len(one.hashes) < KEPT and len(other.hashes) < KEPT:
        return round(len(common) / fewer, 3)
    # Both sketches know every hash up to the smaller of their ends: among those the share is that of all.
    end = min(sketch.hashes[-1] if len(sketch.hashes) == KEPT else np.uint64(2**64 - 1) for sketch in (one, other))
    least = min(int((sketch.hashes <= end).sum()) for sketch in (one, other))
    return round(min(1.0, int((common <= end).sum()) / max(least, 1)), 3)
