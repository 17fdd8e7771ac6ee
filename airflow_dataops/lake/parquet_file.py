"""Writing one Parquet file: dictionary decided per column, row groups, statistics, our metadata in the footer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as pafs
from pyarrow import types as pt

from airflow_dataops.core.errors import UnavailableError
from airflow_dataops.lake.base import FileLayout

SAMPLE_ROWS = 8192
MAX_DISTINCT_SHARE = 0.4
"""A dictionary on a column with more distinct values than this share of the sample costs time *and* size
(measured: 479 k rows/s with dictionaries everywhere, 979 k without; 129 MB against 100 MB)."""


def dictionary_columns(batch: pa.RecordBatch) -> list[str]:
    """The columns of this sample for which a dictionary pays. Booleans never (they are bits); nested columns never."""
    sample = batch.slice(0, SAMPLE_ROWS)
    chosen = []
    for name, column in zip(sample.schema.names, sample.columns, strict=True):
        t = column.type
        if pt.is_boolean(t) or pt.is_nested(t) or pt.is_null(t) or pt.is_fixed_size_binary(t) or not len(column):
            continue
        if pc.count_distinct(column, mode="all").as_py() <= max(1, int(len(column) * MAX_DISTINCT_SHARE)):
            chosen.append(name)
    return chosen


ROW_GROUP_BYTES = 64 << 20
"""A row group ends here even if it has few rows: rows may be of any size, memory is not."""

COLUMN_BYTES = 256
"""What a held batch costs for each column beside its values."""


class ParquetFile:
    """A `FileWriter`. The bytes go to `temporary` and become visible under `path` at `close` (`None`: an object store,
    whose upload is atomic by itself). With more than one core a row group is encoded and written in a thread, while the
    caller fills the next one; never more than one at a time, so that memory stays that of two row groups."""

    def __init__(
        self, filesystem: pafs.FileSystem, path: str, address: str, temporary: str | None, schema: pa.Schema, layout: FileLayout
    ) -> None:
        self.path = path
        self._fs, self._address, self._temporary = filesystem, address, temporary
        self._schema, self._layout = schema, layout
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = self._written = 0
        self._writer: pq.ParquetWriter | None = None
        self._sink: Any = None
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    @property
    def bytes_written(self) -> int:
        return self._written

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def write(self, batch: pa.RecordBatch) -> None:
        """Keeps rows back until a row group is full."""
        batch = compact(batch)
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes + COLUMN_BYTES * batch.num_columns
        if self._held_bytes >= ROW_GROUP_BYTES:
            self.flush()
        while self._held_rows >= self._layout.row_group_rows:
            self._flush(self._layout.row_group_rows)

    def flush(self) -> None:
        """Writes the held rows as a row group, however few they are."""
        while self._held_rows:
            self._flush(self._layout.row_group_rows)

    def _flush(self, rows: int) -> None:
        """The first `rows` of the held rows, in the background where there is a core for it."""
        held = pa.Table.from_batches(self._held, self._schema)
        self._wait()
        if self._writer is None:
            self._open(self._held[0])
        rest = held.slice(rows).to_batches()
        self._held = [compact(batch) for batch in rest if batch.num_rows]
        self._held_rows = max(0, self._held_rows - rows)
        self._held_bytes = sum(batch.nbytes + COLUMN_BYTES * batch.num_columns for batch in self._held)
        if cores() == 1:
            self._encode(held.slice(0, rows))
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="dataops-parquet")
        self._under_way = self._thread.submit(self._encode, held.slice(0, rows))

    def _encode(self, group: pa.Table) -> None:
        try:
            self._writer.write_table(group, row_group_size=self._layout.row_group_rows)  # type: ignore[union-attr]
            self._written = int(self._sink.tell())
        except OSError as error:
            raise UnavailableError(f"Cannot write lake file {self.path}: {error} -> a writable place. Try again later.") from error

    def _wait(self) -> None:
        """Until the row group under way is written. Raises what stopped it."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _open(self, sample: pa.RecordBatch | None) -> None:
        layout = self._layout
        dictionary = layout.dictionary
        if dictionary is None:
            dictionary = tuple(dictionary_columns(sample)) if sample is not None else ()
        compression: Any = {name: "none" if name in layout.uncompressed else layout.compression for name in self._schema.names}
        try:
            self._sink = self._fs.open_output_stream(self._temporary or self._address)
        except OSError as error:
            raise UnavailableError(f"Cannot write lake file {self.path}: {error} -> a writable place. Try again later.") from error
        self._writer = pq.ParquetWriter(
            self._sink, self._schema, compression=_leaf_paths(self._schema, compression), version="2.6",
            use_dictionary=list(dictionary) or False, write_statistics=True, store_schema=True, write_page_index=False,
        )  # fmt: skip

    def close(self, metadata: Mapping[str, str]) -> None:
        try:
            self.flush()
            self._wait()
            if self._writer is None:
                self._open(None)
            writer: Any = self._writer
            writer.add_key_value_metadata({f"dataops.{k}": v for k, v in metadata.items()})
            writer.close()
            self._sink.close()
            if self._temporary is not None:
                publish_local(self._temporary, self._address)
        except OSError as error:
            self.abort()
            raise UnavailableError(f"Cannot finish lake file {self.path}: {error} -> a complete file. Try again later.") from error
        finally:
            self._end_thread()

    def abort(self) -> None:
        self._held, self._held_rows, self._held_bytes, self._under_way = [], 0, 0, None
        self._end_thread()
        for part in (self._writer, self._sink):
            if part is not None:
                with contextlib.suppress(OSError, pa.ArrowException):  # it is being thrown away
                    part.close()
        for address in (self._temporary, self._address):
            if address is not None:
                with contextlib.suppress(OSError):  # nothing there is what we want
                    self._fs.delete_file(address)

    def _end_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows; copied when they are a small part of larger buffers, which they would keep in memory as a whole."""
    if 2 * batch.nbytes >= batch.get_total_buffer_size():
        return batch
    return batch.take(pa.array(range(batch.num_rows), pa.int64()))


def _leaf_paths(schema: pa.Schema, compression: Mapping[str, str]) -> Any:
    """Parquet wants compression by leaf column; one word for all when nothing differs, as nested leaves have long paths."""
    if any(pt.is_nested(f.type) for f in schema):
        words = set(compression.values()) - {"none"}
        return words.pop() if words else "none"
    return dict(compression)


def publish_local(temporary: str, address: str) -> None:
    """fsync, then rename inside one directory: whole or absent, also after a power cut."""
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.rename(temporary, address)
    directory = os.open(os.path.dirname(address), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
