"""A real Airflow: its DAG processor reads an inventory, its scheduler runs the DAG, a person triggers and backfills it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.settings import load_settings
from dag_factory.fleet.rest import ENDED, AirflowRest
from dag_factory.inventory import read_inventory
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
ORDERS, BROKEN, MAINTENANCE = "ingest__shop__orders_db", "ingest__shop__half_broken", "dataops_maintenance"
TODAY = datetime.now(UTC).date()
DAYS = [str(TODAY - timedelta(days=n)) for n in (3, 2, 1)]
INVENTORY = f"""
version: 1
sources:
  - name: orders_db
    kind: sql
    conn_id: shop_db
    tables: [orders, "{{{{ 1 + 1 }}}}"]
    schedule: "@daily"
    start_date: {TODAY - timedelta(days=30)}
    jitter_seconds: 0
    freshness_seconds: 3600
    read: {{mode: window, cursor: created_at}}
    target: {{partition_by: [{{name: dt, from: period_start}}]}}
    owner: shop
    description: "{{{{ 7 * 7 }}}}"
  - name: half_broken
    kind: sql
    conn_id: shop_stored
    tables: [orders, {{match: no_cursor, read: {{mode: watermark, cursor: missing}}}}]
    schedule: none
    read: {{mode: watermark, cursor: created_at}}
    write: {{mode: append}}
    target: {{database: other}}
    limits: {{retries: 0}}
    owner: shop
  - name: wrong
    kind: sql
    conn_id: shop_db
    schedule: every day
    owner: shop
"""


class ShopAirflow(SampleAirflow):
    """The sample's Airflow over another project, with the shop's connection."""

    def connections(self) -> dict[str, str]:
        return {"AIRFLOW_CONN_SHOP_DB": json.dumps({"conn_type": "sqlite", "host": str(self.project / "shop.db")})}


def _shop(path: Path) -> None:
    with sqlite3.connect(path) as db:
        for table in ("orders", "{{ 1 + 1 }}", "no_cursor"):
            db.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, item TEXT, created_at TIMESTAMP)')
            for day, count in zip(DAYS, (3, 0, 4), strict=True):
                rows = [(f"item {n}", f"{day} {n:02}:00:00") for n in range(count)]
                db.executemany(f'INSERT INTO "{table}" (item, created_at) VALUES (?, ?)', rows)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopAirflow]:
    project = tmp_path_factory.mktemp("shop")
    (project / "inventory").mkdir()
    (project / "inventory/shop.yaml").write_text(INVENTORY)
    shutil.copytree(ROOT / "dags", project / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    _shop(project / "shop.db")
    server = ShopAirflow(project / "home", project, port=18080)
    with server.lock():
        server.prepare()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def rest(airflow: ShopAirflow) -> AirflowRest:
    api = AirflowRest(airflow.url, USER, PASSWORD)
    _until(lambda: api.dag_ids() >= {ORDERS, BROKEN}, 120, airflow)
    return api


def _until(condition: Any, seconds: float, airflow: ShopAirflow) -> None:
    """Waits for the condition; fails with the end of the logs when it does not come true in time."""
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        airflow.check()
        try:
            if condition():
                return
        except UnavailableError:
            last = "the API server did not answer yet"
        else:
            last = "the condition was not true"
        time.sleep(0.5)
    logs = "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in airflow.logs.glob("*.log"))
    raise AssertionError(f"not in {seconds} seconds: {last}; {logs}")


def _command(airflow: ShopAirflow, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "airflow", *words], env=airflow.environment(os.environ), cwd=airflow.home,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _ended(api: AirflowRest, airflow: ShopAirflow, dag_id: str, count: int, seconds: float = 180) -> list[dict[str, Any]]:
    _until(lambda: len(runs := api.runs(dag_id)) >= count and all(r["state"] in ENDED for r in runs), seconds, airflow)
    return api.runs(dag_id)


def _task_logs(airflow: ShopAirflow, dag_id: str) -> str:
    folder = airflow.logs / "tasks" / f"dag_id={dag_id}"
    return "\n".join(f"== {log.relative_to(folder)}\n{log.read_text()}" for log in sorted(folder.rglob("*.log")))


def _partitions(airflow: ShopAirflow, source: str = "shop.orders_db") -> dict[str, tuple[int, str, int]]:
    """Partition of the source's table `orders` → rows, fingerprint, generation: as decided, and shown by the catalog."""
    from airflow_dataops.catalog import open_catalog
    from airflow_dataops.core.table_spec import table_spec
    from airflow_dataops.ledger import open_ledger

    settings = load_settings(environ={"AIRFLOW_HOME": str(airflow.home)})
    spec = read_inventory(settings.inventory).get(source)
    assert spec is not None
    table = table_spec(spec, "orders")
    ledger, catalog = open_ledger(settings.ledger), open_catalog("embedded", ledger_url=settings.ledger)
    try:
        current = ledger.decisions.current(table.key)
        shown = catalog.page_partitions(table.database, table.table)
        assert current and {p.values for p in shown} == {d.values for d in current.values()}
        return {name: (d.rows, d.fingerprint, d.generation) for name, d in sorted(current.items())}
    finally:
        catalog.close()
        ledger.close()


