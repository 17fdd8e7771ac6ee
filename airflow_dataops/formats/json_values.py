"""JSON values: parsed without loss, surveyed, typed, and fitted to a type.

Types (first load): true/false → bool; numbers as in `text_types` (integers, doubles where nothing is lost, decimals
otherwise); strings stay texts, whatever they look like; arrays → list, objects → struct. A field of mixed kinds becomes
text: strings as they are, everything else as JSON text. So do arrays and objects that never held anything, because a
list or struct needs to know of what, and those nested too deep. `null` and an absent field are both NULL. With an
expected type, `text_types` says when the type is widened and when a value is foreign to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.formats.spelling import Spellings
from airflow_dataops.formats.text_types import (
    BOOL,
    FIXED,
    FLOAT,
    INTEGER,
    TEXT,
    Evidence,
    inferred_type,
    is_kept,
    joined_type,
    see_one,
)
from airflow_dataops.formats.text_values import survives_double

_MAX_DEPTH = 32
"""Arrays and objects inside so many others are text: Parquet's readers give up at a hundred levels of their own."""


class Number(Decimal):
    """A number with a fraction or exponent, exactly; `text` as it was written."""

    text: str

    def __new__(cls, text: str) -> Number:
        made = super().__new__(cls, text)
        made.text = text
        return made


