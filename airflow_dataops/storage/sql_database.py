"""An SQL database that keeps state of our own (the ledger, the embedded catalog): opened, migrated, and used in
transactions whose failures say what to do.

SQLite and PostgreSQL. Every write transaction is serialisable: on SQLite it begins IMMEDIATE, so there is one writer at
a time; on PostgreSQL the caller locks the one row that stands for what it changes before it reads anything else.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, TimeoutError
from sqlalchemy.pool import StaticPool

from airflow_dataops.core.errors import (
    ConflictError,
    DataOpsError,
    InventoryError,
    UnavailableError,
)

BUSY_TIMEOUT_SECONDS = 30
# A stopped process must not keep a row locked for ever: the server ends its session instead.
IDLE_TRANSACTION_SECONDS = 60
LOCK_TIMEOUT_SECONDS = 60
CONNECT_TIMEOUT_SECONDS = 10
ROWS_PER_STATEMENT = 500
"""Values bound in one statement stay below the limits of both databases (SQLite 32,766, PostgreSQL 65,535)."""

_WRITES = "dataops_writes"
# Alembic keeps its current migration in a module-level proxy: one migration at a time in a process.
_MIGRATING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Migrations:
    """A folder of Alembic migrations, the revision this version of the code was written for, and where it is kept."""

    folder: Path
    head: str
    version_table: str


class SqlDatabase:
    """One database, opened by URL. `purpose` names it in messages (`ledger`, `catalog`)."""

    def __init__(self, url: str, purpose: str) -> None:
        """InventoryError for a URL that cannot be read or a kind of database that is not supported. Connects to nothing yet."""
        self.purpose = purpose
        parsed = _parsed(url, purpose)
        self.dialect: str = parsed.get_backend_name()
        self.place = _place(parsed)
        in_memory = self.dialect == "sqlite" and parsed.database in (None, "", ":memory:")
        # In memory there is one connection for all threads: it is the database.
        self._alone: threading.RLock | None = threading.RLock() if in_memory else None
        self.engine = _engine(parsed, in_memory, purpose)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or, when anything is raised inside, nothing."""
        with self._errors("write to"), self._one_thread(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """For reading only, at one moment; never waits for a writer (SQLite's WAL, PostgreSQL's snapshots)."""
        with self._errors("read"), self._one_thread(), self.engine.connect() as connection:
            if self.dialect == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def migrate(self, migrations: Migrations) -> None:
        """Brings the schema to `head`. Cheap when it is there already (one query, Alembic is not even imported); two
        processes that open an empty database at once wait for each other."""
        with self.read() as connection:
            current = _version(connection, migrations)
        if current == migrations.head:
            return
        with _MIGRATING, self.write() as connection:
            if self.dialect == "postgresql":
                key = zlib.crc32(migrations.version_table.encode())
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            if _version(connection, migrations) != migrations.head:
                self._upgrade(connection, migrations)

    def insert_missing(self, connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        """Inserts the rows whose primary key is not there yet; leaves the others as they are."""
        if rows:
            connection.execute(self._insert(table).on_conflict_do_nothing(), list(rows))

    def put(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]], only: Collection[str] | None = None
    ) -> None:
        """Inserts the rows, or replaces the given columns (of these `only` some) of those whose primary key is there. All rows
        have equal keys."""
        if not rows:
            return
        insert = self._insert(table)
        key = [column.name for column in table.primary_key]
        changed = {name: insert.excluded[name] for name in rows[0] if name not in key and (only is None or name in only)}
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed), list(rows))

    def close(self) -> None:
        self.engine.dispose()

    def _insert(self, table: sa.Table) -> Any:
        """The INSERT of the database's own kind, with ON CONFLICT. Imported for the one that is in use (0.04 s each)."""
        if self.dialect == "sqlite":
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        if self._alone is None:
            yield
            return
        with self._alone:
            yield

    def _upgrade(self, connection: sa.Connection, migrations: Migrations) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(migrations.folder).replace("%", "%%"))
        config.attributes.update(connection=connection, version_table=migrations.version_table)
        try:
            command.upgrade(config, migrations.head)
        except CommandError as error:
            found = _version(connection, migrations)
            raise InventoryError(
                f"Cannot open {self.purpose} {self.place}: its schema is {found} -> {migrations.head} or older. "
                "A newer airflow-dataops has written it. Install that version here, too."
            ) from error

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DataOpsError:
            raise
        except DBAPIError as error:
            raise self._translated(doing, error) from error
        except TimeoutError as error:
            raise UnavailableError(
                f"Cannot {doing} {self.purpose} {self.place}: all connections of this process are in use -> a free one. Try again."
            ) from error
        except UnicodeEncodeError as error:
            raise InventoryError(
                f"Cannot {doing} {self.purpose} {self.place}: a name that is not text -> UTF-8. Rename it at the source."
            ) from error

    def _translated(self, doing: str, error: DBAPIError) -> DataOpsError:
        cause = error.orig
        # Only the first line: what follows (PostgreSQL's DETAIL) may quote values.
        found = (str(cause).strip() or type(cause).__name__).splitlines()[0][:300].rstrip(".")
        subject = f"Cannot {doing} {self.purpose} {self.place}: {found}"
        state = getattr(cause, "sqlstate", None) or ""
        if state in ("40001", "40P01") or isinstance(error, sa.exc.IntegrityError):
            return ConflictError(f"{subject} -> no writer beside this one. Both changed the same rows. Try again.")
        if _is_outage(error, state):
            return UnavailableError(f"{subject} -> an answer. The database is down, full or locked. Try again.")
        return InventoryError(
            f"{subject} -> it is accepted. Check the rights of the database's user, its schema, and the names in the row."
        )


