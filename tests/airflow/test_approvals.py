"""Held drift in Airflow's face: who is asked, what is offered, and that an answer counts once. No Airflow is running."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRuntimeError, ErrorType, TaskAwaitingInput
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload, ErrorResponse, MaskSecret, OKResponse, TriggerDagRun
from airflow.serialization.serialized_objects import DagSerialization

from airflow_dataops.core import approval
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import Hold, Ledger
from airflow_dataops.operators.approvals import ANSWERS, question
from airflow_dataops.operators.fleet import Fleet
from airflow_dataops.settings import load_settings
from dag_factory.bundle.files import BundleFiles
from dag_factory.loader import load_approvals
from dag_factory.plan import APPROVALS_DAG_ID, plan_maintenance
from dag_factory.render import render, render_approvals, render_maintenance
from tests.airflow.test_operators import AirflowRun, _run, _spec, shop

__all__ = ["shop"]

ROOT = Path(__file__).parents[2]
FREEZE = {"contract": {"columns": "freeze"}}
THEN = datetime(2024, 5, 3, 10, tzinfo=UTC)


class Supervisor:
    """Airflow's side of a task's requests: keeps them, knows the runs there are, and what state their `ask` is in."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.asking: dict[str, str] = {}
        self.down: set[str] = set()

    def send(self, msg: Any) -> Any:
        if not isinstance(msg, MaskSecret):
            self.sent.append(msg)
        if isinstance(msg, TriggerDagRun):
            if msg.run_id in self.down:
                raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"detail": "no such DAG"}))
            if msg.run_id in self.asking and not msg.reset_dag_run:
                return ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS)
            self.asking[msg.run_id] = "queued"
        return OKResponse(ok=True)

    def states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert (dag_id, task_ids) == (APPROVALS_DAG_ID, ["ask"])
        return {run: {"ask": self.asking[run]} for run in run_ids if run in self.asking}


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    made = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@pytest.fixture
def ledger(shop: Path) -> Iterator[Ledger]:
    opened = open_ledger(load_settings().ledger)
    yield opened
    opened.close()


def inventory(*rows: PipelineSpec) -> Any:
    return lambda: SimpleNamespace(rows=rows, platform=Fleet(()).platform)


def held(ledger: Ledger, shop: Path, spec: PipelineSpec, *changes: str) -> Hold:
    _run(render(spec), AirflowRun())
    with sqlite3.connect(shop) as db:
        for change in changes or ("ALTER TABLE orders ADD COLUMN `x``|#` TEXT", "UPDATE orders SET `x``|#` = 'secret value'"):
            db.execute(change)
    _run(render(spec), AirflowRun(run_id="manual__2"))
    (found,) = ledger.holds.list()
    return found


def context(task: Any, run_id: str, supervisor: Supervisor) -> Any:
    made = AirflowRun(dag_id=APPROVALS_DAG_ID, run_id=run_id).context(task)
    made["ti"].id, made["ti"].get_task_states = uuid4(), supervisor.states
    made["task_instance"] = made["ti"]
    return made


def maintain(supervisor: Supervisor, *rows: PipelineSpec) -> None:
    task = render_maintenance(plan_maintenance("none"), inventory(*rows)).get_task("ask")
    task.execute(context(task, "scheduled__1", supervisor))


def ask(supervisor: Supervisor, run_id: str, *rows: PipelineSpec) -> CreateHITLDetailPayload | None:
    """What a person is shown; None when the task ended without asking."""
    task = render_approvals(inventory(*rows)).get_task("ask")
    supervisor.sent.clear()
    try:
        task.execute(context(task, run_id, supervisor))
    except TaskAwaitingInput:
        (shown,) = supervisor.sent
        assert isinstance(shown, CreateHITLDetailPayload)
        return shown
    assert supervisor.sent == []
    return None


def chosen(supervisor: Supervisor, run_id: str, option: str, who: dict[str, str], *rows: PipelineSpec) -> None:
    task = render_approvals(inventory(*rows)).get_task("ask")
    task.execute_complete(context(task, run_id, supervisor), answered(option, who))


def answered(option: str, who: dict[str, str]) -> dict[str, Any]:
    """As Airflow tells of an answer."""
    return {"chosen_options": [option], "params_input": {}, "responded_at": THEN, "responded_by_user": who}


def carry_out(supervisor: Supervisor, run_id: str, *rows: PipelineSpec) -> None:
    task = render_approvals(inventory(*rows)).get_task("answer")
    task.execute(context(task, run_id, supervisor))


ANN = {"id": "7", "name": "ann"}


def test_every_answer_is_an_option() -> None:
    assert tuple(ANSWERS.values()) == approval.ANSWERS


