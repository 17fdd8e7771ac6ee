"""Partitions one by one: pages of them, and dropping (DESIGN §5.5, a decision without a batch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.fingerprint import Fingerprint
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.ledger.base import Decision, Dropped, PartitionName, PartitionRecord
from airflow_dataops.ledger.claims import UNFINISHED, lock_table, scopes_meet
from airflow_dataops.ledger.encoding import DECISION_COLUMNS, current_decisions, decision_of_row, is_current, keep_schemas
from airflow_dataops.ledger.projection import put_marks
from airflow_dataops.ledger.tables import batch, ddl_audit, decision, mark, partition, schema_text
from airflow_dataops.storage.sql_database import SqlDatabase
from airflow_dataops.storage.sql_text import schema_of_json


class SqlPartitions:
    """`Partitions` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def page(self, table_key: str, after: PartitionName | None = None, limit: int = 1000) -> tuple[PartitionRecord, ...]:
        marked = sa.select(mark.c.name).where(mark.c.table_key == decision.c.table_key, mark.c.name == decision.c.name)
        query: sa.Select[Any] = (
            sa.select(*DECISION_COLUMNS, marked.exists().label("is_marked"))
            .join(partition, is_current())
            .join(schema_text, schema_text.c.schema_id == decision.c.schema_id)
            .where(decision.c.table_key == table_key)
            .order_by(decision.c.name)
            .limit(limit)
        )
        if after is not None:
            query = query.where(decision.c.name > after)
        schemas: dict[str, TableSchema] = {}  # thousands of partitions, a handful of schemas
        found = []
        with self._database.read() as connection:
            for row in connection.execute(query):
                schema = schemas.get(row.schema_id) or schemas.setdefault(row.schema_id, schema_of_json(row.schema))
                found.append(PartitionRecord(decision_of_row(row, schema), row.decided_at, bool(row.is_marked)))
        return tuple(found)

    def drop(
        self, table_key: str, built_on: Mapping[PartitionName, int], why: Dropped, writer: str, audit: Mapping[str, object]
    ) -> tuple[Decision, ...]:
        now = self._clock()
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            claimed = _claimed_scopes(connection, table_key, now)
            found = current_decisions(connection, table_key, list(built_on))
            chosen = [
                d
                for name, d in sorted(found.items())
                if d.epoch == built_on[name] and not any(scopes_meet(scope, name) for scope in claimed)
            ]
            if not chosen:
                return ()
            schemas = keep_schemas(self._database, connection, (d.schema for d in chosen))
            dropped = [
                replace(
                    d, epoch=d.epoch + 1, location="", rows=0, bytes=0, fingerprint=str(Fingerprint.EMPTY), batch_id="",
                    generation=0, dropped=why,
                )
                for d in chosen
            ]  # fmt: skip
            nothing = {"table_key": table_key, "profile": None, "file_count": None, "file_schemas": None}
            rows = [{**nothing, "name": d.name, "epoch": d.epoch} for d in dropped]
            self._database.put(connection, partition, rows)
            connection.execute(
                decision.insert(),
                [
                    {
                        "table_key": table_key, "name": d.name, "epoch": d.epoch, "partition_values": list(d.values),
                        "location": "", "directory": "", "rows": 0, "bytes": 0, "fingerprint": d.fingerprint,
                        "schema_id": schemas[d.schema], "batch_id": "", "generation": 0, "attempt": 0,
                        "decided_at": now, "dropped": why,
                    }
                    for d in dropped
                ],
            )  # fmt: skip
            put_marks(self._database, connection, now, table_key, [d.name for d in dropped], writer)
            told = [{"partition": d.name, "epoch": d.epoch, "rows": d.rows, "fingerprint": d.fingerprint} for d in chosen]
            entry = {**audit, "table_key": table_key, "why": why, "before": told, "after": None}
            connection.execute(ddl_audit.insert().values(table_key=table_key, entry=entry, recorded_at=now))
            return tuple(dropped)


def _claimed_scopes(connection: sa.Connection, table_key: str, now: float) -> list[str]:
    """What a batch may be comparing its rows with, or building on. An open one whose reader is thought dead does not count: should
    it live, its decision is built again."""
    query = sa.select(batch.c.scope).where(
        batch.c.table_key == table_key,
        batch.c.state.in_(UNFINISHED),
        (batch.c.state != "open") | (batch.c.lease_until > now),
    )
    return list(connection.execute(query.distinct()).scalars())
