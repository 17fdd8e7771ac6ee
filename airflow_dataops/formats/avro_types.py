"""Avro schema → Arrow types, in one table, and how raw Avro values become what Arrow's builders take.

int, long, float, double, boolean, string, bytes → int32, int64, float32, float64, bool, string, binary
fixed(n) → binary(n);  enum → string;  array → list;  map → map<string, …>;  record → struct
decimal(p,s) → decimal(p,s);  date → date;  time-millis/micros → time;  uuid → string (fixed: binary(16))
timestamp-millis/micros/nanos → timestamp, UTC;  local-timestamp-… → naive timestamp
[null, T] → T;  [T, U, …] → struct<member0: T, member1: U, …> (as Spark does: nothing is lost)
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from airflow_dataops.core.errors import InventoryError

Convert = Callable[[Any], Any]

_PLAIN = {
    "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "bytes": pa.binary(), "string": pa.string(),
}  # fmt: skip
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}  # fmt: skip
_PYTHON = {
    "boolean": "bool", "int": "int", "long": "int", "float": "float", "double": "float", "string": "str",
    "bytes": "bytes", "array": "list", "map": "dict",
}  # fmt: skip
_EXACT = Context(prec=80)


class AvroTypes:
    """Types of one file's schema. `named`: every named schema, by full name, as fastavro gives them."""

    def __init__(self, named: dict[str, Any], path: str) -> None:
        self._named, self._path = named, path

    def columns(self, schema: Any) -> list[tuple[str, pa.DataType, Convert | None]]:
        """(name, type, conversion or None) of each field of the top record; InventoryError when it is no record."""
        if not isinstance(schema, dict) or schema.get("type") not in ("record", "error"):
            raise InventoryError(
                f"Cannot read file {self._path!r}: Avro of single values -> of records. There are no columns in it."
            )
        return [(f["name"], *self._type(f["type"], (schema["name"],))) for f in schema["fields"]]

    def _type(self, schema: Any, above: tuple[str, ...]) -> tuple[pa.DataType, Convert | None]:
        if isinstance(schema, list):
            return self._union(schema, above)
        if isinstance(schema, str):
            if schema in _PLAIN:
                return _PLAIN[schema], None
            if schema in above:
                raise InventoryError(
                    f"Cannot read file {self._path!r}: Avro record {schema!r} holds itself -> columns of fixed depth. "
                    "A table has none for this. Write it in another form."
                )
            return self._type(self._named[schema], above)
        kind, logical = schema["type"], schema.get("logicalType")
        if isinstance(kind, dict | list):
            return self._type(kind, above)
        if logical == "decimal" and kind in ("bytes", "fixed"):
            return self._decimal(schema)
        if (kind, logical) in _LOGICAL:
            return _LOGICAL[kind, logical], None
        match kind:
            case "fixed":
                return pa.binary(schema["size"]), None
            case "enum":
                return pa.string(), None
            case "array":
                inner, convert = self._type(schema["items"], above)
                return pa.list_(inner), None if convert is None else _each(convert)
            case "map":
                inner, convert = self._type(schema["values"], above)
                return pa.map_(pa.string(), inner), _pairs(convert)
            case "record" | "error":
                return self._record(schema, above)
        return self._type(kind, above)

    def _record(self, schema: dict[str, Any], above: tuple[str, ...]) -> tuple[pa.DataType, Convert | None]:
        if schema["name"] in above:
            return self._type(schema["name"], above)
        fields = [(f["name"], *self._type(f["type"], (*above, schema["name"]))) for f in schema["fields"]]
        converts = {name: convert for name, _, convert in fields if convert is not None}
        t = pa.struct([(name, inner) for name, inner, _ in fields])
        return t, _fields(converts) if converts else None

    def _union(self, branches: list[Any], above: tuple[str, ...]) -> tuple[pa.DataType, Convert | None]:
        real = [b for b in branches if b != "null"]
        if not real:
            return pa.null(), None
        if len(real) == 1:
            t, convert = self._type(real[0], above)
            return t, None if convert is None else _unless_null(convert)
        typed = [self._type(b, above) for b in real]
        t = pa.struct([(f"member{n}", inner) for n, (inner, _) in enumerate(typed)])
        names = [_branch_name(b) for b in real]
        return t, _member(names, [convert for _, convert in typed])

    def _decimal(self, schema: dict[str, Any]) -> tuple[pa.DataType, Convert | None]:
        precision, scale = int(schema["precision"]), int(schema.get("scale", 0))
        t = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)

        def convert(raw: bytes) -> Decimal:
            return Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale, _EXACT)

        return t, convert


def without_logical_types(schema: Any) -> Any:
    """The same schema for reading raw values: years beyond Python's calendar and nanoseconds stay what they are."""
    if isinstance(schema, list):
        return [without_logical_types(s) for s in schema]
    if isinstance(schema, dict):
        return {
            key: without_logical_types(value) if key in ("type", "items", "values", "fields") else value
            for key, value in schema.items()
            if key not in ("logicalType", "__fastavro_parsed__", "__named_schemas")
        }
    return schema


def _branch_name(branch: Any) -> str:
    if isinstance(branch, str):
        return branch
    name = branch.get("name") or branch["type"]
    return name if isinstance(name, str) else _branch_name(name)


def _unless_null(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _each(convert: Convert) -> Convert:
    return lambda values: [convert(v) for v in values]


def _pairs(convert: Convert | None) -> Convert:
    if convert is None:
        return lambda mapping: list(mapping.items())
    return lambda mapping: [(k, convert(v)) for k, v in mapping.items()]


def _fields(converts: dict[str, Convert]) -> Convert:
    return lambda record: {**record, **{name: convert(record[name]) for name, convert in converts.items()}}


def _member(names: list[str], converts: list[Convert | None]) -> Convert:
    """A value of a real union: fastavro gives named branches as (name, value), the others as plain Python values. Of
    two branches with the same Python type the wider takes all."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        kind = _PYTHON.get(name, name)
        if kind not in places or name in ("long", "double"):
            places[kind] = place

    def convert(value: Any) -> Any:
        if value is None:
            return None
        kind, inner = value if isinstance(value, tuple) else (type(value).__name__, value)
        place = places[kind]
        change = converts[place]
        return {f"member{place}": inner if change is None else change(inner)}

    return convert
