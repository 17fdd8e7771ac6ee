"""Databases as a source (`kind: sql`). Each database is one module, imported when a connection asks for it."""

from __future__ import annotations

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.options import SqlOptions, sql_options
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.sources.sql.database import Database
from airflow_dataops.sources.sql.source import SqlSource


def open_sql(spec: PipelineSpec, connection: Connection) -> SqlSource:
    """A source over the connection's database. Connects at first use; InventoryError for options it does not know."""
    options = sql_options(spec.options)
    return SqlSource(lambda: _connect(connection, options))


def _connect(connection: Connection, options: SqlOptions) -> Database:
    dialect = str(connection.extra.get("sqlalchemy_scheme") or connection.conn_type).partition("+")[0]
    match dialect.lower():
        case "postgres" | "postgresql":
            from airflow_dataops.sources.sql.postgres import Postgres

            return Postgres(connection, options)
        case "mysql" | "mariadb":
            from airflow_dataops.sources.sql.mysql import MySQL

            return MySQL(connection, options)
        case "sqlite":
            from airflow_dataops.sources.sql.sqlite import SQLite

            return SQLite(connection, options)
    from airflow_dataops.sources.sql.generic import Generic

    return Generic(connection, options)


__all__ = ["SqlSource", "open_sql"]
