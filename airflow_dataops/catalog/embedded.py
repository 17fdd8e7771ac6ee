"""The embedded catalog: SQL tables in the ledger's database, with compare-and-swap. Readers reach it through `dataops sql`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.catalog import rules
from airflow_dataops.catalog.base import Catalog, CatalogPartition, CatalogTable, PartitionValues
from airflow_dataops.catalog.tables import (
    MIGRATIONS,
    catalog_columns,
    catalog_database,
    catalog_partition,
    catalog_table,
)
from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.schema import Column
from airflow_dataops.storage.sql_database import ROWS_PER_STATEMENT, SqlDatabase
from airflow_dataops.storage.sql_text import columns_of_json, columns_to_json, json_text, text_id


class EmbeddedCatalog(Catalog):
    """Tables by version, partitions by epoch. Thread-safe; any number of processes."""

    kind = "embedded"
    compares_and_swaps = True

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, "catalog")
        try:
            self._database.migrate(MIGRATIONS)
        except BaseException:
            self._database.close()
            raise

    def __repr__(self) -> str:
        return f"EmbeddedCatalog({self._database.place})"

    def close(self) -> None:
        self._database.close()

    def ensure_database(self, database: str, location: str) -> None:
        rules.check_database(database, location)
        with self._database.write() as connection:
            self._database.insert_missing(connection, catalog_database, [{"name": database, "location": location}])

    def databases(self) -> tuple[str, ...]:
        with self._database.read() as connection:
            return tuple(sorted(connection.execute(sa.select(catalog_database.c.name)).scalars()))

    def table_names(self, database: str) -> tuple[str, ...]:
        query = sa.select(catalog_table.c.table_name).where(catalog_table.c.database_name == database)
        with self._database.read() as connection:
            return tuple(sorted(connection.execute(query).scalars()))

    def get_table(self, database: str, name: str) -> CatalogTable | None:
        with self._database.read() as connection:
            return _get_table(connection, database, name)

    def create_table(self, table: CatalogTable) -> CatalogTable:
        rules.check_table(table)
        with self._database.write() as connection:
            known = sa.select(catalog_database.c.name).where(catalog_database.c.name == table.database)
            if connection.execute(known).scalar() is None:
                raise InventoryError(
                    f"Cannot create table {table.database}.{table.name}: there is no database {table.database} -> created before."
                )
            if _get_table(connection, table.database, table.name) is not None:
                raise ConflictError(
                    f"Cannot create table {table.database}.{table.name}: it is there already -> absent. Read it and alter it."
                )
            keys = {"database_name": table.database, "table_name": table.name, "version": 1}
            connection.execute(catalog_table.insert().values(keys | self._definition(connection, table)))
            return _there(_get_table(connection, table.database, table.name), "create", table.database, table.name)

    def alter_table(self, before: CatalogTable, after: CatalogTable) -> CatalogTable:
        rules.check_alter(before, after)
        with self._database.write() as connection:
            version = int(before.version) if before.version.isdigit() else 0
            changed = connection.execute(
                catalog_table.update()
                .where(_is(catalog_table, before.database, before.name), catalog_table.c.version == version)
                .values(self._definition(connection, after) | {"version": version + 1})
            )
            if changed.rowcount != 1:
                now = _get_table(connection, before.database, before.name)
                raise ConflictError(
                    f"Cannot alter table {before.database}.{before.name}: its version is {now.version if now else 'none'} -> "
                    f"{before.version or 'none'}. Another writer changed it. Read it again and plan again."
                )
            return _there(_get_table(connection, before.database, before.name), "alter", before.database, before.name)

    def drop_table(self, database: str, name: str) -> None:
        with self._database.write() as connection:
            connection.execute(catalog_table.delete().where(_is(catalog_table, database, name)))
            connection.execute(catalog_partition.delete().where(_is(catalog_partition, database, name)))

    def get_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> tuple[CatalogPartition, ...]:
        keys = [rules.order_key(one) for one in values]
        found: list[CatalogPartition] = []
        with self._database.read() as connection:
            for chunk in _chunks(keys):
                query = _partitions(database, table).where(catalog_partition.c.partition_key.in_(chunk))
                found += _of_rows(connection.execute(query))
        return tuple(found)

    def page_partitions(
        self, database: str, table: str, after: PartitionValues | None = None, limit: int = 1000
    ) -> tuple[CatalogPartition, ...]:
        query = _partitions(database, table).limit(limit)
        if after is not None:
            query = query.where(catalog_partition.c.partition_key > rules.order_key(after))
        with self._database.read() as connection:
            return tuple(_of_rows(connection.execute(query)))

    def put_partitions(self, database: str, table: str, partitions: Sequence[CatalogPartition]) -> None:
        with self._database.write() as connection:
            rules.check_partitions(self._locked(connection, "put partitions of", database, table), partitions)
            newer = self._newer(connection, database, table, partitions)
            wanted = [p for p in partitions if p.values not in newer]
            ids = self._keep_columns(connection, {p.columns for p in wanted})
            rows = [
                {
                    "database_name": database, "table_name": table, "partition_key": rules.order_key(p.values),
                    "partition_values": list(p.values), "location": p.location, "columns_id": ids[p.columns],
                    "epoch": p.epoch, "parameters": dict(p.parameters),
                }
                for p in wanted
            ]  # fmt: skip
            self._database.put(connection, catalog_partition, rows)

    def drop_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> None:
        with self._database.write() as connection:
            for chunk in _chunks([rules.order_key(one) for one in values]):
                connection.execute(
                    catalog_partition.delete().where(
                        _is(catalog_partition, database, table), catalog_partition.c.partition_key.in_(chunk)
                    )
                )

    def _locked(self, connection: sa.Connection, doing: str, database: str, table: str) -> CatalogTable:
        """The table, its row locked: writers of one table come one after the other."""
        lock = sa.select(catalog_table.c.version).where(_is(catalog_table, database, table)).with_for_update()
        connection.execute(lock)
        return _there(_get_table(connection, database, table), doing, database, table)

    def _newer(
        self, connection: sa.Connection, database: str, table: str, partitions: Sequence[CatalogPartition]
    ) -> set[PartitionValues]:
        """Those of which the catalog shows a later decision already."""
        epochs = {rules.order_key(p.values): p for p in partitions}
        newer: set[PartitionValues] = set()
        for chunk in _chunks(list(epochs)):
            query = sa.select(catalog_partition.c.partition_key, catalog_partition.c.epoch).where(
                _is(catalog_partition, database, table), catalog_partition.c.partition_key.in_(chunk)
            )
            for row in connection.execute(query):
                asked = epochs[bytes(row.partition_key)]
                if row.epoch > asked.epoch:
                    newer.add(asked.values)
        return newer

    def _definition(self, connection: sa.Connection, table: CatalogTable) -> dict[str, Any]:
        return {
            "columns_id": self._keep_columns(connection, {table.columns})[table.columns],
            "partition_columns": columns_to_json(table.partition_columns), "location": table.location,
            "format": table.format, "comment": table.comment, "owner": table.owner,
            "parameters": dict(table.parameters),
        }  # fmt: skip

    def _keep_columns(self, connection: sa.Connection, lists: set[tuple[Column, ...]]) -> dict[tuple[Column, ...], str]:
        data = {columns: columns_to_json(columns) for columns in lists}
        ids = {columns: text_id(json_text(data[columns])) for columns in lists}
        rows = {ids[columns]: {"columns_id": ids[columns], "columns": data[columns]} for columns in lists}
        self._database.insert_missing(connection, catalog_columns, [rows[key] for key in sorted(rows)])
        return ids


def _is(table: sa.Table, database: str, name: str) -> sa.ColumnElement[bool]:
    return (table.c.database_name == database) & (table.c.table_name == name)


def _get_table(connection: sa.Connection, database: str, name: str) -> CatalogTable | None:
    query = sa.select(*catalog_table.c, catalog_columns.c.columns.label("column_list")).join(
        catalog_columns, catalog_columns.c.columns_id == catalog_table.c.columns_id
    )
    row = connection.execute(query.where(_is(catalog_table, database, name))).one_or_none()
    if row is None:
        return None
    return CatalogTable(
        row.database_name, row.table_name, columns_of_json(row.column_list), columns_of_json(row.partition_columns),
        row.location, row.format, row.comment, row.owner, row.parameters, str(row.version),
    )  # fmt: skip


def _there(table: CatalogTable | None, doing: str, database: str, name: str) -> CatalogTable:
    if table is None:
        raise rules.missing_table(doing, database, name)
    return table


def _partitions(database: str, table: str) -> sa.Select[Any]:
    return (
        sa.select(*catalog_partition.c, catalog_columns.c.columns.label("column_list"))
        .join(catalog_columns, catalog_columns.c.columns_id == catalog_partition.c.columns_id)
        .where(_is(catalog_partition, database, table))
        .order_by(catalog_partition.c.partition_key)
    )


def _of_rows(rows: Iterable[Any]) -> list[CatalogPartition]:
    lists: dict[str, tuple[Column, ...]] = {}  # thousands of partitions, a handful of column lists
    found = []
    for row in rows:
        if row.columns_id not in lists:
            lists[row.columns_id] = columns_of_json(row.column_list)
        found.append(CatalogPartition(tuple(row.partition_values), row.location, lists[row.columns_id], row.epoch, row.parameters))
    return found


def _chunks(keys: list[bytes]) -> Iterable[list[bytes]]:
    distinct = sorted(set(keys))
    return (distinct[i : i + ROWS_PER_STATEMENT] for i in range(0, len(distinct), ROWS_PER_STATEMENT))
