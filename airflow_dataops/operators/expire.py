"""The `expire` task of the maintenance DAG: partitions that are older than their row keeps are dropped."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.edges import EdgesHook
from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.fleet import FleetOperator
from airflow_dataops.schedule import parse_schedule, period_ends
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.core.partition_age import PeriodEnd
    from airflow_dataops.steps.run import Edges


class ExpireOperator(FleetOperator):
    """Drops the partitions of rows with `target.retention_days` whose time was over for longer than that; their files go after the
    grace. The ledger alone tells which: no source has to be up, and a row without anything to drop opens nothing.

    More at once than the settings `drop_most_partitions` and `expire_most_percent` allow is left to a person. Every failing
    table is reported, then the task fails.
    """

    def run_step(self, context: Context) -> None:
        import time

        from airflow_dataops.ledger import open_ledger
        from airflow_dataops.steps.drop_limits import DropLimits
        from airflow_dataops.steps.retention import expire

        fleet, ti, settings = self.fleet(), context["ti"], load_settings(self.settings)
        writer = f"airflow:{ti.id}:{ti.try_number}:{secrets.token_hex(4)}"

        def opened(spec: PipelineSpec) -> AbstractContextManager[Edges]:
            return EdgesHook(spec, fleet.platform, self.settings).open(writer=writer, with_source=False)

        def period_end(spec: PipelineSpec) -> PeriodEnd:
            return period_ends(parse_schedule(spec.schedule, spec.timezone))

        limits = DropLimits(settings.drop_most_partitions, settings.expire_most_percent)
        ledger = open_ledger(settings.ledger)
        try:
            result = expire(fleet.rows, ledger, opened, period_end, limits, time.time())
        finally:
            ledger.close()
        for table in result.tables:
            if table.error is None:
                self.log.info(
                    "table %s: %s partitions with %s rows dropped, %s left to who is loading them",
                    table.target, len(table.dropped), table.rows, table.left,
                )  # fmt: skip
            if table.foreign:
                self.log.warning("table %s: not ours, so not dropped: %s", table.target, ", ".join(table.foreign[:10]))
        if result.failures:
            named = "; ".join(f"{t.target} ({t.error_code}: {t.error})" for t in result.failures[:5])
            more = f"; and {len(result.failures) - 5} more" if len(result.failures) > 5 else ""
            raise to_airflow(
                f"Cannot expire partitions of {len(result.failures)} tables: {named}{more} -> all within their retention. The next "
                "run tries again.",
                retryable=True,
            )
