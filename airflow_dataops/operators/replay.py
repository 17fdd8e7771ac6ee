"""The `replay` task: open dead letters of a row go through the contract of now into their partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.step import StepOperator
from airflow_dataops.schedule import parse_schedule, period_of_key

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReplayOperator(StepOperator):
    """Replays the open dead letters of the row, as `dataops dead-letters replay` does: all of them, or those of the source tables
    that match `table` (a glob) and of one `reason`. In no DAG of the product: it is for one of your own, after a repair.

    Records that fail again stay open, are counted in the log and do not fail the task. A batch that could not be replayed does.
    """

    def __init__(self, *, table: str | None = None, reason: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.reason = reason

    def run_step(self, context: Context) -> None:
        from airflow_dataops.steps.replay import LetterChoice, replay

        schedule = parse_schedule(self.row.schedule, self.row.timezone)
        dag_run, ti = context["dag_run"], context["ti"]
        run = f"replay/{dag_run.dag_id}/{dag_run.run_id}/{ti.id}:{ti.try_number}"
        with self.edges(context) as edges:
            choice = LetterChoice(table=self.table, reason=self.reason)
            result = replay(self.row, edges, run, lambda key: period_of_key(schedule, key), choice)
        for batch in result.batches:
            self.log_table(batch)
        self.log.info("%s: %s records failed again, %s letters were not tried", self.row.id, result.failed_again, result.left)
        if result.failures:
            named = "; ".join(f"{t.source_table} ({t.error_code}: {t.error})" for t in result.failures[:5])
            raise to_airflow(
                f"Cannot replay dead letters of {self.row.id}: {len(result.failures)} of {len(result.batches)} batches failed -> "
                f"all replayed. {named}. The others are done.",
                retryable=any(t.retryable for t in result.failures),
            )
