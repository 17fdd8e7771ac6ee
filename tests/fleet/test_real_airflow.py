"""Fleet operations on a real Airflow: a handful of DAGs, loaded, stopped, gone on with, retried, switched off and on."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dag_factory.fleet.rest import UNDER_WAY, AirflowRest
from tests.servers.airflow import AirflowServer, Bundle

pytestmark = pytest.mark.timeout(900)

TODAY = datetime.now(UTC).date()
DAYS = [str(TODAY - timedelta(days=n)) for n in range(6, 0, -1)]
IDS = ["fleet.items", "fleet.notes", "fleet.orders"]
ROW = """\
  - name: {name}
    kind: sql
    conn_id: fleet_db
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
    conn_id: fleet_db
    tables: [orders]
    target: {database: fleet_snaps}
    limits: {retries: 0}
"""


@pytest.fixture(scope="module")
def fleet(real_airflow: AirflowServer) -> Bundle:
    fleet = real_airflow.bundle("fleet")
    with sqlite3.connect(fleet.source) as db:
        for table in ("items", "orders"):  # and no notes: that one fails
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, created_at TIMESTAMP)")
            db.executemany(f"INSERT INTO {table} (created_at) VALUES (?)", [(f"{day} 01:00:00",) for day in DAYS])
    rows = [ROW.format(name=i.split(".")[1], table=i.split(".")[1], start=TODAY - timedelta(days=30),
                       tag="big" if i == IDS[0] else "small") for i in IDS]  # fmt: skip
    fleet.write(fleet="version: 1\ndefaults: {owner: ann}\nsources:\n" + "".join(rows) + SNAPSHOT)
    return fleet


@pytest.fixture(scope="module")
def rest(real_airflow: AirflowServer) -> AirflowRest:
    return real_airflow.rest()


def dag_id(source: str) -> str:
    return f"ingest__{source.replace('.', '__')}"


def runs_of(fleet: Bundle, where: str = "1") -> list[tuple[str, str, str]]:
    """(DAG, run id, state) of the runs of these rows that are so."""
    return fleet.airflow.rows(f"SELECT dag_id, run_id, state FROM dag_run WHERE dag_id LIKE 'ingest__fleet__%' AND {where}")


def results(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["source"]: found for found in document["dags"]}


def scheduled_runs_end(fleet: Bundle, rest: AirflowRest) -> None:
    """Each DAG starts the period that is over by itself; what follows builds on that."""
    mine = {dag_id(i) for i in [*IDS, "fleet.snapshot"]}
    fleet.airflow.until(lambda: {dag for dag, _, state in runs_of(fleet) if state not in UNDER_WAY} == mine, 240)


def a_dry_run_resolves_the_periods_and_starts_nothing(fleet: Bundle, rest: AirflowRest) -> None:
    before = len(runs_of(fleet))
    range_ = ("--from", DAYS[3], "--to", DAYS[5])
    found = fleet.dataops("fleet", "backfill", "--select", "fleet.orders,fleet.snapshot", *range_, "--dry-run", code=1)
    plan = {p["source"]: p for p in found["plan"]}
    assert plan["fleet.orders"]["periods"] == {DAYS[3]: "missing", DAYS[4]: "missing", DAYS[5]: "success"}
    assert plan["fleet.orders"]["start"] == DAYS[3:5]
    assert "no history" in plan["fleet.snapshot"]["error"]
    assert len(runs_of(fleet)) == before


def ctrl_c_leaves_a_state_that_can_be_gone_on_with(fleet: Bundle, rest: AirflowRest) -> None:
    words = ("fleet", "backfill", "--select", "fleet.items,fleet.orders", "--from", DAYS[3], "--to", DAYS[5], "--max-active", "1")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dag_factory.cli", *words], env=fleet.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip - a test run in the background ignores ctrl-C, and what it starts would, too
    try:
        fleet.airflow.until(lambda: runs_of(fleet, "run_type = 'backfill'"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, out + err
    assert "Stopped: 0 of 2 DAGs are done, 1 under way go on in Airflow, 1 were not begun." in err
    begun = {dag for dag, _, _ in runs_of(fleet, "run_type = 'backfill'")}
    assert len(begun) == 1, "one run at a time in all: the other DAG had to wait"
    done = results(fleet.dataops(*words))
    assert set(done) == {"fleet.items", "fleet.orders"}
    for source, result in done.items():
        assert set(result["periods"]) == set(DAYS[3:6]) and set(result["periods"].values()) <= {"success", "existed"}
        keys = [run["partition_key"] for run in rest.runs(dag_id(source))]
        assert sorted(key for key in keys if key in DAYS[3:6]) == DAYS[3:6], "no period was loaded twice"


def never_more_runs_at_a_time_than_asked(fleet: Bundle, rest: AirflowRest) -> None:
    runs = [(dag, run) for dag, run, _ in runs_of(fleet, "run_type = 'backfill' AND end_date IS NOT NULL")]
    assert len(runs) == 4
    tasks = [t for run in runs for t in rest.tasks(*run) if t["start_date"]]
    edges = sorted([(t["start_date"], 1) for t in tasks] + [(t["end_date"], -1) for t in tasks])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    assert most == 1


def the_same_again_starts_nothing(fleet: Bundle, rest: AirflowRest) -> None:
    before = len(runs_of(fleet))
    found = fleet.dataops("fleet", "backfill", "--select", "fleet.items fleet.*", "--from", DAYS[3], "--to", DAYS[5])
    assert [r["outcome"] for r in found["dags"]] == ["nothing to do"]
    assert len(runs_of(fleet)) == before


def a_failure_is_named_and_stops_no_other(fleet: Bundle, rest: AirflowRest) -> None:
    words = ("--from", DAYS[1], "--to", DAYS[1], "--max-active", "4")
    found = results(fleet.dataops("fleet", "backfill", "--select", "all", *words, code=1))
    assert {source: result["periods"] for source, result in found.items()} == {
        "fleet.items": {DAYS[1]: "success"}, "fleet.orders": {DAYS[1]: "success"}, "fleet.notes": {DAYS[1]: "failed"},
        "fleet.snapshot": {},
    }  # fmt: skip
    assert "no history" in found["fleet.snapshot"]["error"] and DAYS[1] in found["fleet.notes"]["error"]
    status = fleet.dataops("fleet", "status", "--select", "domain=fleet", code=1)
    assert {s["source"]: s["states"] for s in status["sources"]} == {
        "fleet.items": [], "fleet.notes": ["failed"], "fleet.orders": [], "fleet.snapshot": [],
    }  # fmt: skip


def retry_takes_what_failed_last(fleet: Bundle, rest: AirflowRest) -> None:
    with sqlite3.connect(fleet.source) as db:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, created_at TIMESTAMP)")
        db.execute("INSERT INTO notes (created_at) VALUES (?)", (f"{DAYS[1]} 01:00:00",))
    before = len(rest.runs(dag_id("fleet.notes")))
    found = fleet.dataops("fleet", "retry", "--select", "state=failed")
    (only,) = found["dags"]
    assert (only["source"], only["outcome"], list(only["periods"].values())) == ("fleet.notes", "retried", ["success"])
    assert len(rest.runs(dag_id("fleet.notes"))) == before
    assert [r["outcome"] for r in fleet.dataops("fleet", "retry", "--select", "fleet.notes")["dags"]] == ["nothing to do"]


def pause_is_told_to_who_wants_to_start(fleet: Bundle, rest: AirflowRest) -> None:
    dry = fleet.dataops("fleet", "pause", "--select", "tag=small", "--dry-run")
    assert {r["outcome"] for r in dry["dags"]} == {"would be paused"}
    assert {r["outcome"] for r in fleet.dataops("fleet", "pause", "--select", "tag=small")["dags"]} == {"paused"}
    paused = {d["dag_id"] for d in rest.dags() if d["is_paused"]}
    assert paused & {dag_id(i) for i in IDS} == {dag_id("fleet.notes"), dag_id("fleet.orders")}
    refused = fleet.dataops("fleet", "trigger", "--select", "fleet.orders", code=1)
    assert "paused" in refused["dags"][0]["error"]
    assert {r["outcome"] for r in fleet.dataops("fleet", "pause", "--select", "tag=small")["dags"]} == {"already paused"}
    assert {r["outcome"] for r in fleet.dataops("fleet", "unpause", "--select", "tag=small")["dags"]} == {"unpaused"}


def a_labelled_trigger_happens_once(fleet: Bundle, rest: AirflowRest) -> None:
    words = ("fleet", "trigger", "--select", "kind=sql tag=small", "--label", "monday", "--max-active", "1")
    assert {r["outcome"] for r in fleet.dataops(*words)["dags"]} == {"triggered"}
    assert {r["outcome"] for r in fleet.dataops(*words)["dags"]} == {"existed"}
    same = fleet.dataops("fleet", "trigger", "--select", "fleet.orders", "--partition", DAYS[4])
    assert same["dags"][0]["outcome"] == "existed"
    assert len([r for r in rest.runs(dag_id("fleet.orders")) if r["run_type"] == "manual"]) == 1
    wrong = fleet.dataops("fleet", "trigger", "--select", "fleet.orders", "--partition", "yesterday", code=1)
    assert "partition key" in wrong["dags"][0]["error"]


def cancel_ends_what_is_under_way_and_backfill_goes_on_from_there(fleet: Bundle, rest: AirflowRest) -> None:
    orders = dag_id("fleet.orders")
    fleet.airflow.until(lambda: all(b["completed_at"] for b in rest.backfills(orders)), 120)
    rest.create_backfill(orders, f"{TODAY - timedelta(days=20)}T00:00:00", f"{TODAY - timedelta(days=9)}T00:00:00", "none", 1)
    found = fleet.dataops("fleet", "cancel", "--select", "fleet.orders")["dags"][0]
    assert found["outcome"] == "cancelled" and any(name.startswith("backfill ") for name in found["periods"])
    assert not rest.all_runs(orders, {"state": UNDER_WAY})
    assert all(b["completed_at"] for b in rest.backfills(orders))
    assert fleet.dataops("fleet", "cancel", "--select", "fleet.orders")["dags"][0]["outcome"] == "nothing under way"
    range_ = ("--from", str(TODAY - timedelta(days=9)), "--to", str(TODAY - timedelta(days=9)))
    again = fleet.dataops("fleet", "backfill", "--select", "fleet.orders", *range_)
    assert set(again["dags"][0]["periods"].values()) == {"success"}


def airflow_dataops_is_the_same_command(fleet: Bundle, rest: AirflowRest) -> None:
    words = ("-m", "airflow", "dataops", "fleet", "status")
    done = fleet.python(*words, "--select", "tag=big", "--select", "kind=sql", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert [s["source"] for s in document["sources"]] == ["fleet.items"]
    assert document["selection"] == "tag=big kind=sql"
    fleet.dataops("fleet", "status", "--select", "fleet.nothing", code=2)


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


def test_a_real_airflow(fleet: Bundle, rest: AirflowRest, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the Airflow nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            step(fleet, rest)
