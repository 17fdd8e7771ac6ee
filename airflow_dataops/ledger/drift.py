"""What the ledger remembers about shapes: source schemas over time, drift events, DDL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.schema import TableSchema
from airflow_dataops.ledger.claims import lock_table
from airflow_dataops.ledger.encoding import keep_schemas
from airflow_dataops.ledger.source_names import is_of, named_now
from airflow_dataops.ledger.tables import ddl_audit, drift_event, schema_history, schema_text
from airflow_dataops.storage.sql_database import SqlDatabase
from airflow_dataops.storage.sql_text import schema_of_json


class SqlDrift:
    """`Drift` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def schema(self, table_key: str) -> TableSchema | None:
        query = (
            sa.select(schema_text.c.schema)
            .join(schema_history, schema_history.c.schema_id == schema_text.c.schema_id)
            .where(schema_history.c.table_key == table_key)
            .order_by(schema_history.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            data = connection.execute(query).scalar()
        return None if data is None else schema_of_json(data)

    def record_schema(self, table_key: str, schema: TableSchema, batch_id: str) -> bool:
        last = sa.select(schema_history.c.fingerprint).where(schema_history.c.table_key == table_key)
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            if connection.execute(last.order_by(schema_history.c.id.desc()).limit(1)).scalar() == schema.fingerprint:
                return False
            kept = keep_schemas(self._database, connection, [schema])
            connection.execute(
                schema_history.insert().values(
                    table_key=table_key, fingerprint=schema.fingerprint, schema_id=kept[schema], batch_id=batch_id,
                    recorded_at=self._clock(),
                )
            )  # fmt: skip
            return True

    def record_event(self, event: Mapping[str, Any]) -> bool:
        table_key, kind = event["table_key"], event["kind"]
        transition = (event.get("before"), event.get("after"))
        last = sa.select(drift_event.c.before_fingerprint, drift_event.c.after_fingerprint).where(
            drift_event.c.table_key == table_key, drift_event.c.kind == kind
        )
        with self._database.write() as connection:
            source_id = lock_table(self._database, connection, table_key).source_id
            found = connection.execute(last.order_by(drift_event.c.id.desc()).limit(1)).one_or_none()
            if found is not None and tuple(found) == transition:
                return False
            connection.execute(
                drift_event.insert().values(
                    table_key=table_key, source_id=source_id, kind=kind, before_fingerprint=transition[0],
                    after_fingerprint=transition[1], event=dict(event), decision=event.get("decision"),
                    recorded_at=self._clock(),
                )
            )  # fmt: skip
            return True

    def events(self, source_id: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        query = sa.select(*named_now(drift_event.c)).order_by(drift_event.c.id.desc()).limit(limit)
        if source_id is not None:
            query = query.where(is_of(drift_event.c.source_id, source_id))
        with self._database.read() as connection:
            return tuple(
                row.event | {
                    "id": row.id, "source_id": row.source_id, "at": row.recorded_at, "decision": row.decision,
                    "decided_by": row.decided_by, "decided_at": row.decided_at,
                }
                for row in connection.execute(query)
            )  # fmt: skip

    def record_ddl(self, entry: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(
                ddl_audit.insert().values(table_key=entry["table_key"], entry=dict(entry), recorded_at=self._clock())
            )

    def ddl(self, table_key: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        query = sa.select(ddl_audit).order_by(ddl_audit.c.id.desc()).limit(limit)
        if table_key is not None:
            query = query.where(ddl_audit.c.table_key == table_key)
        with self._database.read() as connection:
            return tuple(row.entry | {"id": row.id, "at": row.recorded_at} for row in connection.execute(query))
