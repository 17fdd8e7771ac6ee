"""The current decision of each partition, and the marks of those who project them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from airflow_dataops.core.profile import Profile
from airflow_dataops.ledger.base import Claim, Decision, PartitionName
from airflow_dataops.ledger.claims import lock_table
from airflow_dataops.ledger.deciding import decided_names
from airflow_dataops.ledger.encoding import chunks, current_decisions, is_current
from airflow_dataops.ledger.projection import put_marks, settle
from airflow_dataops.ledger.tables import decision, directory, mark, partition
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlDecisions:
    """`Decisions` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def current(self, table_key: str, names: Sequence[PartitionName] | None = None) -> dict[PartitionName, Decision]:
        with self._database.read() as connection:
            return current_decisions(connection, table_key, names)

    def latest(self, table_key: str, names: Sequence[PartitionName]) -> dict[PartitionName, Decision]:
        with self._database.read() as connection:
            return current_decisions(connection, table_key, names, with_dropped=True)

    def profiles(self, table_key: str, names: Sequence[PartitionName] | None = None) -> dict[PartitionName, Profile | None]:
        query = (
            sa.select(partition.c.name, partition.c.profile)
            .join(decision, is_current())
            .where(partition.c.table_key == table_key, decision.c.dropped.is_(None))
        )
        parts = [query] if names is None else [query.where(partition.c.name.in_(chunk)) for chunk in chunks(names)]
        with self._database.read() as connection:
            found = {row.name: row.profile for part in parts for row in connection.execute(part)}
        return {name: Profile.of_json(data) if data is not None else None for name, data in found.items()}

    def mark(self, table_key: str, names: Sequence[PartitionName], writer: str) -> dict[PartitionName, Decision]:
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            found = current_decisions(connection, table_key, names, with_dropped=True)
            put_marks(self._database, connection, self._clock(), table_key, found, writer)
            return found

    def marked(self, table_key: str | None = None) -> tuple[tuple[str, PartitionName, str, float], ...]:
        query = sa.select(mark.c.table_key, mark.c.name, mark.c.writer, mark.c.marked_at)
        if table_key is not None:
            query = query.where(mark.c.table_key == table_key)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(mark.c.marked_at, mark.c.table_key, mark.c.name, mark.c.writer))
            return tuple((row.table_key, row.name, row.writer, row.marked_at) for row in rows)

    def clear_marks(self, table_key: str, writer: str, verified: Mapping[PartitionName, int]) -> None:
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            settle(connection, self._clock(), table_key, verified, writer)

    def clear_stale_marks(self, table_key: str, older_than_seconds: float, verified: Mapping[PartitionName, int]) -> None:
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            now = self._clock()
            settle(connection, now, table_key, verified, marked_before=now - older_than_seconds)

    def names_of(self, claim: Claim) -> tuple[PartitionName, ...]:
        with self._database.read() as connection:
            return decided_names(connection, claim)

    def locations(self, table_key: str) -> frozenset[str]:
        decided = sa.select(decision.c.location).where(decision.c.table_key == table_key, decision.c.dropped.is_(None))
        staged = sa.select(directory.c.directory).where(directory.c.table_key == table_key)
        with self._database.read() as connection:
            return frozenset(connection.execute(sa.union(decided, staged)).scalars())
