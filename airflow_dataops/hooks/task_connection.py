"""Connections inside a task: the same as everywhere, and their secrets are masked in the task's log."""

from __future__ import annotations

from airflow.sdk.log import mask_secret

from airflow_dataops.connections import resolve
from airflow_dataops.core.connection import Connection


def resolve_in_task(conn_id: str) -> Connection:
    """The connection. Airflow masks what it resolves itself; one from the environment it would not know of."""
    connection = resolve(conn_id)
    if connection.password:
        mask_secret(connection.password)
    mask_secret(dict(connection.extra))
    return connection
