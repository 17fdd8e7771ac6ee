"""What people decide in a real Airflow, as the pages describe it for REST: onboarding, from submit to a table, with and without a
person; and then held drift, which the maintenance asks about."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.requests import Request
from dag_factory.sample_airflow import PASSWORD, USER
from tests.servers.airflow import AirflowServer, Bundle

pytestmark = pytest.mark.timeout(900)

DAG = "onboard_here"
APPROVALS, HELD = "approvals_here", "ingest__onboard_held__db"
HELD_ROW = """
sources:
  - {name: db, kind: sql, conn_id: onboard_db, tables: [parts, bolts], schedule: none, owner: ann, approvers: [admin, bob],
     contract: {columns: freeze}, target: {database: onboard_held}}
"""
ASKED = "# asked for here\ndefaults: {owner: ann, approvers: [admin]}\nsources: []\n"


class Deployer:
    """Somebody with a login and no more than HTTP."""

    def __init__(self, airflow: AirflowServer, dag: str = DAG, asks: str = "approve") -> None:
        self.airflow, self.dag, self.asks = airflow, dag, asks
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._open = opener.open
        self._token = self._send("POST", "/auth/token", {"username": USER, "password": PASSWORD})["access_token"]

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if hasattr(self, "_token"):
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.airflow.url + path, data, headers, method=method)  # noqa: S310 - our own server
        with self._open(request, timeout=60) as answer:
            return json.load(answer)

    def submit(self, run_id: str, **conf: Any) -> str:
        self._send("POST", f"/api/v2/dags/{self.dag}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})
        return run_id

    def answer(self, run_id: str, option: str) -> None:
        """Again when it is asked again: Airflow 3.3 tries a task once more that is answered while its process still ends."""

        def answered() -> bool:
            if self.states(run_id)[self.asks] == "awaiting_input":
                time.sleep(5)
                try:
                    self.try_to_answer(run_id, option)
                except urllib.error.HTTPError as error:
                    if error.code != 409:
                        raise
                except TimeoutError:
                    pass  # of a busy machine; whether it was heard is seen below, else it is said again
            return self.states(run_id)[self.asks] in ("success", "skipped", "failed")

        self.airflow.until(answered, 180)

    def try_to_answer(self, run_id: str, option: str) -> None:
        path = f"/api/v2/dags/{self.dag}/dagRuns/{run_id}/taskInstances/{self.asks}/-1/hitlDetails"
        self._send("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def mark_success(self, run_id: str, task_id: str) -> None:
        self._send("PATCH", f"/api/v2/dags/{self.dag}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": "success"})

    def question(self, run_id: str) -> dict[str, Any]:
        path = f"/api/v2/dags/{self.dag}/dagRuns/{run_id}/taskInstances/{self.asks}/-1/hitlDetails"
        found: dict[str, Any] = self._send("GET", path)
        return found

    def states(self, run_id: str) -> dict[str, str | None]:
        query = "SELECT task_id, state FROM task_instance WHERE dag_id = ? AND run_id = ?"
        return dict(self.airflow.rows(query, self.dag, run_id))

    def until(self, run_id: str, **states: str) -> None:
        self.airflow.until(lambda: states.items() <= self.states(run_id).items(), 180)

    def said(self, run_id: str) -> str:
        logs = self.airflow.task_logs(self.dag)
        return "\n".join(part for part in logs.split("== ") if part.startswith(f"run_id={run_id}/"))


@pytest.fixture(scope="module")
def onboard(real_airflow: AirflowServer) -> Bundle:
    bundle = real_airflow.bundle("onboard")
    with sqlite3.connect(bundle.source) as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, updated_at TIMESTAMP)")
        db.executemany("INSERT INTO orders (item, updated_at) VALUES (?, '2024-05-01 10:00:00')", [("pen",), ("ink",)])
    bundle.write(onboard_asked=ASKED)
    real_airflow.until(lambda: DAG in bundle.active(), 120)
    return bundle


@pytest.fixture(scope="module")
def person(onboard: Bundle) -> Deployer:
    return Deployer(onboard.airflow)


def request_of(onboard: Bundle, run_id: str) -> Request | None:
    ledger = open_ledger(onboard.airflow.settings().ledger)
    try:
        return ledger.requests.get(f"{DAG}/{run_id}")
    finally:
        ledger.close()


def form(name: str, **more: Any) -> dict[str, Any]:
    return {"domain": "onboard_new", "name": name, "owner": "ann", "conn_id": "onboard_db", "database": f"onboard_{name}",
            "schedule": "none", "review": False, **more}  # fmt: skip


def a_submitted_form_becomes_a_table(onboard: Bundle, person: Deployer) -> None:
    began = time.monotonic()
    run = person.submit("plain", **form("plain", description="{{ 1 / 0 }}\n- x: *y"))
    dag_id = "ingest__onboard_new__plain"
    (loaded,) = onboard.airflow.ended(dag_id)
    print(f"submitted → queryable: {time.monotonic() - began:.1f} s")  # noqa: T201
    assert (loaded["state"], loaded["run_type"], loaded["triggering_user_name"]) == ("success", "operator_triggered", USER)
    (line,) = [line for line in onboard.airflow.task_logs(dag_id).splitlines() if "rows_written=" in line and "'orders'" in line]
    assert "-> onboard_plain.orders: loaded" in line and "rows_written=2" in line
    found = request_of(onboard, run)
    assert found is not None and (found.state, found.requested_by, found.decided_by) == ("built", USER, USER)
    row = onboard.dataops("explain", "onboard_new.plain")
    assert next(f["value"] for f in row["fields"] if f["field"] == "description") == "{{ 1 / 0 }}\n- x: *y"
    assert onboard.dataops("discover", "onboard_new.plain")["proposed"] == dict((found.proposal or {})["row"])


def what_is_wrong_is_told_by_the_task(onboard: Bundle, person: Deployer) -> None:
    before = {file.name: file.read_bytes() for file in onboard.inventory.iterdir()}
    bad = person.submit("bad", **form("bad", domain="../x", tabels=["a"], conn_id="postgres://me:hunter2hunter2@db/x"))
    down = person.submit("down", **form("down", conn_id="nobody_has_this"))
    lint = person.submit("lint", **form("lint", schedule="cron", cron="61 * * * *"))
    for run, task in ((bad, "check"), (lint, "check"), (down, "propose")):
        person.until(run, **{task: "failed"}, first_run="upstream_failed")
    assert "domain: found '../x' -> an id" in person.said(bad) and "Did you mean `tables`?" in person.said(bad)
    assert "holds an address with a password" in person.said(bad) and "hunter2" not in person.said(bad)
    assert "schedule: " in person.said(lint) and "Cannot onboard onboard_new.lint: 1 problem" in person.said(lint)
    assert "Cannot find connection 'nobody_has_this'" in person.said(down)
    assert {file.name: file.read_bytes() for file in onboard.inventory.iterdir()} == before
    with pytest.raises(urllib.error.HTTPError, match="400"):
        person.submit("kind", **form("kind", kind="nonsense"))


def an_approver_is_asked_and_of_two_at_once_one_has_the_name(onboard: Bundle, person: Deployer) -> None:
    runs = [person.submit(f"twin{n}", **form("twin", domain="onboard_asked")) for n in range(2)]
    onboard.airflow.until(lambda: sorted(str(person.states(r).get("check")) for r in runs) == ["failed", "success"], 180)
    first, second = sorted(runs, key=lambda run: person.states(run)["check"] != "success")
    assert f"run '{DAG}/{first}' of {USER} has it" in person.said(second)
    person.until(first, approve="awaiting_input")
    question = person.question(first)
    assert [user["id"] for user in question["assigned_users"]] == ["admin"] and question["options"] == ["Build", "Discard"]
    assert "`onboard_twin.orders`" in question["body"] and "  - name: twin" in question["body"]
    assert (onboard.inventory / "onboard_asked.yaml").read_text() == ASKED
    person.answer(first, "Build")
    person.until(first, build="success")
    found = request_of(onboard, first)
    assert found is not None and (found.state, found.decided_by) == ("built", "admin")
    text = (onboard.inventory / "onboard_asked.yaml").read_text()
    assert text.startswith(ASKED.removesuffix(" []\n")) and text.count("name: twin") == 1
    person.until(first, first_run="success")


def nobody_but_an_approver_can_answer(onboard: Bundle, person: Deployer) -> None:
    """Airflow refuses the answer; and a task that is marked as a success by hand approves nothing."""
    onboard.write(onboard_theirs=ASKED.replace("[admin]", "[bob]"))
    run = person.submit("theirs", **form("theirs", domain="onboard_theirs"))
    person.until(run, approve="awaiting_input")
    assert [user["id"] for user in person.question(run)["assigned_users"]] == ["bob"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        person.try_to_answer(run, "Build")
    assert person.states(run)["approve"] == "awaiting_input"
    person.mark_success(run, "approve")
    person.until(run, build="failed", first_run="upstream_failed")
    assert "is requested in the ledger -> approved. A task marked by hand approves nothing" in person.said(run)
    found = request_of(onboard, run)
    assert found is not None and (found.state, found.decided_by) == ("requested", None)
    assert "name: theirs" not in (onboard.inventory / "onboard_theirs.yaml").read_text()


def who_discards_builds_nothing_and_frees_the_name(onboard: Bundle, person: Deployer) -> None:
    run = person.submit("discarded", **form("discarded", review=True))
    person.until(run, approve="awaiting_input")
    person.answer(run, "Discard")
    person.until(run, approve="skipped", build="skipped", first_run="skipped")
    found = request_of(onboard, run)
    assert found is not None and (found.state, found.decided_by) == ("rejected", "admin")
    assert "discarded" not in (onboard.inventory / "onboard_new.yaml").read_text()
    again = person.submit("again", **form("discarded", review=True))
    person.until(again, approve="awaiting_input")


def a_request_whose_run_is_over_gives_way(onboard: Bundle, person: Deployer) -> None:
    onboard.airflow.rest().fail_run(DAG, "again")
    run = person.submit("third", **form("discarded", review=True))
    person.until(run, approve="awaiting_input")
    gone = request_of(onboard, "again")
    assert gone is not None and gone.state == "abandoned"
    person.answer(run, "Discard")
    person.until(run, first_run="skipped")


def held_drift_is_asked_about_once_and_each_answer_is_carried_out(onboard: Bundle, person: Deployer) -> None:
    """One of two questions is answered in Airflow; the other one by the command, and then nobody is asked any more."""
    airflow, rest = onboard.airflow, onboard.airflow.rest()
    change(onboard, *(f"CREATE TABLE {t} (id INTEGER PRIMARY KEY, name TEXT)" for t in ("parts", "bolts")))
    change(onboard, "INSERT INTO parts VALUES (1, 'a'), (2, 'b')", "INSERT INTO bolts VALUES (1, 'c')")
    onboard.write(onboard_held=HELD_ROW)
    airflow.until(lambda: HELD in onboard.active())
    rest.trigger(HELD)
    airflow.ended(HELD, 1)
    change(onboard, "ALTER TABLE parts ADD COLUMN colour TEXT", "ALTER TABLE bolts ADD COLUMN colour TEXT")
    rest.trigger(HELD)
    airflow.ended(HELD, 2)
    rest.trigger(onboard.maintenance)
    ids = {d["source_table"]: d["id"] for d in onboard.dataops("drift", "list", "onboard_held.db", code=1)["drifts"]}
    asker = Deployer(airflow, APPROVALS, "ask")
    for drift in ids.values():
        asker.until(drift, ask="awaiting_input")
    question = asker.question(ids["parts"])
    assert question["options"] == ["Approve", "Reject"] and [user["id"] for user in question["assigned_users"]] == ["admin", "bob"]
    assert "new column 'colour'" in question["body"] and "1 batches, 2 rows" in question["body"]
    with pytest.raises(urllib.error.HTTPError, match="409"):
        asker.submit(ids["parts"])
    asker.answer(ids["parts"], "Approve")
    onboard.dataops("drift", "reject", ids["bolts"], "--by", "bob")
    asker.until(ids["parts"], answer="success")
    assert asker.states(ids["bolts"])["ask"] == "awaiting_input"
    rest.trigger(onboard.maintenance)
    asker.until(ids["bolts"], ask="success", answer="success")
    assert "1 batches published" in asker.said(ids["parts"]) and "reject by bob" in asker.said(ids["bolts"])
    ledger = open_ledger(airflow.settings().ledger)
    try:
        holds = [ledger.holds.get(ids[name]) for name in ("parts", "bolts")]
    finally:
        ledger.close()
    told = [hold and (hold.decision, hold.decided_by, hold.batches) for hold in holds]
    assert told == [("approve", USER, 0), ("reject", "bob", 0)]


def change(onboard: Bundle, *statements: str) -> None:
    with sqlite3.connect(onboard.source) as db:
        for statement in statements:
            db.execute(statement)


STORY: tuple[Callable[[Bundle, Deployer], None], ...] = (
    a_submitted_form_becomes_a_table,
    what_is_wrong_is_told_by_the_task,
    an_approver_is_asked_and_of_two_at_once_one_has_the_name,
    nobody_but_an_approver_can_answer,
    who_discards_builds_nothing_and_frees_the_name,
    a_request_whose_run_is_over_gives_way,
    held_drift_is_asked_about_once_and_each_answer_is_carried_out,
)


def test_people_decide_in_a_real_airflow(onboard: Bundle, person: Deployer, subtests: pytest.Subtests) -> None:
    for step in STORY:
        with subtests.test(step.__name__):
            step(onboard, person)