class BadValue:
    """Stands for a record that is JSON in form only: `NaN`, or a key written twice, of which one would be lost."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


class Decoder:
    """Exact and strict JSON. One per reader: it keeps what it noticed of the value it is decoding."""

    def __init__(self) -> None:
        self._problem = ""
        self._json = json.JSONDecoder(parse_float=Number, parse_constant=self._constant, object_pairs_hook=self._object)

    def decode(self, text: str, at: int = 0) -> tuple[Any, int]:
        """(value or BadValue, index behind it). ValueError or RecursionError for what is no JSON."""
        self._problem = ""
        value, end = self._json.raw_decode(text, at)
        return (BadValue(self._problem) if self._problem else value), end

    def _constant(self, word: str) -> Any:
        self._problem = f"{word} is no JSON number"

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self._problem = "a key is written twice in one object"
        return made


def text_of(value: Any) -> str:
    """A value as text: a string as it is, anything else as compact JSON with its numbers as written."""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@dataclass(slots=True)
class Node:
    """Evidence of one place in the records, inside `depth` others: scalars, arrays with their elements, objects with their
    fields."""

    depth: int = 0
    scalars: Evidence = field(default_factory=Evidence)
    lists: int = 0
    objects: int = 0
    elements: Node | None = None
    fields: dict[str, Node] = field(default_factory=dict)
    names: Spellings = field(default_factory=Spellings)

    def see(self, value: Any) -> None:
        """Adds one value; None says nothing."""
        if value is None:
            return
        if isinstance(value, bool):
            self.scalars.counts[BOOL] += 1
        elif isinstance(value, str) or (self.depth == _MAX_DEPTH and isinstance(value, list | dict)):
            self.scalars.counts[TEXT] += 1
        elif isinstance(value, list):
            self.lists += 1
            for item in value:
                self.elements = self.elements or Node(self.depth + 1)
                self.elements.see(item)
        elif isinstance(value, dict):
            self.objects += 1
            self.see_fields(value)
        else:
            see_one(value.text if isinstance(value, Number) else str(value), 1, self.scalars)

    def see_fields(self, value: Mapping[str, Any]) -> None:
        for name, item in self.names.under(value).items():
            self._field(name).see(item)

    def _field(self, name: str) -> Node:
        if name not in self.fields:
            self.fields[name] = Node(self.depth + 1)
            self.names.add(name)
        return self.fields[name]

    def add(self, other: Node) -> None:
        self.scalars.add(other.scalars)
        self.lists, self.objects = self.lists + other.lists, self.objects + other.objects
        if other.elements is not None:
            self.elements = self.elements or Node()
            self.elements.add(other.elements)
        for name, node in self.names.under(other.fields).items():
            self._field(name).add(node)

    @property
    def is_guess(self) -> bool:
        """Whether it rests, here or anywhere inside, on arrays or objects that held nothing."""
        if self.total == self.lists:
            return self.lists > 0 and (self.elements is None or not self.elements.total or self.elements.is_guess)
        if self.total == self.objects:
            inner = [node for node in self.fields.values() if node.total]
            return not inner or any(node.is_guess for node in inner)
        return False

    @property
    def total(self) -> int:
        return sum(self.scalars.counts.values()) + self.lists + self.objects


def firm_json_type(expected: pa.DataType | None) -> pa.DataType | None:
    """The expected type as far as JSON can have it; None when the values alone decide."""
    if expected is None or pt.is_null(expected):
        return None
    if pt.is_string(expected) or pt.is_large_string(expected):
        return pa.string()
    if pt.is_list(expected):
        inner = firm_json_type(expected.value_type)
        return None if inner is None else pa.list_(inner)
    if pt.is_struct(expected):
        fields = [(f.name, firm_json_type(f.type)) for f in expected]
        return None if any(t is None for _, t in fields) else pa.struct(fields)
    if pt.is_float32(expected):
        return pa.float64()
    scalar = pt.is_integer(expected) or pt.is_float64(expected) or pt.is_decimal128(expected) or pt.is_boolean(expected)
    return expected if scalar else None


def resolve_json(node: Node, expected: pa.DataType | None) -> pa.DataType:
    """The type of a place; `expected` is a `firm_json_type`."""
    if expected is not None:
        joined, foreign = _joined(node, expected)
        # A part of another family makes the whole another type, so that foreign records cannot be told by it.
        if joined is not None and foreign * 2 <= node.total and (not foreign or is_kept_json(expected, joined)):
            return joined
    return _inferred(node)


def _inner(node: Node | None, t: pa.DataType) -> pa.DataType:
    """The type of a place inside an array or object. Here foreign values are not counted against the others: one is
    enough for another type, because a part of a record is never left out."""
    if node is None:
        return t
    joined, foreign = _joined(node, t)
    return joined if joined is not None and not foreign else _inferred(node)


def is_kept_json(expected: pa.DataType | None, t: pa.DataType) -> bool:
    """`text_types.is_kept`, at every depth."""
    if expected is not None and pt.is_list(expected) and pt.is_list(t):
        return is_kept_json(expected.value_type, t.value_type)
    if expected is not None and pt.is_struct(expected) and pt.is_struct(t):
        made = Spellings(f.name for f in expected).under({f.name: f.type for f in t})
        return all(f.name in made and is_kept_json(f.type, made[f.name]) for f in expected)
    return is_kept(expected, t)


def _joined(node: Node, t: pa.DataType) -> tuple[pa.DataType | None, int]:
    if pt.is_string(t):
        return t, 0
    if pt.is_list(t):
        inner = _inner(node.elements, t.value_type)
        return None if pt.is_null(inner) else pa.list_(inner), node.total - node.lists
    if pt.is_struct(t):
        known = {f.name: f.type for f in t}
        names = Spellings(known)
        fields, written = names.under(node.fields), {name: own for own, name in names.of(node.fields).items()}
        types = {name: _inner(fields.get(name), have) for name, have in known.items()}
        types |= {name: _inferred(child) for name, child in fields.items() if name not in known}
        # The lake writes its own names; here a field is called as the source calls it.
        typed = [(written.get(name, name), made) for name, made in types.items() if not pt.is_null(made)]
        return pa.struct(typed), node.total - node.objects
    counts = node.scalars.counts
    if pt.is_boolean(t):
        return t, node.total - counts[BOOL]
    numbers = counts[INTEGER] + counts[FIXED] + counts[FLOAT]
    foreign = node.total - numbers
    if pt.is_floating(t):
        return t, foreign + node.scalars.inexact
    if not numbers or _takes(node.scalars, t):
        return t, foreign
    return joined_type(node.scalars, t)[0], foreign


def _takes(seen: Evidence, t: pa.DataType) -> bool:
    """Whether all the numbers fit."""
    if pt.is_integer(t):
        bits = t.bit_width - (not pt.is_unsigned_integer(t))
        low = 0 if pt.is_unsigned_integer(t) else -(2**bits)
        return not seen.fractions and low <= seen.low and seen.high < 2**bits
    return seen.digits <= t.precision - t.scale and seen.scale <= t.scale


def _inferred(node: Node) -> pa.DataType:
    scalars = sum(node.scalars.counts.values())
    if node.total == scalars:
        return inferred_type(node.scalars)
    if node.total == node.lists:
        inner = _inferred(node.elements) if node.elements is not None else pa.null()
        return pa.string() if pt.is_null(inner) else pa.list_(inner)
    if node.total == node.objects:
        fields = [(name, _inferred(child)) for name, child in node.fields.items()]
        known = [(name, t) for name, t in fields if not pt.is_null(t)]
        return pa.struct(known) if known else pa.string()
    return pa.string()


class Misfit(Exception):
    """A value that a type cannot take. `foreign`: it is of another family; else a wider type would take it."""

    def __init__(self, foreign: bool) -> None:
        super().__init__("value does not fit")
        self.foreign = foreign


Fit = Callable[[Any], Any]
"""A value as Arrow's builder takes it for the type; raises Misfit. Never called with None."""


