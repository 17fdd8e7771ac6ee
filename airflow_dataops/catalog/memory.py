"""A catalog in memory: the twin of every catalog for tests, with compare-and-swap or, like Hive's partitions, without."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from airflow_dataops.catalog import rules
from airflow_dataops.catalog.base import Catalog, CatalogPartition, CatalogTable, PartitionValues
from airflow_dataops.core.errors import ConflictError, InventoryError


@dataclass(slots=True)
class _Shown:
    table: CatalogTable
    partitions: dict[PartitionValues, CatalogPartition] = field(default_factory=dict)


class MemoryCatalog(Catalog):
    """Thread-safe. Without compare-and-swap the last writer wins: `version` and `epoch` are kept but never compared."""

    kind = "memory"

    def __init__(self, *, compares_and_swaps: bool = True) -> None:
        self.compares_and_swaps = compares_and_swaps
        self._lock = threading.RLock()
        self._databases: dict[str, str] = {}
        self._tables: dict[tuple[str, str], _Shown] = {}

    def close(self) -> None:
        """Keeps what it holds: a twin may be opened by several runs one after the other."""

    def ensure_database(self, database: str, location: str) -> None:
        rules.check_database(database, location)
        with self._lock:
            self._databases.setdefault(database, location)

    def databases(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._databases))

    def table_names(self, database: str) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(name for owner, name in self._tables if owner == database))

    def get_table(self, database: str, name: str) -> CatalogTable | None:
        with self._lock:
            shown = self._tables.get((database, name))
            return shown.table if shown is not None else None

    def create_table(self, table: CatalogTable) -> CatalogTable:
        rules.check_table(table)
        with self._lock:
            if table.database not in self._databases:
                raise InventoryError(
                    f"Cannot create table {table.database}.{table.name}: there is no database {table.database} -> created before."
                )
            if (table.database, table.name) in self._tables:
                raise ConflictError(
                    f"Cannot create table {table.database}.{table.name}: it is there already -> absent. Read it and alter it."
                )
            created = replace(table, parameters=dict(table.parameters), version="1")
            self._tables[table.database, table.name] = _Shown(created)
            return created

    def alter_table(self, before: CatalogTable, after: CatalogTable) -> CatalogTable:
        rules.check_alter(before, after)
        with self._lock:
            shown = self._tables.get((before.database, before.name))
            if shown is None or (self.compares_and_swaps and shown.table.version != before.version):
                found = shown.table.version if shown is not None else "none"
                raise ConflictError(
                    f"Cannot alter table {before.database}.{before.name}: its version is {found} -> "
                    f"{before.version or 'none'}. Another writer changed it. Read it again and plan again."
                )
            version = str(int(shown.table.version) + 1)
            shown.table = replace(after, parameters=dict(after.parameters), version=version)
            return shown.table

    def drop_table(self, database: str, name: str) -> None:
        with self._lock:
            self._tables.pop((database, name), None)

    def get_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> tuple[CatalogPartition, ...]:
        with self._lock:
            known = self._known(database, table)
            return tuple(known[one] for one in sorted(set(values), key=rules.order_key) if one in known)

    def page_partitions(
        self, database: str, table: str, after: PartitionValues | None = None, limit: int = 1000
    ) -> tuple[CatalogPartition, ...]:
        with self._lock:
            known = self._known(database, table)
            names = sorted(known, key=rules.order_key)
            later = [one for one in names if after is None or rules.order_key(one) > rules.order_key(after)]
            return tuple(known[one] for one in later[:limit])

    def put_partitions(self, database: str, table: str, partitions: Sequence[CatalogPartition]) -> None:
        with self._lock:
            shown = self._tables.get((database, table))
            if shown is None:
                raise rules.missing_table("put partitions of", database, table)
            rules.check_partitions(shown.table, partitions)
            rules.check_metastore_values(shown.table, [p.values for p in partitions])
            for partition in partitions:
                stands = shown.partitions.get(partition.values)
                if self.compares_and_swaps and stands is not None and stands.epoch > partition.epoch:
                    continue
                shown.partitions[partition.values] = replace(partition, parameters=dict(partition.parameters))

    def drop_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> None:
        with self._lock:
            known = self._known(database, table)
            for one in values:
                known.pop(one, None)

    def _known(self, database: str, table: str) -> dict[PartitionValues, CatalogPartition]:
        shown = self._tables.get((database, table))
        return shown.partitions if shown is not None else {}
