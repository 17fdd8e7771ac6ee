"""Which engines read an older Parquet file under a column's wider type, and which do not (docs/compaction.md tells what was tried).

A widened column is one type in the table, and several in its files. Where an engine fails on that, or would have to, the files
are to be written again. What was not tried with an engine counts as not readable: rewriting costs a little, a query that fails
costs more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.types_text import type_to_text

Reader = Literal["duckdb", "hive", "spark", "trino"]
READERS: frozenset[Reader] = frozenset(get_args(Reader))

LONG_DIGITS = 18
"""A decimal of more is no 64-bit number any more; Trino reads integers of a file only as one that is."""

Step = Literal[
    "small integer", "integer", "float", "integer to decimal", "integer to long decimal", "digits", "scale", "exact to text",
    "text", "unit", "date to timestamp", "other",
]  # fmt: skip

_FAIL: dict[Step, frozenset[Reader]] = {
    "small integer": frozenset(),  # up to 32 bits: one physical type
    "digits": frozenset(),
    "unit": frozenset(),
    "integer": frozenset({"spark"}),
    "float": frozenset({"spark"}),
    "scale": frozenset({"spark"}),
    "integer to decimal": frozenset({"hive", "spark"}),
    "integer to long decimal": frozenset({"hive", "spark", "trino"}),
    "exact to text": frozenset({"hive", "spark"}),
    "text": frozenset({"hive", "spark", "trino"}),
    "date to timestamp": frozenset({"hive", "spark", "trino"}),
    "other": READERS - {"duckdb"},
}


def parse_readers(text: str) -> frozenset[Reader]:
    """`trino, duckdb` → the readers. InventoryError for an unknown one."""
    names = {name for part in text.split(",") if (name := part.strip().lower())}
    unknown = sorted(names - READERS)
    if unknown or not names:
        raise InventoryError(
            f"Cannot use setting [dataops] readers: {unknown[0] if unknown else 'none'!r} -> some of {', '.join(sorted(READERS))}. "
            "They are the engines that must read every partition. Correct it."
        )
    return frozenset(reader for reader in READERS if reader in names)


def unreadable(written: Iterable[Column], shown: TableSchema, readers: frozenset[Reader] = READERS) -> dict[str, frozenset[Reader]]:
    """Column → which of the readers fail, when files written under these columns are read under the shown ones. A column that
    the files do not have is NULL to every reader."""
    found = {}
    for column in written:
        now = shown.get(column.name)
        fail = readers & fails(column.type, now.type) if now is not None else frozenset()
        if fail:
            found[column.name] = fail
    return found


def fails(written: pa.DataType, shown: pa.DataType) -> frozenset[Reader]:
    """The readers that do not read values of the one type under the other."""
    failing: frozenset[Reader] = frozenset()
    for step in steps(written, shown):
        failing |= _FAIL[step]
    return failing


def steps(written: pa.DataType, shown: pa.DataType) -> frozenset[Step]:
    """How the types differ; of nested types each part. Nothing where they are the same."""
    if written == shown or type_to_text(written) == type_to_text(shown):
        return frozenset()
    if pt.is_list(written) and pt.is_list(shown):
        return steps(written.value_type, shown.value_type)
    if pt.is_map(written) and pt.is_map(shown):
        return steps(written.key_type, shown.key_type) | steps(written.item_type, shown.item_type)
    if pt.is_struct(written) and pt.is_struct(shown):
        return _of_fields(written, shown)
    return frozenset({_step(written, shown)})


def _of_fields(written: pa.StructType, shown: pa.StructType) -> frozenset[Step]:
    now = {shown.field(i).name: shown.field(i).type for i in range(shown.num_fields)}
    found: frozenset[Step] = frozenset()
    for field in (written.field(i) for i in range(written.num_fields)):
        found |= steps(field.type, now[field.name]) if field.name in now else frozenset({"other"})
    return found


def _step(written: pa.DataType, shown: pa.DataType) -> Step:
    if pt.is_integer(written) and pt.is_integer(shown):
        return "small integer" if shown.bit_width <= 32 else "integer"
    if pt.is_floating(written) and pt.is_floating(shown):
        return "float"
    if pt.is_integer(written) and pt.is_decimal(shown):
        return "integer to decimal" if shown.precision <= LONG_DIGITS else "integer to long decimal"
    if pt.is_decimal(written) and pt.is_decimal(shown):
        return "digits" if written.scale == shown.scale else "scale"
    if pt.is_string(shown) and not pt.is_nested(written):
        return "exact to text" if pt.is_integer(written) or pt.is_decimal(written) else "text"
    if pt.is_timestamp(written) and pt.is_timestamp(shown) and written.tz == shown.tz:
        return "unit"
    if pt.is_date(written) and pt.is_timestamp(shown):
        return "date to timestamp"
    return "other"
