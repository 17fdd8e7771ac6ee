"""Values that bound a range, checked against the column they are compared with."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.errors import RangeError
from airflow_dataops.core.offset import Scalar
from airflow_dataops.sources.sql.database import SqlColumn


def bound_value(column: SqlColumn, value: Scalar) -> Scalar:
    """The value in the column's own kind. RangeError when comparing the two would need a guess: the column's type
    has changed since the position was stored."""
    target = column.type
    if pt.is_timestamp(target) and isinstance(value, date) and not isinstance(value, datetime) and target.tz is None:
        return datetime(value.year, value.month, value.day)
    if _comparable(value, target):
        return value
    raise RangeError(
        f"Cannot compare {column.name} with a stored position: the column is {column.declared}, the position a "
        f"{_kind(value)} -> the same kind. The column's type has changed since. Load the table anew, or convert the "
        "column in `read.query`."
    )


def _comparable(value: Scalar, target: pa.DataType) -> bool:
    if isinstance(value, bool):
        return pt.is_boolean(target)
    if isinstance(value, int):
        return pt.is_integer(target) or pt.is_decimal(target) or (pt.is_floating(target) and _is_double(value))
    if isinstance(value, Decimal):
        return value.is_finite() and (pt.is_decimal(target) or pt.is_integer(target))
    if isinstance(value, float):
        return pt.is_floating(target)
    if isinstance(value, datetime):
        return pt.is_timestamp(target) and (value.tzinfo is None) == (target.tz is None)
    if isinstance(value, date):
        return pt.is_date(target)
    if isinstance(value, time):
        return pt.is_time(target)
    return pt.is_binary(target) if isinstance(value, bytes) else pt.is_string(target)


def _is_double(value: int) -> bool:
    """Whether a database that compares doubles sees exactly this number."""
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _kind(value: Scalar) -> str:
    if isinstance(value, datetime):
        return "datetime with a zone" if value.tzinfo else "datetime without a zone"
    return type(value).__name__
