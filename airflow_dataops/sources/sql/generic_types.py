"""SQLAlchemy's types → Arrow, for databases that have no module of their own."""

from __future__ import annotations

import pyarrow as pa
from sqlalchemy import types as sa
from sqlalchemy.dialects import mssql
from sqlalchemy.types import TypeEngine

from airflow_dataops.sources.sql.database import DECIMAL_DIGITS, UNCONSTRAINED_DECIMAL

MICROSECOND_DIGITS = 6
FINER_BY_DEFAULT = (mssql.DATETIME2, mssql.DATETIMEOFFSET, mssql.TIME)
"""Types that keep seven digits of a second unless told otherwise."""


def arrow_type(kind: TypeEngine[object]) -> tuple[pa.DataType, bool]:
    """The Arrow type, and whether any value is taken as text because the declared type has none.

    DATE columns of databases whose DATE has a time (Oracle) are reflected as such by their dialect."""
    match kind:
        case sa.Boolean():
            return pa.bool_(), False
        case sa.SmallInteger() | sa.Integer():
            return pa.int64(), False
        case sa.Double() | sa.Float():
            return pa.float64(), False
        case sa.Numeric():
            return _decimal(kind.precision, kind.scale)
        case sa.DateTime():
            return pa.timestamp("us", "UTC" if kind.timezone else None), False
        case sa.Date():
            return pa.date32(), False
        case sa.Time():
            return (pa.string(), True) if kind.timezone else (pa.time64("us"), False)
        case sa.LargeBinary() | sa.BINARY() | sa.VARBINARY():
            return pa.binary(), False
        case sa.Enum():
            return pa.string(), True
        case sa.String():
            return pa.string(), False
    return pa.string(), True


def unordered(kind: TypeEngine[object], target: pa.DataType, dialect: str) -> str:
    """Why the type's values cannot order rows here; "" when they can."""
    if digits := second_digits(kind):
        return f"{dialect} keeps {digits} digits of a second, and {MICROSECOND_DIGITS} can be compared"
    if pa.types.is_string(target):
        return f"how {dialect} sorts text is not known here"
    return ""


def second_digits(kind: TypeEngine[object]) -> int:
    """The digits of a second that a declared type keeps beyond the microsecond, all of them counted; 0 when it keeps none beyond.
    Drivers give Python's times, which end at the microsecond: the rest would be cut without a word."""
    if not isinstance(kind, sa.DateTime | sa.Time):
        return 0
    precision = getattr(kind, "precision", None)
    if isinstance(kind, FINER_BY_DEFAULT) and precision is None:
        precision = 7
    return precision if precision is not None and precision > MICROSECOND_DIGITS else 0


def whole_text(kind: TypeEngine[object], quoted: str, dialect: str) -> str | None:
    """SQL that gives a time as text with all its digits; None where no such expression is known for sure."""
    if dialect == "mssql" and isinstance(kind, FINER_BY_DEFAULT):
        return f"CONVERT(varchar(34), {quoted}, 121)"
    return None


def _decimal(precision: int | None, scale: int | None) -> tuple[pa.DataType, bool]:
    if precision is None:
        return UNCONSTRAINED_DECIMAL, False
    scale = scale or 0
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale, 1)
    if precision > DECIMAL_DIGITS:
        return pa.string(), True
    return (pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)), False
