"""A site whose source shows something else every day, over any catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_dataops.catalog.base import Catalog
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import table_spec
from tests.steps.test_drift_events import Commented
from tests.steps.world import World, visible_rows


class Site:
    """A source in memory, a lake, a ledger, and this catalog. One day is one run."""

    def __init__(self, catalog: Catalog, folder: Path, **row: Any) -> None:
        self.catalog, self.source = catalog, Commented()
        edges = {"source": self.source, "catalog": catalog}
        self.world = World(folder, wrap=lambda name, edge: edges.get(name, edge))
        self.by = {"database": "sales", "partition_by": [{"name": "dt", "from": "period_start"}]}
        self.spec = self.world.spec(**{"target": self.by, **row})
        self.days = 0

    def shows(self, table: str = "t", **columns: list[Any] | pa.Array) -> Any:
        """The source shows these columns; they are loaded as the next day's partition."""
        self.source.put(table, pa.table(columns))
        return self.load(table)

    def load(self, table: str = "t") -> Any:
        self.days += 1
        return self.world.load(self.spec, table, f"2024-05-{self.days:02d}")

    def rows(self, table: str = "t") -> list[dict[str, Any]]:
        found = visible_rows(self.catalog, table_spec(self.spec, table))
        return [{k: v for k, v in row.items() if k != "dt"} for row in sorted(found, key=lambda row: (row["dt"], str(row)))]

    def columns(self, table: str = "t") -> TableSchema:
        target = table_spec(self.spec, table)
        found = self.catalog.get_table(target.database, target.table)
        assert found is not None
        return TableSchema(tuple(c for c in found.columns if not c.name.startswith("_")))

    def told(self) -> list[list[str]]:
        events = self.world.edges(self.spec).ledger.drift.events("d.src")
        return [[change["text"] for change in event["changes"]] for event in events][::-1]