def test_ask_before_answer_and_nothing_is_templated_or_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(tmp_path / "nothing there"))  # not read while it is parsed
    found: dict[str, Any] = {}
    load_approvals(found)
    dag = found[APPROVALS_DAG_ID]
    assert [t.task_id for t in dag.topological_sort()] == ["ask", "answer"]
    assert all(tuple(t.template_fields) == () and t.retries for t in dag.tasks)
    assert (dag.schedule, dag.is_paused_upon_creation, dag.disable_bundle_versioning) == (None, False, True)
    assert dag.get_task("ask").execution_timeout is None, "it waits for days"
    stored = json.dumps(DagSerialization.to_dict(dag))
    assert DagSerialization.from_dict(json.loads(stored)).dag_id == APPROVALS_DAG_ID
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ingest__sales__orders")
    nothing: dict[str, Any] = {}
    load_approvals(nothing)
    assert nothing == {}


def test_both_ways_of_a_fleet_have_it_and_the_maintenance_knows_its_name(tmp_path: Path) -> None:
    lines = (ROOT / "dags/dataops_approvals.py").read_text().splitlines()
    assert len(lines) == 3 and "airflow" in lines[2].lower() and "dag" in lines[2]
    for dag_id in ("asked_here", None):
        fleet = BundleFiles(4, "swept_here", None, dag_id).fleet
        assert sorted(fleet) == (["asked_here.py", "swept_here.py"] if dag_id else ["swept_here.py"])
        found: dict[str, Any] = {}
        for name, content in fleet.items():
            stub = tmp_path / name
            stub.write_bytes(content.data)
            namespace: dict[str, Any] = {"__file__": str(stub)}
            exec(compile(content.data, name, "exec"), namespace)  # noqa: S102 - what the DAG processor does with it
            found[stub.stem] = namespace[stub.stem]
        asks = found["swept_here"].task_dict.get("ask")
        assert (asks.approvals_dag_id if asks else None) == dag_id
        assert {dag.disable_bundle_versioning for dag in found.values()} == {True}


def test_the_maintenance_starts_one_run_per_question(supervisor: Supervisor, ledger: Ledger, shop: Path) -> None:
    spec = _spec(**FREEZE)
    drift = held(ledger, shop, spec).hold_id
    assert "ask" not in render_maintenance(plan_maintenance("none", approvals_dag_id=None), inventory(spec)).task_dict
    maintain(supervisor, _spec(name="other"))
    assert supervisor.sent == [], "no row, so nobody could answer"
    supervisor.down.add(drift)
    with pytest.raises(AirflowException, match=rf"{drift} \(API_SERVER_ERROR: no such DAG\) -> a run for each"):
        maintain(supervisor, spec)
    assert [h.hold_id for h in ledger.holds.unasked()] == [drift], "it is tried again"
    supervisor.down.clear()
    supervisor.asking[drift] = "running"  # started by a task that was killed before it could say so
    for _ in range(2):
        maintain(supervisor, spec)
    assert [(m.dag_id, m.run_id, m.reset_dag_run) for m in supervisor.sent] == [(APPROVALS_DAG_ID, drift, False)] * 2
    assert ledger.holds.unasked() == ()


def test_a_question_that_was_answered_elsewhere_is_closed(supervisor: Supervisor, ledger: Ledger, shop: Path) -> None:
    spec = _spec(**FREEZE)
    drift = held(ledger, shop, spec).hold_id
    maintain(supervisor, spec)
    ledger.holds.decide(drift, "reject", "bob")
    maintain(supervisor, spec)
    assert len(supervisor.sent) == 1, "its task has not begun: it will find the answer by itself"
    supervisor.asking[drift] = "awaiting_input"
    maintain(supervisor, spec)
    assert [(m.run_id, m.reset_dag_run) for m in supervisor.sent[1:]] == [(drift, True)]
    assert ask(supervisor, drift, spec) is None
    assert [h.hold_id for h in ledger.holds.answered()] == [drift]
    supervisor.asking[drift] = "success"
    maintain(supervisor, spec)
    assert ledger.holds.answered() == () and supervisor.sent == []


def test_a_question_shows_what_waits_and_no_value_and_no_markup(
    supervisor: Supervisor, ledger: Ledger, shop: Path
) -> None:
    spec = _spec(**FREEZE, approvers=["ann", "bob"])
    drift = held(ledger, shop, spec)
    shown = ask(supervisor, drift.hold_id, spec)
    assert shown is not None and shown.body is not None
    assert shown.subject == "Held drift of shop.orders, source shop.orders_db"
    assert shown.options == ["Approve", "Reject"], "no column has another type"
    assert [user.id for user in shown.assigned_users or []] == ["ann", "bob"]
    assert "waits: 1 batches, 5 rows" in shown.body and f"first batch: `{drift.batch_id}`" in shown.body
    assert "secret" not in shown.body and "x'|#" in shown.body
    nobody = ask(supervisor, drift.hold_id, _spec(**FREEZE))
    assert nobody is not None and nobody.assigned_users == []
    assert "the oldest for 2.0 hours" in question(drift, {}, (drift.oldest_at or 0) + 7200)


