"""Which type a column of text gets: evidence from its values, merged over blocks and files, then one rule.

First load (nothing expected): the narrowest type that takes *every* value without loss, else text. Never a guess from
most of them: `101, 102, 103A` are texts.

With an expected type (the lake table's): that type when it takes every value; else the type that holds both, inside one
family (integers → decimal, date → timestamp, coarser → finer time unit). A value of another family (`n/a` among
integers) is a record that does not fit, a dead letter, as long as such values are the minority; when more than half of
the values present are foreign, the column itself has changed and is reported as what it is now.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.formats.text_values import (
    convert,
    convert_some,
    empty_to_null,
    is_number,
    is_text_readable,
    layout,
    most_digits,
    survives_double,
)

INTEGER, FIXED, FLOAT, NOT_FINITE = "integer", "fixed", "float", "not_finite"
BOOL, DATE, NAIVE, ZONED, TEXT = "bool", "date", "naive", "zoned", "text"
_NUMBERS = {INTEGER, FIXED, FLOAT, NOT_FINITE}
_MAX_DIGITS = 38
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}(?::?\d{2}(?::?\d{2}(?:\.(\d{1,9}))?)?)?(Z|[+-]\d{2}(?::?\d{2})?)?", re.ASCII)
_WORDS = {"true": BOOL, "false": BOOL, "nan": NOT_FINITE, "inf": NOT_FINITE, "-inf": NOT_FINITE} | {
    "infinity": NOT_FINITE, "-infinity": NOT_FINITE
}  # fmt: skip
_NS_YEARS = (1678, 2261)


@dataclass(slots=True)
class Evidence:
    """What was seen in one column. `fits`: values the expected type takes. `counts`: the others, by kind. `far`: how many of
    all are outside the calendar of nanoseconds."""

    fits: int = 0
    empties: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    low: int = 0
    high: int = 0
    digits: int = 0
    scale: int = 0
    inexact: int = 0
    fractions: int = 0
    nanoseconds: bool = False
    far: int = 0

    @property
    def has_values(self) -> bool:
        """Whether the type rests on anything. Nothing but NULL is fine (untyped); empty texts and NaN alone are texts only
        as long as nothing else comes."""
        return bool(self.fits or self.counts.keys() - {NOT_FINITE}) or not (self.empties or self.counts)

    def add(self, other: Evidence) -> None:
        self.fits += other.fits
        self.empties += other.empties
        self.counts += other.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.digits, self.scale = max(self.digits, other.digits), max(self.scale, other.scale)
        self.inexact += other.inexact
        self.fractions += other.fractions
        self.nanoseconds |= other.nanoseconds
        self.far += other.far


def firm_type(expected: pa.DataType | None) -> pa.DataType | None:
    """The expected type as far as text can have it; None when the values alone decide. Text is never read as float32: a
    decimal number survives a double far more often, and the table widens once."""
    if expected is None or pt.is_null(expected):
        return None
    if pt.is_float32(expected):
        return pa.float64()
    if pt.is_large_string(expected) or pt.is_string_view(expected):
        return pa.string()
    return expected if is_text_readable(expected) else None


def observe(texts: pa.StringArray, expected: pa.DataType | None) -> Evidence:
    """Evidence from some values of one column. `expected` is a `firm_type`."""
    seen = Evidence()
    if expected is not None:
        taken, misfits = convert_some(texts, expected)
        seen.far = _count_far(taken) if pt.is_temporal(expected) else 0
        present = len(texts) - texts.null_count
        if not misfits.any():
            seen.fits = present
            return seen
        seen.fits = present - int(misfits.sum())
        texts = texts.filter(pa.array(misfits))
    values = empty_to_null(texts).drop_null()
    seen.empties = len(texts) - texts.null_count - len(values)
    if len(values):
        _observe(values, seen)
    return seen


def _observe(values: pa.StringArray, seen: Evidence) -> None:
    """All values of one kind in one stroke where possible, else each distinct one."""
    kind = kind_of(values[0].as_py())
    if kind == INTEGER and (whole := convert(values, pa.int64())) is not None and not _has_dots(values):
        low, high = pc.min(whole).as_py(), pc.max(whole).as_py()
        _see_integers(seen, low, high, len(values))
        if max(-low, high) > 2**53:
            seen.inexact += sum(not survives_double(text) for text in values.to_pylist())
    elif kind in (INTEGER, FIXED) and convert(values, pa.float64()) is not None and _see_fixed(values, seen):
        pass
    elif kind in _VECTORS and (found := convert(values, _VECTORS[kind])) is not None:
        seen.counts[kind] += len(values)
        seen.far += _count_far(found) if pt.is_temporal(found.type) else 0
    else:
        for entry in pc.value_counts(values).to_pylist():
            see_one(entry["values"], entry["counts"], seen)


def _count_far(times: pa.Array) -> int:
    years = pc.year(times)
    return int(pc.sum(pc.or_(pc.less(years, _NS_YEARS[0]), pc.greater(years, _NS_YEARS[1]))).as_py() or 0)


_VECTORS = {BOOL: pa.bool_(), DATE: pa.date32(), NAIVE: pa.timestamp("us"), ZONED: pa.timestamp("us", "UTC")}


def _has_dots(values: pa.StringArray) -> bool:
    return bool((layout(values)[0] == ord(".")).any())


def _see_integers(seen: Evidence, low: int, high: int, count: int) -> None:
    seen.counts[INTEGER] += count
    seen.low, seen.high = min(seen.low, low), max(seen.high, high)
    seen.digits = max(seen.digits, len(str(abs(low))), len(str(abs(high))))


def _see_fixed(values: pa.StringArray, seen: Evidence) -> bool:
    """Digits before and after the dot, for values that are doubles without loss. False: an exponent, or NaN."""
    data, _ = layout(values)
    if data.max() > ord("9"):
        return False
    whole, scale = most_digits(values)
    seen.digits, seen.scale = max(seen.digits, whole, 1), max(seen.scale, scale)
    dots = int((data == ord(".")).sum())
    seen.counts[FIXED] += dots
    seen.counts[INTEGER] += len(values) - dots
    numbers = pc.cast(values, pa.float64())
    seen.low = min(seen.low, int(pc.floor(pc.min(numbers)).as_py()))
    seen.high = max(seen.high, int(pc.ceil(pc.max(numbers)).as_py()))
    return True


def see_one(text: str, count: int, seen: Evidence) -> None:
    """Adds one distinct, non-empty text that occurs `count` times."""
    kind = kind_of(text)
    seen.counts[kind] += count
    if kind in (INTEGER, FIXED, FLOAT):
        number = Decimal(text)
        _, digits, exponent = number.as_tuple()
        scale = max(-int(exponent), 0)
        seen.digits = max(seen.digits, len(digits) + int(exponent), 1)
        seen.scale = max(seen.scale, scale)
        seen.inexact += 0 if survives_double(text) else count
        # Beyond any integer type the size does not matter, and `int` of an exponent could fill the memory.
        whole = int(number) if number.adjusted() < _MAX_DIGITS + 2 else int(10 ** (_MAX_DIGITS + 2)) * (-1 if number < 0 else 1)
        seen.low, seen.high = min(seen.low, whole), max(seen.high, whole)
        seen.fractions += count if number != whole else 0
    elif kind in (NAIVE, ZONED):
        match = _TIMESTAMP.fullmatch(text)
        seen.nanoseconds |= match is not None and len(match[1] or "") > 6
    if kind in (DATE, NAIVE, ZONED):
        seen.far += 0 if _NS_YEARS[0] <= int(text[:4]) <= _NS_YEARS[1] else count


def kind_of(text: str) -> str:
    """What one non-empty text is, by the rules of `text_values`."""
    word = _WORDS.get(text.lower())
    if word is not None:
        return word
    if is_number(text):
        return FLOAT if "e" in text or "E" in text else FIXED if "." in text else INTEGER
    one = pa.array([text])
    if len(text) == 10 and convert(one, pa.date32()) is not None:
        return DATE
    match = _TIMESTAMP.fullmatch(text)
    if match is not None:
        zone = "UTC" if match[2] else None
        unit = "ns" if len(match[1] or "") > 6 else "us"
        if convert(one, pa.timestamp(unit, zone)) is not None:
            return ZONED if zone else NAIVE
    return TEXT


def resolve(seen: Evidence, expected: pa.DataType | None) -> pa.DataType:
    """The type of the column, by the rule at the top of this file. `expected` is a `firm_type`."""
    others = sum(seen.counts.values())
    if expected is not None:
        if others == 0:
            return expected
        joined, foreign = joined_type(seen, expected)
        if joined is not None and foreign * 2 <= others + seen.fits:
            return joined
        seen = _with_fits(seen, expected)
    return inferred_type(seen)


def is_kept(expected: pa.DataType | None, t: pa.DataType) -> bool:
    """Whether `t` is the expected type or a widening of it. When it is not, the head held mostly foreign values and the
    column was inferred anew: then a misfit asks for a look at everything, and is no dead letter yet."""
    if expected is None:
        return False
    if pt.is_integer(expected):
        return bool(pt.is_integer(t) or pt.is_decimal(t))
    if pt.is_decimal(expected):
        return bool(pt.is_decimal(t))
    if pt.is_date(expected) or pt.is_timestamp(expected):
        zone = expected.tz if pt.is_timestamp(expected) else None
        return bool(t == expected or (pt.is_timestamp(t) and t.tz == zone))
    return bool(t == expected)


def is_foreign(text: str, t: pa.DataType) -> bool:
    """Whether a value that `t` cannot take is of another family (a dead letter), not a reason to widen `t`."""
    seen = Evidence()
    see_one(text, 1, seen)
    joined, foreign = joined_type(seen, t)
    return joined is not None and (foreign > 0 or joined == t)


def joined_type(seen: Evidence, t: pa.DataType) -> tuple[pa.DataType | None, int]:
    """(the type of `t`'s family that also takes what is of that family, number of values that are not). None: no type of
    the family takes them all (more than 38 digits, nanoseconds outside their calendar)."""
    counts = seen.counts
    total = sum(counts.values())
    numbers = counts[INTEGER] + counts[FIXED] + counts[FLOAT]
    if pt.is_integer(t) and numbers:
        if counts[FIXED] + counts[FLOAT] == 0 and seen.low >= -(2**63) and seen.high < 2**63 and not pt.is_uint64(t):
            return pa.int64(), total - numbers
        own = len(str(2 ** (t.bit_width - (not pt.is_unsigned_integer(t))) - 1))
        return _decimal(max(seen.digits, own), seen.scale), total - numbers
    if pt.is_decimal(t) and numbers:
        return _decimal(max(seen.digits, t.precision - t.scale), max(seen.scale, t.scale)), total - numbers
    if (pt.is_date(t) or (pt.is_timestamp(t) and t.tz is None)) and counts[DATE] + counts[NAIVE]:
        return _timestamp(seen, t, None, total - counts[DATE] - counts[NAIVE])
    if pt.is_timestamp(t) and t.tz is not None and counts[ZONED]:
        return _timestamp(seen, t, t.tz, total - counts[ZONED])
    return t, total


def _timestamp(seen: Evidence, t: pa.DataType, zone: str | None, foreign: int) -> tuple[pa.DataType | None, int]:
    """In the finest unit needed. Outside the calendar of a column of nanoseconds a value is foreign; where it is there before
    the first nanosecond, no type takes both."""
    if pt.is_timestamp(t) and t.unit == "ns":
        return t, foreign + seen.far
    if seen.nanoseconds:
        return None if seen.far else pa.timestamp("ns", zone), foreign
    return pa.timestamp("us", zone), foreign


def _decimal(digits: int, scale: int) -> pa.DataType | None:
    return pa.decimal128(max(digits + scale, 1), scale) if digits + scale <= _MAX_DIGITS else None


def _with_fits(seen: Evidence, expected: pa.DataType) -> Evidence:
    """The values that did fit count as evidence of the expected type, so that the column's new type takes them too."""
    whole = Evidence()
    whole.add(seen)
    if not seen.fits:
        return whole
    if pt.is_integer(expected):
        bits = expected.bit_width - (not pt.is_unsigned_integer(expected))
        _see_integers(whole, 0 if pt.is_unsigned_integer(expected) else -(2**bits), 2**bits - 1, seen.fits)
        whole.inexact += bits > 53
    elif pt.is_decimal(expected):
        whole.counts[FIXED] += seen.fits
        whole.digits = max(whole.digits, expected.precision - expected.scale)
        whole.scale, whole.inexact = max(whole.scale, expected.scale), 1
    elif pt.is_floating(expected):
        whole.counts[FLOAT] += seen.fits
    else:
        kind = BOOL if pt.is_boolean(expected) else DATE if pt.is_date(expected) else NAIVE
        whole.nanoseconds |= pt.is_timestamp(expected) and expected.unit == "ns"
        whole.counts[ZONED if pt.is_timestamp(expected) and expected.tz else kind] += seen.fits
    return whole


def inferred_type(seen: Evidence) -> pa.DataType:
    """The narrowest type that takes everything seen."""
    kinds = {kind for kind, count in seen.counts.items() if count}
    if not kinds:
        return pa.string() if seen.empties else pa.null()
    if kinds == {BOOL}:
        return pa.bool_()
    if kinds == {INTEGER} and seen.low >= -(2**63) and seen.high < 2**63:
        return pa.int64()
    if kinds <= _NUMBERS and kinds != {NOT_FINITE}:
        exact = _decimal(seen.digits, seen.scale) if kinds <= {INTEGER, FIXED} else None
        if not seen.inexact and (kinds != {INTEGER} or exact is None):
            return pa.float64()
        return exact if exact is not None else pa.string()
    if kinds == {DATE}:
        return pa.date32()
    if kinds <= {DATE, NAIVE} or kinds == {ZONED}:
        zone = "UTC" if ZONED in kinds else None
        if not seen.nanoseconds:
            return pa.timestamp("us", zone)
        return pa.string() if seen.far else pa.timestamp("ns", zone)
    return pa.string()
