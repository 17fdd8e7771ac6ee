"""Single values: which Python value an Arrow type takes without a change, and what to say of one that it does not take."""

from __future__ import annotations

import base64
import json
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pyarrow as pa
from pyarrow import types as pt

DAY_RANGE = (-719162, 2932896)
"""0001-01-01 and 9999-12-31 in days since 1970."""

MICROSECOND_RANGE = (DAY_RANGE[0] * 86_400_000_000, (DAY_RANGE[1] + 1) * 86_400_000_000 - 1)
TIME_RANGE = (0, 86_400_000_000 - 1)


class Unfit(Exception):
    """A value cannot be held as declared: the reason of a dead letter, not an error for a person.

    `reason` is a stable code; `why` never quotes the value."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason, self.why = reason, why


NOT_UTF8 = Unfit("bad_encoding", "text that is not UTF-8")

_BEYOND = re.compile(r"^-?infinity$| BC$|^\d{5,}-\d\d-|^24:00")
"""How PostgreSQL writes dates and times that no calendar here has."""


@lru_cache(maxsize=256)
def native_types(target: pa.DataType) -> frozenset[type]:
    """Python types that pyarrow converts to the target without any change of value (or refuses loudly)."""
    if pt.is_integer(target):
        return frozenset({int})
    if pt.is_floating(target):
        return frozenset({float, int}) if target.bit_width == 64 else frozenset({float})
    if pt.is_boolean(target):
        return frozenset({bool})
    if pt.is_string(target):
        return frozenset({str})
    if pt.is_binary(target):
        return frozenset({bytes})
    if pt.is_decimal(target):
        return frozenset({Decimal})
    if pt.is_date(target):
        return frozenset({date})
    if pt.is_time(target):
        return frozenset({time})
    return frozenset()  # timestamps: a zone must be looked at, value by value; lists: their items


def as_text(value: int | float | str | Decimal) -> str:
    """The shortest text that reads back as exactly this value."""
    return repr(value) if isinstance(value, float) else str(value)


def exact(value: object, target: pa.DataType, any_as_text: bool) -> Any:
    """The value as pyarrow takes it for the target, unchanged in meaning; Unfit otherwise."""
    if value is None:
        return None
    if any_as_text and pt.is_string(target):
        value = _text_of(value)
    converted = _converted(value, target)
    try:
        pa.array([converted], target)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError):
        raise reason_of(value, target) from None
    return converted


def _converted(value: object, target: pa.DataType) -> Any:
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    if isinstance(value, Decimal) and not value.is_finite():
        raise reason_of(value, target)
    if type(value) in native_types(target):
        return value
    if pt.is_timestamp(target) and isinstance(value, datetime):
        finer = getattr(value, "nanosecond", 0)  # of drivers' own datetimes; pyarrow would leave it out
        if (value.tzinfo is None) == (target.tz is None) and not finer:
            return value
    elif pt.is_boolean(target) and value in (0, 1) and isinstance(value, int | float | Decimal):
        return bool(value)
    elif pt.is_floating(target) and isinstance(value, Decimal) and Decimal(float(value)) == value:
        return float(value)
    elif pt.is_integer(target) and isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    elif pt.is_decimal(target) and type(value) in (int, float):
        return _decimal(as_text(value), target)  # type: ignore[arg-type]
    elif pt.is_list(target) and isinstance(value, list):
        return [exact(item, target.value_type, False) for item in value]
    elif isinstance(value, str) and not pt.is_string(target) and not pt.is_binary(target):
        return _parsed(value, target)
    raise reason_of(value, target)


def _parsed(text: str, target: pa.DataType) -> Any:
    if pt.is_decimal(target):
        return _decimal(text, target)
    try:
        if pt.is_time(target):
            return pa.array([f"1970-01-01 {text}"], pa.string()).cast(pa.timestamp("us")).cast(target)[0].as_py()
        return pa.array([text], pa.string()).cast(target)[0].as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
        raise reason_of(text, target) from None


def _decimal(text: str, target: pa.DataType) -> Decimal:
    try:
        return pa.array([text], pa.string()).cast(target)[0].as_py()
    except (pa.ArrowInvalid, UnicodeError):
        raise reason_of(text, target) from None


def _text_of(value: object) -> object:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return as_text(value)
        case UUID() | date() | time() | timedelta():
            return value.isoformat() if isinstance(value, date | time) else str(value)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
    return value


def reason_of(value: object, target: pa.DataType) -> Unfit:
    """Why the target does not take the value. The value itself stays out of the text: it may be anybody's secret."""
    if isinstance(value, str) and pt.is_decimal(target):
        return _why_not_decimal(value, target)
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return NOT_UTF8
    if isinstance(value, str) and pt.is_temporal(target):
        if value.startswith("0000-") or (value[4:5] == "-" and "00" in (value[5:7], value[8:10])):
            return Unfit("value_out_of_range", "a date with a zero year, month or day")
        if _BEYOND.search(value):
            return Unfit("value_out_of_range", f"a {target} outside the calendar 0001-01-01 … 9999-12-31, or infinite")
        return Unfit("value_unreadable", f"text that is not a {target}")
    if (isinstance(value, float) and not np.isfinite(value)) or (isinstance(value, Decimal) and not value.is_finite()):
        return Unfit("value_out_of_range", "a number that is not finite")
    if type(value) in (int, float, Decimal) and (pt.is_decimal(target) or pt.is_integer(target) or pt.is_floating(target)):
        if isinstance(value, int):
            return Unfit("value_out_of_range", f"an integer that {target} cannot hold exactly")
        return Unfit("value_out_of_range", f"a number with more digits than {target} holds")
    kind = "text" if isinstance(value, str) else "bytes" if isinstance(value, bytes) else f"a {type(value).__name__}"
    return Unfit("value_unreadable", f"{kind} that is not a {target}")


