"""What the tasks of the fleet's own DAGs share: all rows of the inventory, read when the task runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.operators.errors import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True, slots=True)
class Fleet:
    """All good rows of an inventory, those that are not enabled included, and what its `platform.yaml` says."""

    rows: Sequence[PipelineSpec]
    platform: PlatformSpec = field(default_factory=PlatformSpec)


class FleetOperator(BaseOperator):
    """One step over all rows. `fleet` reads the inventory; it is called in the task, never while the DAG file is parsed.
    `settings` are flags over the `[dataops]` settings.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, fleet: Callable[[], Fleet], settings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fleet = fleet
        self.settings = settings

    def execute(self, context: Context) -> Any:
        """Runs the step; a product error becomes Airflow's retry or failure."""
        with airflow_errors():
            return self.run_step(context)

    def run_step(self, context: Context) -> Any:
        """The step itself, in the terms of the product."""
        raise TypeError(f"{type(self).__name__} is no step: use one of its subclasses")
