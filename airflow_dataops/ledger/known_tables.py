"""Which tables the ledger knows, and which of them are not at rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.base import WHOLE_TABLE, KnownTable
from airflow_dataops.ledger.source_names import is_of, named_now
from airflow_dataops.ledger.tables import batch, loaded_table, mark
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlKnownTables:
    """`KnownTables` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def of_source(self, source_id: str) -> tuple[KnownTable, ...]:
        return known_tables(self._database, is_of(loaded_table.c.source_id, source_id))

    def of_target(self, target: str) -> tuple[KnownTable, ...]:
        return known_tables(self._database, loaded_table.c.target == target)

    def with_work(self) -> tuple[KnownTable, ...]:
        unfinished = sa.select(batch.c.table_key).where(batch.c.state.in_(("frozen", "decided")))
        return known_tables(
            self._database,
            loaded_table.c.table_key.in_(unfinished)
            | loaded_table.c.table_key.in_(_released())
            | loaded_table.c.table_key.in_(sa.select(mark.c.table_key))
            | (loaded_table.c.expiry_due_at <= self._clock()),
        )


def known_tables(database: SqlDatabase, where: sa.ColumnElement[bool]) -> tuple[KnownTable, ...]:
    """In order of their key."""
    known = loaded_table.c
    columns = (known.table_key, known.source_id, known.source_table, known.target, known.committed_at)
    query: sa.Select[Any] = sa.select(*named_now(columns))
    with database.read() as connection:
        return tuple(KnownTable(*row) for row in connection.execute(query.where(where).order_by(known.table_key)))


def _released() -> sa.Select[Any]:
    """Tables with a held batch that waits for nobody: it is answered, or has no question of its own, and none before it is held."""
    before = batch.alias("before")
    behind = sa.select(before.c.batch_id).where(
        before.c.table_key == batch.c.table_key,
        before.c.state == "held",
        before.c.sequence < batch.c.sequence,
        (before.c.scope == batch.c.scope) | (before.c.scope == WHOLE_TABLE) | (batch.c.scope == WHOLE_TABLE),
    )
    may = batch.c.hold_id.is_(None) | batch.c.hold_decided_at.is_not(None)
    return sa.select(batch.c.table_key).where(batch.c.state == "held", may, ~behind.exists())
