"""Where snapshots are kept: named bytes, whole or not there."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.storage import split_uri, storage_errors
from airflow_dataops.storage.base import StoredFile
from airflow_dataops.storage.failures import error_code
from airflow_dataops.storage.s3 import S3Options, S3Storage
from dag_factory.bundle.whole import write_whole


class Store(Protocol):
    """Names are relative paths made by us. UnavailableError: try again; InventoryError: no right, no such bucket."""

    parallel: int
    """How many calls at a time are worth it."""

    def get(self, name: str) -> bytes | None:
        """The bytes under a name; None when there are none."""
        ...

    def age_seconds(self, name: str) -> float | None:
        """How long ago it was written; None when there is nothing (or nothing in it)."""
        ...

    def ages(self, folder: str) -> dict[str, float]:
        """Name → age in seconds of everything below a folder."""
        ...

    def delete(self, name: str) -> None:
        """Idempotent."""
        ...

    def delete_left(self, older_than_seconds: float) -> None:
        """What writers that were killed have left half-written."""
        ...

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

    def age_seconds(self, name: str) -> float | None:
        try:
            found = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._down("look at", name, error) from error
        return time.time() - found.st_mtime if found.st_size else None

    def ages(self, folder: str) -> dict[str, float]:
        now, found = time.time(), {}
        try:
            for place, _, names in os.walk(self.root / folder, onerror=_raise):
                for name in (name for name in names if not name.startswith(".")):
                    file = Path(place, name)
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        found[file.relative_to(self.root).as_posix()] = now - file.stat().st_mtime
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._down("list", folder, error) from error
        return found

    def delete(self, name: str) -> None:
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._down("delete", name, error) from error

    def delete_left(self, older_than_seconds: float) -> None:
        for file in self.root.rglob(".*"):
            with suppress(FileNotFoundError):
                if file.is_file() and time.time() - file.stat().st_mtime > older_than_seconds:
                    self.delete(file.relative_to(self.root).as_posix())

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

    def age_seconds(self, name: str) -> float | None:
        client, (bucket, _, key) = self.storage.client, self.storage.address(name).partition("/")
        with storage_errors(f"look at {self.storage.uri(name)}"):
            try:
                return _age(client.head_object(Bucket=bucket, Key=key)["LastModified"])
            except client.exceptions.ClientError as error:
                if error_code(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise

    def ages(self, folder: str) -> dict[str, float]:
        bucket, _, prefix = self.storage.address(folder).partition("/")
        skip = len(prefix) - len(folder)
        with storage_errors(f"list {self.storage.uri(folder)}"):
            pages = self.storage.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
            return {item["Key"][skip:]: _age(item["LastModified"]) for page in pages for item in page.get("Contents", ())}

    def delete(self, name: str) -> None:
        bucket, _, key = self.storage.address(name).partition("/")
        with storage_errors(f"delete {self.storage.uri(name)}"):
            self.storage.client.delete_object(Bucket=bucket, Key=key)

    def delete_left(self, older_than_seconds: float) -> None:
        """Nothing: an object is there whole or not at all."""

    def put(self, name: str, data: bytes) -> None:
        bucket, _, key = self.storage.address(name).partition("/")
        with storage_errors(f"write {self.storage.uri(name)}"):
            self.storage.client.put_object(Bucket=bucket, Key=key, Body=data)


def _age(written: datetime) -> float:
    return time.time() - written.timestamp()


def _raise(error: OSError) -> None:
    raise error


def read_stored(storage: S3Storage, file: StoredFile, most_bytes: int = -1) -> bytes:
    """The bytes of one listed object, at most so many."""
    with storage.open_stream(file) as stream:
        return stream.read(most_bytes)
