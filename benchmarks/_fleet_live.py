"""A fleet under a real Airflow over PostgreSQL: cold load, latency of an edit, and a scheduler that has to keep up.

Airflow's database is read again after every measurement: what it shows has to be what the inventory says, or the figure is
void (RuntimeError).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from benchmarks._fleet_rows import FleetRows
from dag_factory.loader import DAG_PREFIX
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = "fleet"
REFRESH_SECONDS = 1


class LiveFleet:
    """Airflow's processes over one PostgreSQL, each with a log of its own below `folder`. Use as a context manager."""

    def __init__(self, folder: Path, bundles: dict[str, Path], settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(parents=True)
        self.server = PostgresServer.start()
        self.url = self.server.new_database()
        self.processes: dict[str, psutil.Popen] = {}
        self.connection: psycopg.Connection | None = None
        port = free_port()
        alchemy = self.url.replace("postgresql://", "postgresql+psycopg://")
        entries = json.dumps([self._entry(name, inventory) for name, inventory in bundles.items()])
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-of-this-benchmark-only-0123456789",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": alchemy,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": alchemy,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": entries,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "0",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "120",
            "AIRFLOW__DAG_PROCESSOR__DAG_VERSION_INFLATION_CHECK_LEVEL": "off",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2",
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "2",
            "AIRFLOW__DATAOPS__MAINTENANCE_SCHEDULE": "none",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_BENCH_DB": json.dumps({"conn_type": "sqlite", "host": str(folder / "source.db")}),
            "SPT_NOENV": "1",
            "PYTHONPATH": str(ROOT),
            **(settings or {}),
        }
        _make_source(folder / "source.db")

    def _entry(self, name: str, inventory: Path) -> dict[str, Any]:
        kwargs = {"inventory": str(inventory), "snapshots": str(self.folder / "snapshots"), "refresh_interval": REFRESH_SECONDS}
        # The fleet's own DAGs have ids of their own in every bundle.
        own = {"maintenance_dag_id": f"maintenance_of_{name}", "onboard_dag_id": None, "approvals_dag_id": None}
        return {"name": name, "classpath": "dag_factory.bundle.InventoryBundle", "kwargs": kwargs | own}

    def __enter__(self) -> LiveFleet:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)
        if self.connection is not None:
            self.connection.close()
        self.server.stop()

    def migrate(self) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "airflow", "db", "migrate"], env=self.environment, cwd=self.home,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"Cannot set up Airflow's database: ended with {done.returncode} -> 0.\n{done.stderr[-3000:]}")

    def start(self, name: str, *words: str) -> None:
        """`airflow <words>` in a session of its own, so that it can be ended with all its children."""
        with open(self.folder / f"{name}.log", "ab") as output:
            self.processes[name] = psutil.Popen(
                [sys.executable, "-P", "-m", "airflow", *words], env=self.environment, cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):  # ended by itself, and its children with it
            os.killpg(process.pid, signal.SIGKILL)  # nothing of it is kept
        process.wait()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if self.connection is None:
            self.connection = psycopg.connect(self.url, autocommit=True)
        return self.connection.execute(statement.encode(), values or None).fetchall()

    def active(self) -> set[str]:
        """The DAGs of rows that Airflow runs: serialised, not stale, not those of removed rows."""
        retired = "SELECT 1 FROM dag_tag t WHERE t.dag_id = d.dag_id AND t.name = 'retired'"
        known = "EXISTS (SELECT 1 FROM serialized_dag s WHERE s.dag_id = d.dag_id)"
        found = self.rows(f"SELECT dag_id FROM dag d WHERE NOT is_stale AND {known} AND NOT EXISTS ({retired})")
        return {dag for (dag,) in found if dag.startswith(DAG_PREFIX)}

    def until_exactly(self, wanted: set[str], seconds: float = 60) -> None:
        """Waits until Airflow runs these DAGs and no other, without an import error."""
        ends = time.monotonic() + seconds
        while (found := self.active()) != wanted and time.monotonic() < ends:
            self.check()
            time.sleep(0.5)
        errors = self.rows("SELECT filename, stacktrace FROM import_error")
        if found != wanted or errors:
            missing, surplus = sorted(wanted - found), sorted(found - wanted)
            raise RuntimeError(
                f"Cannot measure: {len(missing)} DAGs missing {missing[:3]}, {len(surplus)} too many {surplus[:3]}, "
                f"{len(errors)} import errors {errors[:1]} -> exactly the inventory."
            )

    def check(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]
                raise RuntimeError(f"Cannot measure: {name} ended with {process.returncode} -> it runs.\n{log}")

    def until(self, condition: Callable[[], Any], seconds: float, pause: float = 0.1) -> float:
        """Waits for the condition; returns how long it took."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self.check()
            if condition():
                return time.monotonic() - began
            time.sleep(pause)
        logs = "\n".join(log.read_text(errors="replace")[-3000:] for log in self.folder.glob("*.log"))
        raise RuntimeError(f"Cannot measure: not there after {seconds:.0f} s -> there.\n{logs}")

    def cpu_seconds(self, name: str) -> float:
        """Processor time of a process itself and of its children that have ended."""
        spent = self.processes[name].cpu_times()
        return float(spent.user + spent.system + spent.children_user + spent.children_system)


def _make_source(file: Path) -> None:
    with sqlite3.connect(file) as source:
        source.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount INTEGER, updated_at TEXT)")
        source.executemany("INSERT INTO orders VALUES (?, ?, '2024-01-01 00:00:00')", [(n, n) for n in range(100)])
    source.close()


def cold_load(folder: Path, rows: int, processors: int = 1) -> dict[str, Any]:
    """Seconds from the start of the dag-processors until Airflow's database has exactly the inventory's DAGs."""
    with loaded_fleet(folder, rows, processors) as (_, _, found):
        return found


@contextmanager
def loaded_fleet(
    folder: Path,
    rows: int,
    processors: int = 1,
    start_of: Callable[[int, int], dt.date] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[tuple[LiveFleet, list[FleetRows], dict[str, Any]]]:
    names = [BUNDLE, *(f"{BUNDLE}_{n}" for n in range(2, processors + 1))]
    fleets = [
        FleetRows(folder / name, rows // processors, first_domain=1000 * n, start_of=start_of) for n, name in enumerate(names)
    ]
    wanted = set().union(*(fleet.dag_ids for fleet in fleets))
    with LiveFleet(folder, {name: folder / name for name in names}, settings) as live:
        live.migrate()
        began = time.monotonic()
        for name in names:
            live.start(f"dag-processor-{name}", "dag-processor", "--bundle-name", name)
        first = live.until(lambda: live.rows("SELECT 1 FROM serialized_dag LIMIT 1"), 300)
        enough = len(wanted)
        live.until(lambda: live.rows("SELECT count(*) FROM serialized_dag")[0][0] >= enough, rows * 0.2 + 300, pause=0.5)
        live.until_exactly(wanted)
        took = time.monotonic() - began
        cpu = [live.cpu_seconds(name) for name in live.processes]
        yield (
            live,
            fleets,
            {
                "dags": len(wanted),
                "dag_processors": processors,
                "first_dag_seconds": round(first, 1),
                "cold_load_seconds": round(took, 1),
                "cpu_seconds": [round(spent, 1) for spent in cpu],
                "ms_per_dag": round(took / len(wanted) * 1000, 1),
            },
        )


def latency(folder: Path, rows: int, tries: int) -> dict[str, Any]:
    """Seconds from the written file until Airflow's database shows it, in a fleet of `rows`: rows added, edited, removed in
    turn. At the end the database's DAGs are compared with the inventory's."""
    rng = random.Random(4)
    took: dict[str, list[float]] = {"added": [], "edited": [], "removed": []}
    with loaded_fleet(folder, rows) as (live, (fleet,), loaded):
        for n in range(tries):
            # Not in step with the processor's own rhythm.
            time.sleep(rng.uniform(0.5, 2.5))
            domain = rng.choice(sorted(fleet.rows))
            added = fleet.add(domain, f"new_{n}")
            took["added"].append(live.until(lambda dag=added: _is_active(live, dag), 180, pause=0.05))  # type: ignore[misc]
            time.sleep(rng.uniform(0.5, 2.5))
            domain = rng.choice(sorted(fleet.rows))
            edited = fleet.edit(domain, rng.choice(fleet.rows[domain]))
            is_on = edited in fleet.edited
            took["edited"].append(
                live.until(lambda dag=edited, on=is_on: _is_edited(live, dag) == on, 180, pause=0.05)  # type: ignore[misc]
            )
            time.sleep(rng.uniform(0.5, 2.5))
            domain = rng.choice(sorted(fleet.rows))
            removed = fleet.remove(domain, rng.choice(fleet.rows[domain]))
            took["removed"].append(live.until(lambda dag=removed: not _is_active(live, dag), 180, pause=0.05))  # type: ignore[misc]
        live.until_exactly(fleet.dag_ids)
    return loaded | {what: _spread(seconds) for what, seconds in took.items()} | {"tries": tries}


def _is_active(live: LiveFleet, dag: str) -> bool:
    query = (
        "SELECT 1 FROM dag d JOIN serialized_dag s USING (dag_id) WHERE d.dag_id = %s AND NOT is_stale AND NOT EXISTS "
        "(SELECT 1 FROM dag_tag t WHERE t.dag_id = d.dag_id AND t.name = 'retired')"
    )
    return bool(live.rows(query, dag))


def _is_edited(live: LiveFleet, dag: str) -> bool:
    return bool(live.rows("SELECT 1 FROM dag_tag WHERE dag_id = %s AND name = 'edited'", dag))


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    p95 = ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]
    return {
        "median_seconds": round(statistics.median(ordered), 2),
        "p95_seconds": round(p95, 2),
        "max_seconds": round(ordered[-1], 2),
    }
