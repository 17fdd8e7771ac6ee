"""The life of batches: one write transaction per verb, and the questions that `status` and the sweep ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.offset import FileIdentity, Scalar
from airflow_dataops.ledger import claims, deciding, freezing, holding
from airflow_dataops.ledger.base import (
    BatchContent,
    BatchRecord,
    Claim,
    ClaimRequest,
    Decision,
    DecisionPlan,
    PartitionName,
)
from airflow_dataops.ledger.cursors import surely_below
from airflow_dataops.ledger.dead_letters_base import LetterFile
from airflow_dataops.ledger.encoding import RECORD_COLUMNS, content_of_json, record_of_row
from airflow_dataops.ledger.source_names import is_of, named_now
from airflow_dataops.ledger.tables import batch
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlBatches:
    """`Batches` in SQL. The rules are in `claims`, `freezing` and `deciding`."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def claim(self, request: ClaimRequest) -> Claim:
        with self._database.write() as connection:
            return claims.claim(self._database, connection, self._clock(), request)

    def adopt(
        self, table_key: str, batch_id: str, generation: int, writer: str, nonce: str, lease_seconds: float = 300.0,
        *, leave_live: bool = False,
    ) -> Claim | None:  # fmt: skip
        key = (table_key, batch_id, generation)
        with self._database.write() as connection:
            return claims.adopt(self._database, connection, self._clock(), lease_seconds, key, writer, nonce, leave_live=leave_live)

    def reclaim(self, table_key: str, run: str, writer: str, nonce: str, lease_seconds: float = 300.0) -> Claim | None:
        with self._database.write() as connection:
            return claims.reclaim(self._database, connection, self._clock(), lease_seconds, table_key, run, writer, nonce)

    def renew(self, claim: Claim, lease_seconds: float) -> None:
        with self._database.write() as connection:
            claims.renew(self._database, connection, self._clock(), claim, lease_seconds)

    def freeze(
        self, claim: Claim, content: BatchContent, dead_letters: Sequence[DeadLetter], lease_seconds: float = 300.0,
        letter_file: LetterFile | None = None,
    ) -> Claim:  # fmt: skip
        given = (claim, content, dead_letters, lease_seconds, letter_file)
        with self._database.write() as connection:
            return freezing.freeze(self._database, connection, self._clock(), *given)

    def hold(self, claim: Claim, reason: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            holding.put_aside(self._database, connection, self._clock(), claim, reason)

    def abandon(self, claim: Claim) -> None:
        with self._database.write() as connection:
            claims.abandon(self._database, connection, self._clock(), claim)

    def decide(
        self, claim: Claim, plans: Sequence[DecisionPlan], held_letters: tuple[Sequence[DeadLetter], LetterFile | None] = ((), None)
    ) -> tuple[Decision, ...]:
        with self._database.write() as connection:
            return deciding.decide(self._database, connection, self._clock(), claim, plans, held_letters)

    def commit(
        self, claim: Claim, verified: Mapping[PartitionName, int], watermark: tuple[Scalar | None, Scalar] | None,
        files: Sequence[FileIdentity] = (), asset: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        with self._database.write() as connection:
            deciding.commit(self._database, connection, self._clock(), claim, verified, watermark, files, asset)

    def commit_unchanged(
        self, claim: Claim, watermark: tuple[Scalar | None, Scalar] | None = None,
        files: Sequence[FileIdentity] = (), asset: Mapping[str, Any] | None = None,
        held_letters: tuple[Sequence[DeadLetter], LetterFile | None] = ((), None),
    ) -> None:  # fmt: skip
        with self._database.write() as connection:
            deciding.commit_unchanged(self._database, connection, self._clock(), claim, watermark, files, asset, held_letters)

    def unfinished(self, table_key: str | None = None) -> tuple[BatchRecord, ...]:
        query = _records().where(batch.c.state.in_(("frozen", "decided")))
        if table_key is not None:
            query = query.where(batch.c.table_key == table_key)
        return tuple(sorted(self._all(query), key=lambda record: (record.table_key, record.sequence)))

    def held(self, table_key: str) -> tuple[BatchContent, ...]:
        query = sa.select(batch.c.sequence, batch.c.content).where(batch.c.table_key == table_key, batch.c.state == "held")
        with self._database.read() as connection:
            return tuple(content_of_json(row.content) for row in claims.in_sequence(connection.execute(query)))

    def ended_below(self, table_key: str, cursor: str, low: Scalar) -> frozenset[str]:
        query = sa.select(batch.c.batch_id).where(
            batch.c.table_key == table_key, batch.c.state == "committed", surely_below(batch.c, cursor, low)
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def history(self, source_id: str | None = None, table_key: str | None = None, limit: int = 50) -> tuple[BatchRecord, ...]:
        query = _records()
        if source_id is not None:
            query = query.where(is_of(batch.c.source_id, source_id))
        if table_key is not None:
            query = query.where(batch.c.table_key == table_key)
        newest = (batch.c.claimed_at.desc(), batch.c.table_key, batch.c.sequence.desc())
        return self._all(query.order_by(*newest).limit(limit))

    def committed_by(self, run: str, table_key: str) -> BatchRecord | None:
        of_run = self._all(_records().where(batch.c.table_key == table_key, batch.c.run == run))
        return max((r for r in of_run if r.state in ("committed", "held")), key=lambda record: record.sequence, default=None)

    def root(self, table_key: str) -> str | None:
        query = sa.select(batch.c.root).where(batch.c.table_key == table_key).order_by(batch.c.sequence.desc()).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def of_period(self, table_key: str, period_key: str) -> tuple[BatchRecord, ...]:
        newer = batch.alias("newer")
        later = sa.select(newer.c.generation).where(
            newer.c.table_key == batch.c.table_key,
            newer.c.batch_id == batch.c.batch_id,
            newer.c.period_key == batch.c.period_key,
            newer.c.state == "committed",
            newer.c.generation > batch.c.generation,
        )
        query = _records().where(
            batch.c.table_key == table_key, batch.c.period_key == period_key, batch.c.state == "committed", ~later.exists(),
            batch.c.range_kind != "letters",
        )  # fmt: skip
        return self._all(query.order_by(batch.c.sequence))

    def _all(self, query: sa.Select[Any]) -> tuple[BatchRecord, ...]:
        with self._database.read() as connection:
            return tuple(record_of_row(row) for row in connection.execute(query))


def _records() -> sa.Select[Any]:
    return sa.select(*named_now(RECORD_COLUMNS))
