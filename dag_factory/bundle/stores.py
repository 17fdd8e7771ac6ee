"""Where snapshots are kept: named bytes, whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.storage import split_uri, storage_errors
from airflow_dataops.storage.base import StoredFile
from airflow_dataops.storage.s3 import S3Options, S3Storage
from dag_factory.bundle.whole import write_whole


class Store(Protocol):
    """Names are relative paths made by us. UnavailableError: try again; InventoryError: no right, no such bucket."""

    parallel: int
    """How many calls at a time are worth it."""

    def get(self, name: str) -> bytes | None:
        """The bytes under a name; None when there are none."""
        ...

    def has(self, name: str) -> bool: ...

    def put(self, name: str, data: bytes) -> None:
        """Replaces what was under the name."""
        ...


def open_store(uri: str, connection: Connection | None = None) -> Store:
    """The store at a folder or `s3://bucket/prefix`. Nothing is asked of it yet."""
    scheme, place = split_uri(uri)
    if scheme == "file":
        return FolderStore(Path(place))
    return S3Store(S3Storage(place, S3Options.of(connection)))


class FolderStore:
    """A folder that all components see: a local one on one machine, else a shared mount."""

    parallel = 1

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._down("read", name, error) from error

    def has(self, name: str) -> bool:
        try:
            return (self.root / name).stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._down("look at", name, error) from error

    def put(self, name: str, data: bytes) -> None:
        try:
            write_whole(self.root / name, data)
        except OSError as error:
            raise self._down("write", name, error) from error

    def _down(self, verb: str, name: str, error: OSError) -> Exception:
        text = f"Cannot {verb} snapshot {name} in {self.root}: {error.strerror or error} -> a folder that can be used."
        if isinstance(error, PermissionError):
            return InventoryError(f"{text} Every component needs a right to it. Check its owner and mode.")
        return UnavailableError(f"{text} The disk may be full or gone. It is tried again.")


class S3Store:
    """`s3://bucket/prefix`, through a connection of type `aws` or the SDK's own chain."""

    parallel = 16

    def __init__(self, storage: S3Storage) -> None:
        self.storage = storage

    def get(self, name: str) -> bytes | None:
        found = self.storage.stat(name)
        if found is None:
            return None
        return read_stored(self.storage, found)

    def has(self, name: str) -> bool:
        return self.storage.stat(name) is not None

    def put(self, name: str, data: bytes) -> None:
        bucket, _, key = self.storage.address(name).partition("/")
        with storage_errors(f"write {self.storage.uri(name)}"):
            self.storage.client.put_object(Bucket=bucket, Key=key, Body=data)


def read_stored(storage: S3Storage, file: StoredFile, most_bytes: int = -1) -> bytes:
    """The bytes of one listed object, at most so many."""
    with storage.open_stream(file) as stream:
        return stream.read(most_bytes)
