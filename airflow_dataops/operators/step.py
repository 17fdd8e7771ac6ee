"""What all operators share: which row they work for, its opened edges, and what they say in the log."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.edges import EdgesHook
from airflow_dataops.operators.errors import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.steps.run import Edges, Progress, TableResult

DISCOVER = "discover"
"""The task that carries the row for all others of its DAG."""


class ProductOperator(BaseOperator):
    """What the tasks of a row and those of the fleet have in common: nothing is templated, product errors become Airflow's.

    Each subclass takes `settings` itself: Airflow wraps every `__init__` on the way to its own, for each task of each DAG.
    """

    template_fields: Sequence[str] = ()
    settings: Mapping[str, str] | None = None

    def execute(self, context: Context) -> Any:
        """Runs the step; a product error becomes Airflow's retry or failure."""
        with airflow_errors():
            return self.run_step(context)

    def run_step(self, context: Context) -> Any:
        """The step itself, in the terms of the product."""
        raise TypeError(f"{type(self).__name__} is no step: use one of its subclasses")


class StepOperator(ProductOperator):
    """One step of one inventory row.

    `spec` and `platform` are plain attributes: they are in the DAG file's objects, which every worker has, and neither in
    the serialised DAG nor among the templated fields. So text of the inventory is never rendered, and a mapped task stays
    small. Only the `discover` task needs them; the others look there. `settings` are flags over the `[dataops]` settings.
    """

    def __init__(
        self,
        *,
        spec: PipelineSpec | None = None,
        platform: PlatformSpec | None = None,
        settings: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.spec = spec
        self.platform = platform

    @property
    def row(self) -> PipelineSpec:
        """The row: this task's own, else that of the DAG's `discover` task."""
        spec = self._carrier().spec
        if spec is None:
            raise InventoryError(
                f"Cannot run task {self.task_id!r}: no row -> `spec` given to it, or to the task {DISCOVER!r} of its DAG. "
                "The step needs to know the source. Give the DiscoverOperator a `spec`."
            )
        return spec

    def _carrier(self) -> StepOperator:
        if self.spec is not None or not self.has_dag() or DISCOVER not in self.dag.task_dict:
            return self
        carrier = self.dag.get_task(DISCOVER)
        return carrier if isinstance(carrier, StepOperator) else self

    def edges(self, context: Context, *, with_source: bool = True) -> AbstractContextManager[Edges]:
        """The opened edges of the row, for the length of the block."""
        carrier, ti = self._carrier(), context["ti"]
        return EdgesHook(self.row, carrier.platform, carrier.settings).open(
            # A retry is another process attempt, and so is a second worker on the same task instance.
            writer=f"airflow:{ti.id}:{ti.try_number}:{secrets.token_hex(4)}",
            progress=self._log_progress,
            with_source=with_source,
        )

    def _log_progress(self, progress: Progress) -> None:
        total = "" if progress.total is None else f" of {progress.total}"
        self.log.debug("%s: %s, %s rows%s", progress.table, progress.stage, progress.rows, total)

    def log_table(self, result: TableResult) -> None:
        """One line with the table's accounting under its published names; never a value of a record."""
        counts = " ".join(f"{name}={count}" for name, count in result.accounting.to_json().items())
        line = f"table {result.source_table!r} -> {result.target}: {result.outcome} {counts}"
        if result.batch_id:
            line += f" batch={result.batch_id} generation={result.generation} fingerprint={result.fingerprint}"
        if result.error is not None:
            self.log.error("%s error=%s: %s", line, result.error_code, result.error)
        else:
            self.log.info("%s", line)
