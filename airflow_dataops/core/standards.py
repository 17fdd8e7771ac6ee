"""The standard columns: how a row came here. They are no part of a row's content (`fingerprint.STANDARD_COLUMNS`)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from airflow_dataops.core.fingerprint import as_binary
from airflow_dataops.core.schema import Column
from airflow_dataops.core.spec import StandardsSpec

INGESTED_AT = Column("_ingested_at", pa.timestamp("us", "UTC"), comment="when this row was read from its source")
BATCH_ID = Column("_batch_id", pa.string(), comment="the batch that brought this row")
SOURCE_FILE = Column("_source_file", pa.string(), comment="the file this row was read from")
SOURCE_OFFSET = Column("_source_offset", pa.int64(), comment="line or record number of this row in its file, from 1")
ROW_FINGERPRINT = Column("_row_fingerprint", pa.binary(16), comment="content identity of this row (f1)")


def standard_columns(standards: StandardsSpec, has_origin: bool) -> tuple[Column, ...]:
    """The columns the switches ask for. `has_origin`: the source is made of files, so rows have a place in one."""
    columns: list[Column] = []
    if standards.ingested_at:
        columns.append(INGESTED_AT)
    if standards.batch_id:
        columns.append(BATCH_ID)
    if standards.origin and has_origin:
        columns += [SOURCE_FILE, SOURCE_OFFSET]
    if standards.row_fingerprint:
        columns.append(ROW_FINGERPRINT)
    return tuple(columns)


def stamp(
    records: pa.RecordBatch,
    standards: StandardsSpec,
    *,
    ingested_at_us: int,
    batch_id: str,
    source_file: str | None = None,
    source_offsets: pa.Array | None = None,
    fingerprints: NDArray[np.uint64] | None = None,
) -> pa.RecordBatch:
    """`records` with its standard columns: replaced where a column of that name stands, else appended.

    `ingested_at_us`: microseconds since 1970 UTC; `fingerprints`: `row_fingerprints` of these rows, shape (rows, 2).
    A row has an origin when `source_file` is given. ValueError when the switch asks for fingerprints and there are none.
    """
    rows = records.num_rows
    for column in standard_columns(standards, has_origin=source_file is not None):
        if column is INGESTED_AT:
            values = pa.repeat(pa.scalar(ingested_at_us, column.type), rows)
        elif column is BATCH_ID:
            values = pa.repeat(pa.scalar(batch_id, column.type), rows)
        elif column is SOURCE_FILE:
            values = pa.repeat(pa.scalar(source_file, column.type), rows)
        elif column is SOURCE_OFFSET:
            values = pa.nulls(rows, column.type) if source_offsets is None else source_offsets.cast(column.type)
        elif fingerprints is None:
            raise ValueError("Cannot stamp rows: no fingerprints -> one per row, as `standards.row_fingerprint` asks.")
        else:
            values = as_binary(fingerprints)
        records = _with(records, pa.field(column.name, column.type), values)
    return records


def _with(records: pa.RecordBatch, wanted: pa.Field, values: pa.Array) -> pa.RecordBatch:
    at = records.schema.get_field_index(wanted.name)
    return records.append_column(wanted, values) if at < 0 else records.set_column(at, wanted, values)
