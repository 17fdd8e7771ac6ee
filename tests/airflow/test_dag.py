"""A row's plan, its DAG, and what of the row Airflow stores."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.operators.step import StepOperator
from dag_factory.plan import plan_dag
from dag_factory.render import render

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/airflow/plan.yaml").read_text())
SERIALISED_BYTES = 3500


def _spec(**fields: Any) -> PipelineSpec:
    row: dict[str, Any] = {"domain": "sales", "name": "orders_db", "kind": "sql", "conn_id": "pg", "owner": "sales-data"}
    return PipelineSpec.model_validate({**row, **fields})


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["story"])
def test_plan(case: dict[str, Any]) -> None:
    plan = plan_dag(_spec(**case["row"]), case.get("pools", ())).to_json()
    assert {name: plan[name] for name in case["plan"]} == case["plan"]


def test_the_whole_plan_is_plain_data() -> None:
    plan = plan_dag(_spec(description="Orders of the shop.", file="inventory/sales.yaml", line=4))
    assert json.loads(json.dumps(plan.to_json())) == {
        "dag_id": "ingest__sales__orders_db", "source_id": "sales.orders_db", "schedule": "@daily",
        "schedule_kind": "cron", "timezone": "UTC", "jitter_seconds": 842, "start_date": "2024-01-01", "catchup": False,
        "max_active_runs": 1, "owner": "sales-data", "tags": ["dataops", "sales", "sql"],
        "doc": "Orders of the shop.\n\nSource `sales.orders_db` (sql), row at `inventory/sales.yaml:4`, fingerprint "
        f"`{_spec(description='Orders of the shop.').fingerprint}`",
        "pool": "default_pool", "priority": 1, "retries": 3, "retry_delay_seconds": 30, "timeout_seconds": 21600,
        "notify": [],
    }  # fmt: skip


@pytest.mark.parametrize("tag", ["", "x" * 101])
def test_a_tag_airflow_would_refuse(tag: str) -> None:
    with pytest.raises(InventoryError, match="Cannot use tag"):
        plan_dag(_spec(tags=[tag]))


def _serialised(dag: Any) -> dict[str, Any]:
    data = DagSerialization.to_dict(dag)
    DagSerialization.validate_schema(data)
    return data


def test_the_dag_of_a_row() -> None:
    dag = render(_spec(notify=["ops"], limits={"retries": 5, "timeout_seconds": 60, "priority": 7}))
    assert [t.task_id for t in dag.topological_sort()] == ["discover", "drift_sync", "load", "verify"]
    assert dag.get_task("verify").trigger_rule == "all_done"
    assert dag.get_task("load").is_mapped
    for task in dag.tasks:
        assert (task.retries, task.execution_timeout, task.priority_weight) == (5, timedelta(seconds=60), 7)
    assert dag.is_paused_upon_creation is False


def test_stored_small_and_without_the_row() -> None:
    rich = _spec(
        tables=[f"public.table_{n}" for n in range(1600)],
        options={"schemas": ["secret_schema"]},
        notify=["ops_mail", "ops_hook"],
        tags=["gold", "finance"],
        description="Every order of every shop, with its lines. " * 4,
        timezone="Europe/Berlin",
        schedule="30 6 * * *",
        file="inventory/sales.yaml",
        line=123,
    )
    text = json.dumps(_serialised(render(rich, PlatformSpec())), separators=(",", ":"))
    assert len(text) <= SERIALISED_BYTES
    assert "table_7" not in text and "secret_schema" not in text
    assert f"`{rich.fingerprint}`" in text


def test_an_edit_of_the_row_is_a_new_version_and_a_second_look_is_not() -> None:
    first = json.dumps(_serialised(render(_spec())), sort_keys=True)
    assert json.dumps(_serialised(render(_spec())), sort_keys=True) == first
    assert json.dumps(_serialised(render(_spec(exclude=["*_tmp"]))), sort_keys=True) != first


def test_read_back_by_the_scheduler() -> None:
    dag = DagSerialization.from_dict(_serialised(render(_spec(schedule="30 6 * * *", timezone="Europe/Berlin"))))
    assert isinstance(dag, SerializedDAG)
    assert dag.timetable.partitioned and dag.timetable.summary == "30 6 * * *"
    assert str(dag.start_date) == "2023-12-31 23:00:00+00:00", "midnight in Berlin"


@pytest.mark.parametrize("schedule", ["none", "@continuous"])
def test_schedules_without_periods(schedule: str) -> None:
    dag = DagSerialization.from_dict(_serialised(render(_spec(schedule=schedule, limits={"max_active_runs": 4}))))
    assert not dag.timetable.partitioned
    assert dag.timetable.can_be_scheduled is (schedule == "@continuous")
    assert dag.max_active_runs == (1 if schedule == "@continuous" else 4)


def test_inventory_text_is_never_a_template() -> None:
    hostile = "{{ 7 * 7 }}"
    dag = render(_spec(tables=[hostile], description=hostile, owner=hostile, read={"query": hostile}))
    for task in dag.tasks:
        assert list(task.template_fields) == []
    load = dag.get_task("load")
    assert load.unmap({**load.partial_kwargs, "pack": [hostile]}).pack == [hostile]


def test_tasks_find_the_row_where_it_is() -> None:
    spec = _spec()
    dag = render(spec)
    load = dag.get_task("load").unmap({**dag.get_task("load").partial_kwargs, "pack": ["orders"]})
    for task in (dag.get_task("discover"), dag.get_task("drift_sync"), load, dag.get_task("verify")):
        assert isinstance(task, StepOperator) and task.row is spec
    alone = StepOperator(task_id="alone")
    with pytest.raises(InventoryError, match="no row"):
        assert alone.row
