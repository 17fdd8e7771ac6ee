"""A real Airflow: its DAG processor reads an inventory, its scheduler runs the DAG, a person triggers and backfills it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_dataops.core.errors import InventoryError
from dag_factory.fleet.rest import AirflowRest
from dag_factory.inventory import read_inventory
from tests.servers.airflow import PLAIN, AirflowServer, Bundle

pytestmark = pytest.mark.timeout(900)

ORDERS, BROKEN, MAINTENANCE = "ingest__plain__orders_db", "ingest__plain__half_broken", "dataops_maintenance"
TODAY = datetime.now(UTC).date()
DAYS = [str(TODAY - timedelta(days=n)) for n in (3, 2, 1)]
INVENTORY = f"""
version: 1
sources:
  - name: orders_db
    kind: sql
    conn_id: plain_db
    tables: [orders, "{{{{ 1 + 1 }}}}"]
    schedule: "@daily"
    start_date: {TODAY - timedelta(days=30)}
    jitter_seconds: 0
    freshness_seconds: 3600
    read: {{mode: window, cursor: created_at}}
    target: {{partition_by: [{{name: dt, from: period_start}}]}}
    owner: ann
    description: "{{{{ 7 * 7 }}}}"
  - name: half_broken
    kind: sql
    conn_id: plain_stored
    tables: [orders, {{match: no_cursor, read: {{mode: watermark, cursor: missing}}}}]
    schedule: none
    read: {{mode: watermark, cursor: created_at}}
    write: {{mode: append}}
    target: {{database: plain_other}}
    limits: {{retries: 0}}
    owner: ann
  - name: wrong
    kind: sql
    conn_id: plain_db
    schedule: every day
    owner: ann
"""


def _fill(source: Path) -> None:
    with sqlite3.connect(source) as db:
        for table in ("orders", "{{ 1 + 1 }}", "no_cursor"):
            db.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, item TEXT, created_at TIMESTAMP)')
            for day, count in zip(DAYS, (3, 0, 4), strict=True):
                rows = [(f"item {n}", f"{day} {n:02}:00:00") for n in range(count)]
                db.executemany(f'INSERT INTO "{table}" (item, created_at) VALUES (?, ?)', rows)


@pytest.fixture(scope="module")
def plain(real_airflow: AirflowServer) -> Bundle:
    plain = real_airflow.bundle(PLAIN)
    _fill(plain.source)
    plain.write(plain=INVENTORY)
    return plain


@pytest.fixture(scope="module")
def rest(real_airflow: AirflowServer) -> AirflowRest:
    return real_airflow.rest()


def _partitions(plain: Bundle, source: str = "plain.orders_db") -> dict[str, tuple[int, str, int]]:
    """Partition of the source's table `orders` → rows, fingerprint, generation: as decided, and shown by the catalog."""
    from airflow_dataops.catalog import open_catalog
    from airflow_dataops.core.table_spec import table_spec
    from airflow_dataops.ledger import open_ledger

    settings = plain.airflow.settings()
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


def the_scheduler_runs_the_period_just_ended(plain: Bundle, rest: AirflowRest) -> None:
    (run,) = plain.airflow.ended(ORDERS, 1)
    found = (run["run_type"], run["partition_key"], run["state"])
    assert found == ("scheduled", DAYS[-1], "success"), plain.airflow.task_logs(ORDERS)
    tasks = {(t["task_id"], t["map_index"]): t["state"] for t in rest.tasks(ORDERS, run["dag_run_id"])}
    assert tasks == {
        ("discover", -1): "success", ("drift_sync", -1): "success", ("load", 0): "success", ("verify", -1): "success",
    }  # fmt: skip
    partitions = _partitions(plain)
    assert [(name, rows) for name, (rows, _, _) in partitions.items()] == [(f"dt={DAYS[-1]}", 4)]


def inventory_text_is_data(plain: Bundle, rest: AirflowRest) -> None:
    """A table called {{ 1 + 1 }} is loaded under its own name; nothing of the row was ever rendered."""
    logs = plain.airflow.task_logs(ORDERS)
    assert "table '{{ 1 + 1 }}' -> plain." in logs
    assert "rows_read=4 rows_written=4" in logs
    description = rest._call("GET", f"/dags/{ORDERS}/details")["doc_md"]
    assert description.startswith("{{ 7 * 7 }}")


def a_bad_row_is_one_precise_import_error_and_its_neighbours_live(plain: Bundle, rest: AirflowRest) -> None:
    plain.airflow.until(plain.import_errors)
    ((file, text),) = plain.import_errors().items()
    assert file == "inventory_problems.py"
    assert "plain.wrong.schedule" in text and "'every day'" in text
    assert plain.active() == {ORDERS, BROKEN, MAINTENANCE, "dataops_onboard", "dataops_approvals"}


def a_click_on_trigger_takes_the_last_complete_period(plain: Bundle, rest: AirflowRest) -> None:
    before = _partitions(plain)
    run_id = rest.trigger(ORDERS)
    runs = plain.airflow.ended(ORDERS, 2)
    (run,) = [r for r in runs if r["dag_run_id"] == run_id]
    assert (run["partition_key"], run["state"]) == (None, "success"), plain.airflow.task_logs(ORDERS)
    after = _partitions(plain)
    assert {n: (r, f) for n, (r, f, _) in after.items()} == {n: (r, f) for n, (r, f, _) in before.items()}


