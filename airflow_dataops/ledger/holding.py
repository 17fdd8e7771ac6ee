"""How batches come to wait, and how they leave the queue (DESIGN §5, held drift).

Each function runs inside one write transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.approval import REJECT, REVOKED
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import StopError
from airflow_dataops.core.offset import moves_watermark, range_of_json
from airflow_dataops.ledger import replaying
from airflow_dataops.ledger.base import BatchContent, Claim, LetterFile
from airflow_dataops.ledger.claims import UNFINISHED, end, is_batch, lose_directories, own_row, scopes_meet, take
from airflow_dataops.ledger.encoding import RECORD_COLUMNS, content_to_json
from airflow_dataops.ledger.freezing import check_staged, move_watermark, record_files
from airflow_dataops.ledger.tables import batch, hold
from airflow_dataops.storage.sql_database import SqlDatabase
from airflow_dataops.storage.sql_text import json_text, text_id

NO_ANSWER = (REJECT, REVOKED)
"""Decisions that never speak of a batch that comes later."""


def put_aside(database: SqlDatabase, connection: sa.Connection, now: float, held: Claim, reason: Mapping[str, Any]) -> None:
    """The rules of `Batches.hold`: the batch leaves the claim and keeps its place in the queue; its files are never expired."""
    row = own_row(database, connection, held, "hold", ("frozen",))
    counts = Accounting.of_json(row.accounting)
    waiting = replace(
        counts, rows_held=counts.rows_held + counts.rows_written + counts.rows_unchanged, rows_written=0, rows_unchanged=0
    )
    connection.execute(
        batch.update()
        .where(is_batch(row))
        .values(state="held", accounting=waiting.to_json(), lease_until=now, **_under(connection, now, row, reason))
    )
    moved = moves_watermark(range_of_json(row.range))
    if moved is not None:
        move_watermark(connection, held.table_key, moved)
    record_files(database, connection, now, row)


def ask(database: SqlDatabase, connection: sa.Connection, now: float, held: Claim, reason: Mapping[str, Any]) -> str:
    """The rules of `Holds.ask`. An answer that stands was given already to what was planned: it does not answer this."""
    row = own_row(database, connection, held, "ask about", ("held",))
    under = _under(connection, now, row, reason, standing=False)
    connection.execute(batch.update().where(is_batch(row)).values(lease_until=now, **under))
    return str(under["hold_id"])


def is_ahead(connection: sa.Connection, of: Claim) -> bool:
    """The rules of `Holds.is_ahead`."""
    query = sa.select(batch.c.scope).where(
        batch.c.table_key == of.table_key, batch.c.state == "held", batch.c.sequence < of.sequence
    )
    return any(scopes_meet(scope, of.scope) for scope in connection.execute(query.distinct()).scalars())


def take_next(
    connection: sa.Connection, now: float, table_key: str, writer: str, nonce: str, lease_seconds: float,
    but: Collection[tuple[str, int]],
) -> tuple[Claim, str | None] | None:  # fmt: skip
    """The rules of `Holds.take`, table locked: the claim and the id of the answered question."""
    waiting = sa.select(*RECORD_COLUMNS).where(batch.c.table_key == table_key, batch.c.state.in_((*UNFINISHED, "held")))
    ahead: list[str] = []
    for row in connection.execute(waiting.order_by(batch.c.sequence)).all():
        free = row.state == "held" and row.lease_until <= now and (row.batch_id, row.generation) not in but
        may = row.hold_id is None or row.hold_decided_at is not None
        if free and may and not any(scopes_meet(scope, row.scope) for scope in ahead):
            return take(connection, now, row, writer, nonce, lease_seconds), row.hold_id
        ahead.append(row.scope)
    return None


def failed(connection: sa.Connection, now: float, held: Claim, error: str) -> None:
    """The rules of `Holds.failed`, table locked."""
    row = connection.execute(sa.select(*RECORD_COLUMNS).where(is_batch(held))).one_or_none()
    if row is not None and row.attempt == held.attempt and row.state == "held":
        reason = {**(row.hold_reason or {}), "error": error}
        connection.execute(batch.update().where(is_batch(row)).values(lease_until=now, hold_reason=reason))


def reject(
    database: SqlDatabase,
    connection: sa.Connection,
    now: float,
    held: Claim,
    accounting: Accounting,
    letters: Sequence[DeadLetter],
    file: LetterFile | None,
) -> None:
    """The rules of `Holds.reject`. ProofError when the accounting does not add up, StopError when rows would still wait."""
    row = own_row(database, connection, held, "reject", ("held",))
    accounting.prove(held.object_name)
    before = Accounting.of_json(row.accounting)
    if accounting.rows_held or accounting.rows_written or accounting.rows_read != before.rows_read:
        raise StopError(
            f"Cannot reject batch {held.object_name} of {held.table_key}: {accounting.to_json()} -> all {before.rows_held} held "
            "rows as dead letters. A row was lost. Nothing was changed; report this as a defect."
        )
    connection.execute(batch.update().where(is_batch(row)).values(accounting=accounting.to_json()))
    replaying.index(connection, now, row, letters, file)
    replaying.rejected(connection, row)
    end(connection, now, row, "rejected")


def reshape(
    connection: sa.Connection, now: float, row: sa.Row[Any], held: Claim, letters: Sequence[DeadLetter], file: LetterFile | None
) -> BatchContent:
    """A held batch's content becomes what its attempt made of it under the answer; the state is the caller's to set, in the same
    transaction. ProofError when the accounting does not add up, or another number of rows was read."""
    content = held.content
    if content is None:
        raise StopError(f"Cannot decide held batch {held.object_name}: no content -> what it was shaped to. This is a defect.")
    content.accounting.prove(held.object_name)
    before = Accounting.of_json(row.accounting)
    if content.accounting.rows_read != before.rows_read or content.accounting.rows_held:
        raise StopError(
            f"Cannot decide held batch {held.object_name} of {held.table_key}: {content.accounting.to_json()} -> the "
            f"{before.rows_read} rows that were read, none of them held. Nothing was published; report this as a defect."
        )
    check_staged(connection, held, content)
    connection.execute(
        batch.update()
        .where(is_batch(row))
        .values(
            content=content_to_json(content), accounting=content.accounting.to_json(), fingerprint=content.fingerprint,
            frozen_attempt=held.attempt,
        )
    )  # fmt: skip
    lose_directories(connection, now, row, but_attempts=(held.attempt,))
    replaying.index(connection, now, row, letters, file)
    return content


def _under(
    connection: sa.Connection, now: float, row: sa.Row[Any], reason: Mapping[str, Any], *, standing: bool = True
) -> dict[str, Any]:
    """The batch's columns that tell what it waits for. `standing`: an approval of just these changes, given while they were read,
    is the answer (C3); a rejection never answers for what it did not know."""
    values: dict[str, Any] = {"hold_reason": dict(reason), "hold_id": None, "hold_decided_by": None, "hold_decided_at": None}
    changes = reason.get("changes")
    if not changes:
        return values
    same = text_id(json_text([row.table_key, changes]))
    if standing:
        answered = sa.select(hold).where(hold.c.question == same, hold.c.decision.not_in(NO_ANSWER))
        found = connection.execute(answered.order_by(hold.c.decided_at.desc()).limit(1)).one_or_none()
        if found is not None:
            told = {"hold_decided_by": found.decided_by, "hold_decided_at": found.decided_at}
            return values | told | {"hold_id": found.hold_id}
    found = connection.execute(sa.select(hold.c.hold_id).where(hold.c.open_question == same)).scalar()
    if found is not None:
        return values | {"hold_id": found}
    hold_id = f"drift-{text_id(json_text([same, row.batch_id, row.generation, row.attempt]))[:16]}"
    connection.execute(
        hold.insert().values(
            hold_id=hold_id, table_key=row.table_key, source_id=row.source_id, question=same, open_question=same,
            changes=list(changes), why=str(reason.get("why", "")), batch_id=row.batch_id, opened_at=now,
            renames=list(reason.get("renames", ())) or None,
        )
    )  # fmt: skip
    return values | {"hold_id": hold_id}
