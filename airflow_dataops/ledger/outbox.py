"""What waits to be told: asset events, at least once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.source_names import is_of
from airflow_dataops.ledger.tables import asset_event
from airflow_dataops.storage.sql_database import ROWS_PER_STATEMENT, SqlDatabase


class SqlOutbox:
    """`Outbox` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def pending_assets(self, source_id: str) -> tuple[tuple[int, Mapping[str, Any]], ...]:
        query = sa.select(asset_event.c.id, asset_event.c.event).where(
            is_of(asset_event.c.source_id, source_id), asset_event.c.told_at.is_(None)
        )
        with self._database.read() as connection:
            return tuple((row.id, row.event) for row in connection.execute(query.order_by(asset_event.c.id)))

    def assets_told(self, ids: Sequence[int]) -> None:
        asked = sorted(set(ids))
        with self._database.write() as connection:
            for i in range(0, len(asked), ROWS_PER_STATEMENT):
                connection.execute(
                    asset_event.update()
                    .where(asset_event.c.id.in_(asked[i : i + ROWS_PER_STATEMENT]), asset_event.c.told_at.is_(None))
                    .values(told_at=self._clock())
                )
