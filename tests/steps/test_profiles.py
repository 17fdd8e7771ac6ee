"""The profile of what a partition shows, against counting what readers see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.profile import ColumnProfile, Profile
from airflow_dataops.core.table_spec import table_spec
from tests.steps.test_load import check
from tests.steps.world import World

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}
APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
MERGE = {"write": {"mode": "merge", "keys": ["id"]}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,NULL)")
    return made


def shown(world: World, spec: Any) -> Profile:
    """What the ledger says of all partitions together, checked against the rows."""
    profiles = world.edges(spec).ledger.decisions.profiles(table_spec(spec, "orders").key)
    known = [profile for profile in profiles.values() if profile is not None]
    assert len(known) == len(profiles)
    total = sum(known, Profile.NOTHING)
    rows = world.visible(spec, "orders")
    assert total.rows == len(rows)
    for name, column in total.columns.items():
        there = [row[name] for row in rows if row[name] is not None]
        assert total.nulls(name) == len(rows) - len(there)
        if column.bounded and there:
            assert (column.low, column.high) == (min(there), max(there))
    return total


WAYS = {
    "full": {}, "by period": {"target": DT}, "append": APPEND, "append by period": {**APPEND, "target": DT}, "merge": MERGE,
}  # fmt: skip


@pytest.mark.parametrize("row", WAYS.values(), ids=WAYS)
def test_each_way_of_writing_keeps_it(world: World, row: dict[str, Any]) -> None:
    spec = world.spec(**row)
    world.load(spec, "orders", "2024-05-01")
    assert shown(world, spec).columns["id"] == ColumnProfile(2, 1, 2)
    world.sql("INSERT INTO orders VALUES (7,'z'),(0,'c')" if "read" not in row else "INSERT INTO orders VALUES (7,'z'),(9,'c')")
    world.load(spec, "orders", "2024-05-02")
    found = shown(world, spec)
    assert found.columns["name"].high == "z" and not found.columns.keys() & {"_batch_id", "_ingested_at", "_row_fingerprint"}
    world.load(spec, "orders", "2024-05-02")
    assert shown(world, spec) == found


def test_a_new_column_has_no_value_in_the_rows_before_it(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (3,'c','Rome')")
    world.load(spec, "orders")
    assert shown(world, spec).nulls("city") == 2


@pytest.mark.parametrize("action", ["mask", "hash", "drop"])
def test_hidden_values_have_no_bounds(world: World, action: str) -> None:
    spec = world.spec(privacy={"columns": {"name": action}}, **APPEND)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    check(world.load(spec, "orders"), rows_written=1)
    found = shown(world, spec)
    assert found.columns.get("name") == (None if action == "drop" else ColumnProfile(2, bounded=False))


def test_what_was_decided_before_profiles_is_unknown_until_it_is_decided_again(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    ledger = world.edges(spec).ledger
    with ledger._database.write() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("UPDATE dataops_partition SET profile = NULL")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    check(world.load(spec, "orders"), rows_written=1)
    assert ledger.decisions.profiles(table_spec(spec, "orders").key) == {"": None}
