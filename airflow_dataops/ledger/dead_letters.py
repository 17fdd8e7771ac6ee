"""`DeadLetters` in SQL: the index of dead letters, and the files they are in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.ledger.claims import lock_table
from airflow_dataops.ledger.dead_letters_base import Expiry, LetterCount, LetterRecord
from airflow_dataops.ledger.encoding import chunks_of
from airflow_dataops.ledger.replaying import letter_rows
from airflow_dataops.ledger.source_names import called, is_of
from airflow_dataops.ledger.tables import batch, dead_letter, letter_file, loaded_table
from airflow_dataops.storage.sql_database import ROWS_PER_STATEMENT, SqlDatabase

_PLAIN = (
    "id", "table_key", "batch_id", "generation", "reason", "message", "preview", "raw_bytes", "source_file", "source_offset",
    "rows", "stage", "file", "place", "letters", "can_replay", "withheld", "schema_fingerprint", "attempts", "replay_batch_id",
    "changed_by", "changed_at", "why",
)  # fmt: skip


class SqlDeadLetters:
    """`DeadLetters` in SQL. What a freeze and a commit do to letters is in `replaying`."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def begin_file(self, table_key: str, source_id: str, file: str) -> None:
        row = {"file": file, "table_key": table_key, "source_id": source_id, "begun_at": self._clock()}
        with self._database.write() as connection:
            self._database.insert_missing(connection, letter_file, [row])

    def find(
        self, source_id: str | None = None, *, ids: Collection[int] = (), states: Collection[str] = (), reason: str | None = None,
        table_key: str | None = None, limit: int | None = None,
    ) -> tuple[LetterRecord, ...]:  # fmt: skip
        query = _entries().order_by(dead_letter.c.id.desc()).limit(limit)
        if source_id is not None:
            query = query.where(is_of(dead_letter.c.source_id, source_id))
        if table_key is not None:
            query = query.where(dead_letter.c.table_key == table_key)
        if states:
            query = query.where(dead_letter.c.state.in_(sorted(states)))
        if reason is not None:
            query = query.where(dead_letter.c.reason == reason)
        with self._database.read() as connection:
            if not ids:
                return tuple(_record(row) for row in connection.execute(query))
            found = (row for some in chunks_of(ids) for row in connection.execute(query.where(dead_letter.c.id.in_(some))))
            return tuple(sorted((_record(row) for row in found), key=lambda letter: -letter.id))

    def counts(self, source_id: str | None = None) -> tuple[LetterCount, ...]:
        state = dead_letter.c.state
        columns = (called(dead_letter.c.source_id), loaded_table.c.source_table, loaded_table.c.target, state)
        query: sa.Select[Any] = (
            sa.select(*columns, sa.func.sum(dead_letter.c.letters), sa.func.sum(dead_letter.c.rows))
            .join(loaded_table, loaded_table.c.table_key == dead_letter.c.table_key)
            .group_by(*columns)
            .order_by(loaded_table.c.source_table, loaded_table.c.target, state)
        )
        if source_id is not None:
            query = query.where(is_of(dead_letter.c.source_id, source_id))
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return tuple(LetterCount(row[0], row[1], row[2], row[3], int(row[4]), int(row[5])) for row in found)

    def discard(self, ids: Collection[int], who: str, why: str) -> tuple[int, ...]:
        changed = {"state": "discarded", "changed_by": who, "changed_at": self._clock(), "why": why}
        discarded: list[int] = []
        with self._database.write() as connection:
            tables: set[str] = set()
            for some in chunks_of(ids):
                of_some = sa.select(dead_letter.c.table_key).where(dead_letter.c.id.in_(some))
                tables |= set(connection.execute(of_some.distinct()).scalars())
            for table_key in sorted(tables):
                lock_table(self._database, connection, table_key)
            for some in chunks_of(ids):
                open_ones = dead_letter.c.id.in_(some) & (dead_letter.c.state == "open")
                found = connection.execute(sa.select(dead_letter.c.id).where(open_ones)).scalars().all()
                connection.execute(dead_letter.update().where(dead_letter.c.id.in_(found)).values(changed))
                discarded += found
        return tuple(discarded)

    def unfold(self, entry: LetterRecord, letters: Sequence[DeadLetter]) -> None:
        with self._database.write() as connection:
            lock_table(self._database, connection, entry.table_key)
            query = sa.select(dead_letter).where(dead_letter.c.id == entry.id, dead_letter.c.state == "open")
            row = connection.execute(query).one_or_none()
            if row is None or (row.place, row.letters) != (entry.place, entry.letters):
                return
            rows = list(letter_rows(row, row.recorded_at, letters, row.file, row.schema_fingerprint, first=row.place))
            for start in range(0, len(rows), ROWS_PER_STATEMENT):
                connection.execute(dead_letter.insert(), rows[start : start + ROWS_PER_STATEMENT])
            mine, left = dead_letter.c.id == entry.id, row.letters - len(rows)
            if left <= 0:
                connection.execute(dead_letter.delete().where(mine))
                return
            rest = {"place": row.place + len(rows), "letters": left, "rows": row.rows - sum(letter.rows for letter in letters)}
            connection.execute(dead_letter.update().where(mine).values(rest))

    def sources_with_files(self, begun_before: float) -> tuple[str, ...]:
        name = called(letter_file.c.source_id)
        there = letter_file.c.forgotten_at.is_(None) & (letter_file.c.begun_at < begun_before)
        with self._database.read() as connection:
            return tuple(sorted(set(connection.execute(sa.select(name).where(there).distinct()).scalars())))

    def expire(self, source_id: str, before: float) -> Expiry:
        now = self._clock()
        of_source = is_of(letter_file.c.source_id, source_id) & letter_file.c.forgotten_at.is_(None)
        busy = sa.exists().where(dead_letter.c.file == letter_file.c.file, dead_letter.c.state == "replaying")
        due = of_source & letter_file.c.expired_at.is_(None) & (letter_file.c.begun_at < before) & ~busy
        with self._database.write() as connection:
            tables = sorted(connection.execute(sa.select(letter_file.c.table_key).where(due).distinct()).scalars())
            for table_key in tables:
                lock_table(self._database, connection, table_key)
            files = sorted(connection.execute(sa.select(letter_file.c.file).where(due)).scalars())
            unheeded = 0
            for start in range(0, len(files), ROWS_PER_STATEMENT):
                some = files[start : start + ROWS_PER_STATEMENT]
                open_ones = dead_letter.c.file.in_(some) & (dead_letter.c.state == "open")
                unheeded += int(connection.execute(sa.select(sa.func.sum(dead_letter.c.letters)).where(open_ones)).scalar() or 0)
                expired = {"state": "expired", "changed_at": now, "why": "its retention is over"}
                connection.execute(dead_letter.update().where(open_ones).values(expired))
                connection.execute(letter_file.update().where(letter_file.c.file.in_(some)).values(expired_at=now))
            left = sa.select(letter_file.c.file).where(of_source, letter_file.c.expired_at.is_not(None))
            return Expiry(tuple(sorted(connection.execute(left).scalars())), unheeded)

    def forget(self, files: Collection[str]) -> None:
        with self._database.write() as connection:
            for file in sorted(files):
                connection.execute(letter_file.update().where(letter_file.c.file == file).values(forgotten_at=self._clock()))


def _entries() -> sa.Select[Any]:
    return (
        sa.select(
            *(dead_letter.c[name] for name in _PLAIN), dead_letter.c.column_name, dead_letter.c.recorded_at,
            dead_letter.c.last_seen_at, dead_letter.c.state, called(dead_letter.c.source_id).label("source_now"),
            batch.c.state.label("batch_state"), batch.c.source_table, batch.c.target, batch.c.period_key,
        )
        .join(
            batch,
            (batch.c.table_key == dead_letter.c.table_key)
            & (batch.c.batch_id == dead_letter.c.batch_id)
            & (batch.c.generation == dead_letter.c.generation),
        )
    )  # fmt: skip


def _record(row: sa.Row[Any]) -> LetterRecord:
    last = row.last_seen_at if row.last_seen_at is not None else row.recorded_at
    return LetterRecord(
        **{name: getattr(row, name) for name in _PLAIN}, column=row.column_name, state=row.state, source_id=row.source_now,
        batch_state=row.batch_state, source_table=row.source_table, target=row.target, period_key=row.period_key,
        first_seen_at=row.recorded_at, last_seen_at=last,
    )  # fmt: skip
