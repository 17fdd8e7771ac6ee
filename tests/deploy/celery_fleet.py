"""An installation over real PostgreSQL, Redis and S3 with two Celery workers, and many tiny rows for it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from airflow_dataops.core.errors import UnavailableError
from dag_factory.deployment.local import LocalFleet
from dag_factory.deployment.processes import BUNDLE, WORKERS
from dag_factory.deployment.settings import Site
from dag_factory.fleet.rest import ENDED, AirflowRest
from dag_factory.sample_airflow import PASSWORD, USER, free_port
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server

SMALL = {
    ("celery", "worker_concurrency"): "2",
    ("celery", "sync_parallelism"): "1",
    ("dag_processor", "parsing_processes"): "1",
    ("scheduler", "scheduler_idle_sleep_time"): "0.5",
    ("scheduler", "orphaned_tasks_check_interval"): "20",
    ("dataops", "maintenance_schedule"): "none",
}
"""What fits two cores; everything else is as shipped."""


class CeleryFleet(LocalFleet):
    """The shipped installation in a folder. Snapshots are in S3; lake and inventory are folders, as on a shared mount."""

    def __init__(
        self, home: Path, postgres: PostgresServer, redis: RedisServer, s3: S3Server, *, first_port: int = 18300,
        inventory: Path | None = None, connections: Mapping[str, str] | None = None, tell: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        port, bucket = free_port(first_port), s3.new_bucket()
        self.database = postgres.new_database()
        site = Site(
            database=self.database, broker=redis.url(), ledger=postgres.new_database(), api=f"http://127.0.0.1:{port}",
            inventory=str(inventory or home / "inventory"), snapshots=f"s3://{bucket}/snapshots", lake=(home / "lake").as_uri(),
            dead_letters=(home / "dead_letters").as_uri(), store_conn_id="store",
        )  # fmt: skip
        store = {
            "conn_type": "aws", "login": s3.access_key, "password": s3.secret_key,
            "extra": {"endpoint_url": s3.endpoint, "region_name": s3.region},
        }  # fmt: skip
        shop = {"conn_type": "sqlite", "host": str(home / "shop.db")}
        shared = {"AIRFLOW_CONN_STORE": json.dumps(store), "AIRFLOW_CONN_SHOP_DB": json.dumps(shop)}
        super().__init__(home, site, port=port, connections=shared | dict(connections or {}), tell=tell, own=SMALL | {
            ("dataops", "lake_conn_id"): "", ("dataops", "dead_letters_conn_id"): "",
        })  # fmt: skip
        self.rest = AirflowRest(self.url, USER, PASSWORD)
        (home / "inventory").mkdir(parents=True, exist_ok=True)

    def write_rows(self, domain: str, targets: Mapping[str, str]) -> list[str]:
        """A row per name, which loads the shop's orders into a database called like its target; their DAGs."""
        rows = [
            f"  - {{name: {name}, kind: sql, conn_id: shop_db, owner: o, schedule: none, tables: [orders], "
            f"target: {{database: {target}}}}}\n"
            for name, target in targets.items()
        ]  # fmt: skip
        (self.home / "inventory" / f"{domain}.yaml").write_text("sources:\n" + "".join(rows))
        return [f"ingest__{domain}__{name}" for name in targets]

    def build_shop(self, orders: int) -> None:
        with sqlite3.connect(self.home / "shop.db") as shop:
            shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
            shop.executemany("INSERT INTO orders (item) VALUES (?)", [(f"item {n}",) for n in range(orders)])

    def crash(self, component: str) -> None:
        """kill -9 from outside: it ends by itself, as far as the fleet knows."""
        self._running[component].kill()

    def versions(self, worker: str) -> set[str]:
        """The versions of the inventory that this worker has made from their name."""
        folder = self.bundles(worker) / BUNDLE / "versions"
        return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()

    def forget(self, worker: str) -> None:
        """The worker's machine is a new one."""
        shutil.rmtree(self.bundles(worker), ignore_errors=True)

    def tasks_of_workers(self) -> Counter[str]:
        """Worker → tasks it has taken, by its own log."""
        return Counter({
            name: (self.logs / f"{name}.log").read_text(errors="replace").count("] received") for name in WORKERS
        })  # fmt: skip

    def bundle_version(self, dag_id: str) -> str:
        return next((str(version) for (version,) in self.rows("SELECT bundle_version FROM dag WHERE dag_id = %s", dag_id)), "")

    def shown(self) -> set[str]:
        """The DAGs that Airflow shows."""
        return {dag for (dag,) in self.rows("SELECT dag_id FROM dag WHERE NOT is_stale")}

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Task of the run → its state."""
        return dict(self.rows("SELECT task_id, state FROM task_instance WHERE dag_id = %s AND run_id = %s", dag_id, run_id))

    def rows(self, query: str, *values: str) -> list[Any]:
        """Of Airflow's database: what is asked often is asked there, which takes much less than a call of the API."""
        with psycopg.connect(self.database) as database:
            return database.execute(query.encode(), values).fetchall()

    def dataops(self, *arguments: str) -> tuple[int, Any]:
        """The command in this installation: exit code and document."""
        done = subprocess.run(
            (sys.executable, "-m", "dag_factory.cli", *arguments, "--json"), env=self.environment(), cwd=self.home,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout)

    def ended(self, dag_ids: list[str]) -> dict[str, str]:
        """DAG → state of its newest run, of those whose newest run has ended."""
        newest: dict[str, str] = dict(self.rows("SELECT DISTINCT ON (dag_id) dag_id, state FROM dag_run ORDER BY dag_id, id DESC"))
        return {dag: newest[dag] for dag in dag_ids if newest.get(dag) in ENDED}

    def until(self, condition: Callable[[], Any], seconds: float) -> float:
        """Waits for the condition; how long it took. A failure shows what was said last."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self.check()
            try:
                if condition():
                    return time.monotonic() - began
            except UnavailableError as error:
                print(error)  # noqa: T201 - the API server starts last
            time.sleep(0.3)
        logs = "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self.logs.glob("*.log"))
        raise AssertionError(f"not in {seconds} seconds\n{logs}")

    def task_logs(self, dag_id: str) -> str:
        return "\n".join(log.read_text(errors="replace") for log in (self.logs / "tasks" / f"dag_id={dag_id}").rglob("*.log"))
