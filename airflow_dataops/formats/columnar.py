"""What Parquet and Avro share: files that bring their own schema, lifted to one schema for all files of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.promotion import promote
from airflow_dataops.formats.base import SchemaChanged, Survey


def columns_of(path: str, schema: pa.Schema) -> dict[str, tuple[str, pa.DataType]]:
    """Name → (path, type) of a file's columns: the evidence of formats that have a schema of their own."""
    columns: dict[str, tuple[str, pa.DataType]] = {}
    for found in schema:
        if found.name in columns:
            raise InventoryError(
                f"Cannot read file {path!r}: two columns are called {found.name!r} -> names that differ. Correct the writer."
            )
        columns[found.name] = path, plain_type(found.type)
    return columns


def unified(surveys: Sequence[Survey]) -> pa.Schema:
    """One schema for all files: columns by name in order of appearance, types by the promotion table. InventoryError
    names two files whose types have none in common."""
    types: dict[str, tuple[str, pa.DataType]] = {}
    for survey in surveys:
        for name, (path, t) in survey.columns.items():
            first, have = types.setdefault(name, (path, t))
            if have == t:
                continue
            joined = promote(have, t)
            if joined is None:
                raise InventoryError(
                    f"Cannot read {first!r} and {path!r} as one table: column {name!r} is {have} and {t} -> "
                    "types that one column can hold. Put the files into tables of their own."
                )
            types[name] = first, joined.type
    return pa.schema([(name, t) for name, (_, t) in types.items()])


def plain_type(t: pa.DataType) -> pa.DataType:
    """The same values without an encoding of their own (dictionary, view, large, extension), at any depth."""
    if isinstance(t, pa.ExtensionType):
        return plain_type(t.storage_type)
    if pt.is_dictionary(t):
        return plain_type(t.value_type)
    if pt.is_large_string(t) or pt.is_string_view(t):
        return pa.string()
    if pt.is_large_binary(t) or pt.is_binary_view(t):
        return pa.binary()
    if pt.is_list(t) or pt.is_large_list(t) or pt.is_fixed_size_list(t):
        return pa.list_(plain_type(t.value_type))
    if pt.is_struct(t):
        return pa.struct([(f.name, plain_type(f.type)) for f in t])
    if pt.is_map(t):
        return pa.map_(plain_type(t.key_type), plain_type(t.item_type))
    return t


def lifted(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    """The batch under a schema that holds its columns and types; SchemaChanged when it does not."""
    have = dict(zip(batch.schema.names, batch.columns, strict=True))
    unknown = set(have) - set(schema.names)
    if unknown:
        raise SchemaChanged(f"{path}: new columns {sorted(unknown)}")
    arrays = []
    for wanted in schema:
        column = have.get(wanted.name)
        if column is None:
            arrays.append(pa.nulls(len(batch), wanted.type))
        elif column.type == wanted.type:
            arrays.append(column)
        else:
            if isinstance(column, pa.ExtensionArray):
                column = column.storage
            try:
                arrays.append(pc.cast(column, wanted.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise SchemaChanged(f"{path}: column {wanted.name}: {column.type} -> {wanted.type}") from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class DeclaredSchema:
    """What formats have in common whose files carry their own schema."""

    def schema(self, surveys: Sequence[Survey], expected: Mapping[str, pa.DataType]) -> pa.Schema:
        return unified(surveys)

    def is_settled(self, surveys: Sequence[Survey], schema: pa.Schema, expected: Mapping[str, pa.DataType]) -> bool:
        return True  # the files' own schema is no guess
