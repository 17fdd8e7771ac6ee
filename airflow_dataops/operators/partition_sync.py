"""A task that compares the catalog with the ledger and the lake, and puts right what the ledger decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataops.operators.step import StepOperator
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context


class PartitionSyncOperator(StepOperator):
    """Repairs the partitions of a row's loaded tables, as `dataops partitions repair` does: what the catalog shows otherwise than
    decided is shown anew. No source has to be up.

    `tables` are source tables (all loaded ones without). `drop` takes away partitions whose files are gone, within the settings
    `drop_most_partitions` and `drop_most_percent`; beyond them nothing is changed and the task fails. `deep` reads and proves
    every row. The task fails when something is wrong that it may not touch. Put it into a DAG of your own.
    """

    def __init__(self, *, tables: Sequence[str] | None = None, drop: bool = False, deep: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tables = tables
        self.drop = drop
        self.deep = deep

    def run_step(self, context: Context) -> dict[str, dict[str, int]]:
        from airflow_dataops.core.errors import StopError
        from airflow_dataops.steps.drop_limits import DropLimits
        from airflow_dataops.steps.partition_sync import partition_sync

        settings = load_settings(self._carrier().settings)
        limits = DropLimits(settings.drop_most_partitions, settings.drop_most_percent)
        with self.edges(context, with_source=False) as edges:
            results = partition_sync(self.row, edges, limits, self.tables, drop=self.drop, deep=self.deep)
        for result in results:
            self.log.info(
                "table %s: %s partitions, %s shown anew, %s dropped, %s left wrong",
                result.target, result.standing, len(result.shown), len(result.dropped), len(result.left),
            )  # fmt: skip
        failed = [f"{r.target} ({r.error_code}: {r.error})" for r in results if r.error is not None]
        left = failed + [f"{r.target} {p.partition}: {p.state}, {p.detail}" for r in results for p in r.left]
        if left:
            more = f"; and {len(left) - 10} more" if len(left) > 10 else ""
            raise StopError(
                f"Cannot call the partitions of {self.row.id} repaired: {'; '.join(left[:10])}{more} -> as decided. What was never "
                "ours is not touched, and files that are gone cannot be shown. See docs/partitions.md."
            )
        return {r.target: {"standing": r.standing, "shown": len(r.shown), "dropped": len(r.dropped)} for r in results}
