"""What sources were called before. A rename is a row here and nothing else: every table keeps the key it was born with, so old
and new runs claim the same one, and history is told under the name of now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.ledger.tables import freshness, loaded_table, source_name
from airflow_dataops.storage.sql_database import SqlDatabase

_names = source_name.c


def called(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The column's source id as it is called now."""
    of_former = sa.select(_names.source_id).where(_names.former == column).scalar_subquery()
    return sa.func.coalesce(of_former, column).label("source_id")


def named_now(columns: Iterable[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    """The columns, with that of the source id as it is called now."""
    return [called(c) if c.key == "source_id" else c for c in columns]


def is_of(column: sa.ColumnElement[str], source_id: str) -> sa.ColumnElement[bool]:
    """Whether the column's source id is this source, by its name of now or an earlier one."""
    given_up = sa.exists().where(_names.former == source_id)
    return ((column == source_id) & ~given_up) | column.in_(sa.select(_names.former).where(_names.source_id == source_id))


def state_id(connection: sa.Connection, source_id: str) -> str:
    """The rules of `Sources.state_id`."""
    query = sa.select(_names.state_id).where((_names.former == source_id) | (_names.source_id == source_id)).limit(1)
    return connection.execute(query).scalar() or source_id


def former_ids(connection: sa.Connection) -> dict[str, str]:
    """The rules of `Sources.former_ids`."""
    return {row.former: row.source_id for row in connection.execute(sa.select(_names.former, _names.source_id))}


def carried(connection: sa.Connection, source_id: str, former: str) -> str | None:
    """The state id when this rename is known already; None when there is something to do."""
    given_up = _of(connection, former)
    if given_up is None:
        return None
    if given_up.source_id == source_id or given_up.state_id == state_id(connection, source_id):
        return str(given_up.state_id)
    return None


def carry(database: SqlDatabase, connection: sa.Connection, now: float, source_id: str, former: str) -> str:
    """The rules of `Sources.carry`, inside one write transaction."""
    known = carried(connection, source_id, former)
    if known is not None:
        return known
    elsewhere = _of(connection, former)
    if elsewhere is not None:
        raise _refused(source_id, former, f"its state went to {elsewhere.source_id} -> nowhere else", "Name that one, or no other")
    state = state_id(connection, former)
    mine = _of(connection, source_id)
    if mine is not None and mine.state_id == state:  # renamed back
        connection.execute(source_name.delete().where(_names.former == source_id))
    elif mine is not None:
        raise _refused(source_id, former, f"{source_id} is called {mine.source_id} now -> a name that is free", "Use another name")
    elif _has_state(connection, source_id):
        raise _refused(source_id, former, f"{source_id} has tables of its own -> a name that never loaded any", "Use another name")
    row = {"former": former, "source_id": source_id, "state_id": state, "renamed_at": now}
    database.insert_missing(connection, source_name, [row])
    won = _of(connection, former)
    if won is None or won.source_id != source_id:
        raise _refused(source_id, former, "somebody else was faster -> one source for a state", "Look at who names it, too")
    connection.execute(source_name.update().where(_names.source_id == former).values(source_id=source_id))
    _move_freshness(connection, former, source_id)
    return state


def _of(connection: sa.Connection, former: str) -> Any:
    return connection.execute(sa.select(source_name).where(_names.former == former)).one_or_none()


def _has_state(connection: sa.Connection, source_id: str) -> bool:
    tables = sa.select(loaded_table.c.table_key).where(loaded_table.c.source_id == source_id).limit(1)
    names = sa.select(_names.former).where(_names.source_id == source_id).limit(1)
    return connection.execute(tables).first() is not None or connection.execute(names).first() is not None


def _move_freshness(connection: sa.Connection, former: str, source_id: str) -> None:
    there = sa.select(freshness.c.name).where(freshness.c.source_id == source_id)
    names = connection.execute(there).scalars().all()
    connection.execute(
        freshness.update().where(freshness.c.source_id == former, freshness.c.name.not_in(names)).values(source_id=source_id)
    )


def _refused(source_id: str, former: str, found: str, what_to_do: str) -> InventoryError:
    return InventoryError(
        f"Cannot rename {former} to {source_id}: {found}. Two sources with one state would lose or double rows. "
        f"{what_to_do} in `renamed_from`."
    )
