"""What Parquet and Avro share: files that bring their own schema, lifted to one schema for all files of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fit import Fitted, fit
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.row_json import rows_to_json
from airflow_dataops.formats.base import Rows, SchemaChanged, Survey
from airflow_dataops.formats.spelling import Spellings


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
    """One schema for all files: columns by name in order of appearance, types by the promotion table, and where it has none
    as text formats have it: a whole number and a float are a double, any other two scalars text. InventoryError names two
    files whose types have none in common."""
    types: dict[str, tuple[str, pa.DataType]] = {}
    for survey in surveys:
        for name, (path, t) in survey.columns.items():
            first, have = types.setdefault(name, (path, t))
            if have == t:
                continue
            joined = _joined(have, t)
            if joined is None:
                raise InventoryError(
                    f"Cannot read {first!r} and {path!r} as one table: column {name!r} is {have} and {t} -> "
                    "types that one column can hold. Put the files into tables of their own."
                )
            types[name] = first, joined
    return pa.schema([(name, t) for name, (_, t) in types.items()])


def _joined(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    promoted = promote(a, b)
    if promoted is not None:
        return promoted.type
    if all(pt.is_integer(t) or pt.is_floating(t) for t in (a, b)):
        return pa.float64()
    return None if any(pt.is_nested(t) or _is_bytes(t) for t in (a, b)) else pa.string()


def _is_bytes(t: pa.DataType) -> bool:
    return bool(pt.is_binary(t) or pt.is_fixed_size_binary(t))


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


def lifted(batch: pa.RecordBatch, schema: pa.Schema, path: str, first_place: int) -> Rows:
    """The batch under a schema that holds its columns; SchemaChanged when it does not. A value that the schema's type cannot
    hold exactly (a late year where another file brought nanoseconds) makes its row a dead letter."""
    names = Spellings(schema.names).of(batch.schema.names)
    unknown = set(names.values()) - set(schema.names)
    if unknown:
        raise SchemaChanged(f"{path}: new columns {sorted(unknown)}")
    have = dict(zip(names.values(), batch.columns, strict=True))
    arrays, unfit_in = [], {}
    for wanted in schema:
        column = have.get(wanted.name)
        if column is None:
            arrays.append(pa.nulls(len(batch), wanted.type))
            continue
        fitted = _under(column, wanted.type)
        arrays.append(fitted.values)
        if fitted.unfit is not None:
            unfit_in[wanted.name] = fitted.unfit
    records = pa.RecordBatch.from_arrays(arrays, schema=schema)
    places = pa.array(np.arange(first_place, first_place + len(batch)), pa.int64())
    if not unfit_in:
        return Rows(records, places)
    bad = np.logical_or.reduce(list(unfit_in.values()))
    form = LetterForm.of_row(batch.schema)
    dead = []
    for row, raw in zip(np.flatnonzero(bad).tolist(), rows_to_json(batch.filter(pa.array(bad))), strict=True):
        column = next(name for name, mask in unfit_in.items() if mask[row])
        message = f"the value of column {column!r} is no {schema.field(column).type}, the type that it has over all files"
        dead.append(DeadLetter("value_out_of_range", message, raw, path, first_place + row, column, form=form))
    keep = pa.array(~bad)
    return Rows(records.filter(keep), places.filter(keep), tuple(dead))


def _under(column: pa.Array, t: pa.DataType) -> Fitted:
    if column.type == t:
        return Fitted(column)
    if plain_type(column.type) == t:
        return Fitted(pc.cast(column.storage if isinstance(column, pa.ExtensionArray) else column, t))
    return fit(column, t)


class DeclaredSchema:
    """What formats have in common whose files carry their own schema."""

    def schema(self, surveys: Sequence[Survey], expected: Mapping[str, pa.DataType]) -> pa.Schema:
        return unified(surveys)

    def is_settled(self, surveys: Sequence[Survey], schema: pa.Schema, expected: Mapping[str, pa.DataType]) -> bool:
        return True  # the files' own schema is no guess
