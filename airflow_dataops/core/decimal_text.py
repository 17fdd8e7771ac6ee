"""A guard before text becomes a decimal: Arrow's parser overflows *silently* on too many digits before the point, and on
more than 38 digits altogether (seen in pyarrow 26: `58` as decimal(38,38) is 0.15…)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_DIGITS = 38


def parses_exactly(texts: pa.Array, t: pa.DataType) -> bool:
    """Whether Arrow may be trusted with every text (or NULL): a plain number, no more digits before its point than the type
    takes, and no more than 38 characters. The others have to be looked at one by one (`decimal_of`)."""
    lengths = pc.binary_length(texts)
    longest = pc.max(lengths).as_py()
    if longest is None:
        return True
    if longest > MOST_DIGITS:
        return False
    whole = t.precision - t.scale
    if not _has_exponent(texts):
        if longest <= whole:
            return True
        point = pc.find_substring(texts, ".")
        if pc.max(pc.if_else(pc.less(point, 0), lengths, point)).as_py() <= whole:
            return True  # no need to look closer: digits, sign and all are fewer
    plain = rf"^[-+]?0*[0-9]{{0,{whole}}}(\.[0-9]*)?$"
    return bool(pc.all(pc.match_substring_regex(texts, plain), min_count=0).as_py())


def _has_exponent(texts: pa.StringArray) -> bool:
    """Whether an `e` or `E` is in any of the texts; looks at their bytes at once (30 times faster than a search in each)."""
    _, offsets, values = texts.buffers()
    if values is None:
        return False
    first, last = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)[[0, -1]]
    found = np.frombuffer(values, np.uint8)[first:last] | 0x20
    return bool((found == ord("e")).any())


def decimal_of(text: str, t: pa.DataType) -> Decimal | None:
    """The number exactly, if the decimal type holds it; None otherwise (also for NaN and what is no number)."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or not any(digits):
        return Decimal(0)
    while digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if -exponent > t.scale or len(digits) + exponent > t.precision - t.scale:
        return None
    return Decimal((sign, digits, exponent))
