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


ORDERED_AS_TEXT = {"uuid", "macaddr", "macaddr8", "bit", "varbit"}
"""Types read as text whose own order is that of their text. (An enum's, an interval's or an address's is not.)"""

BYTES_BY_CODE_POINT = ("UTF8", "LATIN1", "SQL_ASCII")
"""Encodings whose bytes sort as their code points do. (What is not UTF-8 in SQL_ASCII becomes a dead letter.)"""


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
    encoding: str = "UTF8",
    collate: str = "C",
) -> SqlColumn:
    """How a column of this type is read. `declared` is the full type as text, `bare` the same without its modifier. `collate`
    is the collation that sorts its text by bytes; none where its own does, so that its indexes are used."""
    quoted = f"q.{quote(name)}"
    kind = types[oid]
    while kind.kind == "d":  # a domain: the type below it, with its own digits; its NOT NULL does not keep NULL out of a column
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
    elif kind.category == "A" and kind.item in types and kind.name.startswith("_"):
        return _array(replace(column, unordered=f"{declared} is a list"), types[kind.item], modifier)
    else:
        column = replace(column, expression=f"{quoted}::text")
    if not pa.types.is_string(column.type):
        return column
    if kind.category == "S":
        column = _by_code_point(column, kind.name if built_in else "", encoding, collate)
    elif not built_in or kind.name not in ORDERED_AS_TEXT:
        column = replace(column, unordered=f"PostgreSQL orders {declared} in another way than its text")
    return _as_bytes(column) if encoding == "SQL_ASCII" else column


def _by_code_point(column: SqlColumn, kind: str, encoding: str, collate: str) -> SqlColumn:
    """Text compared as it is read: citext with its letters, char(n) with its padding."""
    text, bind = column.expression, column.bind
    if kind not in ("text", "varchar", "name"):
        bind = "text"
    if kind == "bpchar":  # a cast to text would cut the padding; the comparison of bpchar does not see it
        text, collate = (f"{text}::text" if encoding == "SQL_ASCII" else f"textin(bpcharout({text}))"), "C"
    if encoding not in BYTES_BY_CODE_POINT:
        return replace(column, compare=f"convert_to({text}::text, 'UTF8')", bind="bytea")
    return replace(column, compare=f'{text} COLLATE "{collate}"' if collate else text, bind=bind)


def _as_bytes(column: SqlColumn) -> SqlColumn:
    """A database in SQL_ASCII holds whatever bytes were put in; read as text, one wrong byte would end the whole read."""
    return replace(column, expression=f"convert_to({column.expression}::text, 'SQL_ASCII')", bytes_as_text=True)


def _numeric(column: SqlColumn, modifier: int) -> SqlColumn:
    target = decimal_type(modifier)
    if target is None:
        wide = f"{column.declared} is read as text, in which 10 comes before 9"
        return replace(column, expression=f"{column.expression}::text", unordered=wide)
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
    """One dimension as a list. PostgreSQL does not declare dimensions, nor where counting begins: the driver would flatten
    several into one, and ends the whole read at an array that does not begin at 1. A guard catches those values, and the
    driver never sees them."""
    value = column.expression
    odd = f"array_ndims({value}) > 1 OR array_lower({value}, 1) <> 1"
    column = replace(
        column, guard=f"CASE WHEN {odd} THEN {value}::text END", expression=f"(CASE WHEN {odd} THEN NULL ELSE {value} END)"
    )
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
