"""Renames in the ledger: a question about a suggested one, what follows from its approval, and how that is taken back.

Each function runs inside one write transaction, the table locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.approval import RENAME, REVOKED, Approval, renames_of
from airflow_dataops.core.continued import Rename
from airflow_dataops.core.drift import ColumnRenamed
from airflow_dataops.core.drift_events import described
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.renames import RenameSuggestion
from airflow_dataops.core.shown import Shown
from airflow_dataops.ledger.drift_base import OF_NO_BATCH
from airflow_dataops.ledger.tables import approval, drift_event, hold, loaded_table, shown_table
from airflow_dataops.storage.sql_text import json_text, text_id


def suggest(
    connection: sa.Connection, now: float, table_key: str, source_id: str, batch_id: str, found: Sequence[RenameSuggestion]
) -> tuple[str, ...]:
    """The rules of `Holds.suggest`."""
    opened = []
    for one in found:
        changes = [ColumnRenamed(one.before, one.after).to_json()]
        question = text_id(json_text([table_key, changes]))
        if connection.execute(sa.select(hold.c.hold_id).where(hold.c.question == question)).first() is not None:
            continue
        hold_id = f"drift-{text_id(json_text([question, batch_id]))[:16]}"
        connection.execute(
            hold.insert().values(
                hold_id=hold_id, table_key=table_key, source_id=source_id, question=question, open_question=question,
                changes=changes, why=str(one), batch_id=batch_id, opened_at=now, renames=[one.to_json()],
            )
        )  # fmt: skip
        opened.append(hold_id)
    return tuple(opened)


def settle(connection: sa.Connection, now: float, row: sa.Row[Any], by: str, approvals: Sequence[Approval]) -> None:
    """What an approved rename means beside its approval: the source shows the old column from now on, which is told once, and the
    maintenance looks at the table for values that landed in the new one."""
    renames = renames_of(approvals)
    if not renames:
        return
    where = shown_table.c.table_key == row.table_key
    state = connection.execute(sa.select(shown_table.c.state).where(where)).scalar()
    if state is not None:
        shown = Shown.of_json(state)
        for one in renames:
            shown = shown.continued(one.before, one.after)
        connection.execute(shown_table.update().where(where).values(state=shown.to_json()))
    connection.execute(loaded_table.update().where(loaded_table.c.table_key == row.table_key).values(maintained_at=None))
    _tell(connection, now, row, by, RENAME, "applied", renames)


def revoke(connection: sa.Connection, now: float, row: sa.Row[Any], by: str) -> None:
    """The rules of `Holds.revoke`."""
    if (row.decision, row.decided_by) == (REVOKED, by):
        return
    if row.decision != RENAME:
        raise InventoryError(
            f"Cannot take back the answer to drift {row.hold_id}: it is {row.decision or 'none yet'} -> {RENAME}. What else was "
            "approved is in the table by now. `dataops drift list --decided` shows the renames."
        )
    mine = (approval.c.table_key == row.table_key) & (approval.c.hold_id == row.hold_id)
    mine &= approval.c.change == ColumnRenamed.change
    given = [Approval.of_json(one) for one in connection.execute(sa.select(approval.c.approval).where(mine)).scalars()]
    connection.execute(approval.delete().where(mine))
    connection.execute(
        hold.update().where(hold.c.hold_id == row.hold_id).values(decision=REVOKED, decided_by=by, decided_at=now)
    )  # fmt: skip
    _tell(connection, now, row, by, REVOKED, "revoked", renames_of(given))


def _tell(
    connection: sa.Connection, now: float, row: sa.Row[Any], by: str, decision: str, done: str, renames: Sequence[Rename]
) -> None:
    """One drift event, of no batch."""
    table = connection.execute(sa.select(loaded_table).where(loaded_table.c.table_key == row.table_key)).one()
    changes = [described(ColumnRenamed(one.before, one.after), done) for one in renames]
    told = {
        "table_key": row.table_key, "source_table": table.source_table, "target": table.target, "kind": ColumnRenamed.kind,
        "before": None, "after": None, "before_schema_id": None, "after_schema_id": None, "changes": changes, "batch_id": None,
        "renames": list(row.renames or ()), "rows": 0, "flips": {}, "settled": {},
    }  # fmt: skip
    connection.execute(
        drift_event.insert().values(
            table_key=row.table_key, source_id=row.source_id, kind=ColumnRenamed.kind, before_fingerprint=None,
            after_fingerprint=None, batch_id=OF_NO_BATCH, event=told, recorded_at=now, decision=decision, decided_by=by,
            decided_at=now,
        )
    )  # fmt: skip
