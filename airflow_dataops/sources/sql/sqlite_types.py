"""SQLite's declared types → Arrow, in one table.

A declaration in SQLite is only a preference: any column may hold any value. So each value is checked when it is read,
and one of another kind than declared costs its row (a dead letter), never its meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pyarrow as pa

from airflow_dataops.sources.sql.database import DECIMAL_DIGITS, UNCONSTRAINED_DECIMAL, SqlColumn

_DIGITS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")

DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
TIME = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]"
ZERO_MOMENT = "0000-00-00 00:00:00.000000"
ZERO_TIME = "00:00:00.000000"


def column_of(name: str, declared: str, *, nullable: bool = True) -> SqlColumn:
    """How a column is read. Names of dates, times, booleans and decimals are taken at their word; all else follows
    SQLite's own rules of affinity. No declaration, or an unknown one, is text: numbers there are written exactly."""
    quoted = f"q.{quote(name)}"
    column = SqlColumn(name, declared or "without a type", pa.string(), quoted, quoted, nullable=nullable)
    word = declared.upper()
    first = re.split(r"[\s(]", word.strip(), maxsplit=1)[0]
    if first in ("BOOL", "BOOLEAN"):
        return replace(column, type=pa.bool_())
    if first == "DATE":
        return replace(column, type=pa.date32())
    if first == "TIME" and "ZONE" not in word:
        return replace(column, type=pa.time64("us"), compare=_padded(quoted, ZERO_TIME))
    if first in ("DATETIME", "TIMESTAMP", "TIMESTAMPTZ"):
        if first == "TIMESTAMPTZ" or "WITH TIME ZONE" in word:
            utc = f"replace(replace({quoted}, '+00:00', ''), 'Z', '')"
            return replace(column, type=pa.timestamp("us", "UTC"), compare=_padded(f"replace({utc}, 'T', ' ')", ZERO_MOMENT))
        return replace(column, type=pa.timestamp("us"), compare=_padded(f"replace({quoted}, 'T', ' ')", ZERO_MOMENT))
    if first in ("DECIMAL", "NUMERIC", "DEC"):
        return _decimal(column, word)
    if "INT" in word:
        return replace(column, type=pa.int64())
    if any(part in word for part in ("CHAR", "CLOB", "TEXT")):
        return column
    if "BLOB" in word:
        return replace(column, type=pa.binary())
    if any(part in word for part in ("REAL", "FLOA", "DOUB")):
        return replace(column, type=pa.float64())
    return replace(column, any_as_text=True)


def _decimal(column: SqlColumn, word: str) -> SqlColumn:
    digits = _DIGITS.search(word)
    if digits is None:
        return replace(column, type=UNCONSTRAINED_DECIMAL)
    precision, scale = int(digits[1]), int(digits[2] or 0)
    precision = max(precision, scale, 1)
    if precision > DECIMAL_DIGITS:
        return replace(column, any_as_text=True)
    return replace(column, type=pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale))


def _padded(expression: str, zero: str) -> str:
    """Texts of a moment with and without seconds and fractions, made equally long: their order is then that of time."""
    return f"({expression} || substr('{zero}', length({expression}) + 1))"


def in_order(column: SqlColumn, encoding: str) -> SqlColumn:
    """The column as a cursor: its text is compared by bytes, whatever its collation."""
    if not pa.types.is_string(column.type):
        return column
    if encoding != "UTF-8":
        return replace(column, unordered=f"the file's text is {encoding}, and SQLite compares its bytes")
    return replace(column, compare=f"{column.expression} COLLATE BINARY")


def misplaced(column: SqlColumn) -> str:
    """SQL that is true for rows that no range over this column reaches: NULL, or another kind of value than declared."""
    kind = f"typeof(q.{quote(column.name)})"
    target = column.type
    if pa.types.is_integer(target) or pa.types.is_boolean(target):
        return f"{kind} <> 'integer'"
    if pa.types.is_floating(target) or pa.types.is_decimal(target):
        return f"{kind} NOT IN ('integer', 'real')"
    if pa.types.is_binary(target):
        return f"{kind} <> 'blob'"
    if pa.types.is_date(target):
        return f"NOT ({kind} = 'text' AND {column.compare} GLOB '{DATE}')"
    if pa.types.is_timestamp(target):
        zoned = f" AND (q.{quote(column.name)} LIKE '%Z' OR q.{quote(column.name)} LIKE '%+00:00')" if target.tz else ""
        return f"NOT ({kind} = 'text' AND {column.compare} GLOB '{DATE} {TIME}'{zoned})"
    if pa.types.is_time(target):
        return f"NOT ({kind} = 'text' AND {column.compare} GLOB '{TIME}')"
    return f"{kind} <> 'text'"


@dataclass(frozen=True, slots=True)
class Kinds:
    """Which kinds of values a column without a declared type holds (SQLite's typeof)."""

    found: frozenset[str]

    def type(self) -> pa.DataType | None:
        """The type that takes all of them exactly; None when only text can."""
        kinds = self.found - {"null"}
        if not kinds:
            return pa.null()
        if kinds == {"integer"}:
            return pa.int64()
        if kinds <= {"integer", "real"}:
            return pa.float64()
        return pa.binary() if kinds == {"blob"} else None


def quote(name: str) -> str:
    """A name as SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
