"""Desired state through a real Airflow: a removed row's DAG rests and goes, a row that is back runs, a renamed one goes on."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.servers.airflow import AirflowServer, Bundle

pytestmark = pytest.mark.timeout(900)

ROW = (
    "  - {{name: {name}, kind: sql, conn_id: retire_db, owner: o, schedule: none, target: {{database: retire_{database}}}{more}}}\n"
)
WATERMARK = ", tables: [orders], read: {mode: watermark, cursor: id}, write: {mode: append}"


def row(name: str, more: str = "", database: str | None = None) -> str:
    return ROW.format(name=name, more=more, database=database or name)


def dag(name: str) -> str:
    return f"ingest__retire_shop__{name}"


def write(bundle: Bundle, *rows: str) -> None:
    bundle.write(retire_shop="sources:\n" + "".join(rows))


def paused(bundle: Bundle, name: str) -> bool:
    return bool(bundle.airflow.rows("SELECT is_paused FROM dag WHERE dag_id = ?", dag(name))[0][0])


def until(bundle: Bundle, condition: Any) -> None:
    bundle.airflow.until(condition)


@pytest.fixture(scope="module")
def bundle(real_airflow: AirflowServer) -> Bundle:
    bundle = real_airflow.bundle("retire")
    with closing(sqlite3.connect(bundle.source)) as source:
        source.execute("CREATE TABLE IF NOT EXISTS orders AS SELECT 1 AS id, 'pen' AS item")
        source.commit()
    write(bundle, row("stay"), row("go"), row("rest"), row("brief", ", retired_days: 0"), row("old", WATERMARK, "named"))
    return bundle


def loaded_once(bundle: Bundle) -> None:
    until(bundle, lambda: bundle.active() >= {dag(name) for name in ("stay", "go", "rest", "brief", "old")})
    for name in ("go", "brief", "old"):
        bundle.airflow.rest().trigger(dag(name))
    for name in ("go", "brief", "old"):
        assert [run["state"] for run in bundle.airflow.ended(dag(name))] == ["success"]


def old_snapshots_are_looked_for(bundle: Bundle) -> None:
    """The DAG processor may ask Airflow's database which versions it still needs."""
    until(bundle, (bundle.folder / "snapshots/expired/retire").exists)


def a_removed_row_rests_with_its_history(bundle: Bundle) -> None:
    files = dict(bundle.airflow.rows("SELECT dag_id, relative_fileloc FROM dag WHERE bundle_name = 'retire'"))
    bundle.airflow.rest().pause(dag("rest"))  # a person
    write(bundle, row("stay"), row("brief", ", retired_days: 0"), row("old", WATERMARK, "named"))
    until(bundle, lambda: bundle.retired() == {dag("go"), dag("rest")})
    until(bundle, lambda: paused(bundle, "go"))
    assert paused(bundle, "rest") and not paused(bundle, "stay")
    assert files == dict(bundle.airflow.rows("SELECT dag_id, relative_fileloc FROM dag WHERE bundle_name = 'retire'"))
    assert [run["state"] for run in bundle.airflow.rest().runs(dag("go"))] == ["success"]
    status = bundle.dataops("status", code=None)
    assert {one["source"]: one["state"] for one in status["retired"] if one["source"].startswith("retire_")} == {
        "retire_shop.go": "retired", "retire_shop.rest": "retired",
    }  # fmt: skip
    (table,) = [table for table in status["tables"] if table["table"] == "retire_shop.go:orders"]
    assert table["retired"]


def a_run_that_has_started_ends_before_its_dag_is_paused(bundle: Bundle) -> None:
    airflow, states = bundle.airflow, "SELECT state FROM dag_run WHERE dag_id = ?"
    airflow.rest()._call("POST", "/pools", {"name": "retire_gate", "slots": 0, "include_deferred": False})
    kept = (row("stay"), row("brief", ", retired_days: 0"), row("old", WATERMARK, "named"))
    write(bundle, *kept, row("slow", ", limits: {pool: retire_gate}"))
    until(bundle, lambda: dag("slow") in bundle.active())
    airflow.rest().trigger(dag("slow"))
    until(bundle, lambda: airflow.rows(states, dag("slow")) == [("running",)])
    write(bundle, *kept)
    until(bundle, lambda: dag("slow") in bundle.retired())
    time.sleep(3)
    assert (airflow.rows(states, dag("slow")), paused(bundle, "slow")) == ([("running",)], False)
    opened = {"pool": "retire_gate", "slots": 1, "include_deferred": False}
    airflow.rest()._call("PATCH", "/pools/retire_gate?update_mask=slots", opened)
    until(bundle, lambda: paused(bundle, "slow"))
    assert airflow.rows(states, dag("slow")) == [("success",)], airflow.task_logs(dag("slow"))


