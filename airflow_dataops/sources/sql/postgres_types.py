"""PostgreSQL types → Arrow, in one table, and the SQL that keeps them exact on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from airflow_dataops.sources.sql.database import DECIMAL_DIGITS, UNCONSTRAINED_DECIMAL, SqlColumn

NATIVE: dict[str, tuple[pa.DataType, str]] = {
    "bool": (pa.bool_(), "boolean"),
    "int2": (pa.int16(), "int8"),
    "int4": (pa.int32(), "int8"),
    "int8": (pa.int64(), "int8"),
    "float4": (pa.float32(), "float8"),
    "float8": (pa.float64(), "float8"),
    "text": (pa.string(), "text"),
    "varchar": (pa.string(), "text"),
    "bpchar": (pa.string(), "bpchar"),  # with its padding: what the database would show
    "name": (pa.string(), "name"),
    "json": (pa.string(), "text"),
    "jsonb": (pa.string(), "jsonb"),
    "bytea": (pa.binary(), "bytea"),
    "date": (pa.date32(), "date"),
    "time": (pa.time64("us"), "time"),
    "timestamp": (pa.timestamp("us"), "timestamp"),
    "timestamptz": (pa.timestamp("us", "UTC"), "timestamptz"),
}
"""Types the driver hands over without loss: Arrow type, and the SQL type a bound value takes. All others but numbers of
declared digits are read as the database's own text: uuid, inet, interval, money, enums, ranges, bits, composites, …"""

ITEMS = {"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar"}
"""Item types of arrays that the driver reads as they are; others are cast to text[] by the database."""

TEXT_ITEMS = {"date", "timestamp", "timestamptz"}
"""Item types that are parsed back from text[], because an infinite one would end the whole read."""


@dataclass(frozen=True, slots=True)
class PgType:
    """One row of pg_type. `kind` is typtype (b, d domain, e enum, r range, c composite, …)."""

    oid: int
    name: str
    schema: str
    kind: str
    category: str
    item: int
    base: int
    base_modifier: int
    not_null: bool


def column_of(
    name: str,
    declared: str,
    bare: str,
    oid: int,
    modifier: int,
    types: dict[int, PgType],
    *,
    not_null: bool = False,
    comment: str = "",
    unencoded: bool = False,
) -> SqlColumn:
    """How a column of this type is read. `declared` is the full type as text, `bare` the same without its modifier."""
    quoted = f"q.{quote(name)}"
    kind = types[oid]
    while kind.kind == "d":  # a domain: the type below it, with its own digits
        not_null = not_null or kind.not_null
        if modifier == -1:
            modifier = kind.base_modifier
        kind = types[kind.base]
        bare = f"{quote(kind.schema)}.{quote(kind.name)}"
    column = SqlColumn(name, declared, pa.string(), quoted, quoted, nullable=not not_null, comment=comment, bind=bare)
    built_in = kind.schema == "pg_catalog"
    if built_in and kind.name == "numeric":
        return _numeric(column, modifier)
    if built_in and kind.name == "oid":
        return replace(column, type=pa.int64(), expression=f"{quoted}::int8", compare=f"{quoted}::int8", bind="int8")
    if built_in and kind.name in NATIVE:
        target, bind = NATIVE[kind.name]
        column = replace(column, type=target, bind=bind)
        return _as_bytes(column) if unencoded and pa.types.is_string(target) else column
    if kind.category == "A" and kind.item in types and kind.name.startswith("_"):
        return _array(column, types[kind.item], modifier)
    column = replace(column, expression=f"{quoted}::text")
    return _as_bytes(column) if unencoded else column


def _as_bytes(column: SqlColumn) -> SqlColumn:
    """A database in SQL_ASCII holds whatever bytes were put in; read as text, one wrong byte would end the whole read."""
    return replace(column, expression=f"convert_to({column.expression}::text, 'SQL_ASCII')", bytes_as_text=True)


def _numeric(column: SqlColumn, modifier: int) -> SqlColumn:
    target = decimal_type(modifier)
    if target is None:
        return replace(column, expression=f"{column.expression}::text", bind="numeric")
    return replace(column, type=target, bind="numeric")


def decimal_type(modifier: int) -> pa.DataType | None:
    """numeric(p, s) as an Arrow decimal; None when it has more digits than one holds. Since PostgreSQL 15 the scale may be
    negative, or larger than the precision."""
    if modifier < 4:
        return UNCONSTRAINED_DECIMAL
    precision = ((modifier - 4) >> 16) & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    if precision > DECIMAL_DIGITS:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _array(column: SqlColumn, item: PgType, modifier: int) -> SqlColumn:
    """One dimension as a list. PostgreSQL does not declare dimensions and the driver would flatten several into one, so
    those values are caught by a guard."""
    column = replace(column, guard=f"CASE WHEN array_ndims({column.expression}) > 1 THEN {column.expression}::text END")
    built_in = item.schema == "pg_catalog"
    if built_in and item.name in ITEMS:
        return replace(column, type=pa.list_(NATIVE[item.name][0]))
    inner = pa.string()
    if built_in and item.name in TEXT_ITEMS:
        inner = NATIVE[item.name][0]
    elif built_in and item.name == "numeric":
        inner = decimal_type(modifier) or pa.string()
    return replace(column, type=pa.list_(inner), expression=f"{column.expression}::text[]")


def quote(name: str) -> str:
    """A name as SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
