"""The tasks about partitions over real edges: the maintenance's `expire`, and `PartitionSyncOperator` in a DAG of one's own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.open_edges import open_edges
from airflow_dataops.operators.partition_sync import PartitionSyncOperator
from airflow_dataops.settings import load_settings
from dag_factory.render import render
from tests.airflow.test_maintenance import _dag, _execute
from tests.airflow.test_operators import AirflowRun, _run, _spec, shop

__all__ = ["shop"]

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


@pytest.fixture
def loaded(shop: Path, capsys: pytest.CaptureFixture[str]) -> PipelineSpec:
    """All tables of the shop, one partition each, of May 2024."""
    spec = _spec(target=DT)
    _run(render(spec), AirflowRun())
    capsys.readouterr()
    return spec


def shown(spec: PipelineSpec) -> list[str]:
    with open_edges(spec, load_settings(), writer="look", with_source=False) as edges:
        return [name for name in edges.catalog.table_names("shop") if edges.catalog.page_partitions("shop", name)]


def repair(spec: PipelineSpec, **how: Any) -> Any:
    task = PartitionSyncOperator(task_id="repair", spec=spec, **how)
    return task.execute(AirflowRun().context(task))


def test_the_expire_task_drops_what_the_row_does_not_keep(loaded: PipelineSpec, capsys: pytest.CaptureFixture[str]) -> None:
    _execute(_dag(loaded).get_task("expire"))
    assert shown(loaded) == ["customers", "orders"] and "dropped" not in capsys.readouterr().out
    keeping = _spec(target=DT | {"retention_days": 30})
    _execute(_dag(keeping).get_task("expire"))
    out = capsys.readouterr().out
    assert re.search(r"table shop\.orders: 1 partitions with [1-9]\d* rows dropped, 0 left", out) and shown(loaded) == []
    _execute(_dag(keeping).get_task("expire"))
    assert "dropped" not in capsys.readouterr().out


def test_an_expiry_that_fails_names_the_tables_and_does_the_others(loaded: PipelineSpec) -> None:
    tables = [{"match": "customers", "target": {"partition_by": []}}, "orders"]  # edited since: no partition tells the time
    keeping = _spec(target=DT | {"retention_days": 30}, tables=tables)
    with pytest.raises(AirflowException, match=r"expire partitions of 1 tables: shop\.customers \(inventory: ") as caught:
        _execute(_dag(keeping).get_task("expire"))
    assert not isinstance(caught.value, AirflowFailException) and shown(loaded) == ["customers"]


def test_a_repair_shows_what_is_decided_and_fails_on_what_it_may_not_touch(loaded: PipelineSpec) -> None:
    assert repair(loaded)["shop.orders"] == {"standing": 1, "shown": 0, "dropped": 0}
    with open_edges(loaded, load_settings(), writer="dba", with_source=False) as edges:
        (partition,) = edges.catalog.page_partitions("shop", "orders")
        edges.catalog.drop_partitions("shop", "orders", [partition.values])
        (other,) = edges.catalog.page_partitions("shop", "customers")
    assert repair(loaded, tables=["customers"]).keys() == {"shop.customers"} and shown(loaded) == ["customers"]
    assert repair(loaded)["shop.orders"] == {"standing": 1, "shown": 1, "dropped": 0} and shown(loaded) == ["customers", "orders"]
    shutil.rmtree(unquote(other.location.removeprefix("file://")))
    with pytest.raises(AirflowFailException, match=r"shop\.customers dt=[\d-]+: gone, no file in"):
        repair(loaded)
    assert repair(loaded, drop=True)["shop.customers"]["dropped"] == 1 and shown(loaded) == ["orders"]
