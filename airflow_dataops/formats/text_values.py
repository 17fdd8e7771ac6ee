"""Text → typed Arrow arrays, or not at all: a value is only ever converted when nothing of it is lost.

Every check is vectorised over the buffers of a string array. The rules, once for all text formats:

- integers without leading zeros or plus (`007` is a code, `+7` a text); `-0` reads as 0;
- decimals exactly; doubles only when text → double → text gives the same number;
- `true`/`false` in any case, never 1/0; ISO dates and timestamps only, a zone must be there or must not;
- the empty text is no number, date or bool: it reads as NULL in such columns, and as itself in text columns.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

_SAFE_CHARS = 15  # so many digits survive a double in any case
_FLOAT_WORDS = frozenset({"nan", "inf", "-inf", "infinity", "-infinity"})
_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")
_UNPARSABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError)


def is_text_readable(t: pa.DataType) -> bool:
    """Whether text can be converted to this type here at all."""
    return bool(
        pt.is_integer(t) or pt.is_float64(t) or pt.is_decimal128(t) or pt.is_boolean(t)
        or pt.is_date32(t) or pt.is_timestamp(t) or pt.is_string(t) or pt.is_null(t)
    )  # fmt: skip


def convert(texts: pa.StringArray, t: pa.DataType, *, as_written: bool = False) -> pa.Array | None:
    """All values as `t`, or None when at least one cannot be read as `t` without loss.

    As numbers `5.0` is 5 and `1.500` fits decimal(5,2); `as_written` refuses both: where only the values decide, they must
    lead to the same type wherever they stand."""
    if pt.is_string(t):
        return texts
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), t)
    if pt.is_null(t):
        return None
    converted = _convert(texts, t, as_written)
    if converted is None and _holds_empty(texts):
        texts = empty_to_null(texts)
        converted = pa.nulls(len(texts), t) if texts.null_count == len(texts) else _convert(texts, t, as_written)
    return converted


def convert_widened(texts: pa.StringArray, expected: pa.DataType, t: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    """The values as `t`, a widening of `expected` (or the same), and a bool mask of the misfits. Values that the expected
    type takes are numbers only; those beyond it count as they are written, because they alone made the type."""
    values, misfits = convert_some(texts, t)
    if t == expected:
        return values, misfits
    beyond = convert_some(texts, expected)[1] & ~misfits
    odd = convert_some(texts.filter(pa.array(beyond)), t, as_written=True)[1]
    misfits = misfits.copy()
    misfits[np.flatnonzero(beyond)[odd]] = True
    return values, misfits


def convert_some(texts: pa.StringArray, t: pa.DataType, *, as_written: bool = False) -> tuple[pa.Array, np.ndarray]:
    """The values as `t`, NULL where they cannot be read, and a bool mask of those places. Few misfits are found by
    halving, so that a clean column with one bad value stays vectorised."""
    whole = convert(texts, t, as_written=as_written)
    if whole is not None:
        return whole, np.zeros(len(texts), np.bool_)
    encoded = texts.dictionary_encode()
    words = encoded.dictionary
    bad = np.zeros(len(words), np.bool_)
    spans = [(0, len(words))]
    while spans:
        start, end = spans.pop()
        if convert(words.slice(start, end - start), t, as_written=as_written) is not None:
            continue
        if end - start == 1:
            bad[start] = True
        else:
            middle = (start + end) // 2
            spans += [(start, middle), (middle, end)]
    mask = pc.fill_null(pc.take(pa.array(bad), encoded.indices), False)
    kept = convert(_without(texts, mask), t)
    if kept is None:
        raise ValueError(f"values fit {t} one by one, but not together")
    return kept, np.asarray(mask)


def empty_to_null(texts: pa.StringArray) -> pa.StringArray:
    """Empty texts as NULL: there is no empty number."""
    return _without(texts, pc.fill_null(pc.equal(texts, ""), False))


def _without(texts: pa.StringArray, mask: pa.BooleanArray) -> pa.StringArray:
    """The texts with NULL where the mask is. (`if_else` would leave their bytes in the buffer; see `layout`.)"""
    return pc.take(texts, pa.array(np.arange(len(texts)), mask=np.asarray(mask)))


def _holds_empty(texts: pa.StringArray) -> bool:
    return bool(pc.any(pc.equal(texts, "")).as_py())


def _convert(texts: pa.StringArray, t: pa.DataType, as_written: bool) -> pa.Array | None:
    if pt.is_integer(t):
        return _integers(texts, t, as_written)
    if pt.is_floating(t):
        return _doubles(texts)
    if pt.is_decimal(t):
        return None if as_written and _scale_written(texts) > t.scale else _decimals(texts, t)
    if pt.is_boolean(t) and pc.min(pc.binary_length(texts)).as_py() < len("true"):
        return None  # Arrow would take 1 and 0
    return _cast(texts, t)


def _cast(texts: pa.Array, t: pa.DataType) -> pa.Array | None:
    try:
        return pc.cast(texts, t)
    except _UNPARSABLE:
        return None


def _integers(texts: pa.StringArray, t: pa.DataType, as_written: bool) -> pa.Array | None:
    if not _is_plain(texts):
        return None
    found = _cast(texts, t)
    if found is None and not as_written and _has_dot(texts):  # 5.0 is 5 when the table says integer
        longest = int(pc.max(pc.binary_length(texts)).as_py())
        scale = min(longest, 18)
        exact = _decimals(texts, pa.decimal128(38, scale))
        found = None if exact is None else _cast(exact, t)
    return found


def _doubles(texts: pa.StringArray) -> pa.Array | None:
    if not _is_plain(texts):
        return _doubles_by_word(texts)
    doubles = _cast(texts, pa.float64())
    if doubles is None:
        return None
    lengths = pc.binary_length(texts)
    if pc.max(lengths).as_py() <= _SAFE_CHARS:
        return doubles
    long = pc.greater(lengths, _SAFE_CHARS)
    return doubles if _all_survive(texts.filter(long), doubles.filter(long)) else None


def _all_survive(texts: pa.StringArray, floats: pa.Array) -> bool:
    """Whether printing the floats gives the same numbers again."""
    printed = pc.cast(floats, pa.string())
    differ = pc.not_equal(printed, texts)
    pairs = zip(texts.filter(differ).to_pylist(), printed.filter(differ).to_pylist(), strict=True)
    return all(same_number(a, b) for a, b in pairs if a is not None)


def same_number(a: str, b: str) -> bool:
    """Whether two texts are the same finite number."""
    try:
        x, y = Decimal(a), Decimal(b)
    except InvalidOperation:
        return False
    return x.is_finite() and y.is_finite() and x == y


def survives_double(text: str) -> bool:
    """Whether this number is the one that its double prints."""
    try:
        return same_number(repr(float(text)), text)
    except ValueError:
        return False


def _doubles_by_word(texts: pa.StringArray) -> pa.Array | None:
    """Exponents, NaN and infinities: rare enough for a look at each distinct text."""
    encoded = texts.dictionary_encode()
    values = []
    for word in encoded.dictionary.to_pylist():
        if word.lower() not in _FLOAT_WORDS and not (is_number(word) and survives_double(word)):
            return None
        values.append(float(word))
    return pc.take(pa.array(values, pa.float64()), encoded.indices)


def _decimals(texts: pa.StringArray, t: pa.DataType) -> pa.Array | None:
    # Arrow's cast overflows without a word when a text has more than 38 digits, or would have them at the type's scale.
    if _is_plain(texts) and pc.max(pc.binary_length(texts)).as_py() <= 38:
        return _cast(texts, t) if most_digits(texts)[0] <= t.precision - t.scale else None
    encoded = texts.dictionary_encode()
    values = [_as_decimal(word, t) for word in encoded.dictionary.to_pylist()]
    return None if None in values else pc.take(pa.array(values, t), encoded.indices)


def _as_decimal(text: str, t: pa.DataType) -> Decimal | None:
    """The number, if the type holds it exactly."""
    if not is_number(text):
        return None
    number = Decimal(text)
    if not number:
        return Decimal(0)
    _, digits, exponent = number.as_tuple()
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    if len(digits) + int(exponent) > t.precision - t.scale or -int(exponent) - zeros > t.scale:
        return None
    return number.quantize(Decimal(1).scaleb(-t.scale), context=Context(prec=t.precision + 1))


def is_number(text: str) -> bool:
    """A number as data files write it: no plus, no leading zero, no spaces, no NaN; perhaps an exponent."""
    return _NUMBER.fullmatch(text) is not None


def _is_plain(texts: pa.StringArray) -> bool:
    """Only `-`, `.` and digits, and no leading zero. (That they stand in the right order is what the cast checks.)"""
    data, offsets = layout(texts)
    if len(data) == 0:
        return False
    if data.min() < ord("-") or data.max() > ord("9"):
        return False
    last = len(data) - 1
    starts = offsets[:-1]
    if starts[-1] > last:  # empty slots at the end
        starts = np.minimum(starts, last)
    first = data[starts]
    if data.min() == ord("-"):
        starts = np.minimum(starts + (first == ord("-")), last)
        first = data[starts]
    zeros = np.flatnonzero(first == ord("0"))
    if len(zeros):
        zeros = zeros[starts[zeros] + 1 < offsets[1:][zeros]]
    return bool((data[starts[zeros] + 1] == ord(".")).all())


def most_digits(texts: pa.StringArray) -> tuple[int, int]:
    """(most digits before the point, most behind it) of plain numbers. A zero before the point is no digit; a bare point at
    the end counts as one behind."""
    data, offsets = layout(texts)
    if not len(data):
        return 0, 0
    starts, ends = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    dots = np.flatnonzero(data == ord("."))
    point = ends.copy()
    point[np.searchsorted(offsets, dots, "right") - 1] = dots
    last = len(data) - 1
    starts += data[np.minimum(starts, last)] == ord("-")
    zero = data[np.minimum(starts, last)] == ord("0")
    behind = int((ends - point).max())
    return int((point - starts - zero).max()), max(behind - 1, 1) if behind else 0


def _scale_written(texts: pa.StringArray) -> int:
    """The most digits behind the point, of numbers that may have an exponent; 0 for what is no number."""
    if _is_plain(texts):
        return most_digits(texts)[1]
    words = (word for word in pc.unique(texts).drop_null().to_pylist() if is_number(word))
    return max((-int(Decimal(word).as_tuple().exponent) for word in words), default=0)


def _has_dot(texts: pa.StringArray) -> bool:
    return bool((layout(texts)[0] == ord(".")).any())


def layout(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes of all values, offsets into them). NULL slots must hold no bytes: so Arrow's CSV reader, `take` and
    `filter` leave them."""
    _, offsets_buffer, data_buffer = texts.buffers()
    if offsets_buffer is None or len(texts) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]
