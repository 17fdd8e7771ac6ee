"""Decisions that no batch wants, and what each partition's files are. The rules: `ledger/maintenance_base.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.errors import BusyError, ConflictError, FencedError, StopError
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.ledger.base import Decision, DecisionPlan, FileFacts, KnownTable, PartitionName, Place, Work
from airflow_dataops.ledger.claims import UNFINISHED, lock_table, reconsider_expiry, scopes_meet
from airflow_dataops.ledger.encoding import (
    check_path,
    chunks,
    current_decisions,
    is_current,
    keep_facts,
    keep_schemas,
    lies_in,
)
from airflow_dataops.ledger.known_tables import known_tables
from airflow_dataops.ledger.projection import epochs, put_marks
from airflow_dataops.ledger.tables import batch, decision, directory, loaded_table, partition, schema_text
from airflow_dataops.storage.sql_database import SqlDatabase
from airflow_dataops.storage.sql_text import schema_of_json


class SqlMaintenance:
    """`Maintenance` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def due(self) -> tuple[KnownTable, ...]:
        table = loaded_table.c
        unseen = table.maintained_at.is_(None) | (table.maintained_at != table.committed_at)
        return known_tables(self._database, table.committed_at.is_not(None) & unseen)

    def done(self, known: KnownTable) -> None:
        with self._database.write() as connection:
            where = loaded_table.c.table_key == known.table_key
            connection.execute(loaded_table.update().where(where).values(maintained_at=known.committed_at))

    def facts(self, table_key: str, names: Sequence[PartitionName] | None = None) -> dict[PartitionName, FileFacts | None]:
        query = sa.select(partition.c.name, partition.c.file_count, partition.c.file_schemas).where(
            partition.c.table_key == table_key
        )
        parts = [query] if names is None else [query.where(partition.c.name.in_(chunk)) for chunk in chunks(names)]
        with self._database.read() as connection:
            rows = [row for part in parts for row in connection.execute(part)]
            schemas = _schemas(connection, {one for row in rows for one in row.file_schemas or ()})
        return {
            row.name: FileFacts.of(row.file_count, (schemas[one] for one in row.file_schemas))
            if row.file_count is not None
            else None
            for row in rows
        }

    def learn(self, table_key: str, found: Mapping[PartitionName, tuple[int, FileFacts]]) -> None:
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            kept = keep_facts(self._database, connection, (facts for _, facts in found.values()))
            for name, (epoch, facts) in found.items():
                connection.execute(
                    partition.update()
                    .where(
                        partition.c.table_key == table_key, partition.c.name == name, partition.c.epoch == epoch,
                        partition.c.file_count.is_(None),
                    )
                    .values(kept[facts])
                )  # fmt: skip

    def without_facts(self, table_key: str, limit: int) -> dict[PartitionName, Decision]:
        with self._database.read() as connection:
            return _page(connection, table_key, partition.c.file_count.is_(None), None, limit)

    def shown(
        self, table_key: str, wanted: Callable[[TableSchema], bool], after: PartitionName | None = None, limit: int = 500
    ) -> dict[PartitionName, Decision]:
        with self._database.read() as connection:
            schemas = _schemas(connection, set(connection.execute(_shown_schemas(table_key)).scalars()))
            asked = [one for one, schema in schemas.items() if wanted(schema)]
            return _page(connection, table_key, decision.c.schema_id.in_(asked), after, limit) if asked else {}

    def differ(self, table_key: str) -> bool:
        with self._database.read() as connection:
            return len(connection.execute(_shown_schemas(table_key).limit(2)).all()) > 1

    def written(
        self,
        table_key: str,
        wanted: Callable[[tuple[TableSchema, ...]], bool],
        after: PartitionName | None = None,
        limit: int = 500,
    ) -> dict[PartitionName, Decision]:
        sets = sa.select(partition.c.file_schemas).where(partition.c.table_key == table_key, partition.c.file_count > 0).distinct()
        with self._database.read() as connection:
            found = list(connection.execute(sets).scalars())
            schemas = _schemas(connection, {one for ids in found for one in ids})
            asked = [ids for ids in found if wanted(tuple(schemas[one] for one in ids))]
            where = (partition.c.file_count > 0) & (decision.c.rows > 0) & partition.c.file_schemas.in_(asked)
            return _page(connection, table_key, where, after, limit) if asked else {}

    def scattered(
        self, table_key: str, fewest_files: int, below_bytes: int, after: PartitionName | None = None, limit: int = 500
    ) -> dict[PartitionName, Decision]:
        count = partition.c.file_count
        with self._database.read() as connection:
            return _page(
                connection, table_key, (count >= fewest_files) & (decision.c.bytes < count * below_bytes), after, limit
            )  # fmt: skip

    def claimed(self, table_key: str, names: Sequence[PartitionName]) -> frozenset[PartitionName]:
        with self._database.read() as connection:
            return _claimed(connection, self._clock(), table_key, names)

    def place(self, table_key: str, work: Work, root: str, nonce: str) -> Place:
        name = f"{work}-{nonce}"
        made = Place(table_key, name, f"{root}/{name}" if root else name)
        check_path(made.directory, "directory")
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            now = self._clock()
            connection.execute(
                directory.insert().values(
                    table_key=table_key, directory=made.directory, batch_id=made.work_id, generation=0, attempt=0, registered_at=now
                )
            )
            reconsider_expiry(connection, now, table_key)
        return made

    def give_up(self, place: Place) -> None:
        with self._database.write() as connection:
            now = self._clock()
            connection.execute(directory.update().where(_is(place)).values(lost_at=now, forgotten_at=now))

    def move(self, place: Place, writer: str, plan: DecisionPlan) -> Decision:
        check_path(plan.location, "location")
        with self._database.write() as connection:
            lock_table(self._database, connection, place.table_key)
            subject = f"Cannot decide partition {plan.name!r} of {place.table_key} anew:"
            if _claimed(connection, self._clock(), place.table_key, [plan.name]):
                raise BusyError(f"{subject} a batch is at work on it -> none. The maintenance comes again when it is done.")
            epoch = epochs(connection, place.table_key, [plan.name]).get(plan.name, 0)
            if epoch != plan.built_on or not epoch:
                raise ConflictError(
                    f"{subject} built on epoch {plan.built_on} -> {epoch}. A batch was decided since. The maintenance comes again."
                )
            lost = connection.execute(sa.select(directory.c.lost_at, directory.c.forgotten_at).where(_is(place))).one_or_none()
            if lost is None or lost.lost_at is not None or lost.forgotten_at is not None:
                raise FencedError(
                    f"{subject} its new files were given up -> waiting for it. This work took longer than a dead one is waited for."
                )
            if not lies_in(plan.location, place.directory):
                raise StopError(
                    f"{subject} location {plan.location!r} -> in {place.directory!r}. Nothing was changed; report this as a defect."
                )
            facts = keep_facts(self._database, connection, [plan.files])[plan.files]
            profile = plan.profile.to_json() if plan.profile is not None else None
            kept = {"epoch": epoch + 1, "profile": profile, **facts}
            connection.execute(partition.update().where(_one(place.table_key, plan.name)).values(kept))
            row = {
                "name": plan.name, "epoch": epoch + 1, "partition_values": list(plan.values), "location": plan.location,
                "directory": place.directory, "rows": plan.rows, "bytes": plan.bytes, "fingerprint": plan.fingerprint,
            }  # fmt: skip
            return self._decide(connection, place.table_key, place.work_id, writer, plan.schema, [row])[0]

    def recolumn(
        self, table_key: str, work_id: str, writer: str, built_on: Mapping[PartitionName, int], schema: TableSchema
    ) -> tuple[Decision, ...]:
        with self._database.write() as connection:
            lock_table(self._database, connection, table_key)
            busy = _claimed(connection, self._clock(), table_key, list(built_on))
            standing = epochs(connection, table_key, built_on)
            names = [name for name, epoch in built_on.items() if name not in busy and standing.get(name) == epoch]
            if not names:
                return ()
            rows = []
            same = sa.select(decision).join(partition, is_current()).where(decision.c.table_key == table_key)
            for chunk in chunks(names):
                for row in connection.execute(same.where(decision.c.name.in_(chunk))).mappings():
                    rows.append({key: row[key] for key in _STAYS} | {"epoch": row["epoch"] + 1})
                where = (partition.c.table_key == table_key) & partition.c.name.in_(chunk)
                connection.execute(partition.update().where(where).values(epoch=partition.c.epoch + 1))
            return self._decide(connection, table_key, work_id, writer, schema, rows)

    def _decide(
        self, connection: sa.Connection, table_key: str, work_id: str, writer: str, schema: TableSchema, rows: list[dict[str, Any]]
    ) -> tuple[Decision, ...]:
        now = self._clock()
        common = {
            "table_key": table_key, "schema_id": keep_schemas(self._database, connection, [schema])[schema], "batch_id": work_id,
            "generation": 0, "attempt": 0, "decided_at": now,
        }  # fmt: skip
        connection.execute(decision.insert(), [row | common for row in rows])
        names = [row["name"] for row in rows]
        put_marks(self._database, connection, now, table_key, names, writer)
        return tuple(current_decisions(connection, table_key, names).values())


