"""A lake on any file system pyarrow knows: local disk, S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from airflow_dataops.core.errors import InventoryError, ProofError, UnavailableError
from airflow_dataops.lake.base import AtLeast, Entry, FileFooter, FileLayout, FileWriter
from airflow_dataops.lake.parquet_file import ParquetFile
from airflow_dataops.lake.parquet_profile import profile_of
from airflow_dataops.lake.parquet_scan import scan
from airflow_dataops.storage import Storage, storage_errors
from airflow_dataops.storage.paths import split_uri

T = TypeVar("T")

READ_ROWS = 16_384

SCAN_BUFFER_BYTES, REMOTE_SCAN_BUFFER_BYTES = 1 << 16, 1 << 20
"""Of each column of a row group that is being scanned. Over a network a request costs more than its bytes."""

_STREAMED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True, buffer_size=1 << 16)
)
"""Without it a scan holds all column chunks of a file in memory: verifying 1 M rows of 20 columns took 440 MB, so 280."""


class FilesystemLake:
    """Parquet files below one root. Errors of the file system become UnavailableError, damaged files ProofError."""

    def __init__(self, store: Storage) -> None:
        self._store = store
        self._fs: pafs.FileSystem = store.filesystem

    def uri(self, path: str) -> str:
        return self._store.uri(path)

    def path_of(self, uri: str) -> str | None:
        try:
            (scheme, place), (ours, root) = split_uri(uri), split_uri(self._store.uri(""))
        except InventoryError:  # no address that any lake could have
            return None
        below = place.removeprefix(root.rstrip("/") + "/")
        return below if scheme == ours and below != place else None

    def open_file(self, path: str, schema: pa.Schema, layout: FileLayout) -> FileWriter:
        if layout.format != "parquet":
            raise InventoryError(f"Cannot write {path}: format {layout.format!r} -> parquet. Other formats are not available yet.")
        address = self._store.address(path)
        temporary = None
        with storage_errors(f"write lake file {path}"):
            if self._fs.get_file_info(address).type != pafs.FileType.NotFound:
                raise ProofError(f"Cannot write lake file {path}: it exists -> a new name. Data files are never replaced.")
            if self._store.is_local:
                directory, name = os.path.split(address)
                os.makedirs(directory, exist_ok=True)
                temporary = os.path.join(directory, f"._{name}.writing")
        return ParquetFile(self._fs, path, address, temporary, schema, layout)

    def footer(self, path: str) -> FileFooter:
        address = self._store.address(path)
        with self._read_errors(f"the footer of lake file {path}"):
            size = self._fs.get_file_info(address).size
            with self._fs.open_input_file(address) as handle, pq.ParquetFile(handle) as parquet:
                metadata = parquet.metadata.metadata or {}
                ours = {k.decode().removeprefix("dataops."): v.decode() for k, v in metadata.items() if k.startswith(b"dataops.")}
                profile = profile_of(parquet.metadata, parquet.schema_arrow)
                return FileFooter(path, parquet.metadata.num_rows, int(size), parquet.schema_arrow, ours, profile)

    def read(
        self,
        paths: Sequence[str],
        schema: pa.Schema,
        columns: Sequence[str] | None = None,
        batch_rows: int = 65536,
        where: AtLeast | None = None,
    ) -> Iterator[pa.RecordBatch]:
        if not paths:
            return
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        keep = None if where is None else ds.field(where.column) >= pa.scalar(where.value, schema.field(where.column).type)
        with self._read_errors(f"lake files ({len(paths)}) as {wanted}"):
            for path in paths:
                dataset = ds.dataset(self._store.address(path), schema=schema, format=_STREAMED, filesystem=self._fs)
                scanner = dataset.scanner(
                    columns=wanted.names,
                    filter=keep,
                    batch_size=min(batch_rows, READ_ROWS),
                    batch_readahead=0,
                    fragment_readahead=0,
                    use_threads=False,
                    memory_pool=pa.system_memory_pool(),  # what the source's driver gave back is used again
                )
                for batch in scanner.to_batches():
                    if batch.num_rows:
                        yield batch

    def scan(self, paths: Iterable[str], work: Callable[[pa.RecordBatch], T]) -> Iterator[T]:
        buffer_bytes = SCAN_BUFFER_BYTES if self._store.is_local else REMOTE_SCAN_BUFFER_BYTES
        with self._read_errors("lake files to the end"):
            yield from scan(self._fs, map(self._store.address, paths), buffer_bytes, work)

    def list(self, directory: str) -> tuple[Entry, ...]:
        return tuple(Entry(path, size) for path, size in self._store.list(directory) if not is_hidden(path))

    def link(self, source: str, target: str) -> bool:
        return self._store.put_if_absent(source, target)

    def make_directory(self, directory: str) -> None:
        if self._store.is_local:
            with storage_errors(f"make lake directory {directory}"):
                os.makedirs(self._store.address(directory), exist_ok=True)

    def delete_directory(self, directory: str) -> int:
        if not directory.strip("/"):
            raise InventoryError("Cannot delete directory '': it is the lake's root -> a directory below it.")
        return self._store.delete_directory(directory)

    def close(self) -> None:
        """Nothing is held open."""

    @contextmanager
    def _read_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except pa.ArrowInvalid as error:
            raise ProofError(f"Cannot read {what}: {error} -> rows under the table's schema.") from error
        except FileNotFoundError as error:
            raise ProofError(f"Cannot read {what}: {error} -> all present. Somebody deleted one.") from error
        except OSError as error:
            if self._store.is_local and error.errno is None:  # not the system's: what pyarrow says of bytes that are no Parquet
                raise ProofError(f"Cannot read {what}: {error} -> whole Parquet files. One is damaged.") from error
            raise UnavailableError(f"Cannot read {what}: {error} -> readable. Try again later.") from error


def is_hidden(path: str) -> bool:
    """Files being written, and what other tools leave behind: Hive and Spark skip names with `.` or `_` as well."""
    return path.rsplit("/", 1)[-1].startswith((".", "_"))
