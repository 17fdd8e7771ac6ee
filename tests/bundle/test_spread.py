"""Ten thousand DAGs do not start in one second, and five hundred of them do not meet in one database."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.plugins.timetable import PeriodTimetable
from airflow_dataops.schedule import jitter_seconds
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.discover import pack
from dag_factory.plan import plan_dag
from dag_factory.render import render
from tests.airflow.test_operators import AirflowRun


def row(name: str = "orders", **fields: Any) -> PipelineSpec:
    return PipelineSpec(**{"domain": "sales", "name": name, "kind": "sql", "owner": "o", "conn_id": "pg"} | fields)


@pytest.mark.parametrize(("schedule", "window"), [("@daily", 901), ("@hourly", 361), ("*/10 * * * *", 61), ("0 6 * * 1", 901)])
def test_the_starts_of_a_fleet_fill_their_window(schedule: str, window: int) -> None:
    """No tenth of it has much more or less than its share, and nobody is outside."""
    starts = [jitter_seconds(row(f"s{n}", schedule=schedule)) for n in range(10_000)]
    tenths = Counter(start * 10 // window for start in starts)
    assert sorted(tenths) == list(range(10)) and min(starts) >= 0
    assert max(tenths.values()) <= 1.35 * min(tenths.values()), tenths


@pytest.mark.parametrize("schedule", ["@daily", "30 6 * * *", "15 * * * *", "@monthly", "*/5 * * * *"])
def test_the_spread_moves_no_key(schedule: str) -> None:
    def runs(jitter: int) -> list[tuple[str | None, datetime]]:
        table = PeriodTimetable(schedule, timezone="Europe/Berlin", jitter_seconds=jitter)
        found = table.iter_partition_dagrun_infos(
            earliest=datetime(2024, 3, 1, tzinfo=UTC), latest=datetime(2024, 4, 30, tzinfo=UTC)
        )
        return [(info.partition_key, info.run_after) for info in islice(found, 500)]

    assert runs(0) == runs(29)  # a backfill: neither keys nor the moments from which its runs may start
    at = datetime(2024, 3, 30, 12, tzinfo=UTC)
    one, other = (PeriodTimetable(schedule, jitter_seconds=jitter) for jitter in (0, 29))
    first, late = (table._first_from(at) for table in (one, other))
    assert first == late
    assert {one._info(first, at).partition_key} == {other._info(late, at + timedelta(seconds=29)).partition_key}


LIMITS = {"max_active_runs": 3, "retries": 5, "timeout_seconds": 61, "priority": 9, "pool": "nightly"}


def test_limits_reach_every_task() -> None:
    dag = render(row(limits=LIMITS), PlatformSpec())
    assert dag.max_active_runs == 3 and len(dag.tasks) == 4
    for task in dag.tasks:
        assert (task.retries, task.execution_timeout, task.pool) == (5, timedelta(seconds=61), "nightly")
        # The row's own number, for `verify` as for `discover`: not the sum of what comes after the task.
        assert (task.priority_weight, task.weight_rule) == (9, "absolute")


@pytest.mark.parametrize(
    ("fields", "declared", "in_bundle", "in_folder"),
    [
        ({}, (), "pg", "default_pool"),  # nobody makes pools for a plain DAG folder: a task would wait for ever
        ({}, ("pg",), "pg", "pg"),
        ({"limits": {"pool": "nightly"}}, ("pg",), "nightly", "nightly"),
        ({"conn_id": None, "kind": "files"}, ("pg",), "default_pool", "default_pool"),
    ],
)
def test_a_pool_for_each_source_system(fields: dict[str, Any], declared: tuple[str, ...], in_bundle: str, in_folder: str) -> None:
    spec = row(**fields)
    assert plan_dag(spec, None).pool == in_bundle
    assert plan_dag(spec, declared).pool == in_folder
    platform = PlatformSpec.model_validate({"pools": dict.fromkeys(declared, 3)})
    assert {task.pool for task in render(spec, platform, source_pools=True).tasks} == {in_bundle}
    assert {task.pool for task in render(spec, platform).tasks} == {in_folder}


def test_packs_are_balanced_whatever_the_sizes_are() -> None:
    sizes = [2_000_000_000, *(10_000_000 for _ in range(1500)), *(0 for _ in range(99))]
    tables = tuple(SourceTable(f"t{n:04}", TableSchema(), bytes_estimate=size or None) for n, size in enumerate(sizes))
    packs = pack(tables, 64)
    weights = [sum(sizes[int(name[1:])] for name in names) for names in packs]
    assert sorted(name for names in packs for name in names) == [table.name for table in tables]
    assert max(weights) == 2_000_000_000  # the one that cannot be cut is alone with next to nothing
    rest = sorted(weights)[:-1]
    assert rest[-1] <= rest[0] + 20_000_000


def test_sixteen_hundred_tables_are_never_more_packs_than_airflow_maps_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Airflow an XCom that is longer fails the run."""
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        for number in range(1600):
            shop.execute(f"CREATE TABLE t{number:04} (id INTEGER PRIMARY KEY)")
    monkeypatch.setenv("AIRFLOW_CONN_PG", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "shop.db")}))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LAKE", f"file://{tmp_path}/lake")
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    discover = render(row(limits={"max_packs": 1024}), PlatformSpec()).get_task("discover")
    found = discover.execute(AirflowRun().context(discover))
    assert len(found) == 2 and max(map(len, found)) - min(map(len, found)) <= 1
    assert sorted(name for names in found for name in names) == [f"t{number:04}" for number in range(1600)]
