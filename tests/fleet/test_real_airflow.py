"""Fleet operations on a real Airflow: a handful of DAGs, loaded, stopped, gone on with, retried, switched off and on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import UnavailableError
from dag_factory.fleet.rest import UNDER_WAY, AirflowRest
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
TODAY = datetime.now(UTC).date()
DAYS = [str(TODAY - timedelta(days=n)) for n in range(6, 0, -1)]
IDS = ["shop.items", "shop.notes", "shop.orders"]
ROW = """\
  - name: {name}
    kind: sql
    conn_id: shop_db
    tables: [{table}]
    start_date: {start}
    jitter_seconds: 0
    read: {{mode: window, cursor: created_at}}
    target: {{partition_by: [{{name: dt, from: period_start}}]}}
    tags: [{tag}]
    limits: {{retries: 0, max_active_runs: 2}}
"""
SNAPSHOT = """\
  - name: snapshot
    kind: sql
    conn_id: shop_db
    tables: [orders]
    target: {database: snaps}
    limits: {retries: 0}
"""


class ShopAirflow(SampleAirflow):
    """The sample's Airflow over another project, with the shop's connection."""

    def connections(self) -> dict[str, str]:
        return {"AIRFLOW_CONN_SHOP_DB": json.dumps({"conn_type": "sqlite", "host": str(self.project / "shop.db")})}

    def dataops(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The document of a command that ended with this exit code."""
        done = self.run("-m", "dag_factory.cli", *words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *words], env=self.environment(os.environ), cwd=self.home, capture_output=True, text=True,
            check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopAirflow]:
    project = tmp_path_factory.mktemp("fleet")
    (project / "inventory").mkdir()
    rows = [ROW.format(name=i.split(".")[1], table=i.split(".")[1], start=TODAY - timedelta(days=30),
                       tag="big" if i == IDS[0] else "small") for i in IDS]  # fmt: skip
    (project / "inventory/shop.yaml").write_text("version: 1\ndefaults: {owner: ann}\nsources:\n" + "".join(rows) + SNAPSHOT)
    (project / "dags").mkdir()
    shutil.copy(ROOT / "dags/ingest.py", project / "dags/ingest.py")
    with sqlite3.connect(project / "shop.db") as db:
        for table in ("items", "orders"):  # and no notes: that one fails
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, created_at TIMESTAMP)")
            db.executemany(f"INSERT INTO {table} (created_at) VALUES (?)", [(f"{day} 01:00:00",) for day in DAYS])
    server = ShopAirflow(project / "home", project, port=18280)
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
    until(airflow, lambda: api.dag_ids() >= {dag_id(i) for i in [*IDS, "shop.snapshot"]}, 120)
    return api


def dag_id(source: str) -> str:
    return f"ingest__{source.replace('.', '__')}"