def _is_outage(error: DBAPIError, state: str) -> bool:
    if error.connection_invalidated or state[:2] in ("08", "53", "57") or state in ("55P03", "25P03"):
        return True
    if isinstance(error.orig, sqlite3.Error):
        name = getattr(error.orig, "sqlite_errorname", "")
        return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL"))
    # Without a state the server has not spoken: libpq could not connect.
    return isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)) and not state


def _parsed(url: str, purpose: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # no URL, or a port that is no number; the text repeats the URL, password included
        raise _unreadable(purpose) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        try:
            parsed = parsed.set(database=str(Path(parsed.database).expanduser()))
        except RuntimeError:  # ~somebody, who is not there
            raise _unreadable(purpose) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InventoryError(
            f"Cannot open {purpose}: a {parsed.drivername} URL -> sqlite or postgresql. Its transactions decide what is "
            "published; other databases are not tested for that."
        )
    return parsed


def _unreadable(purpose: str) -> InventoryError:
    return InventoryError(
        f"Cannot open {purpose}: its URL cannot be read -> e.g. sqlite:////var/lib/dataops/ledger.db or "
        "postgresql://user:password@host/database. Special characters in a password are written %XX."
    )


def _make_folder(file: str, purpose: str) -> None:
    """The folder of an SQLite file. A disk that is full or broken may be well again; a place that cannot be stays so."""
    found: object = None
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        if Path(file).is_dir():
            found = "a folder"
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        found = error.strerror
    except OSError as error:
        raise UnavailableError(
            f"Cannot open {purpose} sqlite:///{file}: {error.strerror} -> a folder that can be made. Try again when it is well."
        ) from error
    if found is not None:
        raise InventoryError(
            f"Cannot open {purpose} sqlite:///{file}: {found} -> a file in a folder that is there or can be made. Correct the "
            f"setting of the {purpose}, or the rights of the folder."
        )


def _place(url: sa.URL) -> str:
    """The address without user, password and options: any of them may be a secret."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database or ':memory:'}"
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}/{url.database or ''}"


def _engine(url: sa.URL, in_memory: bool, purpose: str) -> sa.Engine:
    options: dict[str, Any] = {"hide_parameters": True}
    if url.get_backend_name() == "postgresql":
        options["pool_pre_ping"] = True  # a load may leave its connection idle for hours
        options["isolation_level"] = "READ COMMITTED"
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "airflow-dataops"}
    else:
        options["connect_args"] = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        if in_memory:
            options["poolclass"] = StaticPool
    try:
        if url.get_backend_name() == "sqlite" and url.database and not in_memory:
            _make_folder(url.database, purpose)
        engine = sa.create_engine(url, **options)
    except (NoSuchModuleError, ImportError) as error:
        raise InventoryError(
            f"Cannot open {purpose}: driver {url.drivername} is not installed -> it is. Install airflow-dataops[postgres], "
            "or write postgresql:// without a driver."
        ) from error
    except (ArgumentError, TypeError, ValueError):  # an option that means nothing, a host for SQLite; as above
        raise _unreadable(purpose) from None
    if engine.dialect.is_async:
        raise InventoryError(
            f"Cannot open {purpose}: {url.drivername} is an asynchronous driver -> sqlite or postgresql without a driver's name."
        )
    if url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        sa.event.listen(engine, "connect", _set_up_postgresql)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins nothing on its own; `_begin_sqlite` does
    if connection.execute("PRAGMA database_list").fetchone()[2]:
        _set_wal(connection)
    # FULL: a decision must outlive a power cut, because the catalog may already show it.
    connection.execute("PRAGMA synchronous = FULL")


def _set_wal(connection: Any) -> None:
    """Switching needs the file for itself, and SQLite does not wait for that under its busy timeout."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _set_up_postgresql(connection: Any, _: object) -> None:
    before = connection.autocommit
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TRANSACTION_SECONDS * 1000}")
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_SECONDS * 1000}")
    connection.autocommit = before


def _version(connection: sa.Connection, migrations: Migrations) -> str | None:
    table = sa.table(migrations.version_table, sa.column("version_num"))
    if not sa.inspect(connection).has_table(migrations.version_table):
        return None
    return connection.execute(sa.select(table.c.version_num)).scalar()
