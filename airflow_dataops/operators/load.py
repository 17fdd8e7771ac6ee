"""The `load` task: one pack of tables, each read, proved and published on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.operators.assets import announce
from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.notify import notify_held, notify_limit
from airflow_dataops.operators.run import run_of
from airflow_dataops.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.steps.run import LoadResult


class LoadOperator(StepOperator):
    """Loads the tables of `pack`, a list of names as `discover` returns them:
    `LoadOperator.partial(task_id="load").expand(pack=discover.output)`.

    Every table is reported, then the task fails if any failed: with a retry while at least one of them may succeed when
    tried again. A retry does only what is not done.
    """

    def __init__(self, *, pack: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pack = pack

    def run_step(self, context: Context) -> None:
        from airflow_dataops.steps.load import load

        if isinstance(self.pack, str) or not all(isinstance(name, str) for name in self.pack):
            raise InventoryError(
                f"Cannot load pack of task {self.task_id!r}: {type(self.pack).__name__} -> a list of table names. It "
                "comes from the `discover` task. Map the task: `.expand(pack=discover.output)`."
            )
        run = run_of(self.row, context["dag_run"])
        self.log.info("%s: period %s from %s to %s", self.row.id, run.period.key, run.period.start, run.period.end)
        with self.edges(context) as edges:
            result = load(self.row, edges, run, self.pack)
            for table in result.tables:
                self.log_table(table)
            held = [table.target for table in result.tables if table.outcome == "held"]
            notify_held(self.row, context, held, f"in period {run.period.key}")
            reached = {t.target: t.error or "" for t in result.failures if t.error_code == "limit"}
            notify_limit(self.row, context, reached)
            alias = next((o for o in self.outlets if isinstance(o, AssetAlias)), None)
            if alias is not None:
                announce(self.row, edges.ledger, run.period, self.pack, context["outlet_events"][alias])
        _raise_for_failures(self.row.id, result)


def _raise_for_failures(source_id: str, result: LoadResult) -> None:
    failures = result.failures
    if failures:
        named = "; ".join(f"{t.source_table} ({t.error_code}: {t.error})" for t in failures[:5])
        more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise to_airflow(
            f"Cannot load {source_id}: {len(failures)} of {len(result.tables)} tables failed -> all loaded. {named}{more}. "
            "The other tables are published; a retry does only what is not done.",
            retryable=result.retryable,
        )
