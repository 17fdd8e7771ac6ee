"""Which rows there were, and which of them are retired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.ledger import source_names
from airflow_dataops.ledger.encoding import chunks
from airflow_dataops.ledger.sources_base import Retirement, SourceRecord
from airflow_dataops.ledger.tables import source
from airflow_dataops.storage.sql_database import ROWS_PER_STATEMENT, SqlDatabase

SHOWN = ("active", "restored")
GONE = ("retired", "deleted")
_RECORD = (
    source.c.source_id, source.c.bundle, source.c.state, source.c.row, source.c.since, source.c.delete_at, source.c.renamed_to,
    source.c.paused,
)  # fmt: skip


class SqlSources:
    """`Sources` in SQL."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def known(self, bundle: str) -> dict[str, str]:
        query = sa.select(source.c.source_id, source.c.row).where(source.c.bundle == bundle, source.c.state.in_(SHOWN))
        with self._database.read() as connection:
            return {row.source_id: row.row for row in connection.execute(query)}

    def leaving(self, bundle: str) -> tuple[SourceRecord, ...]:
        return self._records(source.c.state.in_(("retired", "restored")) & (source.c.bundle == bundle))

    def records(self, source_id: str | None = None) -> tuple[SourceRecord, ...]:
        return self._records((source.c.state != "active") & (source.c.source_id == source_id if source_id else sa.true()))

    def to_mark(self) -> tuple[SourceRecord, ...]:
        unmarked, marked = source.c.marked_as.in_(("", "unknown")), source.c.marked_as.in_(("retired", "unknown"))
        return self._records((unmarked & source.c.state.in_(GONE)) | (marked & source.c.state.in_(SHOWN)))

    def apply(self, bundle: str, shown: Mapping[str, str], gone: Sequence[Retirement]) -> None:
        now = self._clock()
        # In order of id: two that write the same rows wait for each other instead of for ever.
        rows = [
            {
                "source_id": name, "bundle": bundle, "state": "active", "row": shown[name], "since": now, "delete_at": None,
                "renamed_to": None, "paused": False, "marked_as": "",
            }
            for name in sorted(shown)
        ]  # fmt: skip
        with self._database.write() as connection:
            for chunk in chunks(shown):
                connection.execute(
                    source.update()
                    .where(source.c.source_id.in_(chunk), source.c.state == "retired", source.c.paused)
                    .values(state="restored", since=now, delete_at=None, renamed_to=None)
                )
                connection.execute(
                    source.update()
                    .where(source.c.source_id.in_(chunk), source.c.state.in_(GONE))
                    .values(state="active", since=now, delete_at=None, renamed_to=None)
                )
            for i in range(0, len(rows), ROWS_PER_STATEMENT):
                self._database.put(connection, source, rows[i : i + ROWS_PER_STATEMENT], only=("row", "bundle"))
            for one in sorted(gone, key=lambda one: one.source_id):
                mine = (source.c.source_id == one.source_id) & (source.c.bundle == bundle)
                connection.execute(
                    source.update()
                    .where(mine, source.c.state.in_(SHOWN))
                    .values(state="retired", since=now, delete_at=one.delete_at, renamed_to=one.renamed_to)
                )
                if one.renamed_to is not None:
                    connection.execute(source.update().where(mine, source.c.state == "retired").values(renamed_to=one.renamed_to))
                    # A rename may come after the removal, and the tables say by then that they are retired: looked at again.
                    heir = source.c.source_id == one.renamed_to
                    connection.execute(source.update().where(heir).values(marked_as="unknown"))

    def paused(self, source_ids: Iterable[str]) -> None:
        self._update(source_ids, source.c.state == "retired", {"paused": True})

    def settled(self, source_ids: Iterable[str]) -> None:
        self._update(source_ids, source.c.state == "restored", {"state": "active", "paused": False})

    def deleted(self, source_ids: Iterable[str]) -> None:
        self._update(source_ids, source.c.state == "retired", {"state": "deleted", "paused": False, "since": self._clock()})

    def marked(self, record: SourceRecord) -> None:
        says = "retired" if record.state in GONE else ""
        states = GONE if says else SHOWN
        self._update([record.source_id], source.c.state.in_(states), {"marked_as": says})

    def state_id(self, source_id: str) -> str:
        with self._database.read() as connection:
            return source_names.state_id(connection, source_id)

    def former_ids(self) -> dict[str, str]:
        with self._database.read() as connection:
            return source_names.former_ids(connection)

    def carry(self, source_id: str, former: str) -> str:
        with self._database.read() as connection:  # nearly always it is done already
            known = source_names.carried(connection, source_id, former)
        if known is not None:
            return known
        with self._database.write() as connection:
            return source_names.carry(self._database, connection, self._clock(), source_id, former)

    def _records(self, where: sa.ColumnElement[bool]) -> tuple[SourceRecord, ...]:
        with self._database.read() as connection:
            found: Iterable[Any] = connection.execute(sa.select(*_RECORD).where(where).order_by(source.c.source_id))
            return tuple(SourceRecord(*row) for row in found)

    def _update(self, source_ids: Iterable[str], where: sa.ColumnElement[bool], values: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            for chunk in chunks(source_ids):
                connection.execute(source.update().where(source.c.source_id.in_(chunk), where).values(values))
