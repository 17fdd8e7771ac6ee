"""The lake edge: immutable data files below one root."""

from __future__ import annotations

from airflow_dataops.core.connection import Connection
from airflow_dataops.lake.base import Lake


def open_lake(uri: str, connection: Connection | None = None) -> Lake:
    """The lake at `uri` (`file:`, a plain path, or `s3:`), created if it is a local folder that does not exist."""
    from airflow_dataops.lake.filesystem import FilesystemLake
    from airflow_dataops.storage import open_storage

    return FilesystemLake(open_storage(uri, connection))
