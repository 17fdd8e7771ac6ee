"""The `verify` task: what the run published is what it read, and nothing of the run is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dataops.operators.assets import told
from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.freshness import tell_late
from airflow_dataops.operators.run import run_of
from airflow_dataops.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

DONE_STATES = frozenset({"success", "skipped"})


class FingerprintOperator(StepOperator):
    """Re-reads the partitions this run published and compares them with their recorded fingerprints.

    It runs whatever became of the tasks before it (`trigger_rule="all_done"`), and fails when one of them failed or a
    table of the run did not load: otherwise a failed pack would hide behind a green DAG run.
    """

    def __init__(self, *, trigger_rule: str = "all_done", **kwargs: Any) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)

    def run_step(self, context: Context) -> None:
        from airflow_dataops.steps.verify import verify

        run = run_of(self.row, context["dag_run"])
        broken = self._broken_upstream(context)
        with self.edges(context, with_source=False) as edges:
            result = verify(self.row, edges, None, run)
            for table in result.tables:
                for part in table.partitions:
                    place = f"{table.target} {part.partition}".strip()
                    self.log.info("%s: %s rows, %s", place, part.found_rows, part.problem or "proved")
            for name in result.held:
                self.log.warning("table %s: held, waits for a decision", name)
            if not broken:
                told(self.row, edges.ledger, run.period, [t.source_table for t in result.tables])
            tell_late(self.row, edges.ledger, context, edges.clock())
        result.raise_for_problems(self.row.id)
        if broken:
            raise to_airflow(
                f"Cannot call the run of {self.row.id} done: {', '.join(broken)} -> all tasks before it succeeded. Their "
                "tables may be missing. See their logs, then clear them.",
                retryable=False,
            )

    def _broken_upstream(self, context: Context) -> list[str]:
        """`task state` of every task instance of the run before this one that did not end well."""
        ti, dag_run = context["ti"], context["dag_run"]
        found = ti.get_task_states(
            dag_id=dag_run.dag_id,
            task_ids=sorted(self.get_flat_relative_ids(upstream=True)),
            run_ids=[dag_run.run_id],
        )
        states = found.get(dag_run.run_id, {})
        return [f"{task} {state}" for task, state in sorted(states.items()) if state not in DONE_STATES]
