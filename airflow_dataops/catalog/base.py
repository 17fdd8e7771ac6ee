"""What a catalog is to the rest of the product: databases, tables with ordered columns, partitions with locations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from airflow_dataops.core.schema import Column

PartitionValues = tuple[str | None, ...]
"""One text per partition column, None for NULL. `()` is the one partition of an unpartitioned table."""


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table as the catalog shows it. `version` is what compare-and-swap compares (opaque; "" for a new table)."""

    database: str
    name: str
    columns: tuple[Column, ...]
    partition_columns: tuple[Column, ...]
    location: str
    format: str = "parquet"
    comment: str = ""
    owner: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class CatalogPartition:
    """A partition as the catalog shows it. `epoch` is the decision it was projected from (0: not ours)."""

    values: PartitionValues
    location: str
    columns: tuple[Column, ...]
    epoch: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


class Tables(Protocol):
    """Databases and tables. All names are already sanitised; the catalog refuses what its limits refuse."""

    compares_and_swaps: bool

    def ensure_database(self, database: str, location: str) -> None:
        """Creates it unless it is there."""
        ...

    def databases(self) -> tuple[str, ...]: ...

    def table_names(self, database: str) -> tuple[str, ...]: ...

    def get_table(self, database: str, name: str) -> CatalogTable | None: ...

    def create_table(self, table: CatalogTable) -> CatalogTable:
        """ConflictError when it exists already."""
        ...

    def alter_table(self, before: CatalogTable, after: CatalogTable) -> CatalogTable:
        """Replaces the definition if it is still `before` (by `version`); ConflictError otherwise. Columns are
        append-only and checked by position; type changes must be widenings (InventoryError otherwise)."""
        ...

    def drop_table(self, database: str, name: str) -> None:
        """Forgets table and partitions; never touches data. Idempotent."""
        ...


class Partitions(Protocol):
    """Partitions of a table. For an unpartitioned table the single partition has `values == ()`."""

    def get_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> tuple[CatalogPartition, ...]:
        """Those of the asked ones that exist."""
        ...

    def page_partitions(
        self, database: str, table: str, after: PartitionValues | None = None, limit: int = 1000
    ) -> tuple[CatalogPartition, ...]:
        """The next page in order of values; never all at once."""
        ...

    def put_partitions(self, database: str, table: str, partitions: Sequence[CatalogPartition]) -> None:
        """Adds or replaces all of them in one call, all or nothing. Catalogs that compare-and-swap write a partition
        only where their own epoch is lower or equal, and leave the others as they are."""
        ...

    def drop_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> None:
        """Idempotent; never touches data."""
        ...


class Catalog(Tables, Partitions, Protocol):
    """One catalog. Opened by `open_catalog(kind, connection, …)` in `catalog/__init__.py`."""

    kind: str

    def close(self) -> None: ...