def _why_not_decimal(text: str, target: pa.DataType) -> Unfit:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return Unfit("value_unreadable", "text that is not a number")
    if not number.is_finite():
        return Unfit("value_out_of_range", "a number that is not finite")
    return Unfit(
        "value_out_of_range",
        f"a number with more than {target.precision - target.scale} digits before or {target.scale} after the point",
    )


def json_value(value: Any) -> Any:
    """A raw value for a dead letter's JSON: readable, and nothing of it lost."""
    if isinstance(value, pa.Scalar):
        return _json_scalar(value)
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        value = _bytes_of(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _bytes_of(text: str) -> bytes:
    """The bytes that `surrogateescape` made this text of; or its own code points, if it never was bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _json_scalar(value: pa.Scalar) -> Any:
    if not value.is_valid:
        return None
    kind = value.type
    if isinstance(kind, pa.BaseExtensionType):
        return _json_scalar(value.value)
    if pt.is_date32(kind):
        return _moment(value.cast(pa.int32()).as_py(), "D", -(2**31), 10957)
    if pt.is_timestamp(kind) and kind.unit == "us":
        text = _moment(value.cast(pa.int64()).as_py(), "us", -(2**63), 946_684_800_000_000)
        return text if kind.tz is None or "inf" in text else text + "Z"
    if pt.is_time64(kind) and kind.unit == "us":
        seconds, micros = divmod(value.cast(pa.int64()).as_py(), 1_000_000)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"
    if pt.is_string(kind) or pt.is_binary(kind):
        data = value.as_buffer().to_pybytes()
        return json_value(data.decode("utf-8", "surrogateescape") if pt.is_string(kind) else data)
    if pt.is_list(kind):
        return [_json_scalar(v) for v in value.values]
    return json_value(value.as_py())


def _moment(number: int, unit: Literal["D", "us"], lowest: int, epoch: int) -> str:
    """A date or timestamp outside Python's calendar as ISO text. PostgreSQL counts from 2000; ADBC adds the years since
    1970 and lets the far future (and the two infinities, the ends of the number range) wrap around."""
    if number == lowest + epoch:
        return "-infinity"
    if number == lowest + epoch - 1:
        return "infinity"
    if number < lowest + epoch:
        return f"after year 294246 ({unit}: {number - 2 * lowest})"
    return str(np.datetime64(number, unit))
