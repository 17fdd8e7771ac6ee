"""A small real world for the steps: an SQLite database as the source, a lake on disk, a ledger file, a catalog.

`visible` reads as a stranger would: catalog → location → files, never the ledger.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow.parquet as pq

from airflow_dataops.catalog import open_catalog
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, table_spec
from airflow_dataops.lake import open_lake
from airflow_dataops.ledger import open_ledger
from airflow_dataops.open_edges import state_id_of
from airflow_dataops.sources import open_source
from airflow_dataops.steps.load import load_table
from airflow_dataops.steps.run import Edges, Run, TableResult


def day(key: str, *, backfill: bool = False) -> Period:
    start = datetime.fromisoformat(key).replace(tzinfo=UTC)
    return Period(key, start, start + timedelta(days=1), "key", backfill)


@functools.cache
def empty_ledger() -> bytes:
    """The file of a ledger with nothing in it. Made once: its migrations cost as much as a small load."""
    with tempfile.TemporaryDirectory() as folder:
        open_ledger(f"sqlite:///{folder}/ledger.db").close()
        return Path(folder, "ledger.db").read_bytes()


@dataclass
class World:
    """One source with its lake, in a folder. Opening it again (`World(folder)`) sees the same state: nothing is in memory."""

    folder: Path
    kind: str = "sql"
    options: dict[str, Any] = field(default_factory=dict)
    wrap: Callable[[str, Any], Any] = lambda name, edge: edge
    lease_seconds: float = 0.2
    grace_seconds: float = 86_400.0
    ledger_url: str = ""
    clock: Callable[[], float] = time.time
    _runs = itertools.count()

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.database = self.folder / "source.db"
        if not self.ledger_url:
            self.ledger_url = f"sqlite:///{self.folder}/ledger.db"
            if not (self.folder / "ledger.db").exists():
                (self.folder / "ledger.db").write_bytes(empty_ledger())

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.database, timeout=30) as connection:
            found: list[tuple[Any, ...]] = []
            for statement in statements:
                found = connection.execute(statement).fetchall()
        connection.close()
        return found

    def spec(self, **row: Any) -> PipelineSpec:
        data = {"name": "src", "domain": "d", "kind": self.kind, "owner": "team", "options": self.options, **row}
        if self.kind == "sql":
            data.setdefault("conn_id", "db")
        return PipelineSpec.model_validate(data)

    def edges(self, spec: PipelineSpec, writer: str = "w") -> Edges:
        connection = Connection("db", "sqlite", host=str(self.database)) if self.kind == "sql" else None
        return Edges(
            source=self.wrap("source", open_source(spec, connection, base_path=str(self.folder))),
            lake=self.wrap("lake", open_lake(f"file://{self.folder}/lake")),
            catalog=self.wrap("catalog", open_catalog("embedded", ledger_url=self.ledger_url)),
            ledger=self.wrap("ledger", open_ledger(self.ledger_url, clock=self.clock)),
            dead_letters=open_lake(f"file://{self.folder}/dead"),
            writer=f"{writer}-{next(self._runs)}",
            privacy_key=b"secret",
            lease_seconds=self.lease_seconds,
            grace_seconds=self.grace_seconds,
            clock=self.clock,
            state_id=self.state_id(spec),
        )

    def state_id(self, spec: PipelineSpec) -> str:
        ledger = open_ledger(self.ledger_url)
        try:
            return state_id_of(spec, ledger)
        finally:
            ledger.close()

    def load(self, spec: PipelineSpec, table: str, period: Period | str = "2024-05-01", run: str | None = None) -> TableResult:
        period = day(period) if isinstance(period, str) else period
        edges = self.edges(spec)
        try:
            return load_table(spec, edges, Run(run or f"run-{next(self._runs)}", period), table)
        finally:
            for edge in (edges.source, edges.ledger, edges.catalog):
                edge.close()

    def visible(self, spec: PipelineSpec, table: str) -> list[dict[str, Any]]:
        """All rows a reader sees, without standard columns, partition values added, sorted."""
        target = table_spec(spec, table)
        catalog = open_catalog("embedded", ledger_url=self.ledger_url)
        try:
            return visible_rows(catalog, target)
        finally:
            catalog.close()


def visible_rows(catalog: Any, target: TableSpec) -> list[dict[str, Any]]:
    shown = catalog.get_table(target.database, target.table)
    if shown is None:
        return []
    rows: list[dict[str, Any]] = []
    names = [c.name for c in shown.columns if c.name not in STANDARD_COLUMNS]
    for partition in catalog.page_partitions(target.database, target.table):
        place = Path(unquote(urlparse(partition.location).path))
        if not place.is_dir():
            raise FileNotFoundError(f"the catalog shows {place}, which is not there")
        values = dict(zip([c.name for c in shown.partition_columns], partition.values, strict=True))
        for file in sorted(place.rglob("*.parquet")):
            table = pq.ParquetFile(file).read()
            for row in table.to_pylist():
                rows.append({n: row.get(n) for n in names} | values)
    return sorted(rows, key=repr)


def ids(rows: list[dict[str, Any]], column: str = "id") -> list[Any]:
    return sorted(r[column] for r in rows)
