"""What a Parquet file's footer says of its columns, as a profile: no page of data is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types as pt

from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.profile import NO_VALUES, ColumnProfile, Profile

UNKNOWN = ColumnProfile(None, bounded=False)


def profile_of(metadata: pq.FileMetaData, schema: pa.Schema) -> Profile:
    """Data columns only. Nested ones are unknown: their leaves count elements, not rows."""
    leaves = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    columns: dict[str, ColumnProfile] = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in STANDARD_COLUMNS:
            continue
        if pt.is_nested(kind) or name not in leaves:
            columns[name] = UNKNOWN
            continue
        groups = (metadata.row_group(g).column(leaves[name]).statistics for g in range(metadata.num_row_groups))
        columns[name] = sum((_of_statistics(each) for each in groups), NO_VALUES)
    return Profile(metadata.num_rows, columns)


def _of_statistics(statistics: Any) -> ColumnProfile:
    if statistics is None or not statistics.has_null_count:
        return UNKNOWN
    if not statistics.has_min_max:
        return ColumnProfile.of(statistics.num_values, None, None)
    try:
        low, high = statistics.min, statistics.max
    except (ValueError, OverflowError):  # nanoseconds, and moments that Python has no value for
        return ColumnProfile.of(statistics.num_values, None, None)
    return ColumnProfile.of(statistics.num_values, _plain(low), _plain(high))


def _plain(value: Any) -> Any:
    """A zone is told by the column's type; the value is kept in UTC, however the file names its zone."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value
