"""What the tasks of the fleet's own DAGs share: all rows of the inventory, read when the task runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.operators.step import ProductOperator


@dataclass(frozen=True, slots=True)
class Fleet:
    """All good rows of an inventory, those that are not enabled included, and what its `platform.yaml` says."""

    rows: Sequence[PipelineSpec]
    platform: PlatformSpec = field(default_factory=PlatformSpec)


class FleetOperator(ProductOperator):
    """One step over all rows. `fleet` reads the inventory; it is called in the task, never while the DAG file is parsed.
    `settings` are flags over the `[dataops]` settings.
    """

    def __init__(self, *, fleet: Callable[[], Fleet], settings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.fleet = fleet
