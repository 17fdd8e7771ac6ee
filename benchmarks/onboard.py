"""From a submitted form to a queryable table, on a real Airflow of its own (LocalExecutor, SQLite, the inventory bundle).

    python -m benchmarks.onboard [--tries 5]

Wall seconds from the REST call until the new source's first run has ended well; each try is another source of the same small
database (a table of 1,000 rows). The table is then read through the catalog, and its rows counted. Airflow's first task waits for
its executor's first process, so one source is onboarded before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from dag_factory.fleet.rest import ENDED, AirflowRest
from dag_factory.plan import ONBOARD_DAG_ID
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow

ROWS = 1000
PATIENCE_SECONDS = 300


class OnboardAirflow(SampleAirflow):
    """An Airflow that knows nothing but the bundle's entry in its configuration, set as docs/reference/bundle.md says."""

    def connections(self) -> dict[str, str]:
        bundle = {
            "name": "inventory", "classpath": "dag_factory.bundle.InventoryBundle",
            "kwargs": {"inventory": str(self.project / "inventory"), "refresh_interval": 2},
        }  # fmt: skip
        return {
            "AIRFLOW_CONN_SHOP_DB": json.dumps({"conn_type": "sqlite", "host": str(self.project / "shop.db")}),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.project / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        }

    def counted(self, table: str) -> int:
        """Rows of a lake table, read by `dataops sql`."""
        done = subprocess.run(
            [sys.executable, "-m", "dag_factory.cli", "sql", f"SELECT count(*) AS n FROM {table}", "--json"],
            env=self.environment(os.environ), capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(json.loads(done.stdout)["rows"][0]["n"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tries", type=int, default=5)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="onboard-") as folder:
        print(json.dumps(measure(Path(folder), given.tries)))


def measure(project: Path, tries: int) -> dict[str, Any]:
    """Seconds of every try, sorted, their median and the longest."""
    (project / "inventory").mkdir()
    (project / "inventory/defaults.yaml").write_text("owner: bench\n", encoding="utf-8")
    with closing(sqlite3.connect(project / "shop.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, updated_at TIMESTAMP)")
        rows = [(f"item {n}", "2024-05-01 10:00:00") for n in range(ROWS)]
        database.executemany("INSERT INTO orders (item, updated_at) VALUES (?, ?)", rows)
    airflow = OnboardAirflow(project / "home", project, port=18480)
    with airflow.lock():
        airflow.prepare()
        try:
            airflow.start()
            api = AirflowRest(airflow.url, USER, PASSWORD)
            _until(airflow, lambda: api.healthy() and ONBOARD_DAG_ID in api.dag_ids())
            seconds = sorted([_try(airflow, api, n) for n in range(tries + 1)][1:])
        finally:
            airflow.stop()
    return {"rows": ROWS, "tries": tries, "median_s": statistics.median(seconds), "longest_s": seconds[-1], "seconds": seconds}


def _try(airflow: OnboardAirflow, api: AirflowRest, number: int) -> float:
    domain = f"bench{number}"
    conf = {"domain": domain, "name": "shop", "conn_id": "shop_db", "review": False}
    began = time.monotonic()
    api.trigger(ONBOARD_DAG_ID, run_id=f"try{number}", conf=conf)
    dag_id = f"ingest__{domain}__shop"
    _until(airflow, lambda: dag_id in api.dag_ids() and any(run["state"] in ENDED for run in api.runs(dag_id)))
    took = round(time.monotonic() - began, 1)
    found = airflow.counted(f"{domain}.orders")
    if found != ROWS:
        raise RuntimeError(f"Cannot measure onboarding: {found} rows in {domain}.orders -> {ROWS}. Look at the run of {dag_id}.")
    return took


def _until(airflow: OnboardAirflow, condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        airflow.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"Cannot measure onboarding: nothing after {PATIENCE_SECONDS} s -> ready. Look into {airflow.logs}.")
        time.sleep(0.25)


if __name__ == "__main__":
    main()