@pytest.mark.parametrize(
    ("write", "options"),
    [
        ({"mode": "merge", "keys": ["id"]}, ["Reject"]),
        ({"mode": "overwrite_partition"}, ["Approve", "Approve as new column", "Reject"]),
    ],
)
def test_only_what_can_be_approved_is_offered(
    supervisor: Supervisor, ledger: Ledger, shop: Path, write: dict[str, Any], options: list[str]
) -> None:
    """Rows are told apart by the column that has another type, or not."""
    spec = _spec(tables=["orders"], read={"mode": "full"}, write=write)
    gone = "CREATE TABLE o2 (id TEXT, name TEXT)", "INSERT INTO o2 SELECT 'k' || id, name FROM orders", "DROP TABLE orders"
    drift = held(ledger, shop, spec, *gone, "ALTER TABLE o2 RENAME TO orders")
    shown = ask(supervisor, drift.hold_id, spec)
    assert shown is not None and shown.options == options
    assert ("*Approve* is not possible: `Cannot " in (shown.body or "")) == (options == ["Reject"])


def test_an_answer_is_recorded_with_its_person_and_carried_out(
    supervisor: Supervisor, ledger: Ledger, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = _spec(**FREEZE)
    drift = held(ledger, shop, spec).hold_id
    shop.unlink()  # no answer needs the source
    with pytest.raises(AirflowFailException, match="A task marked by hand answers nothing"):
        carry_out(supervisor, drift, spec)
    chosen(supervisor, drift, "Approve", ANN, spec)
    found = ledger.holds.get(drift)
    assert found is not None and (found.decision, found.decided_by, found.decided_at) == ("approve", "ann", THEN.timestamp())
    carry_out(supervisor, drift, spec)
    assert "approve by ann. 1 batches published, 0 rejected" in capsys.readouterr().out
    assert ledger.holds.queues() == ()


def test_a_suggested_rename_is_asked_about_and_carried_out(
    supervisor: Supervisor, ledger: Ledger, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = _spec()
    drift = held(ledger, shop, spec, "ALTER TABLE orders RENAME COLUMN name TO full_name")
    maintain(supervisor, spec)
    assert [m.run_id for m in supervisor.sent] == [drift.hold_id]
    shown = ask(supervisor, drift.hold_id, spec)
    assert shown is not None and shown.options == ["Approve as rename", "Reject"]
    assert shown.subject == "Suggested rename of shop.orders, source shop.orders_db"
    assert "column 'name' may be 'full_name' by now (values 100% shared" in (shown.body or "")
    assert "Nothing waits for this answer" in (shown.body or "") and "is not possible" not in (shown.body or "")
    chosen(supervisor, drift.hold_id, "Approve as rename", ANN, spec)
    carry_out(supervisor, drift.hold_id, spec)
    logged = capsys.readouterr().out
    assert "rename by ann. 0 batches published, 0 rejected" in logged and "partitions under the old name" in logged


@pytest.mark.parametrize("when", ["before", "at the same moment"])
def test_somebody_elses_earlier_answer_stands_and_is_told(
    supervisor: Supervisor, ledger: Ledger, shop: Path, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    spec = _spec(**FREEZE)
    drift = held(ledger, shop, spec).hold_id

    def read() -> Any:
        """The inventory, which is read after the question and before the answer."""
        ledger.holds.decide(drift, "reject", "bob")
        return inventory(spec)()

    if when == "before":
        ledger.holds.decide(drift, "reject", "bob")
        chosen(supervisor, drift, "Approve", ANN, spec)
        assert f"drift {drift}: reject by bob" in capsys.readouterr().out
    else:
        task = render_approvals(read).get_task("ask")
        task.execute_complete(context(task, drift, supervisor), answered("Approve", ANN))
        assert "bob answered reject at " in capsys.readouterr().out
    carry_out(supervisor, drift, spec)
    logged = capsys.readouterr().out
    assert "reject by bob" in logged and "0 batches published, 1 rejected" in logged
    assert "rejected" in {b.state for b in ledger.batches.history() if b.source_table == "orders"}


def test_only_an_approver_of_the_row_as_it_is_now_can_answer(supervisor: Supervisor, ledger: Ledger, shop: Path) -> None:
    drift = held(ledger, shop, _spec(**FREEZE)).hold_id
    with pytest.raises(AirflowFailException, match="'ann' answers -> one of bob"):
        chosen(supervisor, drift, "Approve", ANN, _spec(**FREEZE, approvers=["bob"]))
    found = ledger.holds.get(drift)
    assert found is not None and found.decision is None
    chosen(supervisor, drift, "Approve", ANN, _spec(**FREEZE, approvers=["7"]))
    found = ledger.holds.get(drift)
    assert found is not None and found.decided_by == "ann"


def test_a_run_that_is_about_no_drift_or_no_row_says_so(supervisor: Supervisor, ledger: Ledger, shop: Path) -> None:
    spec = _spec(**FREEZE)
    with pytest.raises(AirflowFailException, match="Cannot ask about drift 'manual__1': nobody knows it"):
        ask(supervisor, "manual__1", spec)
    drift = held(ledger, shop, spec).hold_id
    with pytest.raises(AirflowFailException, match=r"no good row of shop\.orders_db -> one"):
        ask(supervisor, drift, _spec(name="other"))
