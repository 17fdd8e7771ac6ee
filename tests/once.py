"""Tests open thousands of databases in one process. What is the same for each is done once: half of the tests' own processor
time went into compiling statements and running migrations. What the databases are sent, and hold, is the same.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from airflow_dataops.storage import sql_database
from airflow_dataops.storage.sql_database import Migrations, SqlDatabase


def compile_once() -> None:
    """SQLAlchemy keeps what it has compiled for one engine: from now on all engines of one server share it."""
    made, known = sql_database._engine, dict[Any, sa.Engine]()

    def engine(url: sa.URL, in_memory: bool, purpose: str) -> sa.Engine:
        new: Any = made(url, in_memory, purpose)
        first: Any = known.setdefault((url.drivername, url.host, url.port), new)
        # The key of what is compiled holds the dialect itself.
        new.dialect = new.pool._dialect = first.dialect
        new._compiled_cache = first._compiled_cache
        return new  # type: ignore[no-any-return]

    sql_database._engine = engine


def migrate_once() -> None:
    """The first empty SQLite database is migrated; later ones get the statements that make a database like it."""
    upgrade, known = SqlDatabase._upgrade, dict[Migrations, list[str]]()

    def upgraded(self: SqlDatabase, connection: sa.Connection, migrations: Migrations) -> None:
        if self.dialect != "sqlite" or sql_database._version(connection, migrations) is not None:
            upgrade(self, connection, migrations)
            return
        if migrations not in known:
            known[migrations] = _statements(migrations, upgrade)
        for statement in known[migrations]:
            connection.exec_driver_sql(statement)

    SqlDatabase._upgrade = upgraded  # type: ignore[method-assign]


def _statements(migrations: Migrations, upgrade: Any) -> list[str]:
    empty = SqlDatabase("sqlite://", "template")
    try:
        with empty.write() as connection:
            upgrade(empty, connection, migrations)
            driver: Any = connection.connection.driver_connection
            dump = [line for line in driver.iterdump() if "sqlite_sequence" not in line]
            return dump[1:-1]  # between BEGIN and COMMIT
    finally:
        empty.close()
