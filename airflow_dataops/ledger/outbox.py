"""What waits to be told: asset events (at least once), and dead letters as screens may show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.source_names import is_of, named_now
from airflow_dataops.ledger.tables import asset_event, batch, dead_letter
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

    def dead_letters(self, source_id: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        """Newest first, each with the state of its batch; `preview` has the record's shape, never its values."""
        query = (
            sa.select(*named_now(dead_letter.c), batch.c.state.label("batch_state"))
            .join(
                batch,
                (batch.c.table_key == dead_letter.c.table_key)
                & (batch.c.batch_id == dead_letter.c.batch_id)
                & (batch.c.generation == dead_letter.c.generation),
            )
            .order_by(dead_letter.c.id.desc())
            .limit(limit)
        )
        if source_id is not None:
            query = query.where(is_of(dead_letter.c.source_id, source_id))
        with self._database.read() as connection:
            return tuple(
                {
                    "id": row.id, "table_key": row.table_key, "source_id": row.source_id, "batch_id": row.batch_id,
                    "generation": row.generation, "batch_state": row.batch_state, "state": row.state,
                    "reason": row.reason, "message": row.message, "preview": row.preview, "raw_bytes": row.raw_bytes,
                    "source_file": row.source_file, "source_offset": row.source_offset, "column": row.column_name,
                    "rows": row.rows, "at": row.recorded_at,
                }
                for row in connection.execute(query)
            )  # fmt: skip
