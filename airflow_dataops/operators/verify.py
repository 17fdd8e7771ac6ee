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

    `against_source`: instead, the source is read again and compared with the lake, row by row where they differ; the keys of such
    rows are in the error. For a task of its own, in a DAG with a schedule of its own: it reads everything.
    """

    def __init__(self, *, trigger_rule: str = "all_done", against_source: bool = False, **kwargs: Any) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.against_source = against_source

    def run_step(self, context: Context) -> None:
        from airflow_dataops.steps.verify import verify

        if self.against_source:
            self._reconcile(context)
            return
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

    def _reconcile(self, context: Context) -> None:
        from airflow_dataops.steps.reconcile import raise_for_differences, reconcile

        with self.edges(context) as edges:
            history = edges.ledger.batches.history(source_id=self.row.id, limit=1_000_000)
            tables = sorted({record.source_table for record in history if record.state == "committed"})
            result = reconcile(self.row, edges, tables)
        for table in result:
            for span in table.spans:
                self.log.info("%s: %s", table.target, f"{span.lake_rows} rows, equal" if span.ok else span)
        raise_for_differences(self.row.id, result)

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
