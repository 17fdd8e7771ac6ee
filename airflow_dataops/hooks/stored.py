"""What only Airflow itself knows: connections in its secrets backends or database, settings that are commands or secrets.

`connections.py` and `settings.py` come here when the environment does not tell; it costs the import of Airflow.
"""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import Any

from airflow.configuration import conf, ensure_secrets_loaded
from airflow.sdk import Connection as TaskConnection
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError


def stored_setting(section: str, name: str) -> str:
    """The value as Airflow reads it, commands and secrets backends included."""
    return str(conf.get(section, name))


def stored_connection(conn_id: str, variable: str) -> Connection:
    """The connection; InventoryError when Airflow has none of this id, naming the ways to add it."""
    found, unanswered = _in_task(conn_id) if _is_task() else _outside(conn_id)
    if found is None:
        silent = f" ({', '.join(unanswered)} did not answer)" if unanswered else ""
        raise InventoryError(
            f"Cannot find connection {conn_id!r}: neither in the environment nor in Airflow{silent} -> a connection of this "
            "id. Credentials only ever come through a connection. Add it in Airflow (Admin, Connections), by "
            f"`airflow connections add {conn_id!r} --conn-uri ...`, or as environment variable {variable}."
        )
    return Connection(
        conn_id=conn_id,
        conn_type=found.conn_type or "",
        host=found.host or None,
        port=found.port or None,
        login=found.login or None,
        password=found.password or None,
        schema=found.schema or None,
        extra=MappingProxyType(dict(found.extra_dejson)),
    )


def _is_task() -> bool:
    """A task has no way to the database: it asks its supervisor."""
    return getattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS", None) is not None


def _in_task(conn_id: str) -> tuple[Any, list[str]]:
    try:
        return TaskConnection.get(conn_id), []
    except AirflowNotFoundException:
        return None, []


def _outside(conn_id: str) -> tuple[Any, list[str]]:
    """In order: the secrets backend, the environment, the metadata database. One that fails is passed over, as Airflow
    does (there may be no database at all), but it is named if none of them has the connection."""
    unanswered = []
    for backend in ensure_secrets_loaded():
        try:
            found = backend.get_connection(conn_id=conn_id)
        except Exception as error:  # noqa: BLE001 - of whatever library the backend uses
            unanswered.append(f"{type(backend).__name__}: {type(error).__name__}")
            continue
        if found is not None:
            return found, []
    return None, unanswered
