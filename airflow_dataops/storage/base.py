"""What a store of files is to the edges: one root, files below it by relative path and identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """One file as listed. `path` is relative to the store's root. `etag` changes when the file is touched: an object
    store's own ETag; locally `size:mtime_ns:inode`."""

    path: str
    size: int
    etag: str


class Storage(Protocol):
    """One root in one file system. Every path is relative to it and checked (`paths.safe_join`).

    Errors: UnavailableError (try again), InventoryError (no such bucket, no right, a path that leaves the root),
    ConflictError (the file is not the listed one any more).
    """

    root: str
    """Absolute path, or `bucket/prefix`: what `filesystem` understands."""

    is_local: bool
    """Whether directories and renames are real here (they are not on object stores)."""

    @property
    def filesystem(self) -> FileSystem: ...

    def address(self, relative: str) -> str:
        """The path as `filesystem` understands it, proven to lie below the root."""
        ...

    def uri(self, relative: str) -> str: ...

    def walk(self, directory: str = "") -> Iterator[StoredFile]:
        """Every file below a directory, at any depth, in order of path; nothing when it does not exist."""
        ...

    def list(self, directory: str = "") -> Sequence[tuple[str, int]]:
        """(path, bytes) of every file below a directory, in order of path."""
        ...

    def stat(self, relative: str) -> StoredFile | None:
        """One file as it is now; None when there is none (or a directory)."""
        ...

    def open_stream(self, file: StoredFile) -> BinaryIO:
        """The bytes of exactly this file, from the beginning; ConflictError when it is another one by now."""
        ...

    def open_random(self, file: StoredFile) -> NativeFile:
        """The same with random access (Parquet). Check `stat` again after reading: formats that jump about cannot tell
        a file that is replaced in between."""
        ...

    def put_if_absent(self, source: str, target: str) -> bool:
        """Makes the bytes of `source` appear whole under `target` if nothing is there; False (and nothing changed) when
        something is. Both below the root."""
        ...

    def delete_directory(self, directory: str) -> int:
        """Deletes everything below; returns how many files went. Refuses the root. Idempotent; never follows links."""
        ...
