"""Runs the embedded catalog's migrations on the connection, and in the transaction, that opened it (storage/sql_database.py)."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
)
with context.begin_transaction():
    context.run_migrations()
