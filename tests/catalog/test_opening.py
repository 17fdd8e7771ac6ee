"""Which catalogs there are, and the embedded one beside the ledger."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from airflow_dataops.catalog import open_catalog
from airflow_dataops.catalog.embedded import EmbeddedCatalog
from airflow_dataops.catalog.memory import MemoryCatalog
from airflow_dataops.catalog.tables import MIGRATIONS, metadata
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.ledger import open_ledger


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(InventoryError, match="kind 'hiev' -> one of embedded, glue, hive, memory"):
        open_catalog("hiev", ledger_url="sqlite://")


def test_each_kind_opens() -> None:
    assert isinstance(open_catalog("memory"), MemoryCatalog) and open_catalog("memory").kind == "memory"
    assert isinstance(open_catalog("embedded", ledger_url="sqlite://"), EmbeddedCatalog)
    with pytest.raises(InventoryError, match="the ledger's URL"):
        open_catalog("embedded")
    with pytest.raises(InventoryError, match="no connection -> an Airflow connection of type `hive_metastore`"):
        open_catalog("hive")


def test_a_missing_client_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("thrift", "airflow_dataops.catalog.hive"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "thrift", None)
    with pytest.raises(InventoryError, match=r"package thrift\S* is missing .* pip install 'airflow-dataops\[hive\]'"):
        open_catalog("hive", connection=Connection("hms", "hive_metastore", host="x"))


def test_an_unreachable_database_is_told_without_its_password() -> None:
    with pytest.raises(UnavailableError, match=r"read catalog postgresql://127\.0\.0\.1:1/db") as raised:
        open_catalog("embedded", ledger_url="postgresql://me:s3cr3t@127.0.0.1:1/db")
    assert "s3cr3t" not in "".join(traceback.format_exception(raised.value, limit=0))


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_it_lives_beside_the_ledger_and_is_as_declared(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    postgres = where == "postgres"
    url = request.getfixturevalue("postgres_server").new_database() if postgres else f"sqlite:///{tmp_path}/l.db"
    ledger, catalog = open_ledger(url), open_catalog("embedded", ledger_url=url)
    catalog.ensure_database("sales", "x")
    assert ledger.batches.history() == () and open_catalog("embedded", ledger_url=url).databases() == ("sales",)
    with catalog._database.read() as connection:  # type: ignore[attr-defined]
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert set(metadata.tables) <= set(sa.inspect(connection).get_table_names())
        assert compare_metadata(context, metadata) == []
    catalog.close()
    ledger.close()


def test_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS.folder))
    assert ScriptDirectory.from_config(config).get_heads() == [MIGRATIONS.head]