def the_scheduler_runs_the_period_just_ended(airflow: ShopAirflow, rest: AirflowRest) -> None:
    (run,) = _ended(rest, airflow, ORDERS, 1)
    assert (run["run_type"], run["partition_key"], run["state"]) == ("scheduled", DAYS[-1], "success"), _task_logs(airflow, ORDERS)
    tasks = {(t["task_id"], t["map_index"]): t["state"] for t in rest.tasks(ORDERS, run["dag_run_id"])}
    assert tasks == {
        ("discover", -1): "success", ("drift_sync", -1): "success", ("load", 0): "success", ("verify", -1): "success",
    }  # fmt: skip
    partitions = _partitions(airflow)
    assert [(name, rows) for name, (rows, _, _) in partitions.items()] == [(f"dt={DAYS[-1]}", 4)]


def inventory_text_is_data(airflow: ShopAirflow, rest: AirflowRest) -> None:
    """A table called {{ 1 + 1 }} is loaded under its own name; nothing of the row was ever rendered."""
    logs = _task_logs(airflow, ORDERS)
    assert "table '{{ 1 + 1 }}' -> shop." in logs
    assert "rows_read=4 rows_written=4" in logs
    description = rest._call("GET", f"/dags/{ORDERS}/details")["doc_md"]
    assert description.startswith("{{ 7 * 7 }}")


def a_bad_row_is_one_precise_import_error_and_its_neighbours_live(airflow: ShopAirflow, rest: AirflowRest) -> None:
    _until(rest.import_errors, 60, airflow)
    (error,) = rest._call("GET", "/importErrors")["import_errors"]
    assert error["filename"] == "inventory_problems.py"
    assert "shop.wrong.schedule" in error["stack_trace"] and "'every day'" in error["stack_trace"]
    assert "ingest__shop__wrong" not in rest.dag_ids()
    assert {ORDERS, BROKEN} <= rest.dag_ids()


def a_click_on_trigger_takes_the_last_complete_period(airflow: ShopAirflow, rest: AirflowRest) -> None:
    before = _partitions(airflow)
    run_id = rest.trigger(ORDERS)
    runs = _ended(rest, airflow, ORDERS, 2)
    (run,) = [r for r in runs if r["dag_run_id"] == run_id]
    assert (run["partition_key"], run["state"]) == (None, "success"), _task_logs(airflow, ORDERS)
    after = _partitions(airflow)
    assert {n: (r, f) for n, (r, f, _) in after.items()} == {n: (r, f) for n, (r, f, _) in before.items()}


def a_cleared_run_does_everything_again(airflow: ShopAirflow, rest: AirflowRest) -> None:
    """As a new generation, not as a retry that finds everything done; equal content is not written again."""
    before = _partitions(airflow)
    run = next(r for r in rest.runs(ORDERS) if r["run_type"] == "scheduled")
    rest._call("POST", f"/dags/{ORDERS}/dagRuns/{quote(run['dag_run_id'])}/clear", {"dry_run": False})
    assert {r["state"] for r in _ended(rest, airflow, ORDERS, 2)} == {"success"}, _task_logs(airflow, ORDERS)
    (again,) = (airflow.logs / "tasks" / f"dag_id={ORDERS}").glob("run_id=scheduled*/task_id=load/map_index=0/attempt=2.log")
    assert "-> shop.orders: unchanged rows_read=4" in again.read_text()
    assert _partitions(airflow) == before


def a_malformed_key_is_refused(airflow: ShopAirflow, rest: AirflowRest) -> None:
    for key in ("yesterday", "2024-5-1", DAYS[0] + "T00"):
        with pytest.raises(InventoryError, match="partition key"):
            rest.trigger(ORDERS, key)


def a_backfill_makes_exactly_the_partitions_of_its_days(airflow: ShopAirflow, rest: AirflowRest) -> None:
    dates = ["--from-date", DAYS[0], "--to-date", DAYS[1]]
    told = _command(airflow, "backfill", "create", "--dag-id", ORDERS, *dates, "--dry-run")
    assert [day for day in DAYS if day in told] == DAYS[:2]
    _command(airflow, "backfill", "create", "--dag-id", ORDERS, *dates, "--max-active-runs", "2")
    runs = _ended(rest, airflow, ORDERS, 4, 300)
    backfilled = sorted(r["partition_key"] for r in runs if r["run_type"] == "backfill")
    assert backfilled == DAYS[:2]
    assert {r["state"] for r in runs} == {"success"}, _task_logs(airflow, ORDERS)
    rows = {name: rows for name, (rows, _, _) in _partitions(airflow).items()}
    # A day without rows is a partition of its own: empty, not absent.
    assert rows == {f"dt={DAYS[0]}": 3, f"dt={DAYS[1]}": 0, f"dt={DAYS[2]}": 4}


