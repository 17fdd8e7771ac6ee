"""Parquet files as a source: their own schema, row group by row group.

A file without its footer (cut off, still being written) is refused as a whole (ProofError).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_dataops.core.errors import ProofError
from airflow_dataops.formats.base import FileAccess, Rows, Survey, Tally
from airflow_dataops.formats.columnar import DeclaredSchema, columns_of, lifted


class ParquetFormat(DeclaredSchema):
    """Parquet files."""

    name = "parquet"

    def survey(self, file: FileAccess, expected: Mapping[str, pa.DataType], whole: bool) -> Survey:
        with _opened(file) as parquet:
            columns = columns_of(file.path, parquet.schema_arrow)
            return Survey(columns, {"format": "parquet"}, parquet.metadata.num_rows)

    def rows(
        self, file: FileAccess, schema: pa.Schema, expected: Mapping[str, pa.DataType], batch_rows: int,
        traits: dict[str, str], tally: Tally,
    ) -> Iterator[Rows]:  # fmt: skip
        place = 1
        with _opened(file) as parquet:
            batches = parquet.iter_batches(batch_rows, use_threads=False)
            while (batch := _next(batches, file)) is not None:
                yield lifted(batch, schema, file.path, place)
                place += len(batch)
            if place - 1 != parquet.metadata.num_rows:
                raise _broken(file, f"{place - 1} rows", f"{parquet.metadata.num_rows} as the footer says")
        traits["format"] = "parquet"


@contextmanager
def _opened(file: FileAccess) -> Iterator[pq.ParquetFile]:
    with file.random() as handle:
        try:
            parquet = pq.ParquetFile(handle)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise _broken(file, str(error)[:200], "a whole Parquet file") from error
        yield parquet


def _next(batches: Iterator[pa.RecordBatch], file: FileAccess) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        raise _broken(file, str(error)[:200], "readable pages") from error


def _broken(file: FileAccess, found: str, expected: str) -> ProofError:
    return ProofError(
        f"Cannot read file {file.path!r}: {found} -> {expected}. It is cut off or damaged; nothing of it was loaded. "
        "Send the file again."
    )
