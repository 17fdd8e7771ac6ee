"""Arrow types as text and back: the form kept in the ledger, the embedded catalog, events and JSON output.

`int64`, `decimal(18,4)`, `timestamp[us]`, `timestamp[us,UTC]`, `list<int32>`, `struct<a:string,b:int64>`, `map<string,int64>`.
"""

from __future__ import annotations

import json

import pyarrow as pa
from pyarrow import types as pt

_PLAIN: dict[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
    "float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(),
    "string": pa.string(), "binary": pa.binary(),
    "date": pa.date32(),
    "interval": pa.month_day_nano_interval(),
}  # fmt: skip
_NAMES = {t: n for n, t in _PLAIN.items()}
_NAMES |= {pa.large_string(): "string", pa.large_binary(): "binary", pa.date64(): "date"}
_NAMES |= {pa.string_view(): "string", pa.binary_view(): "binary"}


def type_to_text(t: pa.DataType) -> str:
    """The canonical text of a type. Encodings that hold the same values (large_, view, dictionary) read the same."""
    if t in _NAMES:
        return _NAMES[t]
    if pt.is_decimal(t):
        return f"decimal({t.precision},{t.scale})"
    if pt.is_timestamp(t):
        return f"timestamp[{t.unit}]" if t.tz is None else f"timestamp[{t.unit},{t.tz}]"
    if pt.is_time(t):
        return f"time[{t.unit}]"
    if pt.is_duration(t):
        return f"duration[{t.unit}]"
    if pt.is_fixed_size_binary(t):
        return f"binary[{t.byte_width}]"
    if pt.is_dictionary(t):
        return type_to_text(t.value_type)
    if pt.is_list(t) or pt.is_large_list(t) or pt.is_fixed_size_list(t) or pt.is_list_view(t):
        return f"list<{type_to_text(t.value_type)}>"
    if pt.is_map(t):
        return f"map<{type_to_text(t.key_type)},{type_to_text(t.item_type)}>"
    if pt.is_struct(t):
        inner = ",".join(f"{_quote(t.field(i).name)}:{type_to_text(t.field(i).type)}" for i in range(t.num_fields))
        return f"struct<{inner}>"
    if isinstance(t, pa.BaseExtensionType):
        return type_to_text(t.storage_type)
    raise ValueError(f"Cannot name Arrow type {t}: no canonical text. Cast it at the edge that reads it.")


def type_from_text(text: str) -> pa.DataType:
    """The inverse of `type_to_text`. ValueError names the place where the text stops making sense."""
    reader = _Reader(text)
    result = reader.type()
    if reader.at != len(text):
        raise reader.error("end of text")
    return result


def _quote(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def error(self, expected: str) -> ValueError:
        return ValueError(f"Cannot read type {self.text!r}: found {self.text[self.at :][:20]!r} -> {expected}.")

    def eat(self, token: str) -> None:
        if not self.text.startswith(token, self.at):
            raise self.error(repr(token))
        self.at += len(token)

    def until(self, stops: str) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in stops:
            self.at += 1
        return self.text[start : self.at]

    def number(self) -> int:
        digits = self.until(",)]")
        if not digits.isdigit():
            raise self.error("a number")
        return int(digits)

    def field_name(self) -> str:
        if not self.text.startswith('"', self.at):
            return self.until(":")
        name, end = json.JSONDecoder().raw_decode(self.text, self.at)
        self.at = end
        return str(name)

    def type(self) -> pa.DataType:
        word = self.until("([<,>)]:")
        if word == "decimal":
            self.eat("(")
            precision = self.number()
            self.eat(",")
            scale = self.number()
            self.eat(")")
            return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        if word in ("timestamp", "time", "duration"):
            self.eat("[")
            unit = self.until(",]")
            zone = None
            if word == "timestamp" and self.text.startswith(",", self.at):
                self.eat(",")
                zone = self.until("]")
            self.eat("]")
            if unit not in ("s", "ms", "us", "ns"):
                raise self.error("a unit s, ms, us or ns")
            if word == "timestamp":
                return pa.timestamp(unit, zone)
            if word == "duration":
                return pa.duration(unit)
            return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
        if word == "binary" and self.text.startswith("[", self.at):
            self.eat("[")
            width = self.number()
            self.eat("]")
            return pa.binary(width)
        if word == "list":
            self.eat("<")
            value = self.type()
            self.eat(">")
            return pa.list_(value)
        if word == "map":
            self.eat("<")
            key = self.type()
            self.eat(",")
            item = self.type()
            self.eat(">")
            return pa.map_(key, item)
        if word == "struct":
            return self.struct()
        if word not in _PLAIN:
            raise self.error(f"one of {', '.join(_PLAIN)}, decimal, timestamp, time, list, map, struct")
        return _PLAIN[word]

    def struct(self) -> pa.DataType:
        self.eat("<")
        fields: list[pa.Field] = []
        while not self.text.startswith(">", self.at):
            if fields:
                self.eat(",")
            name = self.field_name()
            self.eat(":")
            fields.append(pa.field(name, self.type()))
        self.eat(">")
        return pa.struct(fields)
