"""The connection type `dataops_key`: the secret key of `privacy: hash` digests."""

from __future__ import annotations

from airflow.sdk import BaseHook

from airflow_dataops.hooks.task_connection import resolve_in_task
from airflow_dataops.open_edges import KEY_BYTES


class KeyHook(BaseHook):
    """A secret key; it is the connection's password and goes nowhere else."""

    conn_name_attr = "key_conn_id"
    default_conn_name = "dataops_key_default"
    conn_type = "dataops_key"
    hook_name = "DataOps: privacy key"

    def __init__(self, key_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.key_conn_id = key_conn_id

    def test_connection(self) -> tuple[bool, str]:
        """Airflow's *Test* button: whether the key has a usable length. Never shows it."""
        size = len((resolve_in_task(self.key_conn_id).password or "").encode())
        return size in KEY_BYTES, f"the key has {size} bytes; {KEY_BYTES.start} to {KEY_BYTES.stop - 1} are usable"
