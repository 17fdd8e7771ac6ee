"""MySQL and MariaDB types → Arrow, in one table, and the SQL that keeps them exact on the way.

The driver reads everything as the server's text, so that nothing is converted twice.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from airflow_dataops.sources.sql.database import DECIMAL_DIGITS, SqlColumn

UNSIGNED_BIGINT = pa.decimal128(20, 0)

INTEGERS: dict[str, tuple[pa.DataType, pa.DataType]] = {
    "tinyint": (pa.int8(), pa.int16()),  # also tinyint(1): 2 is a value too, so it is not made a bool
    "smallint": (pa.int16(), pa.int32()),
    "mediumint": (pa.int32(), pa.int32()),
    "int": (pa.int32(), pa.int64()),
    "integer": (pa.int32(), pa.int64()),
    "bigint": (pa.int64(), UNSIGNED_BIGINT),
    "year": (pa.int16(), pa.int16()),
}
"""Signed and unsigned. The lake has no unsigned types: the next wider signed one takes them."""

TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "uuid")
"""Text that can be a cursor. (MariaDB sorts its uuids by the moment in them; their text has the order of everywhere else.)"""

BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")

BY_CODE_POINT = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")
"""Collations of MariaDB and MySQL that compare as Python does. (All other `_bin` ones take trailing blanks for nothing.)"""

OTHERS: dict[str, pa.DataType] = {
    "double": pa.float64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", "UTC"),  # stored in UTC, and the session's zone is UTC
    "binary": pa.binary(),
    "varbinary": pa.binary(),
    "tinyblob": pa.binary(),
    "blob": pa.binary(),
    "mediumblob": pa.binary(),
    "longblob": pa.binary(),
    "vector": pa.binary(),
    # The server's own form of a geometry (SRID, then WKB): functions that write WKB would lose the SRID.
    "geometry": pa.binary(),
    "point": pa.binary(),
    "linestring": pa.binary(),
    "polygon": pa.binary(),
    "multipoint": pa.binary(),
    "multilinestring": pa.binary(),
    "multipolygon": pa.binary(),
    "geometrycollection": pa.binary(),
    "geomcollection": pa.binary(),
}
"""All types that are in no table here are text: char, varchar, text, enum, set, json, uuid, inet6, and `time`, which is a
span of up to 838 hours and has no Arrow type that readers of a lake know."""


def column_of(
    name: str,
    kind: str,
    declared: str,
    precision: int | None,
    scale: int | None,
    *,
    collation: str = "",
    nullable: bool = True,
    comment: str = "",
) -> SqlColumn:
    """How a column is read: `kind` is information_schema's DATA_TYPE, `declared` its COLUMN_TYPE, both in lower case. A query's
    columns do not tell their `collation`."""
    quoted = f"q.{quote(name)}"
    column = SqlColumn(name, declared, pa.string(), quoted, quoted, nullable=nullable, comment=comment)
    if kind in INTEGERS:
        return replace(column, type=INTEGERS[kind]["unsigned" in declared or "zerofill" in declared])
    if kind == "bit":
        # Arrives as bytes; as a number it is what people mean. 64 bits do not fit a signed integer.
        width = precision or 1
        target = pa.bool_() if width == 1 else pa.int64() if width < 64 else UNSIGNED_BIGINT
        return replace(column, type=target, expression=f"({quoted} + 0)")
    if kind == "float":
        # The server writes FLOAT with six digits; as a DOUBLE it has all of them.
        return replace(column, type=pa.float32(), expression=f"({quoted} + 0e0)")
    if kind in ("decimal", "numeric"):
        return _decimal(column, precision or 10, scale or 0)
    if kind == "timestamp":
        # Under sql_mode ORACLE concat takes NULL for an empty text.
        return replace(column, type=OTHERS[kind], expression=f"IF({quoted} IS NULL, NULL, concat({quoted}, 'Z'))")
    if kind in TEXTS:
        # Text against bytes is compared as bytes, and those of a bound value are UTF-8.
        return column if collation in BY_CODE_POINT else replace(column, compare=f"CAST(CONVERT({quoted} USING utf8mb4) AS BINARY)")
    target = OTHERS.get(kind, pa.string())
    ordered = kind in BYTES or not (pa.types.is_string(target) or pa.types.is_binary(target))
    return replace(column, type=target, unordered="" if ordered else f"the server orders {kind} in a way of its own")


def _decimal(column: SqlColumn, precision: int, scale: int) -> SqlColumn:
    if precision > DECIMAL_DIGITS:
        return column
    return replace(column, type=pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale))


def quote(name: str) -> str:
    """A name as SQL, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"
