"""Cursor values compared for the ledger's decisions: only values of one kind have an order.

A table may have a hundred thousand ranges, and a run asks for the two or three at its own end of them. So each range is kept
with three columns that the database can put in order by itself, and only what they do not settle is compared as values.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.errors import RangeError
from airflow_dataops.core.offset import CursorRange, OffsetRange, Scalar, overlaps, scalar_kind
from airflow_dataops.storage.sql_text import json_text, text_id

NOT_A_NUMBER = "not a number"

KEY_BYTES = 100
"""Of a value's key; longer ones are cut, because an index row of PostgreSQL holds 2,704 bytes. Cut keys may be equal where the
values are not, and are never in the wrong order."""

BELOW_ALL, ABOVE_ALL = b"", b"\x02"
"""The keys of an end that is open."""

NO_SERIES = ""
"""Of a batch that is not read by a cursor."""


def overlap(asked: CursorRange, other: CursorRange, table_key: str) -> bool:
    """Whether the two ranges share a possible value. RangeError when that cannot be told: another cursor, or values
    without a common order."""
    if asked.cursor != other.cursor:
        raise RangeError(
            f"Cannot claim a range of {table_key}: it is over cursor {asked.cursor!r} -> {other.cursor!r}, as the ranges before. "
            "Whether rows would come twice cannot be told. Keep the cursor, or load into a new target table."
        )
    kinds = {scalar_kind(v) or NOT_A_NUMBER for v in (asked.low, asked.high, other.low, other.high) if v is not None}
    if len(kinds) > 1 or NOT_A_NUMBER in kinds:
        raise RangeError(
            f"Cannot claim a range of {table_key}: values of cursor {asked.cursor!r} are {' and '.join(sorted(kinds))} -> one "
            "kind. Whether rows would come twice cannot be told. Keep the column's type, or load into a new target table."
        )
    return overlaps(asked, other)


def same(one: Scalar | None, other: Scalar | None) -> bool:
    """Equal values of one kind: 1, 1.0 and Decimal("1.00") are, True and 1 are not, two spellings of a moment are."""
    if one is None or other is None:
        return one is None and other is None
    return scalar_kind(one) == scalar_kind(other) and one == other


def series_of(cursor: str, *values: Scalar | None) -> str:
    """What the ends of a range have an order with: 32 hex digits that stand for the cursor and the kind of its values."""
    kinds = sorted({scalar_kind(v) or NOT_A_NUMBER for v in values if v is not None})
    return text_id(json_text([cursor, *kinds]))


def range_columns(r: OffsetRange) -> dict[str, Any]:
    """The columns by which `may_meet` and its like find the range."""
    if not isinstance(r, CursorRange):
        return {"range_series": NO_SERIES, "range_low": None, "range_high": None}
    kinds = {scalar_kind(v) for v in (r.low, r.high) if v is not None}
    ordered = len(kinds) == 1 and None not in kinds
    return {
        "range_series": series_of(r.cursor, r.low, r.high),
        "range_low": key_of(r.low) if ordered and r.low is not None else BELOW_ALL,
        "range_high": key_of(r.high) if ordered and r.high is not None else ABOVE_ALL,
    }


def key_of(value: Scalar) -> bytes:
    """Bytes in the order of the values: of two values of one kind (which NaN has not), the lower never has the higher key."""
    if isinstance(value, str):
        key = value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        key = value
    elif isinstance(value, (bool, int, float, Decimal)):
        key = _number_key(Decimal(value))
    elif isinstance(value, datetime):
        key = _moment_key(value, value.time(), value.utcoffset())
    elif isinstance(value, date):
        key = _moment_key(value, time(), None)
    else:
        key = _moment_key(date.min, value, value.utcoffset())
    return b"\x01" + key[: KEY_BYTES - 1]


def _number_key(value: Decimal) -> bytes:
    """Sign, exponent, digits: exact, whatever the size. Below zero the same with every byte turned round."""
    if not value:
        return b"\x02"
    if value.is_infinite():
        return b"\x04" if value > 0 else b"\x00"
    digits = "".join(map(str, value.as_tuple().digits)).rstrip("0").encode()
    size = (value.adjusted() + (1 << 63)).to_bytes(8) + digits
    return b"\x03" + size if value > 0 else b"\x01" + bytes(255 - b for b in size) + b"\xff"


def _moment_key(day: date, clock: time, offset: timedelta | None) -> bytes:
    """Microseconds of UTC; of a day or a time alone as if it were a moment."""
    seconds = (day.toordinal() * 24 + clock.hour) * 3600 + clock.minute * 60 + clock.second
    since = timedelta(seconds=seconds, microseconds=clock.microsecond) - (offset or timedelta())
    return (since // timedelta(microseconds=1) + (1 << 63)).to_bytes(8)


def of_series(columns: Any, cursor: str, kind_of: Scalar, reaching: Scalar | None = None) -> list[sa.ColumnElement[bool]]:
    """Conditions, each answered by an index, for the ranges over the cursor with values of the kind of `kind_of`: of these, the
    ones that do not surely end below `reaching`, when it is of that kind too. And for those of which nothing is known: an older
    release, still at work while the ledger was migrated, has claimed them."""
    mine: sa.ColumnElement[bool] = columns.range_series == series_of(cursor, kind_of)
    if reaching is not None and scalar_kind(reaching) == scalar_kind(kind_of):
        mine = mine & (columns.range_high >= key_of(reaching))
    return [mine, columns.range_series.is_(None)]


def surely_below(columns: Any, cursor: str, low: Scalar) -> sa.ColumnElement[bool]:
    """The ranges over the cursor that end below `low`; not those whose end differs from it only behind `KEY_BYTES`."""
    return (columns.range_series == series_of(cursor, low)) & (columns.range_high < key_of(low))


def may_meet(columns: Any, asked: CursorRange) -> list[sa.ColumnElement[bool]]:
    """Conditions, each answered by an index, that together hold for every range which `overlap` is true of or refuses, if there
    is any: of another series one range is as good as all."""
    mine = range_columns(asked)
    series = columns.range_series
    return [
        (series == mine["range_series"]) & (columns.range_high >= mine["range_low"]) & (columns.range_low <= mine["range_high"]),
        (series > NO_SERIES) & (series < mine["range_series"]),
        series > mine["range_series"],
        series.is_(None),
    ]
