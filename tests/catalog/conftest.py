"""Every catalog there is, empty, for each test: embedded in SQLite and PostgreSQL, in memory with and without
compare-and-swap, a real Hive Metastore and one that ignores compare-and-swap, Glue as moto serves it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_dataops.catalog import open_catalog
from airflow_dataops.catalog.base import Catalog
from airflow_dataops.catalog.glue import GlueCatalog
from airflow_dataops.catalog.glue_calls import GlueAddress, GlueCalls
from airflow_dataops.catalog.hive import HiveCatalog
from airflow_dataops.catalog.hive_calls import MetastoreCalls
from airflow_dataops.catalog.hive_connection import MetastoreAddress
from airflow_dataops.catalog.memory import MemoryCatalog
from airflow_dataops.catalog.tables import metadata
from tests.servers.glue import GlueServer
from tests.servers.hive import HiveServer
from tests.servers.process import RUN_FOLDER

CATALOGS = ("embedded-sqlite", "embedded-postgres", "memory", "memory-without-cas", "hive", "hive-without-cas", "glue")


def lake() -> str:
    """Where a metastore may make the folders of tables and partitions."""
    return f"file://{os.environ[RUN_FOLDER]}/contract-lake"


class OldMetastoreCalls(MetastoreCalls):
    """To a metastore of before HIVE-26882: what it does not know of an alter's context it ignores, silently."""

    def call(self, name: str, doing: str, /, *, repeat: bool = True, **arguments: Any) -> Any:
        if name == "getVersion":
            return "3.1.3"
        if name == "alter_table_with_environment_context":
            arguments["environment_context"] = None
        return super().call(name, doing, repeat=repeat, **arguments)


def hive_catalog(server: HiveServer, calls: type[MetastoreCalls] = MetastoreCalls, **extra: Any) -> HiveCatalog:
    """A catalog inside the metastore that is nobody else's."""
    extra.setdefault("catalog_name", server.new_catalog())
    return HiveCatalog(calls(MetastoreAddress.of_connection(server.connection(**extra))))


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
        case "hive":
            opened = hive_catalog(request.getfixturevalue("hive_server"))
        case "hive-without-cas":
            opened = hive_catalog(request.getfixturevalue("hive_server"), OldMetastoreCalls, timeout_seconds=30)
        case "glue":
            server: GlueServer = request.getfixturevalue("glue_server")
            server.empty()
            opened = GlueCatalog(GlueCalls(GlueAddress.of_connection(server.connection())))
        case kind:
            opened = MemoryCatalog(compares_and_swaps=kind == "memory")
    opened.ensure_database("sales", f"{lake()}/sales")
    yield opened
    opened.close()
