"""The `freshness` task of the maintenance DAG, and what `verify` shares with it: missed freshness is told once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_dataops.core.errors import DataOpsError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.fleet import FleetOperator
from airflow_dataops.operators.notify import notify_late
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.ledger.base import Ledger


class FreshnessOperator(FleetOperator):
    """Judges every row with `freshness_seconds`, also of a DAG that never ran, by the ledger alone.

    Through the row's `notify` connections it is told once when a table becomes late, not at every look; again only after
    the table was fresh in between. A message that nobody took is tried again.
    """

    def run_step(self, context: Context) -> None:
        from airflow_dataops.ledger import open_ledger

        failed = []
        ledger = open_ledger(load_settings(self.settings).ledger)
        try:
            for spec in self.fleet().rows:
                try:
                    tell_late(spec, ledger, context, time.time())
                except DataOpsError as error:
                    self.log.error("freshness of %s: %s", spec.id, error)
                    failed.append(spec.id)
        finally:
            ledger.close()
        if failed:
            raise to_airflow(
                f"Cannot judge the freshness of {len(failed)} sources: {', '.join(failed[:10])} failed -> all judged. The others "
                "were. See this task's log.",
                retryable=True,
            )


def tell_late(spec: PipelineSpec, ledger: Ledger, context: Context, now: float) -> None:
    """Tells which tables of the row have become late since somebody was last told. `now` in POSIX seconds."""
    from airflow_dataops.steps.freshness import newly_late, told

    late = newly_late(spec, ledger, now)
    if late and notify_late(spec, context, late):
        told(spec, ledger, late)
