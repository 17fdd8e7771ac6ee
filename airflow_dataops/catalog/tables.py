"""The embedded catalog's tables, kept in the ledger's database. A change needs a migration beside it and a new HEAD."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from airflow_dataops.storage.sql_database import Migrations
from airflow_dataops.storage.sql_text import JsonText

MIGRATIONS = Migrations(Path(__file__).parent / "migrations", head="0001", version_table="dataops_catalog_version")

metadata = sa.MetaData()

catalog_database = sa.Table(
    "dataops_catalog_database",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("location", sa.Text, nullable=False),
)

catalog_table = sa.Table(
    "dataops_catalog_table",
    metadata,
    sa.Column("database_name", sa.Text, primary_key=True),
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("columns_id", sa.Text, nullable=False),
    sa.Column("partition_columns", JsonText, nullable=False),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("parameters", JsonText, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

# `partition_key` sorts as the values do, in every database and whatever its collation.
catalog_partition = sa.Table(
    "dataops_catalog_partition",
    metadata,
    sa.Column("database_name", sa.Text, primary_key=True),
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("partition_key", sa.LargeBinary, primary_key=True),
    sa.Column("partition_values", JsonText, nullable=False),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("columns_id", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("parameters", JsonText, nullable=False),
)

# Column lists that many partitions share, by the digest of their text.
catalog_columns = sa.Table(
    "dataops_catalog_columns",
    metadata,
    sa.Column("columns_id", sa.Text, primary_key=True),
    sa.Column("columns", JsonText, nullable=False),
)
