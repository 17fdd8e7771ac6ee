"""The migrated database is the one that tables.py describes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.tables import MIGRATIONS, metadata


def test_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS.folder))
    assert ScriptDirectory.from_config(config).get_heads() == [MIGRATIONS.head]


def test_migrating_gives_the_tables_as_they_are_declared(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)
    with ledger._database.read() as connection:
        ours = sa.MetaData()
        ours.reflect(connection, only=lambda name, _: name in metadata.tables)
        assert set(ours.tables) == set(metadata.tables)
        found = compare_metadata(
            MigrationContext.configure(
                connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
            ),
            metadata,
        )
        assert found == []
    ledger.close()
