"""The promotion table: which type holds the values of two, so that a table can take both (DESIGN §7).

    int8 → int16 → int32 → int64 → decimal(19,0);  unsigned → the next signed;  float32 → float64
    decimal(p,s) ∨ decimal(q,r) = max of integer digits and max of scale, at most 38 digits
    timestamps of one kind → the finer unit;  date → timestamp only by contract;  untyped → anything
    struct: fields matched by name, new ones last;  list, map: their elements
    anything scalar but binary → string only by contract (`to_string: widen`)

Everything else is incompatible: a number never becomes a float (digits), a naive timestamp never gets a zone (a guess).
Both types are taken as stored (`storable`): that makes `promote` a join, hence commutative and associative where it is
defined, up to the order of struct fields. Nanoseconds reach from 1677 to 2262 only; a value outside that meets a
nanosecond column is dead-lettered by `conform`, never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.storable import MAX_DIGITS, storable
from airflow_dataops.core.types_text import type_to_text

_INT_DIGITS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}
_UNITS = ("s", "ms", "us", "ns")
DEFAULT_CONTRACT = ContractSpec()
LOOSENED = ContractSpec(to_string="widen", date_to_timestamp=True)
"""Whatever a contract can allow: a widening by it is one that somebody may have wanted."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What the column becomes. `same`: nothing changes; `widen`: the column takes `type`; `narrower`: the incoming
    values fit into the column as it is, no DDL."""

    type: pa.DataType
    how: Literal["same", "widen", "narrower"]


def promote(have: pa.DataType, incoming: pa.DataType, contract: ContractSpec = DEFAULT_CONTRACT) -> Promotion | None:
    """The column's type after values of `incoming` arrive at one of type `have`; None when they are incompatible."""
    if have == incoming or type_to_text(have) == type_to_text(incoming):
        return Promotion(have, "same")
    mine, theirs = storable(have), storable(incoming)
    joined = _join(mine, theirs, contract)
    if joined is None:
        return None
    if joined != have:
        return Promotion(joined, "widen")
    return Promotion(have, "same" if _unordered(mine) == _unordered(theirs) else "narrower")


def is_widening(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether every value of the old type is one of the new type (or both are the same), under the loosest contract."""
    promotion = promote(old, new, LOOSENED)
    return promotion is not None and type_to_text(promotion.type) == type_to_text(new)


def _join(a: pa.DataType, b: pa.DataType, contract: ContractSpec) -> pa.DataType | None:
    if a == b or pt.is_null(b):
        return a
    if pt.is_null(a):
        return b
    if pt.is_nested(a) or pt.is_nested(b):
        return _join_nested(a, b, contract)
    joined = _join_scalars(a, b, contract)
    if joined is None and contract.to_string == "widen" and not (pt.is_binary(a) or pt.is_binary(b)):
        return pa.string()
    return joined


def _join_scalars(a: pa.DataType, b: pa.DataType, contract: ContractSpec) -> pa.DataType | None:
    if pt.is_integer(a) and pt.is_integer(b):
        return max(a, b, key=_INT_DIGITS.__getitem__)
    if pt.is_floating(a) and pt.is_floating(b):
        return pa.float64()
    if _is_exact(a) and _is_exact(b):
        (p, s), (q, r) = _digits(a), _digits(b)
        whole, scale = max(p - s, q - r), max(s, r)
        return pa.decimal128(whole + scale, scale) if whole + scale <= MAX_DIGITS else None
    if pt.is_timestamp(a) and pt.is_timestamp(b):
        return max(a, b, key=lambda t: _UNITS.index(t.unit)) if a.tz == b.tz else None
    if contract.date_to_timestamp and {a, b} & {pa.date32()}:
        other = b if pt.is_date(a) else a
        return other if pt.is_timestamp(other) and other.tz is None else None
    return None


def _join_nested(a: pa.DataType, b: pa.DataType, contract: ContractSpec) -> pa.DataType | None:
    if pt.is_list(a) and pt.is_list(b):
        item = _join(a.value_type, b.value_type, contract)
        return None if item is None else pa.list_(item)
    if pt.is_map(a) and pt.is_map(b):
        key, item = _join(a.key_type, b.key_type, contract), _join(a.item_type, b.item_type, contract)
        return None if key is None or item is None else pa.map_(key, item)
    if pt.is_struct(a) and pt.is_struct(b):
        fields = {a.field(i).name: a.field(i).type for i in range(a.num_fields)}
        for i in range(b.num_fields):
            name, theirs = b.field(i).name, b.field(i).type
            joined = _join(fields[name], theirs, contract) if name in fields else theirs
            if joined is None:
                return None
            fields[name] = joined
        return pa.struct(list(fields.items()))
    return None


def _is_exact(t: pa.DataType) -> bool:
    return bool(pt.is_integer(t) or pt.is_decimal(t))


def _digits(t: pa.DataType) -> tuple[int, int]:
    return (t.precision, t.scale) if pt.is_decimal(t) else (_INT_DIGITS[t], 0)


def _unordered(t: pa.DataType) -> pa.DataType:
    """The same type with struct fields in order of name: reordering is nothing."""
    if pt.is_struct(t):
        fields = sorted(((t.field(i).name, t.field(i).type) for i in range(t.num_fields)), key=lambda f: f[0])
        return pa.struct([(name, _unordered(inner)) for name, inner in fields])
    if pt.is_list(t):
        return pa.list_(_unordered(t.value_type))
    if pt.is_map(t):
        return pa.map_(_unordered(t.key_type), _unordered(t.item_type))
    return t
