"""The `sweep` task of the maintenance DAG: what others left unfinished is finished, what nobody needs is deleted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.edges import EdgesHook
from airflow_dataops.operators.errors import to_airflow
from airflow_dataops.operators.fleet import FleetOperator
from airflow_dataops.operators.notify import notify_expired, notify_held, notify_waiting
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.ledger.base import Ledger
    from airflow_dataops.steps.run import Edges


def tell_waiting(rows: Iterable[PipelineSpec], ledger: Ledger, context: Context, older_than_seconds: float) -> None:
    """Tells of drift that nobody has answered for so long, once each. A message that nobody took is tried again."""
    overdue: dict[str, dict[str, str]] = {}
    for hold in ledger.holds.overdue(older_than_seconds):
        if not hold.is_suggestion:  # nothing waits for that answer
            overdue.setdefault(hold.source_id, {})[hold.hold_id] = hold.target
    for spec in rows:
        waiting = overdue.get(spec.id)
        if waiting and notify_waiting(spec, context, waiting):
            for hold_id in waiting:
                ledger.holds.told(hold_id)


class SweepOperator(FleetOperator):
    """Finishes what dead runs left decided or proved, publishes held batches that somebody has answered, shows readers what is
    decided, and deletes what was replaced, for every table of the inventory that the ledger knows to be not at rest; dead
    letters go when their retention is over. Tables of retired sources are marked in the catalog. No source has to be up.

    A batch that a live run holds is left alone. Every failing table is reported, then the task fails. Whoever a row names in
    `notify` is told, once, of drift that waits for an answer for too long.
    """

    def run_step(self, context: Context) -> None:
        from airflow_dataops.ledger import open_ledger
        from airflow_dataops.steps.letter_expiry import expire_letters
        from airflow_dataops.steps.retired import mark_retired
        from airflow_dataops.steps.sweep import sweep

        fleet, ti = self.fleet(), context["ti"]
        writer = f"airflow:{ti.id}:{ti.try_number}:{secrets.token_hex(4)}"

        def opened(spec: PipelineSpec) -> AbstractContextManager[Edges]:
            return EdgesHook(spec, fleet.platform, self.settings).open(writer=writer, with_source=False)

        settings = load_settings(self.settings)
        ledger = open_ledger(settings.ledger)
        try:
            result = sweep(fleet.rows, ledger, opened)
            expired = expire_letters(fleet.rows, ledger, opened, time.time())
            marked = mark_retired(ledger, opened)
            tell_waiting(fleet.rows, ledger, context, settings.held_alert_seconds)
        finally:
            ledger.close()
        for table in result.tables:
            if table.changed:
                self.log.info(
                    "table %s: %s batches finished, %s held, %s of the held published and %s rejected, %s partitions shown anew, "
                    "%s directories deleted",
                    table.target, table.finished, table.held, table.released, table.rejected, table.projected, table.expired,
                )  # fmt: skip
        for spec in fleet.rows:
            notify_held(spec, context, [t.target for t in result.tables if t.source_id == spec.id and t.held], "by a run that died")
        rows = {spec.id: spec for spec in fleet.rows}
        for one in expired:
            self.log.info("dead letters of %s: %s files deleted, %s letters unheeded", one.source_id, one.files, one.unheeded)
            if one.source_id in rows:  # whom a row that is gone named is not told
                notify_expired(rows[one.source_id], context, one.unheeded)
        if result.strangers:
            self.log.warning("sources without a row that the ledger has work of: %s", ", ".join(result.strangers))
        if marked.tables:
            self.log.info("tables that say now whether their source is retired: %s", ", ".join(marked.tables))
        for source_id, why in marked.failed.items():
            self.log.warning("the tables of %s do not say yet whether it is retired: %s", source_id, why)
        if undone := [one for one in expired if one.error]:
            self.log.warning("dead letters that could not be expired: %s", "; ".join(f"{o.source_id} ({o.error})" for o in undone))
        if result.failures:
            named = "; ".join(f"{t.target} ({t.error_code}: {t.error})" for t in result.failures[:5])
            more = f"; and {len(result.failures) - 5} more" if len(result.failures) > 5 else ""
            raise to_airflow(
                f"Cannot sweep {len(result.failures)} tables: {named}{more} -> all swept. The next run tries again.",
                retryable=True,
            )
