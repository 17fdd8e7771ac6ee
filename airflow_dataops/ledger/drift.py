"""What sources show of their tables, drift events, DDL: `Drift` in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core import drift_events
from airflow_dataops.core.approval import Approval, renames_of
from airflow_dataops.core.continued import lake_columns
from airflow_dataops.core.drift import ColumnRenamed
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.shown import Seen, Shown, Sight, first_shown, look
from airflow_dataops.ledger.claims import lock_table
from airflow_dataops.ledger.drift_base import OF_NO_BATCH, Noticed, Observation
from airflow_dataops.ledger.encoding import keep_schemas
from airflow_dataops.ledger.source_names import is_of, named_now
from airflow_dataops.ledger.tables import (
    approval,
    batch,
    ddl_audit,
    drift_event,
    loaded_table,
    schema_history,
    schema_text,
    shown_table,
)
from airflow_dataops.storage.sql_database import SqlDatabase
from airflow_dataops.storage.sql_text import json_text, schema_of_json

NOT_SAID = ("before_schema_id", "after_schema_id")
BY_CONTRACT = "contract"
"""Who decided what nobody was asked about."""


class SqlDrift:
    """`Drift` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def schema(self, table_key: str) -> TableSchema | None:
        with self._database.read() as connection:
            found = _last_schema(connection, table_key)
        return None if found is None else schema_of_json(found.schema)

    def observe(self, seen: Observation) -> Noticed:
        with self._database.write() as connection:
            lock_table(self._database, connection, seen.table_key)
            return _Observing(self._database, connection, self._clock(), seen).observe()

    def observe_table(self, seen: Observation, *, present: bool) -> int | None:
        with self._database.write() as connection:
            lock_table(self._database, connection, seen.table_key)
            return _Observing(self._database, connection, self._clock(), seen).observe_table(present)

    def events(self, source_id: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        query = sa.select(*named_now(drift_event.c)).order_by(drift_event.c.id.desc()).limit(limit)
        if source_id is not None:
            query = query.where(is_of(drift_event.c.source_id, source_id))
        with self._database.read() as connection:
            return tuple(_told(row) for row in connection.execute(query))

    def event(self, event_id: int) -> Mapping[str, Any] | None:
        query = sa.select(*named_now(drift_event.c)).where(drift_event.c.id == event_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            ids = {name: row.event.get(name) for name in NOT_SAID}
            texts = sa.select(schema_text).where(schema_text.c.schema_id.in_([i for i in ids.values() if i]))
            schemas = {found.schema_id: _readable(found.schema) for found in connection.execute(texts)}
        return _told(row) | {name.removesuffix("_id"): schemas.get(schema_id) for name, schema_id in ids.items()}

    def event_of(self, table_key: str, batch_id: str | None) -> int | None:
        kept = drift_event.c
        query = (
            sa.select(sa.func.max(kept.id))
            .where(kept.table_key == table_key, kept.kind == "structural")
            .where(kept.batch_id.is_(None) if batch_id is None else kept.batch_id == batch_id)
        )
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else int(found)

    def gone(self, source_id: str) -> frozenset[str]:
        query = (
            sa.select(shown_table.c.table_key)
            .join(loaded_table, loaded_table.c.table_key == shown_table.c.table_key)
            .where(shown_table.c.gone.is_(sa.true()), is_of(loaded_table.c.source_id, source_id))
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

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


class _Observing:
    """One observation inside one write transaction, its table locked."""

    def __init__(self, database: SqlDatabase, connection: sa.Connection, now: float, seen: Observation) -> None:
        self.database, self.connection, self.now, self.seen = database, connection, now, seen
        row = connection.execute(sa.select(shown_table).where(shown_table.c.table_key == seen.table_key)).one_or_none()
        self.sequence = 0 if row is None else int(row.sequence)
        self.gone = row is not None and bool(row.gone)
        self.kept: dict[str, Any] | None = None if row is None else row.state
        self.is_new = row is None
        last = _last_schema(connection, seen.table_key)
        self.last_id: str | None = None if last is None else last.schema_id
        self.last: TableSchema | None = None if last is None else schema_of_json(last.schema)

    def observe(self) -> Noticed:
        seen = self.seen
        shown = self._shown()
        if seen.sequence is not None and seen.sequence == self.sequence:
            return Noticed((), shown.retired if shown else frozenset())
        late = seen.late or (seen.sequence is not None and seen.sequence < self.sequence)
        columns, untyped = self._columns_shown()
        traits = {name: value for name, value in seen.traits.items() if name in drift_events.TRAITS}
        sight = Sight(columns, untyped, traits, None if seen.batch_id is None else self._run(), late)
        found = look(shown, sight, seen.contract.debounce_runs, seen.contract.retire_runs)
        after = None if seen.schema is None else drift_events.typed(seen.schema, self.last)
        after_id = self._remember(after, late or not self._says_more(after), bool(found.columns or found.retired))
        structural, infrastructure = self._structural(found, after, after_id), self._infrastructure(found)
        self._update_events(found)
        if seen.batch_id is not None and not late:
            self._meet(seen.batch_id)
        self._save(found.shown.told_by(structural, infrastructure), max(self.sequence, seen.sequence or 0))
        return Noticed(tuple(e for e in (structural, infrastructure) if e is not None), found.shown.retired)

    def observe_table(self, present: bool) -> int | None:
        if present is not self.gone:
            return None
        self.gone = not present
        change = (drift_events.TableReturned if present else drift_events.TableGone)(self.seen.source_table)
        done = "held" if not present and self.seen.contract.tables == "freeze" else "noted"
        event_id = self._record("structural", (drift_events.described(change, done),), None, None, OF_NO_BATCH)
        self._save(self._shown() or Shown(), self.sequence)
        return event_id

    def _columns_shown(self) -> tuple[Mapping[str, str] | None, frozenset[str]]:
        """By the table's names: a column that goes on under another one is still shown."""
        if self.seen.schema is None:
            return None, frozenset()
        types, untyped = drift_events.columns_shown(self.seen.schema)
        mine = (approval.c.table_key == self.seen.table_key) & (approval.c.change == ColumnRenamed.change)
        kept = self.connection.execute(sa.select(approval.c.approval).where(mine)).scalars()
        renames = renames_of(map(Approval.of_json, kept))
        if not renames:
            return types, untyped
        types = lake_columns(types, renames)
        return types, frozenset(lake_columns(dict.fromkeys(untyped, ""), renames)) - types.keys()

    def _shown(self) -> Shown | None:
        if self.kept is not None:
            return Shown.of_json(self.kept)
        if self.last is None:
            return None
        return first_shown(drift_events.columns_shown(self.last)[0].items())  # a ledger of before there was `shown`

    def _run(self) -> str | None:
        seen = self.seen
        query = sa.select(batch.c.run).where(
            batch.c.table_key == seen.table_key, batch.c.batch_id == seen.batch_id, batch.c.generation == seen.generation
        )
        return self.connection.execute(query).scalar()

    def _says_more(self, shown: TableSchema | None) -> bool:
        """Other columns, types or comments than last; another order is nothing."""
        if shown is None or self.last is None:
            return shown is not None
        comments = [{c.name: c.comment for c in schema} for schema in (shown, self.last)]
        return shown.fingerprint != self.last.fingerprint or comments[0] != comments[1]

    def _structural(self, found: Seen, after: TableSchema | None, after_id: str | None) -> int | None:
        if not (found.columns or found.retired) or after is None:
            return None
        changes = drift_events.structural_changes(found.columns, found.retired, after, self.seen.plan, self.seen.contract)
        return self._record("structural", changes, after, after_id, self.seen.batch_id) if changes else None

    def _infrastructure(self, found: Seen) -> int | None:
        changes = drift_events.infrastructure_changes(found.traits)
        return self._record("infrastructure", changes, None, None, self.seen.batch_id) if changes else None

    def _record(
        self,
        kind: str,
        changes: tuple[dict[str, Any], ...],
        after: TableSchema | None,
        after_id: str | None,
        batch_id: str | None,
    ) -> int:
        seen, decision = self.seen, drift_events.decision_of(changes)
        before = self.last if after is not None else None
        told: dict[str, Any] = {
            "table_key": seen.table_key, "source_table": seen.source_table, "target": seen.target, "kind": kind,
            "before": before.fingerprint if before else None, "after": after.fingerprint if after else None,
            "before_schema_id": self.last_id if after else None, "after_schema_id": after_id, "changes": list(changes),
            "batch_id": batch_id or None, "renames": list(seen.plan["renames"]) if kind == "structural" else [],
            "rows": seen.rows, "flips": {}, "settled": {},
        }  # fmt: skip
        held = decision == "held"
        result = self.connection.execute(
            drift_event.insert().values(
                table_key=seen.table_key, source_id=seen.source_id, kind=kind, before_fingerprint=told["before"],
                after_fingerprint=told["after"], batch_id=batch_id, event=told, recorded_at=self.now, decision=decision,
                decided_by=None if held else BY_CONTRACT, decided_at=None if held else self.now,
            )
        )  # fmt: skip
        return int(result.inserted_primary_key[0])  # type: ignore[index]

    def _remember(self, shown: TableSchema | None, is_old: bool, is_told: bool) -> str | None:
        """Its id, if an event tells of it or it is new to the history."""
        if shown is None or (is_old and not is_told):
            return None
        schema_id = keep_schemas(self.database, self.connection, [shown])[shown]
        if not is_old:
            self.connection.execute(
                schema_history.insert().values(
                    table_key=self.seen.table_key, fingerprint=shown.fingerprint, schema_id=schema_id,
                    batch_id=self.seen.batch_id or "", recorded_at=self.now,
                )
            )  # fmt: skip
        return schema_id

    def _update_events(self, found: Seen) -> None:
        for event_id in {*found.flips, *found.settled}:
            where = drift_event.c.id == event_id
            told = self.connection.execute(sa.select(drift_event.c.event).where(where)).scalar_one()
            told["flips"] = {**told["flips"], **found.flips.get(event_id, {})}
            told["settled"] = {**told["settled"], **found.settled.get(event_id, {})}
            self.connection.execute(drift_event.update().where(where).values(event=told))

    def _meet(self, batch_id: str) -> None:
        """The first batch that comes after a declaration made an event is the first with that drift."""
        where = (drift_event.c.table_key == self.seen.table_key) & drift_event.c.batch_id.is_(None)
        for row in self.connection.execute(sa.select(drift_event).where(where)).all():
            told = row.event | {"rows": self.seen.rows, "batch_id": batch_id}
            told["renames"] = [*self.seen.plan["renames"]] or told["renames"]
            self.connection.execute(drift_event.update().where(drift_event.c.id == row.id).values(event=told, batch_id=batch_id))

    def _save(self, shown: Shown, sequence: int) -> None:
        state = shown.to_json()
        values = {"sequence": sequence, "gone": self.gone, "state": state}
        if self.is_new:
            self.connection.execute(shown_table.insert().values(table_key=self.seen.table_key, **values))
            return
        if json_text(state) == json_text(self.kept):
            del values["state"]
        self.connection.execute(shown_table.update().where(shown_table.c.table_key == self.seen.table_key).values(values))


def _last_schema(connection: sa.Connection, table_key: str) -> Any:
    """The row (schema_id, schema) of what was shown last, or None."""
    query = (
        sa.select(schema_text.c.schema_id, schema_text.c.schema)
        .join(schema_history, schema_history.c.schema_id == schema_text.c.schema_id)
        .where(schema_history.c.table_key == table_key)
        .order_by(schema_history.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _told(row: Any) -> dict[str, Any]:
    said = {key: value for key, value in row.event.items() if key not in NOT_SAID}
    return {"renames": [], "flips": {}, "settled": {}} | said | {
        "id": row.id, "source_id": row.source_id, "batch_id": row.batch_id or None, "at": row.recorded_at, "decision": row.decision,
        "decided_by": row.decided_by, "decided_at": row.decided_at,
    }  # fmt: skip


def _readable(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind, "comment": comment} for name, kind, _, comment, _ in schema["columns"]]
