"""The `compact` task of the maintenance DAG: columns of old partitions follow their table, files are written again."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.edges import EdgesHook
from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.fleet import FleetOperator
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.steps.run import Edges


class CompactOperator(FleetOperator):
    """For every table of the inventory with a commit since the last round: the columns of old partitions follow the table's, files
    that one of the setting's `readers` cannot read under the table's types are written again (or only named, as `old_types`
    says), and so are many small ones. At most `compaction_bytes` of files in a round; the next one goes on.

    It takes no claim: a partition that a batch is at work on is left to the next round. Every failing table is reported, then the
    task fails.
    """

    def run_step(self, context: Context) -> None:
        from airflow_dataops.ledger import open_ledger
        from airflow_dataops.steps.maintain import limits_of, maintain

        fleet, ti = self.fleet(), context["ti"]
        writer = f"airflow:{ti.id}:{ti.try_number}:{secrets.token_hex(4)}"
        settings = load_settings(self.settings)

        def opened(spec: PipelineSpec) -> AbstractContextManager[Edges]:
            return EdgesHook(spec, fleet.platform, self.settings).open(writer=writer, with_source=False)

        ledger = open_ledger(settings.ledger)
        try:
            result = maintain(fleet.rows, ledger, opened, limits_of(settings))
        finally:
            ledger.close()
        for table in result.tables:
            if table.cascaded:
                self.log.info("table %s: the columns of %s partitions follow", table.target, table.cascaded)
            if table.renamed:
                self.log.info("table %s: renamed columns of %s partitions are under their old name", table.target, table.renamed)
            for part in table.partitions:
                self.log.info(
                    "table %s partition %r: %s (%s), %s rows, %s bytes, %s files before, %s after %s",
                    table.target, part.partition, part.outcome, part.why, part.rows, part.bytes, part.files_before,
                    part.files_after, part.error or "",
                )  # fmt: skip
        if result.failures:
            named = "; ".join(f"{t.target} ({t.why_failed})" for t in result.failures[:5])
            more = f"; and {len(result.failures) - 5} more" if len(result.failures) > 5 else ""
            raise to_airflow(
                f"Cannot maintain {len(result.failures)} tables: {named}{more} -> all of them. The next round tries again.",
                retryable=True,
            )
