"""The connection type `dataops_folder`: where the relative paths of file sources begin."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import BaseHook

from airflow_dataops.hooks.task_connection import resolve_in_task


class FolderHook(BaseHook):
    """A local folder; its path is the connection's host. A file source never reads outside of it."""

    conn_name_attr = "folder_conn_id"
    default_conn_name = "dataops_folder_default"
    conn_type = "dataops_folder"
    hook_name = "DataOps: folder of files"

    def __init__(self, folder_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.folder_conn_id = folder_conn_id

    def path(self) -> Path:
        """The folder. InventoryError when the connection is missing."""
        return Path(resolve_in_task(self.folder_conn_id).host or "")

    def test_connection(self) -> tuple[bool, str]:
        """Airflow's *Test* button: whether the folder exists here."""
        path = self.path()
        return (True, f"{path} is a folder") if path.is_dir() else (False, f"{path} is no folder on this machine")
