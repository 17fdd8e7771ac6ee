"""What partitions and wide tables cost on a real Hive Metastore: calls, seconds, and how much of it is ours.

    python -m benchmarks.metastore [--partitions 5000] [--columns 900]

`seconds` is what somebody waits; `ours` is processor time of this process, which is what a busy machine leaves to compare: the rest
is the metastore's (Derby, on the same cores). The limits are those of issue 5. Partitions have decisions and catalog entries but no
files: none of this reads any.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

Figures = dict[str, float | int]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--partitions", type=int, default=5000)
    arguments.add_argument("--columns", type=int, default=900)
    given = arguments.parse_args()
    from tests.servers.hive import HiveServer

    with HiveServer.start() as server, tempfile.TemporaryDirectory() as folder:
        bench = Bench(server, Path(folder), given.partitions)
        found = {
            "registered": bench.register(),
            "cascaded": bench.cascade(),
            "unchanged_run": bench.unchanged_run(),
            "wide_table": bench.wide_table(given.columns),
        }
    print(json.dumps({"partitions": given.partitions, "columns": given.columns, **found}))


class Bench:
    """One table `d.orders` of 20 columns and a partition for each of so many days, in a metastore of its own."""

    def __init__(self, server: Any, folder: Path, partitions: int) -> None:
        from airflow_dataops.catalog.hive import HiveCatalog
        from airflow_dataops.catalog.hive_calls import MetastoreCalls
        from airflow_dataops.catalog.hive_connection import MetastoreAddress
        from airflow_dataops.core.spec import PipelineSpec
        from airflow_dataops.core.table_spec import table_spec

        self.folder, self.server = folder, server
        address = MetastoreAddress.of_connection(server.connection(catalog_name=server.new_catalog()))
        self.catalog = HiveCatalog(MetastoreCalls(address))
        first = datetime(2000, 1, 1, tzinfo=UTC)
        self.days = [(first + timedelta(days=n)).date().isoformat() for n in range(partitions)]
        window = {"read": {"mode": "window", "cursor": "at"}, "target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
        row = {"name": "src", "domain": "d", "kind": "sql", "conn_id": "db", "owner": "bench", **window}
        self.spec = PipelineSpec.model_validate(row)
        self.table = table_spec(self.spec, "orders")
        self.sql("CREATE TABLE orders (id INTEGER, at TIMESTAMP, " + ", ".join(f"c{n} TEXT" for n in range(13)) + ")")
        self.sql(f"INSERT INTO orders (id, at) VALUES (1, '{self.days[-1]} 10:00:00')")

    def sql(self, statement: str) -> None:
        with sqlite3.connect(self.folder / "source.db") as connection:
            connection.execute(statement)
        connection.close()

    @contextmanager
    def edges(self) -> Iterator[Any]:
        from airflow_dataops.core.connection import Connection
        from airflow_dataops.lake import open_lake
        from airflow_dataops.ledger import open_ledger
        from airflow_dataops.sources import open_source
        from airflow_dataops.steps.run import Edges

        ledger = open_ledger(f"sqlite:///{self.folder}/ledger.db")
        source = open_source(self.spec, Connection("db", "sqlite", host=str(self.folder / "source.db")), base_path=str(self.folder))
        lake = open_lake(self.server.lake() if not hasattr(self, "place") else self.place)
        self.place = lake.uri("").rstrip("/")
        yield Edges(
            source=source, lake=lake, catalog=self.catalog, ledger=ledger, writer="b",
            dead_letters=open_lake(f"file://{self.folder}/dead"),
        )  # fmt: skip
        source.close()
        ledger.close()

    def measured(self, work: Callable[[], Any]) -> Figures:
        calls, wall, own = self.catalog.calls.counted.total(), time.perf_counter(), time.process_time()
        work()
        return {
            "calls": self.catalog.calls.counted.total() - calls,
            "seconds": round(time.perf_counter() - wall, 2),
            "ours": round(time.process_time() - own, 2),
        }

    def load(self, day: str, run: str) -> Any:
        from airflow_dataops.core.period import Period
        from airflow_dataops.steps.load import load_table
        from airflow_dataops.steps.run import Run

        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        with self.edges() as edges:
            result = load_table(self.spec, edges, Run(run, Period(day, start, start + timedelta(days=1), "key")), "orders")
        if result.error is not None:
            raise RuntimeError(result.error)
        return result

    def register(self) -> Figures:
        """The first day is loaded, all others are decided beside it, as a backfill would have left them, and shown in one call."""
        from airflow_dataops.steps.publish import project

        self.load(self.days[-1], "first")
        with self.edges() as edges:
            (stands,) = edges.ledger.decisions.current(self.table.key).values()
            names = [f"dt={day}" for day in self.days[:-1]]
            self._decide(edges, names, stands)
            decided = edges.ledger.decisions.current(self.table.key, names)
            found = self.measured(lambda: project(self.table, decided, edges))
            edges.ledger.decisions.clear_marks(self.table.key, "b", dict.fromkeys(names, 1))
        return found

    def _decide(self, edges: Any, names: list[str], like: Any) -> None:
        from airflow_dataops.core.accounting import Accounting
        from airflow_dataops.core.offset import Everything
        from airflow_dataops.ledger.base import BatchContent, ClaimRequest, DecisionPlan, StagedPartition

        request = ClaimRequest(
            table_key=self.table.key, source_id="d.src", source_table="orders", target="d.orders", batch_id="bench", scope="*",
            range=Everything(), period_key="", run="bench", writer="b", nonce="b", root="d/orders",
        )  # fmt: skip
        claim = edges.ledger.batches.claim(request)
        parts = tuple(StagedPartition(n, (n[3:],), f"{claim.directory}/{n}", (), 0, like.fingerprint) for n in names)
        content = BatchContent(parts, like.schema, Accounting(), like.fingerprint, like.fingerprint)
        frozen = edges.ledger.batches.freeze(claim, content, ())
        plans = [DecisionPlan(p.name, p.values, 0, p.directory, 0, 0, like.fingerprint, like.schema) for p in parts]
        edges.ledger.batches.decide(frozen, plans)
        edges.ledger.batches.commit(frozen, dict.fromkeys(names, 1), None)

    def cascade(self) -> Figures:
        """A column comes to the table, and to each of its partitions. Stopped in the middle once: the next one goes on."""
        from airflow_dataops.core.schema import Column
        from airflow_dataops.steps.cascade import cascade

        table = self.catalog.get_table("d", "orders")
        if table is None:
            raise RuntimeError("no table")
        self.catalog.alter_table(table, replace(table, columns=(*table.columns, Column("city", pa.string()))))
        with self.edges() as edges:
            half = self.measured(lambda: cascade(self.table, edges, most=len(self.days) // 2))
            rest = self.measured(lambda: cascade(self.table, edges))
            left = cascade(self.table, edges)
        shown = self.catalog.page_partitions("d", "orders", None, len(self.days))
        if left.partitions or len(shown) != len(self.days) or any("city" not in {c.name for c in p.columns} for p in shown):
            raise RuntimeError("partitions are left behind")
        return {key: round(half[key] + rest[key], 2) for key in half}

    def unchanged_run(self) -> Figures:
        before = self.load(self.days[-1], "again")
        found = self.measured(lambda: self.load(self.days[-1], "once more"))
        if before.outcome not in ("loaded", "unchanged"):
            raise RuntimeError(before.outcome)
        return found

    def wide_table(self, columns: int) -> Figures:
        """`drift_sync` of a table of so many columns: made, then one column more. The figures are of the second."""
        from airflow_dataops.core.schema import Column, TableSchema
        from airflow_dataops.sources.base import SourceTable
        from airflow_dataops.steps.drift_sync import drift_sync

        def declared(count: int) -> SourceTable:
            return SourceTable("wide", TableSchema(tuple(Column(f"column_number_{n}", pa.int64()) for n in range(count))))

        spec = self.spec.model_copy(update={"read": self.spec.read.model_copy(update={"mode": "full", "cursor": None})})
        with self.edges() as edges:
            drift_sync(spec, edges, [declared(columns - 1)])
            return self.measured(lambda: drift_sync(spec, edges, [declared(columns)]))


if __name__ == "__main__":
    main()
