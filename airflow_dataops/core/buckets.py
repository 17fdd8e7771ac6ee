"""Two large sets of rows compared in flat memory: sums by bucket first, single rows only where sums differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from airflow_dataops.core.fingerprint_mix import Words

BUCKETS = 4096


def placed(rows: Words, place: str) -> Words:
    """Row identities that also tell where the rows are: the same row in another partition is another one."""
    salt = xxhash.xxh3_128_intdigest(place.encode())
    return rows + np.array([salt >> 64, salt & ((1 << 64) - 1)], np.uint64)


def buckets_of(rows: Words) -> NDArray[np.int64]:
    """A bucket for each identity: of its row, or of its key, so that two versions of a row meet in one."""
    return (rows[:, 0] >> np.uint64(52)).astype(np.int64)


@dataclass(slots=True)
class BucketSums:
    """How many rows a bucket has, and the sum of their identities (two words, each modulo 2^64)."""

    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))
    sums: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((BUCKETS, 2), np.uint64))

    def add(self, rows: Words, at: NDArray[np.int64]) -> None:
        """Rows by their identities, and the bucket of each."""
        self.rows += np.bincount(at, minlength=BUCKETS)
        np.add.at(self.sums, at, rows)

    def differing(self, other: BucketSums) -> NDArray[np.int64]:
        """The buckets in which the two sets of rows are not the same."""
        return np.flatnonzero((self.rows != other.rows) | (self.sums != other.sums).any(axis=1))


def fitting(buckets: Sequence[int] | NDArray[np.int64], rows: NDArray[np.int64], most_rows: int) -> NDArray[np.int64]:
    """As many of these buckets, from the first on, as hold at most so many rows together; the first always."""
    chosen = np.asarray(buckets, np.int64)
    return chosen[: max(1, int(np.searchsorted(np.cumsum(rows[chosen]), most_rows, side="right")))]
