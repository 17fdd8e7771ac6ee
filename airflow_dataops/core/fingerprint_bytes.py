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
_FIRST_SHIFT = np.uint64(32)
_SECOND_SHIFT = np.uint64(29)


def words_of_bytes(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    """Words of the values `data[start : start + length]`, which follow each other as in an Arrow array; shapes (n,)."""
    if len(lengths) == 0:
        return Pair(np.empty(0, np.uint64), np.empty(0, np.uint64))
    rows = np.flatnonzero(lengths > SHORT_BYTES)
    if len(rows) == 0:
        return _short([data[starts[0] : starts[-1] + lengths[-1]]], starts - starts[0], lengths)
    digests = digests_of_long(data, starts[rows], lengths[rows])
    if len(rows) == len(lengths):
        return digests
    before, size = np.zeros(len(lengths), np.int64), lengths.copy()
    size[rows] = 0
    before[1:] = np.cumsum(size)[:-1]
    # Only what lies between the long values is copied: they may be a thousand times the rest.
    begins = [int(starts[0]), *(starts + lengths)[rows].tolist()]
    ends = [*starts[rows].tolist(), int(starts[-1] + lengths[-1])]
    pair = _short([data[begin:end] for begin, end in zip(begins, ends, strict=True)], before, size)
    pair.hi[rows], pair.lo[rows] = digests
    return pair


def digests_of_long(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    """XXH3-128 of each value, one call per value."""
    digest, view = xxhash.xxh3_128_digest, data.data
    ends = starts + lengths
    joined = b"".join([digest(view[a:b]) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
    both = np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
    return Pair(both[:, 0], both[:, 1])


def _short(data: list[NDArray[np.uint8]], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    aligned = _aligned(data)
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

    left = aligned.take(index[begin[0] :], mode="clip")
    for k in range(most):
        first, done = int(begin[k]), int(begin[k + 1])
        right = aligned[k + 1 :].take(index[first:], mode="clip")
        word: Words = left >> down[first:]
        spare = scratch[first:]
        np.left_shift(right, _ONE, out=spare)  # in two shifts, because a shift by 64 bits is nobody's promise
        np.left_shift(spare, up[first:], out=spare)
        np.bitwise_or(word, spare, out=word)
        ending = word[: done - first]
        np.bitwise_and(ending, _ALL >> unused[first:done], out=ending)
        _absorb(Pair(hi[first:], lo[first:]), word, spare)
        left = right[done - first :]

    if order is None:
        return Pair(hi, lo)
    back_hi, back_lo = scratch, np.empty_like(lo)
    back_hi[order], back_lo[order] = hi, lo
    return Pair(back_hi, back_lo)


def _absorb(state: Pair, word: Words, scratch: Words) -> None:
    """Mix the word (in place), then put it into both lanes, by xor into the one and by addition into the other."""
    np.multiply(word, PRIME_3, out=word)
    np.right_shift(word, _FIRST_SHIFT, out=scratch)
    np.bitwise_xor(word, scratch, out=word)
    np.multiply(word, PRIME_2, out=word)
    np.right_shift(word, _SECOND_SHIFT, out=scratch)
    np.bitwise_xor(word, scratch, out=word)
    np.bitwise_xor(state.hi, word, out=state.hi)
    np.multiply(state.hi, PRIME_1, out=state.hi)
    np.add(state.lo, word, out=state.lo)
    np.multiply(state.lo, PRIME_4, out=state.lo)


def _aligned(data: list[NDArray[np.uint8]]) -> Words:
    """These bytes one after another as words, with more than one word to spare.

    A copy, because an Arrow buffer promises neither alignment nor readable bytes behind its end.
    """
    size = sum(map(len, data))
    aligned = np.empty((size >> 3) + 3, "<u8")
    aligned[-3:] = 0
    np.concatenate(data, out=aligned.view(np.uint8)[:size])
    return aligned
