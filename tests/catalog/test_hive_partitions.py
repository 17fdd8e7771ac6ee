"""Partitions on a real metastore (drift-and-hive §9, by their numbers): odd values, a second runner, a registration that a crash
left out, files that are gone, and retention."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from airflow_dataops.catalog.base import CatalogPartition
from airflow_dataops.catalog.hive import HiveCatalog
from airflow_dataops.core.errors import LimitError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.drop_limits import DropLimits
from airflow_dataops.steps.partition_sync import (
    PartitionSyncPlan,
    apply_partition_sync,
    check_partition_sync,
    list_partitions,
    plan_partition_sync,
)
from airflow_dataops.steps.retention import all_partitions, apply_expiry, plan_expiry
from tests.catalog.conftest import hive_catalog
from tests.servers.hive import HiveServer
from tests.steps.effects import Killed
from tests.steps.test_row_edits import die_before
from tests.steps.world import World, visible_rows

BY_CITY = {"target": {"database": "sales", "partition_by": [{"name": "p", "from": "column:city"}]}}
ODD = ("2024-05-01 10:00:00", "a/b", "", None, "50% of", "a=b", "it's", "[x]{y}")


@pytest.fixture
def catalog(hive_server: HiveServer) -> Iterator[HiveCatalog]:
    opened = hive_catalog(hive_server)
    yield opened
    opened.close()


def world_of(catalog: HiveCatalog, folder: Path, cities: tuple[str | None, ...], wrap: Any = None) -> World:
    def on_hive(name: str, edge: Any) -> Any:
        if name == "catalog":
            edge.close()
            edge = catalog
        return edge if wrap is None else wrap(name, edge)

    world = World(folder, wrap=on_hive)
    if not world.database.exists():
        values = ", ".join(f"({n}, {'NULL' if city is None else repr_sql(city)})" for n, city in enumerate(cities))
        world.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT)", f"INSERT INTO orders VALUES {values}")
    return world


def repr_sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def plan_of(world: World, spec: PipelineSpec) -> tuple[PartitionSyncPlan, Any]:
    edges = world.edges(spec)
    return plan_partition_sync(table_spec(spec, "orders", edges.state_id), edges), edges


def ids(catalog: HiveCatalog, spec: PipelineSpec) -> list[int]:
    return sorted(row["id"] for row in visible_rows(catalog, table_spec(spec, "orders")))


def test_12_13_odd_values_are_found_again_and_added_once(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path, ODD)
    spec = world.spec(**BY_CITY)
    assert world.load(spec, "orders").outcome == "loaded"
    before = catalog.page_partitions("sales", "orders")
    again = World(tmp_path, wrap=world.wrap)  # another process: it knows nothing but what is kept
    assert again.load(spec, "orders").outcome == "unchanged"
    assert catalog.page_partitions("sales", "orders") == before and len(before) == len(ODD) - 1  # NULL and '' are one
    plan, edges = plan_of(again, spec)
    assert (plan.standing, plan.wrong) == (len(before), ())
    found = list(list_partitions(plan.table, edges))
    assert "p=2024-05-01 10%3A00%3A00" in [f.partition for f in found] and {f.state for f in found} == {"shown"}
    catalog.put_partitions("sales", "orders", before)  # a second runner adds what is there: no error
    catalog.drop_partitions("sales", "orders", [p.values for p in before])
    assert len(apply_partition_sync(plan_of(again, spec)[0], edges).shown) == len(before)
    assert ids(catalog, spec) == list(range(len(ODD)))


def test_20_what_a_crash_left_unregistered_is_registered_by_the_next_run(catalog: HiveCatalog, tmp_path: Path) -> None:
    dying = die_before("catalog.put_partitions")
    world = world_of(catalog, tmp_path, ("a", "b"), dying.wrap)
    spec = world.spec(**BY_CITY)
    with pytest.raises(Killed):
        world.load(spec, "orders", run="one")
    assert catalog.page_partitions("sales", "orders") == ()
    alive = world_of(catalog, tmp_path, ())
    assert plan_of(alive, spec)[0].busy == 2
    assert alive.load(spec, "orders", run="one").error is None
    assert ids(catalog, spec) == [0, 1] and plan_of(alive, spec)[0].wrong == ()


def test_13_25_foreign_stays_gone_is_limited(catalog: HiveCatalog, tmp_path: Path) -> None:
    cities = tuple(f"c{n:02d}" for n in range(20))
    world = world_of(catalog, tmp_path, cities)
    spec = world.spec(**BY_CITY)
    world.load(spec, "orders")
    shown = catalog.page_partitions("sales", "orders")
    theirs = replace(shown[0], location=f"file://{tmp_path}/theirs")
    catalog.put_partitions("sales", "orders", [theirs])
    catalog.drop_partitions("sales", "orders", [shown[1].values])
    for partition in shown[2:14]:
        shutil.rmtree(place(partition))
    plan, edges = plan_of(world, spec)
    assert sorted({found.state for found in plan.wrong}) == ["foreign", "gone", "missing"] and len(plan.drop) == 12
    with pytest.raises(LimitError, match="12 of 20 would be dropped -> at most 10"):
        check_partition_sync(plan, DropLimits(1000, 10))
    assert len(catalog.page_partitions("sales", "orders")) == 19
    check_partition_sync(plan, DropLimits(1000, 60))
    done = apply_partition_sync(plan, edges, drop=True)
    assert (done.shown, len(done.dropped), [left.state for left in done.left]) == (("p=c01",), 12, ["foreign"])
    assert [p.location for p in catalog.get_partitions("sales", "orders", [theirs.values])] == [theirs.location]
    assert len(catalog.page_partitions("sales", "orders")) == 8


def place(partition: CatalogPartition) -> Path:
    return Path(unquote(urlparse(partition.location).path))


def test_21_what_is_over_its_retention_leaves_the_metastore(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path, ("a",))
    target = {"database": "sales", "partition_by": [{"name": "dt", "from": "period_start"}]}
    for day in ("2024-05-01", "2024-05-02", "2024-05-03"):
        assert world.load(world.spec(target=target), "orders", day).error is None
    spec = world.spec(target=target | {"retention_days": 1})
    edges = world.edges(spec)
    table = table_spec(spec, "orders", edges.state_id)
    plan = plan_expiry(table, all_partitions(edges.ledger, table.key), 1_714_780_800.0, None)  # the 4th of May
    assert apply_expiry(plan, edges).dropped == ("dt=2024-05-01", "dt=2024-05-02")
    assert [p.values for p in catalog.page_partitions("sales", "orders")] == [("2024-05-03",)]
    assert edges.ledger.decisions.marked() == () and ids(catalog, spec) == [0]
    assert catalog.get_table("sales", "orders") is not None