def the_same_backfill_again_makes_no_difference(airflow: ShopAirflow, rest: AirflowRest) -> None:
    before = _partitions(airflow)
    path = f"/backfills?dag_id={ORDERS}"  # Airflow takes one backfill per DAG at a time, and looks every half minute
    _until(lambda: all(b["completed_at"] for b in rest._call("GET", path)["backfills"]), 120, airflow)
    _command(
        airflow, "backfill", "create", "--dag-id", ORDERS, "--from-date", DAYS[0], "--to-date", DAYS[1],
        "--reprocess-behavior", "completed", "--max-active-runs", "2",
    )  # fmt: skip
    runs = _ended(rest, airflow, ORDERS, 6, 300)
    assert len([r for r in runs if r["run_type"] == "backfill"]) == 4
    assert {r["state"] for r in runs} == {"success"}, _task_logs(airflow, ORDERS)
    after = _partitions(airflow)
    assert {n: (r, f) for n, (r, f, _) in after.items()} == {n: (r, f) for n, (r, f, _) in before.items()}


def one_bad_table_fails_the_run_and_not_its_sibling(airflow: ShopAirflow, rest: AirflowRest) -> None:
    """Its connection is in Airflow's own database: the task asks Airflow for it."""
    uri = f"sqlite://{quote(str(airflow.project / 'shop.db'), safe='')}"
    _command(airflow, "connections", "add", "shop_stored", "--conn-uri", uri)
    rest.trigger(BROKEN)
    (run,) = _ended(rest, airflow, BROKEN, 1)
    assert run["state"] == "failed"
    tasks = {t["task_id"]: t["state"] for t in rest.tasks(BROKEN, run["dag_run_id"])}
    assert tasks == {"discover": "success", "drift_sync": "success", "load": "failed", "verify": "failed"}
    assert sum(rows for rows, _, _ in _partitions(airflow, "shop.half_broken").values()) == 7, _task_logs(airflow, BROKEN)


def a_stored_connection_outside_of_a_task(airflow: ShopAirflow, rest: AirflowRest) -> None:
    code = "from airflow_dataops.connections import resolve; print(resolve('shop_stored').host); resolve('nowhere')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=airflow.environment(os.environ), cwd=airflow.home,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert str(airflow.project / "shop.db") in done.stdout
    assert "Cannot find connection 'nowhere'" in done.stderr and "did not answer" not in done.stderr


def the_maintenance_sweeps_every_table_and_judges_freshness(airflow: ShopAirflow, rest: AirflowRest) -> None:
    run_id = rest.trigger(MAINTENANCE)
    runs = _ended(rest, airflow, MAINTENANCE, 1)
    assert {r["state"] for r in runs} == {"success"}, _task_logs(airflow, MAINTENANCE)
    assert {t["task_id"]: t["state"] for t in rest.tasks(MAINTENANCE, run_id)} == {"sweep": "success", "freshness": "success"}
    # The row was first seen just now, or the table was committed just now: nothing is late.
    assert "seconds ago -> at most" not in _task_logs(airflow, MAINTENANCE)


def asset_events_carry_the_partition_key(airflow: ShopAirflow, rest: AirflowRest) -> None:
    events = rest._call("GET", "/assets/events?limit=100")["asset_events"]
    mine = [e for e in events if e["name"] == "shop.orders"]
    # Once per day: the runs that found nothing changed published nothing.
    assert sorted(e["partition_key"] for e in mine) == DAYS
    for event in mine:
        assert event["extra"]["fingerprint"].startswith("f1:") and event["extra"]["partitions"]


STORY = (
    the_scheduler_runs_the_period_just_ended,
    inventory_text_is_data,
    a_bad_row_is_one_precise_import_error_and_its_neighbours_live,
    a_click_on_trigger_takes_the_last_complete_period,
    a_cleared_run_does_everything_again,
    a_malformed_key_is_refused,
    a_backfill_makes_exactly_the_partitions_of_its_days,
    the_same_backfill_again_makes_no_difference,
    one_bad_table_fails_the_run_and_not_its_sibling,
    a_stored_connection_outside_of_a_task,
    the_maintenance_sweeps_every_table_and_judges_freshness,
    asset_events_carry_the_partition_key,
)


def test_a_real_airflow(airflow: ShopAirflow, rest: AirflowRest, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the Airflow nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            step(airflow, rest)