_STAYS = ("name", "partition_values", "location", "directory", "rows", "bytes", "fingerprint")
"""Of a decision, when only the columns become others."""


def _shown_schemas(table_key: str) -> sa.Select[Any]:
    """The ids of the schemas that partitions are decided with."""
    stands = (decision.c.table_key == table_key) & decision.c.dropped.is_(None)
    return sa.select(decision.c.schema_id).join(partition, is_current()).where(stands).distinct()


def _schemas(connection: sa.Connection, ids: set[str]) -> dict[str, TableSchema]:
    found: dict[str, TableSchema] = {}
    for chunk in chunks(ids):
        rows = connection.execute(sa.select(schema_text).where(schema_text.c.schema_id.in_(chunk)))
        found |= {row.schema_id: schema_of_json(row.schema) for row in rows}
    return found


def _page(
    connection: sa.Connection, table_key: str, where: sa.ColumnElement[bool], after: str | None, limit: int
) -> dict[str, Decision]:
    """The current decisions of the next partitions for which this holds. In order of the name's bytes."""
    name = sa.collate(decision.c.name, "BINARY" if connection.dialect.name == "sqlite" else "C")
    query = sa.select(decision.c.name).join(partition, is_current()).where(
        decision.c.table_key == table_key, decision.c.dropped.is_(None), where
    )
    if after is not None:
        query = query.where(name > after)
    names = list(connection.execute(query.order_by(name).limit(limit)).scalars())
    found = current_decisions(connection, table_key, names) if names else {}
    return {name: found[name] for name in names}


def _claimed(connection: sa.Connection, now: float, table_key: str, names: Sequence[str]) -> frozenset[str]:
    """An open batch whose reader is thought dead does not count: should it live, it builds its decision again."""
    query = sa.select(batch.c.scope).where(
        batch.c.table_key == table_key, batch.c.state.in_(UNFINISHED), (batch.c.state != "open") | (batch.c.lease_until > now)
    )
    scopes = list(connection.execute(query.distinct()).scalars())
    return frozenset(name for name in names if any(scopes_meet(scope, name) for scope in scopes))


def _one(table_key: str, name: str) -> sa.ColumnElement[bool]:
    return (partition.c.table_key == table_key) & (partition.c.name == name)


def _is(place: Place) -> sa.ColumnElement[bool]:
    return (directory.c.table_key == place.table_key) & (directory.c.directory == place.directory)
