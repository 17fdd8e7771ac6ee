"""What is expected to be fresh, and who was told that it is late: one message per transition, whoever notices it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger.tables import freshness
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlFreshness:
    """`Freshness` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def expect(self, source_id: str, names: Collection[str]) -> dict[str, float]:
        wanted = set(names)
        with self._database.read() as connection:  # nearly always nothing has changed, and a fleet asks for thousands
            known = {row.name: row.known_since for row in connection.execute(_of(source_id))}
        if known.keys() == wanted:
            return known
        rows = [{"source_id": source_id, "name": name, "known_since": self._clock()} for name in sorted(wanted)]
        with self._database.write() as connection:
            self._database.insert_missing(connection, freshness, rows)
            found = connection.execute(_of(source_id)).all()
            for gone in (row.name for row in found if row.name not in wanted):
                connection.execute(freshness.delete().where(_is(source_id, gone)))
            return {row.name: row.known_since for row in found if row.name in wanted}

    def late(self, source_id: str, names: Collection[str], retry_seconds: float) -> tuple[str, ...]:
        now = self._clock()

        def to_tell(row: Any) -> bool:
            return row.name in names and row.told_at is None and (row.tried_at is None or row.tried_at <= now - retry_seconds)

        def is_over(row: Any) -> bool:
            return row.name not in names and row.late_since is not None

        with self._database.read() as connection:
            if not any(to_tell(row) or is_over(row) for row in connection.execute(_of(source_id))):
                return ()
        told: list[str] = []
        with self._database.write() as connection:
            for row in connection.execute(_of(source_id).with_for_update()).all():
                where = _is(source_id, row.name)
                if is_over(row):
                    connection.execute(freshness.update().where(where).values(late_since=None, tried_at=None, told_at=None))
                elif to_tell(row):
                    since = now if row.late_since is None else row.late_since
                    connection.execute(freshness.update().where(where).values(late_since=since, tried_at=now))
                    told.append(row.name)
        return tuple(told)

    def told(self, source_id: str, names: Collection[str]) -> None:
        with self._database.write() as connection:
            for name in sorted(set(names)):
                where = _is(source_id, name) & freshness.c.late_since.is_not(None)
                connection.execute(freshness.update().where(where).values(told_at=self._clock()))


def _is(source_id: str, name: str) -> sa.ColumnElement[bool]:
    return (freshness.c.source_id == source_id) & (freshness.c.name == name)


def _of(source_id: str) -> sa.Select[tuple[str, float, float | None, float | None, float | None]]:
    columns = (freshness.c.name, freshness.c.known_since, freshness.c.late_since, freshness.c.tried_at, freshness.c.told_at)
    return sa.select(*columns).where(freshness.c.source_id == source_id).order_by(freshness.c.name)
