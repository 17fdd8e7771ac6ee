"""From Airflow's connections and settings to the opened edges of one inventory row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.task_connection import resolve_in_task
from airflow_dataops.open_edges import open_edges
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow_dataops.steps.run import Edges, Progress


class EdgesHook(BaseHook):
    """Source, lake, catalog and ledger of a row, for a task. `settings` are flags over the `[dataops]` settings."""

    def __init__(
        self,
        spec: PipelineSpec,
        platform: PlatformSpec | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.platform = platform
        self.settings = settings

    def open(
        self,
        *,
        writer: str,
        progress: Callable[[Progress], None] | None = None,
        with_source: bool = True,
    ) -> AbstractContextManager[Edges]:
        """The edges, open for the length of the block; see `open_edges`. Their secrets are masked in the task's log."""
        return open_edges(
            self.spec,
            load_settings(self.settings),
            writer=writer,
            platform=self.platform,
            resolve=resolve_in_task,
            progress=progress,
            with_source=with_source,
        )