def a_cleared_run_does_everything_again(plain: Bundle, rest: AirflowRest) -> None:
    """As a new generation, not as a retry that finds everything done; equal content is not written again."""
    before = _partitions(plain)
    run = next(r for r in rest.runs(ORDERS) if r["run_type"] == "scheduled")
    rest._call("POST", f"/dags/{ORDERS}/dagRuns/{quote(run['dag_run_id'])}/clear", {"dry_run": False})
    assert {r["state"] for r in plain.airflow.ended(ORDERS, 2)} == {"success"}, plain.airflow.task_logs(ORDERS)
    logs = plain.airflow.home / "logs/tasks" / f"dag_id={ORDERS}"
    (again,) = logs.glob("run_id=scheduled*/task_id=load/map_index=0/attempt=2.log")
    assert "-> plain.orders: unchanged rows_read=4" in again.read_text()
    assert _partitions(plain) == before


def a_malformed_key_is_refused(plain: Bundle, rest: AirflowRest) -> None:
    for key in ("yesterday", "2024-5-1", DAYS[0] + "T00"):
        with pytest.raises(InventoryError, match="partition key"):
            rest.trigger(ORDERS, key)


def a_backfill_makes_exactly_the_partitions_of_its_days(plain: Bundle, rest: AirflowRest) -> None:
    first, last = (f"{day}T00:00:00" for day in DAYS[:2])
    assert rest.resolve_backfill(ORDERS, first, last, "none") == DAYS[:2]
    rest.create_backfill(ORDERS, first, last, "none", 2)
    runs = plain.airflow.ended(ORDERS, 4)
    backfilled = sorted(r["partition_key"] for r in runs if r["run_type"] == "backfill")
    assert backfilled == DAYS[:2]
    assert {r["state"] for r in runs} == {"success"}, plain.airflow.task_logs(ORDERS)
    rows = {name: rows for name, (rows, _, _) in _partitions(plain).items()}
    # A day without rows is a partition of its own: empty, not absent.
    assert rows == {f"dt={DAYS[0]}": 3, f"dt={DAYS[1]}": 0, f"dt={DAYS[2]}": 4}


def the_same_backfill_again_makes_no_difference(plain: Bundle, rest: AirflowRest) -> None:
    before = _partitions(plain)
    # Airflow takes one backfill per DAG at a time, and looks every half minute.
    plain.airflow.until(lambda: all(b["completed_at"] for b in rest.backfills(ORDERS)))
    plain.airflow.command(
        "backfill", "create", "--dag-id", ORDERS, "--from-date", DAYS[0], "--to-date", DAYS[1],
        "--reprocess-behavior", "completed", "--max-active-runs", "2",
    )  # fmt: skip
    runs = plain.airflow.ended(ORDERS, 6)
    assert len([r for r in runs if r["run_type"] == "backfill"]) == 4
    assert {r["state"] for r in runs} == {"success"}, plain.airflow.task_logs(ORDERS)
    after = _partitions(plain)
    assert {n: (r, f) for n, (r, f, _) in after.items()} == {n: (r, f) for n, (r, f, _) in before.items()}


def one_bad_table_fails_the_run_and_not_its_sibling(plain: Bundle, rest: AirflowRest) -> None:
    """Its connection is in Airflow's own database: the task asks Airflow for it."""
    stored = {"connection_id": "plain_stored", "conn_type": "sqlite", "host": str(plain.source)}
    rest._call("POST", "/connections", stored)
    rest.trigger(BROKEN)
    (run,) = plain.airflow.ended(BROKEN, 1)
    assert run["state"] == "failed"
    tasks = {t["task_id"]: t["state"] for t in rest.tasks(BROKEN, run["dag_run_id"])}
    assert tasks == {"discover": "success", "drift_sync": "success", "load": "failed", "verify": "failed"}
    assert sum(rows for rows, _, _ in _partitions(plain, "plain.half_broken").values()) == 7, plain.airflow.task_logs(BROKEN)


def a_stored_connection_outside_of_a_task(plain: Bundle, rest: AirflowRest) -> None:
    code = "from airflow_dataops.connections import resolve; print(resolve('plain_stored').host); resolve('nowhere')"
    done = plain.python("-c", code)
    assert str(plain.source) in done.stdout
    assert "Cannot find connection 'nowhere'" in done.stderr and "did not answer" not in done.stderr


def the_maintenance_sweeps_every_table_and_judges_freshness(plain: Bundle, rest: AirflowRest) -> None:
    run_id = rest.trigger(MAINTENANCE)
    runs = plain.airflow.ended(MAINTENANCE, 1)
    assert {r["state"] for r in runs} == {"success"}, plain.airflow.task_logs(MAINTENANCE)
    states = {t["task_id"]: t["state"] for t in rest.tasks(MAINTENANCE, run_id)}
    assert states == dict.fromkeys(("sweep", "expire", "freshness", "compact", "ask"), "success")
    # The row was first seen just now, or the table was committed just now: nothing is late.
    assert "seconds ago -> at most" not in plain.airflow.task_logs(MAINTENANCE)


def asset_events_carry_the_partition_key(plain: Bundle, rest: AirflowRest) -> None:
    events = rest._call("GET", "/assets/events?limit=100")["asset_events"]
    mine = [e for e in events if e["name"] == "plain.orders"]
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
    one_bad_table_fails_the_run_and_not_its_sibling,
    a_stored_connection_outside_of_a_task,
    the_maintenance_sweeps_every_table_and_judges_freshness,
    the_same_backfill_again_makes_no_difference,
    asset_events_carry_the_partition_key,
)


def test_a_real_airflow(plain: Bundle, rest: AirflowRest, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the Airflow nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            step(plain, rest)
