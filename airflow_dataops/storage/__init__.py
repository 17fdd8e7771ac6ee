"""URI → file system: the ground on which lakes and file sources stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.storage.base import Storage, StoredFile
from airflow_dataops.storage.failures import storage_errors
from airflow_dataops.storage.paths import safe_join, split_uri

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["Storage", "StoredFile", "open_filesystem", "open_storage", "safe_join", "split_uri", "storage_errors"]


def open_storage(uri: str, connection: Connection | None = None) -> Storage:
    """The store at `file:///path`, `/path` or `s3://bucket/prefix`. Nothing is created or asked yet.

    `connection` gives the keys and the endpoint of S3 (type `aws`); without it the SDKs' own chain is used.
    """
    scheme, place = split_uri(uri)
    if scheme == "file":
        from airflow_dataops.storage.local import LocalStorage

        return LocalStorage(place)
    if connection is not None and connection.conn_type not in ("aws", "s3"):
        raise InventoryError(
            f"Cannot open {uri!r} with connection {connection.conn_id}: type {connection.conn_type!r} -> aws. "
            "Name a connection of that type."
        )
    from airflow_dataops.storage.s3 import S3Options, S3Storage

    return S3Storage(place, S3Options.of(connection))


def open_filesystem(uri: str, connection: Connection | None = None) -> tuple[FileSystem, str]:
    """(pyarrow file system, root inside it) of a URI, for those who need no more."""
    store = open_storage(uri, connection)
    return store.filesystem, store.root
