"""Which partition a row belongs to: partition columns with their types, and batches split by partition.

| from            | transform | type   | value                                                            |
|-----------------|-----------|--------|------------------------------------------------------------------|
| period_start    | identity  | string | the period's key: `2024-05-01`, or `2024-05-01T13`               |
| column          | identity  | that of the column | the value as `values_of` spells it                   |
| either          | year      | int32  | `2024`                                                           |
| either          | month     | string | `2024-05`                                                        |
| either          | day       | date   | `2024-05-01`                                                     |
| either          | hour      | string | `2024-05-01T13`                                                  |

Instants (timestamps with a zone) are cut in UTC, naive timestamps as they stand, a period in its own zone. The source
column stays among the data: Hive forbids one name in both places, and the row gives the partition column its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.exact_text import exact_text, trim_fraction
from airflow_dataops.core.naming import is_legal, sanitise
from airflow_dataops.core.partition_name import parse_partition_name, partition_name
from airflow_dataops.core.period import Period
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import PartitionSpec
from airflow_dataops.core.types_text import type_to_text

__all__ = ["parse_partition_name", "partition_columns", "partition_name", "split", "values_from", "values_of"]

Values = tuple[str | None, ...]
Codes = NDArray[np.int64]

_TYPES = {"year": pa.int32(), "month": pa.string(), "day": pa.date32(), "hour": pa.string()}
_PERIOD_FORMS = {"year": "{0.year}", "month": "{0:%Y-%m}", "day": "{0:%Y-%m-%d}", "hour": "{0:%Y-%m-%dT%H}"}
_LENGTHS = {"month": 7, "day": 10, "hour": 13}


def partition_columns(partition_by: Sequence[PartitionSpec], schema: TableSchema) -> tuple[Column, ...]:
    """The partition columns of a table whose data columns are `schema` (lake names).

    InventoryError when a column is missing, has no type yet, or has one that cannot be a directory's name.
    """
    return tuple(Column(spec.name, _type_of(spec, schema)) for spec in partition_by)


def split(
    records: pa.RecordBatch, partition_by: Sequence[PartitionSpec], period: Period | None
) -> list[tuple[Values, pa.RecordBatch]]:
    """Conformed rows by partition, sorted by values (NULL first); rows keep their order. No rows: no partitions.

    InventoryError when a partition comes from the period and there is none.
    """
    if not records.num_rows:
        return []
    codes: Codes = np.zeros(records.num_rows, np.int64)
    groups: list[Values] = [()]
    for spec in partition_by:
        own, texts = _codes(records, spec, period)
        codes, groups = _cross(codes, groups, own, texts)
    if len(groups) == 1:
        return [(groups[0], records)]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(groups)))
    arranged = records if bool((codes[1:] >= codes[:-1]).all()) else records.take(pa.array(order))
    parts = [
        (values, arranged.slice(end - size, size))
        for values, end, size in zip(groups, ends.tolist(), np.diff(ends, prepend=0).tolist(), strict=True)
    ]
    return sorted(parts, key=lambda part: [(value is not None, value or "") for value in part[0]])


def period_value(spec: PartitionSpec, period: Period) -> str | None:
    """The value a period gives to a partition column that comes from it."""
    text = _PERIOD_FORMS[spec.transform].format(period.start) if spec.transform != "identity" else period.key
    return text or None


def values_of(array: pa.Array) -> pa.Array:
    """The partition text of every value, as `string`: one text per value whatever width or unit stores it (decimals
    without trailing zeros, times without an empty fraction, instants in UTC), and `values_from` gives it back."""
    t = array.type
    if pt.is_timestamp(t):
        if t.tz is not None:
            array = array.cast(pa.timestamp(t.unit, "UTC"))
        return trim_fraction(pc.replace_substring(exact_text(array), "Z", ""))
    return trim_fraction(exact_text(array)) if pt.is_decimal(t) else exact_text(array)


def values_from(texts: pa.Array, t: pa.DataType) -> pa.Array:
    """The inverse of `values_of` (dates of the years 0001 to 9999). ValueError for text that is no such value."""
    if pt.is_timestamp(t) and t.tz is not None:
        texts = pc.binary_join_element_wise(texts, "Z", "")
    return pc.cast(texts, t)


def _type_of(spec: PartitionSpec, schema: TableSchema) -> pa.DataType:
    if not is_legal(spec.name):
        raise _error(spec, f"the name {spec.name!r}", "lower-case letters, digits and _", "Hive takes no other name", "Rename it")
    if spec.column is None:
        return _TYPES.get(spec.transform, pa.string())
    source = schema.get(sanitise(spec.column))
    if source is None or pt.is_null(source.type):
        raise _error(
            spec, "no column of that name with a type", "a typed column of the table",
            "A partition column's type is fixed when the table is created, and an all-NULL column has not shown one yet",
            "Check the name, or load a row with a value first",
        )  # fmt: skip
    if spec.transform != "identity":
        _check_time(spec, source.type)
        return _TYPES[spec.transform]
    if not _is_exact(source.type):
        raise _error(
            spec, f"type {type_to_text(source.type)}", "text, an integer, decimal, boolean, date or timestamp",
            "A value must have exactly one spelling to be a directory's name", "Partition by another column",
        )  # fmt: skip
    return source.type


def _check_time(spec: PartitionSpec, t: pa.DataType) -> None:
    if not (pt.is_timestamp(t) or (pt.is_date(t) and spec.transform != "hour")):
        wanted = "a timestamp" if spec.transform == "hour" else "a date or timestamp"
        why = f"The transform {spec.transform} cuts time"
        raise _error(spec, f"type {type_to_text(t)}", wanted, why, "Use `transform: identity`")


def _is_exact(t: pa.DataType) -> bool:
    return bool(pt.is_string(t) or pt.is_integer(t) or pt.is_decimal(t) or pt.is_boolean(t) or pt.is_date(t) or pt.is_timestamp(t))


def _codes(records: pa.RecordBatch, spec: PartitionSpec, period: Period | None) -> tuple[Codes, list[str | None]]:
    """A number per row and the text of each number."""
    if spec.column is None:
        if period is None:
            raise _error(spec, "no period", "a run with one", "A continuous run has no period", "Partition by a column")
        return np.zeros(records.num_rows, np.int64), [period_value(spec, period)]
    at = records.schema.get_field_index(sanitise(spec.column))
    if at < 0:
        names = ", ".join(records.schema.names)
        raise _error(spec, "no such column", f"one of {names}", "Every row needs its partition", "Correct `partition_by`")
    column = records.column(at)
    if spec.transform != "identity":
        _check_time(spec, column.type)
        column = pc.floor_temporal(column.cast(pa.timestamp("s")) if pt.is_date(column.type) else column, unit=spec.transform)
    coded = column.dictionary_encode()
    texts = [text or None for text in _texts(coded.dictionary, spec.transform).to_pylist()]
    indices = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    # NULL and '' are one partition to Hive, so one number.
    distinct = list(dict.fromkeys([*texts, None]))
    number = {text: k for k, text in enumerate(distinct)}
    return np.array([*(number[text] for text in texts), number[None]], np.int64)[indices], distinct


def _texts(values: pa.Array, transform: str) -> pa.Array:
    if transform == "identity":
        return values_of(values)
    if transform == "year":
        return pc.cast(pc.cast(pc.year(values), pa.int32()), pa.string())
    return pc.replace_substring(pc.utf8_slice_codeunits(values_of(values), 0, _LENGTHS[transform]), " ", "T")


def _cross(codes: Codes, groups: list[Values], own: Codes, texts: list[str | None]) -> tuple[Codes, list[Values]]:
    """Groups of both, only those that occur, numbered without gaps."""
    present, inverse = np.unique(codes * len(texts) + own, return_inverse=True)
    crossed = [(*groups[both // len(texts)], texts[both % len(texts)]) for both in present.tolist()]
    return inverse.astype(np.int64, copy=False), crossed


def _error(spec: PartitionSpec, found: str, expected: str, why: str, what: str) -> InventoryError:
    return InventoryError(f"Cannot partition by {spec.name} (from {spec.from_}): {found} -> {expected}. {why}. {what}.")
