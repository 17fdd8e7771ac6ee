"""Kind of source → how it is opened."""

from __future__ import annotations

from collections.abc import Callable

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.sources.base import Source

__all__ = ["KINDS", "open_source"]


def _files(spec: PipelineSpec, connection: Connection | None, base_path: str) -> Source:
    from airflow_dataops.sources.files import open_files

    return open_files(spec, connection, base_path=base_path)


def _sql(spec: PipelineSpec, connection: Connection | None, base_path: str) -> Source:
    from airflow_dataops.sources.sql import open_sql

    if connection is None:
        raise InventoryError(
            f"Cannot open source {spec.id}: no conn_id -> the database's Airflow connection. Add `conn_id` to the row."
        )
    return open_sql(spec, connection)


KINDS: dict[str, Callable[[PipelineSpec, Connection | None, str], Source]] = {"files": _files, "sql": _sql}
"""Every kind of source. Loaders import late, so that a kind costs only who uses it."""


def open_source(spec: PipelineSpec, connection: Connection | None, *, base_path: str) -> Source:
    """The source of a row. `base_path` is where relative paths of files start when no connection says so.

    InventoryError: an unknown kind (the known ones are listed), wrong options, or a library that is not installed.
    """
    loader = KINDS.get(spec.kind)
    if loader is None:
        raise InventoryError(
            f"Cannot open source {spec.id}: kind {spec.kind!r} -> one of {', '.join(sorted(KINDS))}. Correct `kind`."
        )
    try:
        return loader(spec, connection, base_path)
    except ImportError as error:
        raise InventoryError(
            f"Cannot open source {spec.id}: {error} -> installed. Kind {spec.kind!r} needs more than the base package. "
            f"Install airflow-dataops[{_extra(spec, connection)}] where this runs."
        ) from error


def _extra(spec: PipelineSpec, connection: Connection | None) -> str:
    if spec.kind == "files":
        return "s3"
    word = connection.conn_type if connection else ""
    return {"postgresql": "postgres", "mariadb": "mysql"}.get(word, word or "postgres")
