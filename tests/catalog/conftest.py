"""Every catalog there is, empty, for each test: embedded in SQLite and PostgreSQL, in memory with and without
compare-and-swap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_dataops.catalog import open_catalog
from airflow_dataops.catalog.base import Catalog
from airflow_dataops.catalog.memory import MemoryCatalog
from airflow_dataops.catalog.tables import metadata

CATALOGS = ("embedded-sqlite", "embedded-postgres", "memory", "memory-without-cas")


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    open_catalog("embedded", ledger_url=postgres_url).close()
    engine = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE " + ", ".join(metadata.tables)))
    yield postgres_url
    engine.dispose()


@pytest.fixture(params=CATALOGS)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    match request.param:
        case "embedded-sqlite":
            opened: Catalog = open_catalog("embedded", ledger_url=f"sqlite:///{tmp_path}/ledger.db")
        case "embedded-postgres":
            opened = open_catalog("embedded", ledger_url=request.getfixturevalue("empty_postgres"))
        case kind:
            opened = MemoryCatalog(compares_and_swaps=kind == "memory")
    opened.ensure_database("sales", "file:///lake/sales")
    yield opened
    opened.close()
