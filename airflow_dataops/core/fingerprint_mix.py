"""The arithmetic of fingerprint `f1`: 64-bit mixing, in place and without a loop over rows.

Every value of every kind becomes two 64-bit words, one per *lane* (`hi` and `lo`). The lanes never share a mixing
function or a seed, so that a coincidence in one says nothing about the other. All arithmetic is modulo 2^64, which is
what numpy's uint64 does. Changing any number in this file changes every stored fingerprint: a new version, not a fix.
The definition for readers (and for other implementations) is docs/adr/0002-fingerprint-f1.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

VERSION = "f1"
"""The definition that this code computes. It is part of every seed and of every written fingerprint."""

Words = NDArray[np.uint64]


class Pair(NamedTuple):
    """The two lanes of many values: arrays of one length, or (for a seed) two single words."""

    hi: Words
    lo: Words


class Seed(NamedTuple):
    hi: np.uint64
    lo: np.uint64


# Two published finalisers whose bias has been studied: Stafford's variant 13 (splitmix64) and MurmurHash3's.
_STAFFORD = tuple(map(np.uint64, (30, 0xBF58476D1CE4E5B9, 27, 0x94D049BB133111EB, 31)))
_MURMUR = tuple(map(np.uint64, (33, 0xFF51AFD7ED558CCD, 33, 0xC4CEB9FE1A85EC53, 33)))

# The primes of xxHash64: odd, so that multiplying by one loses nothing.
PRIME_1 = np.uint64(0x9E3779B185EBCA87)
PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
PRIME_3 = np.uint64(0x165667B19E3779F9)
PRIME_4 = np.uint64(0x85EBCA77C2B2AE63)
PRIME_5 = np.uint64(0x27D4EB2F165667C5)

_STIR_SHIFT = np.uint64(32)


def _finalise(x: Words, scratch: Words, steps: tuple[np.uint64, ...]) -> None:
    first, times, second, times_again, third = steps
    np.right_shift(x, first, out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, times, out=x)
    np.right_shift(x, second, out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, times_again, out=x)
    np.right_shift(x, third, out=scratch)
    np.bitwise_xor(x, scratch, out=x)


def mix_hi(x: Words, scratch: Words) -> None:
    """Mix `x` in place with the bijection of the hi lane; `scratch` has its shape and is overwritten."""
    _finalise(x, scratch, _STAFFORD)


def mix_lo(x: Words, scratch: Words) -> None:
    """As `mix_hi`, for the lo lane."""
    _finalise(x, scratch, _MURMUR)


@lru_cache(maxsize=16384)
def seed(role: str, kind: str, name: str = "") -> Seed:
    """Where a value stands, as two words: its role (column, element, …), its kind, and the name of its field."""
    return _seed_of(f"{VERSION}|{role}|{kind}|{name}".encode())


def _seed_of(label: bytes) -> Seed:
    digest = xxhash.xxh3_128_intdigest(label)
    return Seed(np.uint64(digest >> 64), np.uint64(digest & 0xFFFF_FFFF_FFFF_FFFF))


@lru_cache(maxsize=64)
def _stir_factor(index: int) -> Seed:
    factor = _seed_of(f"{VERSION}|extra|{index}".encode())
    return Seed(factor.hi | np.uint64(1), factor.lo | np.uint64(1))


def add_extra(pair: Pair, index: int, extra: Words) -> Pair:
    """Add the `index`-th further word of values that need more than one.

    A zero adds nothing: that makes 5 stored in 64 bits, in 256 bits and with four decimals one value.
    """
    factor = _stir_factor(index)
    return Pair(
        pair.hi + _stir(extra, factor.hi, PRIME_2),
        pair.lo + _stir(extra, factor.lo, PRIME_3),
    )


def _stir(x: Words, times: np.uint64, times_again: np.uint64) -> Words:
    x = x * times
    scratch = x >> _STIR_SHIFT
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, times_again, out=x)
    np.right_shift(x, _STIR_SHIFT, out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    return x


def place(pair: Pair, at: Seed) -> Pair:
    """The contribution of values standing at `at`; new arrays."""
    hi, lo = pair.hi ^ at.hi, pair.lo ^ at.lo
    scratch = np.empty_like(hi)
    mix_hi(hi, scratch)
    mix_lo(lo, scratch)
    return Pair(hi, lo)


def seal(pair: Pair) -> None:
    """Make sums of contributions non-linear, in place: three Feistel rounds, so each lane depends on both.

    Without it the sum over rows would equal the sum over columns, and two swapped cells would not be seen.
    """
    hi, lo = pair
    scratch, mixed = np.empty_like(hi), np.empty_like(hi)
    np.add(lo, PRIME_1, out=mixed)
    mix_hi(mixed, scratch)
    np.bitwise_xor(hi, mixed, out=hi)
    np.add(hi, PRIME_4, out=mixed)
    mix_lo(mixed, scratch)
    np.bitwise_xor(lo, mixed, out=lo)
    np.add(lo, PRIME_5, out=mixed)
    mix_hi(mixed, scratch)
    np.bitwise_xor(hi, mixed, out=hi)