def until(airflow: ShopAirflow, true: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        airflow.check()
        try:
            if true():
                return
        except UnavailableError:
            time.sleep(1)
        time.sleep(0.5)
    logs = "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in airflow.logs.glob("*.log"))
    raise AssertionError(f"not in {seconds} seconds; {logs}")


def results(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["source"]: found for found in document["dags"]}


def scheduled_runs_end(airflow: ShopAirflow, rest: AirflowRest) -> None:
    """Each DAG starts the period that is over by itself; what follows builds on that."""
    until(airflow, lambda: all(rest.runs(dag_id(i)) for i in [*IDS, "shop.snapshot"]), 120)
    until(airflow, lambda: not rest.all_runs("~", {"state": UNDER_WAY}), 240)


def a_dry_run_resolves_the_periods_and_starts_nothing(airflow: ShopAirflow, rest: AirflowRest) -> None:
    before = len(rest.all_runs("~", {}))
    range_ = ("--from", DAYS[3], "--to", DAYS[5])
    found = airflow.dataops("fleet", "backfill", "--select", "shop.orders,shop.snapshot", *range_, "--dry-run", code=1)
    plan = {p["source"]: p for p in found["plan"]}
    assert plan["shop.orders"]["periods"] == {DAYS[3]: "missing", DAYS[4]: "missing", DAYS[5]: "success"}
    assert plan["shop.orders"]["start"] == DAYS[3:5]
    assert "no history" in plan["shop.snapshot"]["error"]
    assert len(rest.all_runs("~", {})) == before


def ctrl_c_leaves_a_state_that_can_be_gone_on_with(airflow: ShopAirflow, rest: AirflowRest) -> None:
    words = ("fleet", "backfill", "--select", "shop.items,shop.orders", "--from", DAYS[2], "--to", DAYS[5], "--max-active", "1")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dag_factory.cli", *words], env=airflow.environment(os.environ), cwd=airflow.home,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(airflow, lambda: rest.all_runs("~", {"run_type": "backfill"}), 60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, out + err
    assert "Stopped: 0 of 2 DAGs are done, 1 under way go on in Airflow, 1 were not begun." in err
    begun = {run["dag_id"] for run in rest.all_runs("~", {"run_type": "backfill"})}
    assert len(begun) == 1, "one run at a time in all: the other DAG had to wait"
    done = results(airflow.dataops(*words))
    assert set(done) == {"shop.items", "shop.orders"}
    for source, result in done.items():
        assert set(result["periods"]) == set(DAYS[2:6]) and set(result["periods"].values()) <= {"success", "existed"}
        keys = [run["partition_key"] for run in rest.runs(dag_id(source))]
        assert sorted(key for key in keys if key in DAYS[2:6]) == DAYS[2:6], "no period was loaded twice"


def never_more_runs_at_a_time_than_asked(airflow: ShopAirflow, rest: AirflowRest) -> None:
    runs = [r for r in rest.all_runs("~", {"run_type": "backfill"}) if r["start_date"] and r["end_date"]]
    assert len(runs) == 6
    tasks = [t for r in runs for t in rest.tasks(r["dag_id"], r["dag_run_id"]) if t["start_date"]]
    edges = sorted([(t["start_date"], 1) for t in tasks] + [(t["end_date"], -1) for t in tasks])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    assert most == 1


def the_same_again_starts_nothing(airflow: ShopAirflow, rest: AirflowRest) -> None:
    before = len(rest.all_runs("~", {}))
    found = airflow.dataops("fleet", "backfill", "--select", "shop.items shop.*", "--from", DAYS[2], "--to", DAYS[5])
    assert [r["outcome"] for r in found["dags"]] == ["nothing to do"]
    assert len(rest.all_runs("~", {})) == before


def a_failure_is_named_and_stops_no_other(airflow: ShopAirflow, rest: AirflowRest) -> None:
    words = ("--from", DAYS[1], "--to", DAYS[1], "--max-active", "4")
    found = results(airflow.dataops("fleet", "backfill", "--select", "all", *words, code=1))
    assert {source: result["periods"] for source, result in found.items()} == {
        "shop.items": {DAYS[1]: "success"}, "shop.orders": {DAYS[1]: "success"}, "shop.notes": {DAYS[1]: "failed"},
        "shop.snapshot": {},
    }  # fmt: skip
    assert "no history" in found["shop.snapshot"]["error"] and DAYS[1] in found["shop.notes"]["error"]
    status = airflow.dataops("fleet", "status", "--select", "domain=shop", code=1)
    assert {s["source"]: s["states"] for s in status["sources"]} == {
        "shop.items": [], "shop.notes": ["failed"], "shop.orders": [], "shop.snapshot": [],
    }  # fmt: skip


def retry_takes_what_failed_last(airflow: ShopAirflow, rest: AirflowRest) -> None:
    with sqlite3.connect(airflow.project / "shop.db") as db:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, created_at TIMESTAMP)")
        db.execute("INSERT INTO notes (created_at) VALUES (?)", (f"{DAYS[1]} 01:00:00",))
    before = len(rest.runs(dag_id("shop.notes")))
    found = airflow.dataops("fleet", "retry", "--select", "state=failed")
    (only,) = found["dags"]
    assert (only["source"], only["outcome"], list(only["periods"].values())) == ("shop.notes", "retried", ["success"])
    assert len(rest.runs(dag_id("shop.notes"))) == before
    assert [r["outcome"] for r in airflow.dataops("fleet", "retry", "--select", "shop.notes")["dags"]] == ["nothing to do"]


