"""Which tables the ledger knows, and which of them are not at rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.base import KnownTable
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
