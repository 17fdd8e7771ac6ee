"""Directories by state: the only ground on which anything is ever deleted (DESIGN §5.10).

An attempt's directory is judged as a whole. It holds one or more partitions' files: those that were ever decided are in
use as long as readers may come to them, the rest as long as the attempt may still publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.base import Claim
from airflow_dataops.ledger.claims import TERMINAL, UNFINISHED, lock_table, own_row
from airflow_dataops.ledger.encoding import check_path, is_current
from airflow_dataops.ledger.tables import batch, decision, directory, loaded_table, mark, partition
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlDirectories:
    """`Directories` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def register(self, claim: Claim, directory_path: str) -> None:
        check_path(directory_path, "directory")
        with self._database.write() as connection:
            own_row(self._database, connection, claim, "register a directory for", UNFINISHED)
            row = {
                "table_key": claim.table_key, "directory": directory_path, "batch_id": claim.batch_id,
                "generation": claim.generation, "attempt": claim.attempt, "registered_at": self._clock(),
            }  # fmt: skip
            self._database.insert_missing(connection, directory, [row])

    def expirable(self, table_key: str, grace_seconds: float, dead_after_seconds: float) -> tuple[str, ...]:
        now = self._clock()
        with self._database.write() as connection:  # one moment, beside no decision
            lock_table(self._database, connection, table_key)
            used = {row.directory: row for row in connection.execute(_decided(table_key))}
            live = set(connection.execute(_live(table_key)).scalars())
            due: dict[str, float] = {}
            for row in connection.execute(_registered(table_key)):
                if row.directory in live:
                    continue
                if row.directory in used:
                    left = _left_behind(used[row.directory]) if row.state in (*TERMINAL, None) else None
                    at = None if left is None else left + grace_seconds
                elif row.state is None:  # of the maintenance: it has no attempt that could be fenced, so its place is taken away
                    at = row.lost_at if row.lost_at is not None else row.registered_at + dead_after_seconds
                    if row.lost_at is None and at <= now:
                        connection.execute(directory.update().where(_is(table_key, row.directory)).values(lost_at=now))
                else:
                    at = None if row.lost_at is None else row.lost_at + dead_after_seconds
                if at is not None:
                    due[row.directory] = at
            # What is due and not deleted stays due; what has no time yet gets one from a change that reconsiders.
            next_due = min(due.values(), default=None)
            connection.execute(loaded_table.update().where(loaded_table.c.table_key == table_key).values(expiry_due_at=next_due))
            return tuple(place for place, at in due.items() if at <= now)

    def forget(self, table_key: str, directory_path: str) -> None:
        """The row stays: a location at which the catalog once pointed must stay recognisable as ours (A16)."""
        with self._database.write() as connection:
            connection.execute(
                directory.update()
                .where(_is(table_key, directory_path), directory.c.forgotten_at.is_(None))
                .values(forgotten_at=self._clock())
            )


def _is(table_key: str, directory_path: str) -> sa.ColumnElement[bool]:
    return (directory.c.table_key == table_key) & (directory.c.directory == directory_path)


def _registered(table_key: str) -> sa.Select[Any]:
    """Directories that are still there, with the state of their batch; those of the maintenance have none."""
    return (
        sa.select(directory.c.directory, directory.c.lost_at, directory.c.registered_at, batch.c.state)
        .outerjoin(
            batch,
            (batch.c.table_key == directory.c.table_key)
            & (batch.c.batch_id == directory.c.batch_id)
            & (batch.c.generation == directory.c.generation),
        )
        .where(directory.c.table_key == table_key, directory.c.forgotten_at.is_(None))
        .order_by(directory.c.registered_at, directory.c.directory)
    )


def _live(table_key: str) -> sa.Select[Any]:
    """Directories in which a partition's current decision lies."""
    return sa.select(decision.c.directory).join(partition, is_current()).where(decision.c.table_key == table_key).distinct()


def _decided(table_key: str) -> sa.Select[Any]:
    """Per directory what happened to all decisions that ever lay in it."""
    marked = sa.select(mark.c.name).where(mark.c.table_key == decision.c.table_key, mark.c.name == decision.c.name)
    return (
        sa.select(
            decision.c.directory,
            sa.func.count().label("decisions"),
            sa.func.count(decision.c.superseded_at).label("superseded"),
            sa.func.max(decision.c.superseded_at).label("superseded_at"),
            sa.func.max(partition.c.mark_cleared_at).label("mark_cleared_at"),
            sa.func.sum(sa.case((marked.exists(), 1), else_=0)).label("marks"),
        )
        .join(
            directory,
            (directory.c.table_key == decision.c.table_key)
            & (directory.c.directory == decision.c.directory)
            & directory.c.forgotten_at.is_(None),
        )
        .join(partition, (partition.c.table_key == decision.c.table_key) & (partition.c.name == decision.c.name))
        .where(decision.c.table_key == table_key)
        .group_by(decision.c.directory)
    )


def _left_behind(used: sa.Row[Any]) -> float | None:
    """Since when every decision in the directory was verifiably replaced, and no reader or late writer can come back to it;
    None while one could."""
    if used.superseded < used.decisions or used.marks:
        return None
    return float(max(used.superseded_at, used.mark_cleared_at or 0.0))
