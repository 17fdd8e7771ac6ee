"""The fleet's maintenance: its DAG, its two tasks over real edges, and that a late table is told of once."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_dataops.core.approval import Approval
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.ledger import open_ledger
from airflow_dataops.operators.fleet import Fleet
from airflow_dataops.operators.freshness import FreshnessOperator, tell_late
from airflow_dataops.operators.sweep import SweepOperator
from airflow_dataops.settings import load_settings
from dag_factory.inventory import read_inventory
from dag_factory.loader import load_maintenance
from dag_factory.plan import MAINTENANCE_DAG_ID, plan_maintenance
from dag_factory.render import render, render_maintenance
from tests.airflow.test_operators import AirflowRun, _run, _spec, shop, webhook
from tests.ledger.actors import Clock

__all__ = ["shop", "webhook"]

NOW = datetime(2024, 5, 3, 9, tzinfo=UTC).timestamp()


def _dag(*rows: PipelineSpec) -> Any:
    class Read:
        platform = Fleet(()).platform

    Read.rows = rows  # type: ignore[attr-defined]
    return render_maintenance(plan_maintenance("*/5 * * * *"), lambda: Read)  # type: ignore[arg-type,return-value]


def _execute(task: Any) -> None:
    run = AirflowRun(dag_id=MAINTENANCE_DAG_ID, run_id="scheduled__1")
    task.execute(run.context(task))


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "inventory"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(folder))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    return folder


def test_the_dag_runs_by_the_setting_one_at_a_time_and_reads_no_inventory_while_it_is_parsed(
    inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory.rmdir()
    found: dict[str, Any] = {}
    load_maintenance(found)
    (dag,) = found.values()
    assert (dag.dag_id, dag.max_active_runs, dag.catchup, dag.timetable.expression) == (MAINTENANCE_DAG_ID, 1, False, "*/5 * * * *")
    alone: list[str] = []
    assert {t.task_id: sorted(t.upstream_task_ids) for t in dag.tasks} == {
        "sweep": alone, "expire": alone, "freshness": alone, "compact": alone, "ask": alone,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW__DATAOPS__MAINTENANCE_SCHEDULE", "none")
    load_maintenance(found)
    assert found[MAINTENANCE_DAG_ID].schedule is None


@pytest.mark.parametrize("schedule", ["every day", "@continuous", "* * * *", ""])
def test_a_schedule_that_cannot_be_meant_is_refused(schedule: str, inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATAOPS__MAINTENANCE_SCHEDULE", schedule)
    with pytest.raises(InventoryError):
        load_maintenance({})


def test_only_its_own_task_builds_it(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ingest__shop__orders")
    load_maintenance(found)
    assert found == {}
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", MAINTENANCE_DAG_ID)
    load_maintenance(found)
    assert list(found) == [MAINTENANCE_DAG_ID]


def test_what_airflow_stores_is_small_and_knows_no_row() -> None:
    stored = json.dumps(DagSerialization.to_dict(_dag(_spec(description="a secret plan"))))
    assert len(stored) < 3500 and "secret" not in stored and "orders_db" not in stored
    assert DagSerialization.from_dict(json.loads(stored)).timetable.can_be_scheduled


def test_the_sweep_finishes_what_a_dead_run_left(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from airflow_dataops.core.period import Period
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.steps.load import load_table
    from airflow_dataops.steps.run import Run
    from tests.steps.effects import Killed
    from tests.steps.test_row_edits import die_before

    spec = _spec()
    day = Period("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC), "key", False)
    with open_edges(spec, load_settings({"lease_seconds": "1"}), writer="dying") as edges:
        object.__setattr__(edges, "ledger", die_before("ledger.batches.commit").wrap("ledger", edges.ledger))
        object.__setattr__(edges, "lease_seconds", 0.0)
        with pytest.raises(Killed):
            load_table(spec, edges, Run("dead", day), "orders")
    shop.unlink()  # the source is gone; the sweep does not need it
    _execute(_dag(spec).get_task("sweep"))
    assert "table shop.orders: 1 batches finished" in capsys.readouterr().out
    ledger = open_ledger(load_settings().ledger)
    assert [b.state for b in ledger.batches.history()] == ["committed"]
    ledger.close()


def test_a_sweep_that_fails_names_the_tables_and_does_the_others(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = _spec(), _spec(name="crm", target={"database": "crm", "lake": "elsewhere"})
    _run(render(good), AirflowRun())
    ledger = open_ledger(load_settings().ledger)
    from tests.ledger.actors import asking, freeze

    freeze(ledger, ledger.batches.claim(asking(table_key="shop.crm:t -> crm.t", source_id="shop.crm", target="crm.t")), {})
    ledger.close()
    with pytest.raises(AirflowException, match=r"Cannot sweep 1 tables: crm\.t \(inventory: .*'elsewhere'") as caught:
        _execute(_dag(good, bad).get_task("sweep"))
    assert not isinstance(caught.value, AirflowFailException)


def test_the_compact_task_writes_small_files_again_and_names_what_fails(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow_dataops.steps import compact

    monkeypatch.setattr(compact, "FEWEST_FILES", 1)
    monkeypatch.setattr(compact.math, "ceil", lambda _: 0)  # one file is too many: every table has something to be done
    spec = _spec()
    _run(render(spec), AirflowRun())
    shop.unlink()  # the source is gone; nobody needs it
    _execute(_dag(spec).get_task("compact"))
    assert "table shop.orders partition '': compacted (small_files)" in capsys.readouterr().out
    ledger = open_ledger(load_settings().ledger)
    assert ledger.maintenance.due() == ()
    ledger.close()
    monkeypatch.setenv("AIRFLOW__DATAOPS__OLD_TYPES", "perhaps")
    with pytest.raises(AirflowFailException, match="rewrite or list"):
        _execute(_dag(spec).get_task("compact"))


def test_answered_drift_is_published_by_the_sweep_and_an_old_question_is_told_of_once(
    shop: Path, webhook: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    spec = _spec(notify=["hook"], contract={"columns": "freeze"})
    _run(render(spec), AirflowRun())
    with sqlite3.connect(shop) as db:
        db.execute("ALTER TABLE orders ADD COLUMN surprise TEXT")
    _run(render(spec), AirflowRun(run_id="manual__2"))
    shop.unlink()  # neither the alert nor the release needs the source
    sweep = _dag(spec).get_task("sweep")
    _execute(sweep)
    assert [m["event"] for m in webhook] == ["drift_held"], "a day has not passed"
    with sqlite3.connect(load_settings().ledger.removeprefix("sqlite:///")) as held:
        held.execute("UPDATE dataops_hold SET opened_at = opened_at - 86400")
    for _ in range(2):
        _execute(sweep)
    assert [(m["event"], m["tables"]) for m in webhook[1:]] == [("drift_waits", ["shop.orders"])]
    ledger = open_ledger(load_settings().ledger)
    (hold,) = ledger.holds.list()
    assert hold.hold_id in webhook[1]["text"]
    ledger.holds.decide(hold.hold_id, "approve", "ann", [Approval("column_added", "surprise")])
    _execute(sweep)
    assert "1 of the held published and 0 rejected" in capsys.readouterr().out
    assert [b.state for b in ledger.batches.history() if b.source_table == "orders"] == ["committed", "committed"]
    assert ledger.holds.queues() == ()
    ledger.close()


def test_a_late_table_is_told_of_once_per_transition(shop: Path, webhook: list[dict[str, Any]]) -> None:
    spec = _spec(freshness_seconds=60, notify=["hook"])
    _run(render(spec), AirflowRun())
    assert webhook == []
    ledger = open_ledger(load_settings().ledger)
    context = AirflowRun().context(render(spec).get_task("verify"))
    now = datetime.now(UTC).timestamp()
    for later in (30, 3600, 3600, 7200):
        tell_late(spec, ledger, context, now + later)
    (message,) = webhook
    assert (message["event"], message["source"], message["tables"]) == (
        "freshness_missed", "shop.orders_db", ["shop.customers", "shop.orders"],
    )  # fmt: skip
    tell_late(spec, ledger, context, now)  # fresh again
    tell_late(spec, ledger, context, now + 3600)
    assert len(webhook) == 2
    ledger.close()


def test_a_row_that_never_ran_is_late_from_when_it_was_first_seen(shop: Path, webhook: list[dict[str, Any]]) -> None:
    clock = Clock()
    clock.now = NOW
    ledger = open_ledger("sqlite://", clock=clock)
    asked = _spec(freshness_seconds=3600, notify=["hook"])
    named = _spec(name="named", tables=["orders", {"match": "lines"}, "tmp_*"], freshness_seconds=3600, notify=["hook"])
    future = _spec(name="future", freshness_seconds=3600, notify=["hook"], start_date="2024-05-10")
    silent = _spec(name="silent", freshness_seconds=3600)
    rows = [asked, named, future, silent, _spec(name="free"), _spec(name="off", freshness_seconds=3600, enabled=False)]
    context = AirflowRun().context(render(asked).get_task("verify"))

    def look(seconds: float) -> list[tuple[str, list[str]]]:
        clock.wait(seconds)
        before = len(webhook)
        for spec in rows:
            tell_late(spec, ledger, context, clock())
        return [(m["source"], m["tables"]) for m in webhook[before:]]

    assert look(0) == [] == look(3600)
    assert look(1) == [("shop.orders_db", ["shop.orders_db"]), ("shop.named", ["shop.lines", "shop.orders"])]
    assert look(10_000) == []
    assert look(8 * 86_400) == [("shop.future", ["shop.future"])]
    ledger.close()


def test_a_message_that_nobody_took_is_tried_again(shop: Path, webhook: list[dict[str, Any]], monkeypatch: Any) -> None:
    clock = Clock()
    clock.now = NOW
    ledger = open_ledger("sqlite://", clock=clock)
    spec = _spec(freshness_seconds=60, notify=["hook", "other"])
    context = AirflowRun().context(render(spec).get_task("verify"))
    tell_late(spec, ledger, context, clock())
    works = os.environ["AIRFLOW_CONN_HOOK"]
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", "http://127.0.0.1:1/")
    clock.wait(600)
    tell_late(spec, ledger, context, clock())
    assert webhook == []
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", works)
    for _ in range(3):
        clock.wait(600)
        tell_late(spec, ledger, context, clock())
    assert len(webhook) == 1  # and `other`, which nobody set up, does not make it come again
    ledger.close()


def test_the_freshness_task_judges_the_whole_inventory(shop: Path, inventory: Path, webhook: list[dict[str, Any]]) -> None:
    rows = "sources:\n  - {name: one, kind: sql, conn_id: shop_db, owner: o, freshness_seconds: 1, notify: [hook]}\n"
    (inventory / "shop.yaml").write_text(rows + "  - {name: bad, kind: nonsense, owner: o}\n")
    dag: dict[str, Any] = {}
    load_maintenance(dag)
    task = dag[MAINTENANCE_DAG_ID].get_task("freshness")
    assert isinstance(task, FreshnessOperator) and [r.id for r in task.fleet().rows] == ["shop.one"]
    _execute(task)
    assert webhook == []
    with sqlite3.connect(load_settings().ledger.removeprefix("sqlite:///")) as ledger:
        ledger.execute("UPDATE dataops_freshness SET known_since = known_since - 10")
    for _ in range(2):
        _execute(task)
    assert [(m["source"], m["dag_id"]) for m in webhook] == [("shop.one", MAINTENANCE_DAG_ID)]
    assert isinstance(dag[MAINTENANCE_DAG_ID].get_task("sweep"), SweepOperator)
    assert read_inventory(inventory).errors