def a_row_that_is_back_runs_unless_a_person_paused_it(bundle: Bundle) -> None:
    write(bundle, row("stay"), row("go"), row("rest"), row("brief", ", retired_days: 0"), row("old", WATERMARK, "named"))
    until(bundle, lambda: bundle.retired() == {dag("slow")} and not paused(bundle, "go"))
    assert paused(bundle, "rest")
    time.sleep(3)
    assert paused(bundle, "rest")
    bundle.airflow.rest().trigger(dag("go"))
    assert [run["state"] for run in bundle.airflow.ended(dag("go"), 2)] == ["success"] * 2


def when_the_grace_is_over_airflow_forgets_it_and_the_table_stays(bundle: Bundle) -> None:
    write(bundle, row("stay"), row("go"), row("rest"), row("old", WATERMARK, "named"))
    until(bundle, lambda: not bundle.airflow.rows("SELECT 1 FROM dag WHERE dag_id = ?", dag("brief")))
    assert bundle.airflow.rows("SELECT 1 FROM dag_run WHERE dag_id = ?", dag("brief")) == []
    assert bundle.dataops("sql", "SELECT count(*) AS n FROM retire_brief.orders")["rows"] == [{"n": 1}]
    until(
        bundle,
        lambda: ("retire_shop.brief", "deleted")
        in {(one["source"], one["state"]) for one in bundle.dataops("status", code=None)["retired"]},
    )
    write(bundle, row("stay"), row("go"), row("rest"), row("brief"), row("old", WATERMARK, "named"))
    until(bundle, lambda: dag("brief") in bundle.active() and not paused(bundle, "brief"))


def a_renamed_row_goes_on_where_the_old_one_was(bundle: Bundle) -> None:
    with closing(sqlite3.connect(bundle.source)) as source:
        source.execute("INSERT INTO orders VALUES (2, 'ink')")
        source.commit()
    write(bundle, row("stay"), row("go"), row("rest"), row("brief"), row("new", WATERMARK + ", renamed_from: old", "named"))
    until(bundle, lambda: dag("new") in bundle.active() and bundle.retired() == {dag("old"), dag("slow")} and paused(bundle, "old"))
    bundle.airflow.rest().trigger(dag("new"))
    logs = bundle.airflow.task_logs
    assert [run["state"] for run in bundle.airflow.ended(dag("new"))] == ["success"], logs(dag("new"))
    assert bundle.dataops("sql", "SELECT id, item FROM retire_named.orders ORDER BY id")["rows"] == [
        {"id": 1, "item": "pen"}, {"id": 2, "item": "ink"},
    ]  # fmt: skip
    batches = bundle.dataops("status", "retire_shop.new")["batches"]
    assert [batch["rows_written"] for batch in batches] == [1, 1]
    assert [run["state"] for run in bundle.airflow.rest().runs(dag("old"))] == ["success"]
    assert bundle.dataops("verify", "retire_shop.new")["ok"]


STORY = (
    loaded_once,
    old_snapshots_are_looked_for,
    a_removed_row_rests_with_its_history,
    a_run_that_has_started_ends_before_its_dag_is_paused,
    a_row_that_is_back_runs_unless_a_person_paused_it,
    when_the_grace_is_over_airflow_forgets_it_and_the_table_stays,
    a_renamed_row_goes_on_where_the_old_one_was,
)


def test_desired_state_in_a_real_airflow(bundle: Bundle, subtests: pytest.Subtests) -> None:
    """One test, because each step begins where the last one ended."""
    for step in STORY:
        with subtests.test(step.__name__):
            began = time.monotonic()
            step(bundle)
            print(f"{step.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201
