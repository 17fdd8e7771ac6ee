"""What a source shows is laid beside what it showed before: drift events, and which columns are retired.

`load` does so with what a frozen batch shows, `drift_sync` with what is declared. Both ways are one, and news is told once.
"""

from __future__ import annotations

import json

from airflow_dataops.core.drift_events import NOTHING_DECIDED, decided
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.offset import FileSet, Letters
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import Claim, Noticed, Observation
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.staged_as import DRIFT, TELLS_NOTHING


def notice(table: TableSpec, claim: Claim, edges: Edges) -> Noticed:
    """Of a frozen or decided batch, whoever staged it; again for the same batch changes nothing."""
    content = claim.content
    if content is None:
        return Noticed()
    plan = content.traits.get(DRIFT)
    # Letters that are replayed say nothing of what the source is now.
    tells_nothing = TELLS_NOTHING in content.traits or isinstance(claim.range, Letters)
    return edges.ledger.drift.observe(
        Observation(
            table_key=table.key, source_id=table.source_id, source_table=table.source_table, target=table.name,
            schema=None if tells_nothing else content.source_schema,
            traits={name: value for name, value in content.traits.items() if "." not in name and not tells_nothing},
            plan=NOTHING_DECIDED if plan is None else json.loads(plan), contract=table.contract, batch_id=claim.batch_id,
            generation=claim.generation, sequence=claim.sequence,
            late=isinstance(claim.range, FileSet) and claim.generation > 1, rows=content.accounting.rows_read,
        )
    )  # fmt: skip


def notice_declared(table: TableSpec, declared: SourceTable, plan: DriftPlan, edges: Edges) -> Noticed:
    """Of what the source declares, before a row is read. The first batch that comes after it stands for the event."""
    return edges.ledger.drift.observe(
        Observation(
            table_key=table.key, source_id=table.source_id, source_table=table.source_table, target=table.name,
            schema=declared.schema, traits=declared.traits, plan=decided(plan), contract=table.contract,
        )
    )  # fmt: skip