def fit_to(t: pa.DataType, expected: pa.DataType | None) -> Fit:
    """How values are fitted to a type that `resolve_json` gave. Where the table has an integer, `5.0` is 5; where only the
    values decide, it is a fraction, wherever it stands."""
    if pt.is_null(t):
        return _refuse
    if pt.is_string(t):
        return text_of
    if pt.is_boolean(t):
        return lambda value: value if isinstance(value, bool) else _foreign()
    if pt.is_list(t):
        inner = _inside(fit_to(t.value_type, expected.value_type if expected is not None else None))
        return lambda value: [None if v is None else inner(v) for v in value] if isinstance(value, list) else _foreign()
    if pt.is_struct(t):
        return _fit_struct(t, expected)
    if pt.is_integer(t):
        return _fit_integer(t, as_written=t != expected)
    if pt.is_decimal(t):
        return _fit_decimal(t)
    return _fit_double


def _inside(fit: Fit) -> Fit:
    """A part of a record that does not fit asks for another type (see `_inner`)."""

    def inner(value: Any) -> Any:
        try:
            return fit(value)
        except Misfit as misfit:
            if misfit.foreign:
                raise Misfit(foreign=False) from None
            raise

    return inner


def _foreign() -> Any:
    raise Misfit(foreign=True)


def _refuse(value: Any) -> Any:
    raise Misfit(foreign=False)


def _fit_struct(t: pa.StructType, expected: pa.DataType | None) -> Fit:
    names = Spellings(f.name for f in t)
    had = names.under({f.name: f.type for f in expected or ()})
    fits = {f.name: _inside(fit_to(f.type, had.get(f.name))) for f in t}

    def fit(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Misfit(foreign=True)
        value = names.under(value)
        if any(v is not None and name not in fits for name, v in value.items()):
            raise Misfit(foreign=False)
        return {name: fits[name](v) for name, v in value.items() if v is not None}

    return fit


def _fit_integer(t: pa.DataType, as_written: bool) -> Fit:
    bits = t.bit_width - (not pt.is_unsigned_integer(t))
    low, high = (0 if pt.is_unsigned_integer(t) else -(2**bits)), 2**bits - 1

    def fit(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | Number):
            raise Misfit(foreign=True)
        if low <= value <= high and value == int(value) and not (as_written and isinstance(value, Number)):
            return int(value)
        raise Misfit(foreign=_is_foreign(value, t))

    return fit


def _fit_decimal(t: pa.DataType) -> Fit:
    whole, scale = t.precision - t.scale, t.scale

    def fit(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | Number):
            raise Misfit(foreign=True)
        number = Decimal(value)
        _, digits, exponent = number.as_tuple()
        if len(digits) + int(exponent) <= whole and -int(exponent) <= scale:
            return number
        raise Misfit(foreign=_is_foreign(value, t))

    return fit


def _fit_double(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | Number):
        raise Misfit(foreign=True)
    if not survives_double(value.text if isinstance(value, Number) else str(value)):
        raise Misfit(foreign=True)
    return float(value)


def _is_foreign(value: Any, t: pa.DataType) -> bool:
    """Whether not even the widest type of this family takes the number."""
    seen = Evidence()
    see_one(value.text if isinstance(value, Number) else str(value), 1, seen)
    joined, foreign = joined_type(seen, t)
    return joined is not None and (foreign > 0 or joined == t)