def pause_is_told_to_who_wants_to_start(airflow: ShopAirflow, rest: AirflowRest) -> None:
    dry = airflow.dataops("fleet", "pause", "--select", "tag=small", "--dry-run")
    assert {r["outcome"] for r in dry["dags"]} == {"would be paused"}
    assert {r["outcome"] for r in airflow.dataops("fleet", "pause", "--select", "tag=small")["dags"]} == {"paused"}
    assert {d["dag_id"] for d in rest.dags() if d["is_paused"]} == {dag_id("shop.notes"), dag_id("shop.orders")}
    refused = airflow.dataops("fleet", "trigger", "--select", "shop.orders", code=1)
    assert "paused" in refused["dags"][0]["error"]
    assert {r["outcome"] for r in airflow.dataops("fleet", "pause", "--select", "tag=small")["dags"]} == {"already paused"}
    assert {r["outcome"] for r in airflow.dataops("fleet", "unpause", "--select", "tag=small")["dags"]} == {"unpaused"}


def a_labelled_trigger_happens_once(airflow: ShopAirflow, rest: AirflowRest) -> None:
    words = ("fleet", "trigger", "--select", "kind=sql tag=small", "--label", "monday", "--max-active", "1")
    assert {r["outcome"] for r in airflow.dataops(*words)["dags"]} == {"triggered"}
    assert {r["outcome"] for r in airflow.dataops(*words)["dags"]} == {"existed"}
    same = airflow.dataops("fleet", "trigger", "--select", "shop.orders", "--partition", DAYS[4])
    assert same["dags"][0]["outcome"] == "existed"
    assert len([r for r in rest.runs(dag_id("shop.orders")) if r["run_type"] == "manual"]) == 1
    wrong = airflow.dataops("fleet", "trigger", "--select", "shop.orders", "--partition", "yesterday", code=1)
    assert "partition key" in wrong["dags"][0]["error"]


def cancel_ends_what_is_under_way_and_backfill_goes_on_from_there(airflow: ShopAirflow, rest: AirflowRest) -> None:
    orders = dag_id("shop.orders")
    until(airflow, lambda: all(b["completed_at"] for b in rest.backfills(orders)), 120)
    rest.create_backfill(orders, f"{TODAY - timedelta(days=20)}T00:00:00", f"{TODAY - timedelta(days=9)}T00:00:00", "none", 1)
    found = airflow.dataops("fleet", "cancel", "--select", "shop.orders")["dags"][0]
    assert found["outcome"] == "cancelled" and any(name.startswith("backfill ") for name in found["periods"])
    assert not rest.all_runs(orders, {"state": UNDER_WAY})
    assert all(b["completed_at"] for b in rest.backfills(orders))
    assert airflow.dataops("fleet", "cancel", "--select", "shop.orders")["dags"][0]["outcome"] == "nothing under way"
    range_ = ("--from", str(TODAY - timedelta(days=10)), "--to", str(TODAY - timedelta(days=9)))
    again = airflow.dataops("fleet", "backfill", "--select", "shop.orders", *range_)
    assert set(again["dags"][0]["periods"].values()) == {"success"}


def airflow_dataops_is_the_same_command(airflow: ShopAirflow, rest: AirflowRest) -> None:
    done = airflow.run("-m", "airflow", "dataops", "fleet", "status", "--select", "tag=big", "--select", "kind=sql", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert [s["source"] for s in document["sources"]] == ["shop.items"]
    assert document["selection"] == "tag=big kind=sql"
    assert airflow.run("-m", "airflow", "dataops", "fleet", "status", "--select", "shop.nothing").returncode == 2


STORY = (
    scheduled_runs_end,
    a_dry_run_resolves_the_periods_and_starts_nothing,
    ctrl_c_leaves_a_state_that_can_be_gone_on_with,
    never_more_runs_at_a_time_than_asked,
    the_same_again_starts_nothing,
    a_failure_is_named_and_stops_no_other,
    retry_takes_what_failed_last,
    pause_is_told_to_who_wants_to_start,
    a_labelled_trigger_happens_once,
    cancel_ends_what_is_under_way_and_backfill_goes_on_from_there,
    airflow_dataops_is_the_same_command,
)


def test_a_real_airflow(airflow: ShopAirflow, rest: AirflowRest, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the Airflow nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            step(airflow, rest)
