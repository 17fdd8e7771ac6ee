"""Several runs at once, ranges that meet, and what may be deleted when."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.run import TableResult
from airflow_dataops.steps.sweep import expire_table
from tests.steps.world import World, day, ids

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}
INSERT = "INSERT INTO orders VALUES ({0},'n{0}','2024-05-01 10:00:{0:02d}')"


def world_with(tmp_path: Path, rows: int) -> World:
    world = World(tmp_path, lease_seconds=0.5)
    world.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP)", *(INSERT.format(i) for i in range(rows)))
    return world


def until_done(world: World, row: dict[str, Any], key: str, run: str, found: list[TableResult]) -> None:
    """As Airflow would: the same run again while its failure is one to retry."""
    for _ in range(200):
        result = world.load(world.spec(**row), "orders", key, run=run)
        if result.error is None or not result.retryable:
            found.append(result)
            return
        time.sleep(0.02)
    raise AssertionError(f"{run} never got its turn")


def together(world: World, row: dict[str, Any], runs: list[tuple[str, str]]) -> list[TableResult]:
    found: list[TableResult] = []
    threads = [threading.Thread(target=until_done, args=(world, row, key, run, found)) for key, run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == len(runs)
    return found


def test_a_daily_run_beside_a_backfill_of_the_same_period(tmp_path: Path) -> None:
    world = world_with(tmp_path, 10)
    row = {"read": {"mode": "window", "cursor": "at"}, "target": DT}
    found = together(world, row, [("2024-05-01", "daily"), ("2024-05-01", "backfill"), ("2024-05-02", "next")])
    assert all(r.error is None for r in found), [r.error for r in found]
    assert ids(world.visible(world.spec(**row), "orders")) == list(range(10))


def test_appends_at_once_write_each_row_once(tmp_path: Path) -> None:
    world = world_with(tmp_path, 5)
    row = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
    world.load(world.spec(**row), "orders")
    world.sql(*(INSERT.format(i) for i in range(5, 20)))
    found = together(world, row, [("2024-05-01", f"run{i}") for i in range(4)])
    assert all(r.error is None for r in found), [r.error for r in found]
    assert ids(world.visible(world.spec(**row), "orders")) == list(range(20))
    assert sum(r.accounting.rows_written for r in found) == 15


def test_a_backfilled_range_that_meets_a_committed_one_is_refused(tmp_path: Path) -> None:
    """A11."""
    world = world_with(tmp_path, 5)
    row = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}}
    world.load(world.spec(**row), "orders")
    result = world.load(world.spec(**row), "orders", day("2024-05-01", backfill=True))
    assert (result.outcome, result.error_code, result.retryable) == ("failed", "range", False)
    assert ids(world.visible(world.spec(**row), "orders")) == list(range(5))


def test_a_backfilled_range_that_is_not_over_waits(tmp_path: Path) -> None:
    """Closed now, it would keep out the rows that still arrive, and the watermark's own range with them."""
    world = world_with(tmp_path, 5)
    row = {"read": {"mode": "watermark", "cursor": "at", "lag_seconds": 60}, "write": {"mode": "append"}}
    over = day("2024-05-02").start.timestamp()
    for now, outcome in ((over + 59, "failed"), (over + 60, "loaded")):
        world.clock = lambda now=now: now
        result = world.load(world.spec(**row), "orders", day("2024-05-01", backfill=True))
        assert (result.outcome, result.error_code) == (outcome, "busy" if outcome == "failed" else None), result
    assert ids(world.visible(world.spec(**row), "orders")) == list(range(5))


def test_backfilling_a_watermark_range_twice_makes_no_difference(tmp_path: Path) -> None:
    world = world_with(tmp_path, 5)
    row = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}, "target": DT}
    for _ in range(3):
        assert world.load(world.spec(**row), "orders", day("2024-05-01", backfill=True)).error is None
        assert ids(world.visible(world.spec(**row), "orders")) == list(range(5))
    world.sql("DELETE FROM orders WHERE id=3")
    assert world.load(world.spec(**row), "orders", day("2024-05-01", backfill=True)).error is None
    assert ids(world.visible(world.spec(**row), "orders")) == [0, 1, 2, 4]


def test_replaced_directories_go_after_their_grace_and_nothing_else_does(tmp_path: Path) -> None:
    """A14, A15: only the ledger says what may be deleted."""
    from dataclasses import replace

    world = world_with(tmp_path, 5)
    spec = world.spec()
    table = table_spec(spec, "orders")
    world.load(spec, "orders")
    first = set((world.folder / "lake").rglob("*.parquet"))
    world.sql("DELETE FROM orders WHERE id=1")
    world.load(spec, "orders")
    both = set((world.folder / "lake").rglob("*.parquet"))
    assert first < both
    edges = world.edges(spec)
    stranger = world.folder / "lake" / "d" / "orders" / "somebody-elses.parquet"
    stranger.write_bytes(b"not ours")
    assert expire_table(table, edges) == 0
    assert set((world.folder / "lake").rglob("*.parquet")) == both | {stranger}
    assert expire_table(table, replace(edges, grace_seconds=0.0, dead_after_seconds=0.0)) == 1
    assert set((world.folder / "lake").rglob("*.parquet")) == (both - first) | {stranger}
    assert ids(world.visible(spec, "orders")) == [0, 2, 3, 4]


def test_held_rows_are_never_expired(tmp_path: Path) -> None:
    """C4."""
    from dataclasses import replace

    world = world_with(tmp_path, 5)
    spec = world.spec(target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql(
        "DROP TABLE orders", "CREATE TABLE orders (id TEXT, name TEXT, at TIMESTAMP)", "INSERT INTO orders VALUES ('x','y',NULL)"
    )
    assert world.load(spec, "orders", "2024-05-02").outcome == "held"
    files = set((world.folder / "lake").rglob("*.parquet"))
    assert len(files) == 2  # the run itself has swept and expired already
    edges = replace(world.edges(spec), grace_seconds=0.0, dead_after_seconds=0.0)
    expire_table(table_spec(spec, "orders"), edges)
    assert set((world.folder / "lake").rglob("*.parquet")) == files
