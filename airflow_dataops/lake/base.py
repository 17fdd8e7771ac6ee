"""What a lake is to the rest of the product: immutable data files in directories that belong to one attempt each.

Paths are relative to the lake's root, with `/`; they never contain `..`. `uri(path)` gives the full address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from airflow_dataops.core.profile import Profile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One closed data file. `rows`, `bytes` and `profile` were re-read from its own footer. `fingerprint` is over its rows."""

    path: str
    rows: int
    bytes: int
    fingerprint: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class FileFooter:
    """What a file says of itself: rows, bytes on disk, Arrow schema, our own metadata (`dataops.*` keys), and the profile of its
    data columns."""

    path: str
    rows: int
    bytes: int
    schema: pa.Schema
    metadata: Mapping[str, str]
    profile: Profile


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How files are laid out. `dictionary` names the columns that get a dictionary (None: decided from the first rows)."""

    format: str = "parquet"
    compression: str = "zstd"
    row_group_rows: int = 131_072
    dictionary: tuple[str, ...] | None = None
    uncompressed: tuple[str, ...] = ("_row_fingerprint",)


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed object."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A filter that readers may push down to row-group statistics: rows whose column is >= the value."""

    column: str
    value: Any


class FileWriter(Protocol):
    """Writes one data file. Nothing is visible under `path` before `close` returns (objects: multipart upload;
    local: temporary name, fsync, rename inside the attempt's own directory)."""

    path: str

    def write(self, batch: pa.RecordBatch) -> None: ...

    @property
    def bytes_written(self) -> int:
        """Bytes so far (compressed, what is flushed): to cut files at `file_bytes`."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes of rows in memory that are not on their way to the file yet."""
        ...

    def flush(self) -> None:
        """Sends the rows in memory on their way, as a smaller row group than usual."""
        ...

    def close(self, metadata: Mapping[str, str]) -> None:
        """`metadata` (e.g. the file's fingerprint, known only now) goes into the footer under `dataops.` keys."""
        ...

    def abort(self) -> None:
        """Leaves nothing behind under `path`."""
        ...


class Lake(Protocol):
    """One lake. Opened by `open_lake(uri, connection)` in `lake/__init__.py`."""

    def uri(self, path: str) -> str: ...

    def path_of(self, uri: str) -> str | None:
        """The inverse of `uri`; None for a place that is not below this lake's root."""
        ...

    def open_file(self, path: str, schema: pa.Schema, layout: FileLayout) -> FileWriter:
        """A new file; refuses to replace an existing one."""
        ...

    def footer(self, path: str) -> FileFooter:
        """Re-reads the file's own footer. ProofError when the file is not whole."""
        ...

    def read(
        self,
        paths: Sequence[str],
        schema: pa.Schema,
        columns: Sequence[str] | None = None,
        batch_rows: int = 65536,
        where: AtLeast | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Rows of these files under `schema` (files with an older, narrower type or without a column are lifted to it),
        in order of paths; flat memory."""
        ...

    def scan(self, paths: Iterable[str], work: Callable[[pa.RecordBatch], T]) -> Iterator[T]:
        """What `work` makes of the batches of these files, each file under its own schema. `work` is called in several threads
        at a time, for every row once; flat memory."""
        ...

    def list(self, directory: str) -> tuple[Entry, ...]:
        """All objects below a directory, sorted; empty when it does not exist."""
        ...

    def link(self, source: str, target: str) -> bool:
        """Makes the bytes of `source` appear whole under `target` if nothing is there (local: `link`; objects:
        If-None-Match). False when `target` existed already (it is then left as it was)."""
        ...

    def make_directory(self, directory: str) -> None:
        """So that an empty partition has a place a reader can list. Nothing on object stores."""
        ...

    def delete_directory(self, directory: str) -> int:
        """Deletes everything below; returns how many objects went. Refuses the root. Idempotent."""
        ...

    def close(self) -> None: ...
