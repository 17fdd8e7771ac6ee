"""`Holds` in SQL: questions about held drift, and answers. The rules of leaving a queue are in `holding`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.approval import Approval
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.renames import RenameSuggestion
from airflow_dataops.ledger import holding, rename_answers
from airflow_dataops.ledger.base import BatchRecord, Claim, LetterFile
from airflow_dataops.ledger.claims import lock_table
from airflow_dataops.ledger.encoding import RECORD_COLUMNS, record_of_row
from airflow_dataops.ledger.holds_base import Hold, Queue, Release
from airflow_dataops.ledger.source_names import called, is_of, named_now
from airflow_dataops.ledger.tables import approval, batch, drift_event, hold, loaded_table
from airflow_dataops.storage.sql_database import SqlDatabase

Waiting = list[tuple[BatchRecord, str | None, str | None]]
"""Batches of one table in order of sequence, each with its question's id and what was answered."""


class SqlHolds:
    """`Holds` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def get(self, hold_id: str) -> Hold | None:
        found = self._all(hold.c.hold_id == hold_id)
        return found[0] if found else None

    def list(self, source_id: str | None = None, *, decided: bool = False, limit: int = 100) -> tuple[Hold, ...]:
        where = sa.true() if source_id is None else is_of(hold.c.source_id, source_id)
        if not decided:
            waiting = sa.select(batch.c.hold_id).where(batch.c.state == "held", batch.c.hold_id.is_not(None))
            where &= hold.c.decision.is_(None) | hold.c.hold_id.in_(waiting)
        return self._all(where, newest_first=decided, limit=limit)

    def queues(self, source_id: str | None = None) -> tuple[Queue, ...]:
        query = sa.select(*named_now(RECORD_COLUMNS), hold.c.decision).where(batch.c.state == "held")
        query = query.join(hold, hold.c.hold_id == batch.c.hold_id, isouter=True)
        if source_id is not None:
            query = query.where(is_of(batch.c.source_id, source_id))
        tables: dict[str, Waiting] = {}
        with self._database.read() as connection:
            rows: Iterable[Any] = connection.execute(query.order_by(batch.c.table_key, batch.c.sequence))
            for row in rows:
                tables.setdefault(row.table_key, []).append((record_of_row(row), row.hold_id, row.decision))
        found = [_queue(waiting) for waiting in tables.values()]
        return tuple(sorted(found, key=lambda queue: (queue.oldest_at, queue.table_key)))

    def decide(self, hold_id: str, answer: str, by: str, approvals: Sequence[Approval] = (), at: float | None = None) -> Hold:
        now = self._clock() if at is None else at
        with self._database.write() as connection:
            row = _known(connection, hold_id)
            lock_table(self._database, connection, row.table_key)
            answered = connection.execute(
                hold.update()
                .where(hold.c.hold_id == hold_id, hold.c.decision.is_(None))
                .values(decision=answer, decided_by=by, decided_at=now, open_question=None)
            )
            if not answered.rowcount:
                row = connection.execute(sa.select(hold).where(hold.c.hold_id == hold_id)).one()
                if (row.decision, row.decided_by) != (answer, by):
                    when = datetime.fromtimestamp(row.decided_at, UTC).isoformat(timespec="seconds")
                    raise ConflictError(
                        f"Cannot {answer} drift {hold_id}: {row.decided_by} answered {row.decision} at {when} -> no answer yet. "
                        "The first one stands. Look at `dataops drift show`."
                    )
            else:
                self._settle(connection, row, answer, by, now, approvals)
        return self._there(hold_id)

    def _there(self, hold_id: str) -> Hold:
        found = self.get(hold_id)
        if found is None:
            raise InventoryError(f"Cannot decide drift {hold_id!r}: it is gone -> there. Report this as a defect.")
        return found

    def _settle(
        self, connection: sa.Connection, row: sa.Row[Any], answer: str, by: str, now: float, approvals: Sequence[Approval]
    ) -> None:
        """What follows from the answer, in its transaction: what it approves, which batches may go on, what its events say."""
        common = {"table_key": row.table_key, "hold_id": row.hold_id, "approved_at": now}
        rows = [common | {"change": a.change, "name": a.name, "approval": a.to_json()} for a in approvals]
        self._database.put(connection, approval, rows)
        rename_answers.settle(connection, now, row, by, approvals)
        told = {"hold_decided_by": by, "hold_decided_at": now}
        waiting = (batch.c.hold_id == row.hold_id) & (batch.c.state == "held")
        shown = set(connection.execute(sa.select(batch.c.batch_id).where(waiting)).scalars()) | {row.batch_id}
        connection.execute(batch.update().where(waiting).values(told))
        open_events = sa.select(drift_event.c.id, drift_event.c.event).where(
            drift_event.c.table_key == row.table_key, drift_event.c.decision == "held", drift_event.c.decided_at.is_(None)
        )
        ids = [e.id for e in connection.execute(open_events) if e.event.get("batch_id") in shown]
        values = {"decision": answer, "decided_by": by, "decided_at": now}
        connection.execute(drift_event.update().where(drift_event.c.id.in_(ids)).values(values))

    def suggest(self, table_key: str, source_id: str, batch_id: str, found: Sequence[RenameSuggestion]) -> tuple[str, ...]:
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            return rename_answers.suggest(connection, self._clock(), table_key, source_id, batch_id, found)

    def revoke(self, hold_id: str, by: str) -> Hold:
        with self._database.write() as connection:
            row = _known(connection, hold_id)
            lock_table(self._database, connection, row.table_key)
            rename_answers.revoke(connection, self._clock(), _known(connection, hold_id), by)
        return self._there(hold_id)

    def approvals(self, table_key: str) -> tuple[Approval, ...]:
        query = sa.select(approval.c.approval).where(approval.c.table_key == table_key)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(approval.c.change, approval.c.name)).scalars()
            return tuple(map(Approval.of_json, rows))

    def is_ahead(self, claim: Claim) -> bool:
        with self._database.read() as connection:
            return holding.is_ahead(connection, claim)

    def take(
        self, table_key: str, writer: str, nonce: str, lease_seconds: float = 300.0, but: Collection[tuple[str, int]] = ()
    ) -> Release | None:
        waiting = sa.select(batch.c.batch_id).where(batch.c.state == "held", batch.c.table_key == table_key).limit(1)
        with self._database.read() as connection:  # every run of a table asks: where nothing waits, nothing is locked
            if connection.execute(waiting).one_or_none() is None:
                return None
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            taken = holding.take_next(connection, self._clock(), table_key, writer, nonce, lease_seconds, but)
        if taken is None:
            return None
        claim, hold_id = taken
        return Release(claim, self.get(hold_id) if hold_id is not None else None)

    def ask(self, claim: Claim, reason: Mapping[str, Any]) -> str:
        with self._database.write() as connection:
            return holding.ask(self._database, connection, self._clock(), claim, reason)

    def failed(self, claim: Claim, error: str) -> None:
        with self._database.write() as connection:
            lock_table(self._database, connection, claim.table_key)
            holding.failed(connection, self._clock(), claim, error)

    def reject(
        self, claim: Claim, accounting: Accounting, dead_letters: Sequence[DeadLetter], letter_file: LetterFile | None = None
    ) -> None:
        with self._database.write() as connection:
            holding.reject(self._database, connection, self._clock(), claim, accounting, dead_letters, letter_file)

    def unasked(self) -> tuple[Hold, ...]:
        return self._all(hold.c.decision.is_(None) & hold.c.asked_at.is_(None))

    def asked(self, hold_id: str) -> None:
        self._stamp(hold_id, "asked_at")

    def answered(self) -> tuple[Hold, ...]:
        return self._all(hold.c.decision.is_not(None) & hold.c.asked_at.is_not(None))

    def closed(self, hold_id: str) -> None:
        with self._database.write() as connection:
            decided = (hold.c.hold_id == hold_id) & hold.c.decision.is_not(None)
            connection.execute(hold.update().where(decided).values(asked_at=None))

    def overdue(self, older_than_seconds: float) -> tuple[Hold, ...]:
        old = hold.c.opened_at <= self._clock() - older_than_seconds
        return self._all(hold.c.decision.is_(None) & hold.c.told_at.is_(None) & old)

    def told(self, hold_id: str) -> None:
        self._stamp(hold_id, "told_at")

    def _stamp(self, hold_id: str, column: str) -> None:
        with self._database.write() as connection:
            connection.execute(hold.update().where(hold.c.hold_id == hold_id).values({column: self._clock()}))

    def _all(self, where: sa.ColumnElement[bool], *, newest_first: bool = False, limit: int | None = None) -> tuple[Hold, ...]:
        columns = (*(called(c) if c.key == "source_id" else c for c in hold.c), loaded_table.c.source_table, loaded_table.c.target)
        query = sa.select(*columns).join(loaded_table, loaded_table.c.table_key == hold.c.table_key).where(where)
        order = (hold.c.opened_at.desc(), hold.c.hold_id) if newest_first else (hold.c.opened_at, hold.c.hold_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(*order).limit(limit)).all()
            waiting: dict[str, Any] = {row.hold_id: [] for row in rows}
            held = sa.select(batch.c.hold_id, batch.c.frozen_at, batch.c.accounting, batch.c.hold_reason).where(
                batch.c.state == "held", batch.c.hold_id.in_(list(waiting))
            )
            for one in connection.execute(held.order_by(batch.c.sequence)):
                waiting[one.hold_id].append(one)
        return tuple(_hold(row, waiting[row.hold_id]) for row in rows)


def _known(connection: sa.Connection, hold_id: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(hold).where(hold.c.hold_id == hold_id)).one_or_none()
    if row is None:
        raise InventoryError(
            f"Cannot decide drift {hold_id!r}: nobody knows it -> the id of held drift. `dataops drift list` shows them."
        )
    return row


def _hold(row: sa.Row[Any], waiting: Sequence[sa.Row[Any]]) -> Hold:
    return Hold(
        row.hold_id, row.table_key, row.source_id, row.source_table, row.target, tuple(row.changes), row.why, row.batch_id,
        row.opened_at, row.decision, row.decided_by, row.decided_at, len(waiting),
        sum(Accounting.of_json(one.accounting).rows_held for one in waiting),
        min((one.frozen_at for one in waiting), default=None),
        next((one.hold_reason["error"] for one in waiting if "error" in one.hold_reason), None),
        tuple(RenameSuggestion.of_json(one) for one in row.renames or ()),
    )  # fmt: skip


def _queue(waiting: Waiting) -> Queue:
    head = waiting[0][0]
    return Queue(
        head.table_key, head.source_id, head.source_table, head.target, len(waiting),
        sum(one.accounting.rows_held if one.accounting else 0 for one, _, _ in waiting),
        min(one.frozen_at if one.frozen_at is not None else one.claimed_at for one, _, _ in waiting),
        tuple(dict.fromkeys(hold_id for _, hold_id, decision in waiting if hold_id is not None and decision is None)),
    )  # fmt: skip
