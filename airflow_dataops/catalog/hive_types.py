"""Arrow types ↔ Hive's type names, in one table.

| Arrow                            | Hive                     | read from Hive also                                     |
|----------------------------------|--------------------------|---------------------------------------------------------|
| bool                             | boolean                  |                                                         |
| int8, int16, int32, int64        | tinyint, smallint, int, bigint | integer                                           |
| float32, float64                 | float, double            | double precision                                        |
| decimal(p,s)                     | decimal(p,s)             | decimal (10,0), decimal(p), numeric                     |
| string                           | string                   | varchar(n), char(n)                                     |
| binary, of a fixed width too     | binary                   |                                                         |
| date                             | date                     |                                                         |
| timestamp of any unit, with or without UTC | timestamp      | timestamp with local time zone (microseconds, UTC)      |
| list, map, struct                | array<>, map<,>, struct<:> |                                                       |

Hive's `timestamp` is what all readers of such tables have in common (Spark knows no other): an instant is shown in UTC. That it
is one, and its unit, is what `hive_columns.py` keeps beside them. `timestamp` alone is read as naive microseconds.
"""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.types_text import type_to_text

_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint", pa.int16(): "smallint", pa.int32(): "int", pa.int64(): "bigint",
    pa.float32(): "float", pa.float64(): "double",
    pa.string(): "string", pa.binary(): "binary", pa.date32(): "date",
}  # fmt: skip
_TYPES = {name: t for t, name in _NAMES.items()} | {
    "integer": pa.int32(), "double precision": pa.float64(), "timestamp": pa.timestamp("us"),
    "timestamp with local time zone": pa.timestamp("us", "UTC"),
}  # fmt: skip
_WORD = re.compile(r"[a-z_0-9]+(?: (?:precision|with local time zone))?")


def hive_type(t: pa.DataType) -> str:
    """Hive's name of a storable type (`core/storable.py`). ValueError for a type that Hive has none for."""
    if t in _NAMES:
        return _NAMES[t]
    if pt.is_fixed_size_binary(t):
        return "binary"
    if pt.is_timestamp(t) and t.tz in (None, "UTC"):
        return "timestamp"
    if pt.is_decimal(t) and 0 <= t.scale <= t.precision <= 38:
        return f"decimal({t.precision},{t.scale})"
    if pt.is_list(t):
        return f"array<{hive_type(t.value_type)}>"
    if pt.is_map(t):
        return f"map<{hive_type(t.key_type)},{hive_type(t.item_type)}>"
    if pt.is_struct(t) and t.num_fields:
        fields = [t.field(i) for i in range(t.num_fields)]
        if all(re.fullmatch(r"[a-z_0-9]+", f.name) for f in fields):
            return f"struct<{','.join(f'{f.name}:{hive_type(f.type)}' for f in fields)}>"
    raise ValueError(f"Cannot name type {type_to_text(t)}: Hive has none for it -> a storable type.")


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type of a Hive type's name. ValueError for one that cannot be loaded into (union, interval, void)."""
    reader = _Reader(re.sub(r"\s*([<>(),:])\s*", r"\1", " ".join(text.lower().split())))
    found = reader.type()
    if reader.at != len(reader.text):
        raise reader.error()
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def error(self) -> ValueError:
        return ValueError(f"Cannot read Hive type {self.text[:200]!r}: {self.text[self.at :][:40]!r} -> a type that rows can have.")

    def eat(self, token: str) -> bool:
        found = self.text.startswith(token, self.at)
        self.at += len(token) if found else 0
        return found

    def expect(self, token: str) -> None:
        if not self.eat(token):
            raise self.error()

    def word(self) -> str:
        match = _WORD.match(self.text, self.at)
        if match is None:
            raise self.error()
        self.at = match.end()
        return match[0]

    def numbers(self) -> list[int]:
        """What stands in brackets: `(10,2)`; nothing without them."""
        match = re.compile(r"\((\d{1,5})(?:,(\d{1,5}))?\)").match(self.text, self.at)
        if match is None:
            return []
        self.at = match.end()
        return [int(digits) for digits in match.groups() if digits]

    def type(self) -> pa.DataType:
        start = self.at
        word = self.word()
        if word in _TYPES:
            return _TYPES[word]
        if word in ("varchar", "char") and len(self.numbers()) == 1:
            return pa.string()
        if word in ("decimal", "numeric"):
            given = self.numbers() or [10]
            return self.decimal(start, given[0], given[1] if len(given) > 1 else 0)
        if word == "array":
            self.expect("<")
            value = self.type()
            self.expect(">")
            return pa.list_(value)
        if word == "map":
            self.expect("<")
            key = self.type()
            self.expect(",")
            value = self.type()
            self.expect(">")
            return pa.map_(key, value)
        if word == "struct":
            return self.struct()
        self.at = start
        raise self.error()

    def decimal(self, start: int, precision: int, scale: int) -> pa.DataType:
        if not 0 <= scale <= precision <= 38 or precision < 1:
            self.at = start
            raise self.error()
        return pa.decimal128(precision, scale)

    def struct(self) -> pa.DataType:
        self.expect("<")
        fields: list[tuple[str, pa.DataType]] = []
        while not self.eat(">"):
            if fields:
                self.expect(",")
            end = self.text.find(":", self.at)
            if end <= self.at:
                raise self.error()
            name, self.at = self.text[self.at : end].strip("`"), end + 1
            fields.append((name, self.type()))
        return pa.struct(fields)
