"""How each table fared in each run: what `verify` and `status` ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.source_names import is_of, named_now
from airflow_dataops.ledger.tables import run_result
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlRuns:
    """`Runs` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def record(self, run: str, source_id: str, table_key: str, result: Mapping[str, Any]) -> None:
        row = {
            "run": run, "table_key": table_key, "source_id": source_id, "result": dict(result), "recorded_at": self._clock(),
        }  # fmt: skip
        with self._database.write() as connection:
            self._database.put(connection, run_result, [row])

    def of(self, run: str) -> dict[str, Mapping[str, Any]]:
        query = sa.select(run_result.c.table_key, run_result.c.result).where(run_result.c.run == run)
        with self._database.read() as connection:
            return {row.table_key: row.result for row in connection.execute(query.order_by(run_result.c.table_key))}

    def latest(self, source_id: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        newest = (run_result.c.recorded_at.desc(), run_result.c.table_key)
        query = sa.select(*named_now(run_result.c)).order_by(*newest).limit(limit)
        if source_id is not None:
            query = query.where(is_of(run_result.c.source_id, source_id))
        with self._database.read() as connection:
            return tuple(
                {
                    "run": row.run, "source_id": row.source_id, "table_key": row.table_key, "at": row.recorded_at,
                    "result": row.result,
                }
                for row in connection.execute(query)
            )  # fmt: skip
