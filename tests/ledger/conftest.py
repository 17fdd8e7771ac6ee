"""Every ledger there is, empty, for each test: SQLite as a file and in memory, PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.ledger.tables import metadata
from tests.ledger.actors import Clock

LEDGERS = ("sqlite-file", "sqlite-memory", "postgres")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger as a file, migrated once."""
    file = tmp_path_factory.mktemp("ledger") / "empty.db"
    open_ledger(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    """The session's PostgreSQL database with nothing in the ledger's tables."""
    open_ledger(postgres_url).close()
    engine = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE " + ", ".join(metadata.tables) + " RESTART IDENTITY"))
    yield postgres_url
    engine.dispose()


@pytest.fixture(params=LEDGERS)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("empty_postgres"))
    if request.param == "sqlite-memory":
        return "sqlite://"
    shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "ledger.db")
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    opened = open_ledger(ledger_url, clock=clock)
    yield opened
    opened.close()
