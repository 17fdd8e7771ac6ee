"""Words of byte strings (text, binary), vectorised over the Arrow buffers.

Up to `SHORT_BYTES` a value is read as little-endian 64-bit words, the last one padded with zeros, and every step of the
loop below takes the next word of *all* values that still have one. Longer values go to XXH3-128 one by one: from there
on that call is cheaper than any number of numpy passes, and a 10 MB value beside 5-byte ones costs no memory. The class
depends on the value's length only, so a value has one definition wherever it stands.
"""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray

from airflow_dataops.core.fingerprint_mix import PRIME_1, PRIME_2, PRIME_3, PRIME_4, PRIME_5, Pair, Words

SHORT_BYTES = 128

_ONE = np.uint64(1)
_63 = np.uint64(63)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_SHIFT_HI = np.uint64(32)
_SHIFT_LO = np.uint64(29)


def words_of_bytes(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    """Words of the values `data[start : start + length]`; `starts` ascend (Arrow offsets). Shapes (n,)."""
    if len(lengths) == 0:
        return Pair(np.empty(0, np.uint64), np.empty(0, np.uint64))
    if int(lengths.max()) <= SHORT_BYTES:
        return _short(data, starts, lengths)
    is_long = lengths > SHORT_BYTES
    pair = _short(data, starts, np.where(is_long, 0, lengths))
    rows = np.flatnonzero(is_long)
    digests = _long(data, starts[rows], lengths[rows])
    pair.hi[rows], pair.lo[rows] = digests.hi, digests.lo
    return pair


def _long(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    digest, view = xxhash.xxh3_128_digest, memoryview(data)
    ends = starts + lengths
    joined = b"".join([digest(view[a:b]) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
    both = np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
    return Pair(both[:, 0], both[:, 1])


def _short(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    aligned, starts = _aligned(data, starts, lengths)
    counts = ((lengths + 7) >> 3).astype(np.uint8)
    fewest, most = int(counts.min()), int(counts.max())
    order = None
    if fewest != most:
        # Sorted by their number of words, the values that still have a word are always the last ones: slices, no masks.
        order = np.argsort(counts, kind="stable")
        starts, lengths = starts.take(order), lengths.take(order)
    begin = np.cumsum(np.bincount(counts, minlength=most + 1))  # begin[k]: the first value with more than k words

    size = lengths.astype(np.uint64)
    hi, lo = size * PRIME_1 + PRIME_5, size * PRIME_4 + PRIME_2
    index = starts >> 3
    down = (starts.view(np.uint64) & np.uint64(7)) << np.uint64(3)
    up = _63 - down
    unused = (np.uint64(0) - (size << np.uint64(3))) & _63  # bits of the last word beyond the value
    scratch = np.empty_like(hi)

    left = aligned.take(index[begin[0] :], mode="clip") if most else index
    for k in range(most):
        first, done = int(begin[k]), int(begin[k + 1])
        right = aligned.take(index[first:] + (k + 1), mode="clip")
        word = left >> down[first:]
        following = right << _ONE  # in two shifts, because a shift by 64 bits is nobody's promise
        np.left_shift(following, up[first:], out=following)
        np.bitwise_or(word, following, out=word)
        ending = word[: done - first]
        np.bitwise_and(ending, _ALL >> unused[first:done], out=ending)
        _absorb(hi[first:], word, scratch[first:], PRIME_1, _SHIFT_HI, PRIME_2)
        _absorb(lo[first:], word, scratch[first:], PRIME_4, _SHIFT_LO, PRIME_3)
        left = right[done - first :]

    if order is None:
        return Pair(hi, lo)
    back_hi, back_lo = scratch, np.empty_like(lo)
    back_hi[order], back_lo[order] = hi, lo
    return Pair(back_hi, back_lo)


def _absorb(state: Words, word: Words, scratch: Words, times: np.uint64, shift: np.uint64, again: np.uint64) -> None:
    np.bitwise_xor(state, word, out=state)
    np.multiply(state, times, out=state)
    np.right_shift(state, shift, out=scratch)
    np.bitwise_xor(state, scratch, out=state)
    np.multiply(state, again, out=state)


def _aligned(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[Words, NDArray[np.int64]]:
    """The bytes in use as aligned words with two words to spare, and the starts within them.

    A copy, because an Arrow buffer promises neither alignment nor readable bytes behind its end.
    """
    first, end = int(starts[0]), int((starts + lengths).max())
    size = max(end - first, 0)
    aligned = np.empty((size >> 3) + 3, "<u8")
    aligned[-3:] = 0
    aligned.view(np.uint8)[:size] = data[first : first + size]
    return aligned, starts - first
