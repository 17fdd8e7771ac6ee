"""Words of exact numbers and of points in time: one value, one pair of words, whatever width or unit stores it.

A number is its floor as a two's complement integer in 64-bit words, and the fraction above it in base 10^18. Words that
only repeat the sign, and fraction words that are zero, add nothing (`add_extra`), so int8 5 = uint64 5 = decimal 5.00.
Points in time are counted in nanoseconds the same way, so that seconds and nanoseconds of one instant are one value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airflow_dataops.core.fingerprint_mix import Pair, Words, add_extra

_WORD_EXTRA = 1  # integer words beyond the first: extras 1, 2, …
_FRACTION_EXTRA = 32  # fraction words: extras 32, 33, …; 32 is more integer words than any Arrow number has

_32 = np.uint64(32)
_LOW = np.uint64(0xFFFF_FFFF)
_GROUP_DIGITS = 9
_GROUP = 10**_GROUP_DIGITS
_FRACTION_DIGITS = 18


def words_of_integers(values: NDArray[np.integer]) -> Pair:
    """Signed or unsigned integers of any width."""
    if values.dtype == np.uint64:
        word = np.ascontiguousarray(values, np.uint64)
        return _with_excess(word, [np.zeros_like(word)]) if int(word.max(initial=0)) >> 63 else Pair(word, word)
    word = values.astype(np.int64, copy=False).view(np.uint64)
    return Pair(word, word)


def words_of_decimals(values: NDArray[np.int64], scale: int) -> Pair:
    """Unscaled decimals as little-endian two's complement words, shape (n, words of a value)."""
    width = values.shape[1]
    low = values[:, 0]
    if 0 <= scale <= _FRACTION_DIGITS and all(np.array_equal(values[:, k], low >> 63) for k in range(1, width)):
        return _narrow(np.ascontiguousarray(low), scale)
    limbs = [half for k in range(width) for half in _halves(values[:, k].view(np.uint64))]
    if scale < 0:
        limbs, scale = _times_power_of_ten(limbs, -scale), 0
    fraction = _split_off_fraction(limbs, scale)
    whole = [limbs[k] | (limbs[k + 1] << _32) for k in range(0, len(limbs), 2)]
    pair = _with_excess(whole[0], whole[1:])
    for position, word in enumerate(fraction):
        pair = add_extra(pair, _FRACTION_EXTRA + position, word)
    return pair


def words_of_nanoseconds(values: NDArray[np.int64], nanoseconds: int) -> Pair:
    """Counts of a unit of `nanoseconds`; the product is exact in 128 bits."""
    if nanoseconds == 1 or len(values) == 0:
        return words_of_integers(values)
    word = (values * np.int64(nanoseconds)).view(np.uint64)
    limit = (2**63 - 1) // nanoseconds
    if -limit <= int(values.min()) and int(values.max()) <= limit:
        return Pair(word, word)
    low = (values & np.int64(0xFFFF_FFFF)) * nanoseconds >> 32
    high = ((values >> 32) * nanoseconds + low) >> 32
    return _with_excess(word, [high.view(np.uint64)])


def _narrow(unscaled: NDArray[np.int64], scale: int) -> Pair:
    if scale == 0:
        return words_of_integers(unscaled)
    whole = unscaled // 10**scale
    rest = unscaled - whole * 10**scale
    word = whole.view(np.uint64)
    fraction = (rest * 10 ** (_FRACTION_DIGITS - scale)).view(np.uint64)
    return add_extra(Pair(word, word), _FRACTION_EXTRA, fraction)


def _with_excess(word: Words, more: list[Words]) -> Pair:
    """The value's words; one that merely extends the sign of the word below becomes zero."""
    pair = Pair(word, word)
    below = word
    for position, upper in enumerate(more):
        sign = (below.view(np.int64) >> 63).view(np.uint64)
        pair = add_extra(pair, _WORD_EXTRA + position, upper ^ sign)
        below = upper
    return pair


def _halves(words: Words) -> tuple[Words, Words]:
    return words & _LOW, words >> _32


def _split_off_fraction(limbs: list[Words], scale: int) -> list[Words]:
    """Divide 32-bit limbs (least first, two's complement) by 10^scale in place, rounding down; the fraction's words."""
    negative = (limbs[-1] >> np.uint64(31)) * _LOW  # ~x = -x - 1 turns rounding towards zero into rounding down
    for limb in limbs:
        limb ^= negative
    groups = []  # nine digits each, the last ones first
    odd = scale % _GROUP_DIGITS
    if odd:
        groups.append(_divide(limbs, 10**odd, negative) * np.uint64(10 ** (_GROUP_DIGITS - odd)))
    for _ in range(scale // _GROUP_DIGITS):
        groups.append(_divide(limbs, _GROUP, negative))
    for limb in limbs:
        limb ^= negative
    groups.reverse()
    if len(groups) % 2:
        groups.append(np.zeros_like(limbs[0]))
    return [groups[k] * np.uint64(_GROUP) + groups[k + 1] for k in range(0, len(groups), 2)]


def _divide(limbs: list[Words], divisor: int, negative: Words) -> Words:
    by = np.uint64(divisor)
    rest = np.zeros_like(limbs[0])
    for limb in reversed(limbs):
        current = (rest << _32) | limb
        np.floor_divide(current, by, out=limb)
        rest = current - limb * by
    return np.where(negative, np.uint64(divisor - 1) - rest, rest)


def _times_power_of_ten(limbs: list[Words], power: int) -> list[Words]:
    """Limbs (least first) of the product, with as many more as it can need; their number stays even."""
    sign = (limbs[-1] >> np.uint64(31)) * _LOW
    more = power * 4 // 32 + 2
    limbs = limbs + [sign] * (more + more % 2)
    for _ in range(power):
        carry = np.zeros_like(sign)
        for k, limb in enumerate(limbs):
            current = limb * np.uint64(10) + carry
            limbs[k], carry = _halves(current)
    return limbs
