"""Pending marks, and what a verified catalog allows (DESIGN §5.6–5.8). Each function runs inside one write transaction.

A mark says: this writer may still write its decision to the catalog. As long as one stands nothing of that partition is
deleted, because its writer could make it visible again (A16).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from airflow_dataops.ledger.claims import reconsider_expiry
from airflow_dataops.ledger.encoding import chunks, is_current
from airflow_dataops.ledger.tables import decision, mark, partition
from airflow_dataops.storage.sql_database import SqlDatabase


def put_marks(
    database: SqlDatabase, connection: sa.Connection, now: float, table_key: str, names: Iterable[str], writer: str
) -> None:
    rows = [{"table_key": table_key, "name": n, "writer": writer, "marked_at": now} for n in sorted(set(names))]
    database.put(connection, mark, rows)


def epochs(connection: sa.Connection, table_key: str, names: Iterable[str]) -> dict[str, int]:
    """The current epoch of each partition that has a decision."""
    found: dict[str, int] = {}
    for chunk in chunks(names):
        query = sa.select(partition.c.name, partition.c.epoch).where(
            partition.c.table_key == table_key, partition.c.name.in_(chunk)
        )
        found.update((row.name, row.epoch) for row in connection.execute(query))
    return found


def settle(
    connection: sa.Connection, now: float, table_key: str, verified: Mapping[str, int],
    writer: str | None = None, marked_before: float | None = None,
) -> None:  # fmt: skip
    """The catalog was seen to show these epochs. Where they are the current ones: stamps what they replaced as superseded,
    and clears the marks of `writer`, or of anybody when they are older than `marked_before`."""
    standing = epochs(connection, table_key, verified)
    for chunk in chunks(name for name, epoch in verified.items() if standing.get(name) == epoch):
        superseded = _supersede(connection, now, table_key, chunk)
        clear = mark.delete().where(mark.c.table_key == table_key, mark.c.name.in_(chunk))
        if writer is not None:
            clear = clear.where(mark.c.writer == writer)
        if marked_before is not None:
            clear = clear.where(mark.c.marked_at <= marked_before)
        cleared = set(connection.execute(clear.returning(mark.c.name)).scalars())
        if cleared:  # the grace of what lies behind these partitions begins anew
            connection.execute(
                partition.update()
                .where(partition.c.table_key == table_key, partition.c.name.in_(cleared))
                .values(mark_cleared_at=now)
            )
        if superseded or cleared:
            reconsider_expiry(connection, now, table_key)


def _supersede(connection: sa.Connection, now: float, table_key: str, names: list[str]) -> int:
    """Earlier decisions of these partitions whose place the current one has left. Returns how many are so from now on."""
    current = decision.alias("current")
    query = sa.select(current.c.name, current.c.location).join(partition, is_current(current))
    # Asked first, not joined: a database that thinks its tables are small compares all decisions with all (90 s for 1,200).
    stand = connection.execute(query.where(current.c.table_key == table_key, current.c.name.in_(names))).all()
    if not stand:
        return 0
    changed = connection.execute(
        decision.update()
        .where(
            decision.c.table_key == table_key,
            decision.c.name.in_([row.name for row in stand]),
            decision.c.superseded_at.is_(None),
            decision.c.location.not_in([row.location for row in stand]),  # no two partitions share a place
        )
        .values(superseded_at=now)
    )
    return changed.rowcount
