"""The `drift_sync` task: lake tables follow what the source declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataops.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class DriftSyncOperator(StepOperator):
    """Creates tables and applies safe drift before any row is read.

    A table that is held or failed here does not fail the task, or its siblings would not be loaded: `load` plans the
    table again and reports it. Only a failure of the whole step (the source is down) fails the task.
    """

    def run_step(self, context: Context) -> None:
        from airflow_dataops.steps.discover import discover
        from airflow_dataops.steps.drift_sync import drift_sync

        with self.edges(context) as edges:
            result = drift_sync(self.row, edges, discover(self.row, edges).tables)
        for outcome, names in (("created", result.created), ("changed", result.changed)):
            for name in names:
                self.log.info("table %s: %s", name, outcome)
        for name, why in result.held:
            self.log.warning("table %s: held: %s", name, why)
        for name, why in result.failed:
            self.log.warning("table %s: failed here, `load` will try it again: %s", name, why)
