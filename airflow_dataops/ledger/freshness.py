"""What is expected to be fresh, and who was told that it is late: one message per transition, whoever notices it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlalchemy as sa

from airflow_dataops.ledger.tables import freshness
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlFreshness:
    """`Freshness` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def expect(self, source_id: str, names: Collection[str]) -> dict[str, float]:
        now = self._clock()
        rows = [{"source_id": source_id, "name": name, "known_since": now} for name in sorted(set(names))]
        with self._database.write() as connection:
            self._database.insert_missing(connection, freshness, rows)
            found = connection.execute(_of(source_id)).all()
            gone = [row.name for row in found if row.name not in names]
            if gone:
                connection.execute(freshness.delete().where(freshness.c.source_id == source_id, freshness.c.name.in_(gone)))
            return {row.name: row.known_since for row in found if row.name in names}

    def late(self, source_id: str, names: Collection[str], retry_seconds: float) -> tuple[str, ...]:
        now = self._clock()
        with self._database.write() as connection:
            to_tell = []
            for row in connection.execute(_of(source_id).with_for_update()).all():
                one = (freshness.c.source_id == source_id) & (freshness.c.name == row.name)
                if row.name not in names:
                    if row.late_since is not None:
                        connection.execute(freshness.update().where(one).values(late_since=None, tried_at=None, told_at=None))
                    continue
                if row.told_at is None and (row.tried_at is None or row.tried_at <= now - retry_seconds):
                    to_tell.append(row.name)
                    since = now if row.late_since is None else row.late_since
                    connection.execute(freshness.update().where(one).values(late_since=since, tried_at=now))
            return tuple(to_tell)

    def told(self, source_id: str, names: Collection[str]) -> None:
        with self._database.write() as connection:
            for name in sorted(set(names)):
                connection.execute(
                    freshness.update()
                    .where(freshness.c.source_id == source_id, freshness.c.name == name, freshness.c.late_since.is_not(None))
                    .values(told_at=self._clock())
                )


def _of(source_id: str) -> sa.Select[tuple[str, float, float | None, float | None, float | None]]:
    columns = (freshness.c.name, freshness.c.known_since, freshness.c.late_since, freshness.c.tried_at, freshness.c.told_at)
    return sa.select(*columns).where(freshness.c.source_id == source_id).order_by(freshness.c.name)
