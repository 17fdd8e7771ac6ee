"""Merges by key: newest wins also against the table, each key is there once, and what is the same is not written again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.steps.test_load import check
from tests.steps.world import World, day

BY_DAY = {"partition_by": [{"name": "dt", "from": "period_start"}]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql(
        "CREATE TABLE log (k INTEGER, v TEXT, seq INTEGER)", "INSERT INTO log VALUES (1,'one',10),(2,'two',20),(3,'three',NULL)"
    )
    return made


def rows(world: World, spec) -> list[tuple]:
    return sorted((r["k"], r["v"]) for r in world.visible(spec, "log"))


def test_an_older_row_does_not_replace_a_newer_one_of_the_table(world: World) -> None:
    spec = world.spec(write={"mode": "merge", "keys": ["k"], "order_by": "seq"})
    check(world.load(spec, "log"), rows_written=3)
    world.sql(
        "UPDATE log SET v='older', seq=9 WHERE k=1",
        "UPDATE log SET v='newer', seq=21 WHERE k=2",
        "UPDATE log SET v='set', seq=0 WHERE k=3",
    )
    check(world.load(spec, "log"), rows_read=3, rows_written=2, rows_deduplicated=1)
    assert rows(world, spec) == [(1, "one"), (2, "newer"), (3, "set")]
    world.sql("UPDATE log SET v='no place', seq=NULL")
    check(world.load(spec, "log"), "unchanged", rows_read=3, rows_written=0, rows_deduplicated=3)
    assert rows(world, spec) == [(1, "one"), (2, "newer"), (3, "set")]


def test_among_equals_the_row_read_last_wins(world: World) -> None:
    spec = world.spec(write={"mode": "merge", "keys": ["k"], "order_by": "seq"})
    world.load(spec, "log")
    world.sql("UPDATE log SET v='edited' WHERE k=1")
    check(world.load(spec, "log"), rows_read=3, rows_written=1, rows_unchanged=2)
    assert rows(world, spec) == [(1, "edited"), (2, "two"), (3, "three")]


@pytest.mark.parametrize("standards", [{}, {"row_fingerprint": False, "batch_id": False, "ingested_at": False}])
def test_a_merged_snapshot_that_is_the_same_rewrites_nothing(world: World, standards: dict) -> None:
    spec = world.spec(write={"mode": "merge", "keys": ["k"]}, standards=standards)
    world.load(spec, "log")
    files = set((world.folder / "lake").rglob("*.parquet"))
    result = world.load(spec, "log")
    if not standards:
        check(result, "unchanged", rows_read=3, rows_unchanged=3, rows_written=0)
        assert {p for p in files if p.exists()} == files
    assert result.error is None
    assert rows(world, spec) == [(1, "one"), (2, "two"), (3, "three")]


def test_an_empty_delta_changes_nothing(world: World) -> None:
    spec = world.spec(write={"mode": "merge", "keys": ["k"]})
    world.load(spec, "log")
    world.sql("DELETE FROM log")
    check(world.load(spec, "log"), "unchanged", rows_read=0, rows_written=0)
    assert len(rows(world, spec)) == 3


def test_a_key_is_in_one_period_partition_only(world: World) -> None:
    spec = world.spec(read={"mode": "watermark", "cursor": "seq"}, write={"mode": "merge", "keys": ["k"]}, target=BY_DAY)
    world.sql("UPDATE log SET seq=5 WHERE k=3")
    world.load(spec, "log", "2024-05-01")
    world.sql("UPDATE log SET v='later', seq=30 WHERE k=1")
    check(world.load(spec, "log", "2024-05-02"), rows_written=1)
    found = sorted((r["dt"], r["k"], r["v"]) for r in world.visible(spec, "log"))
    assert found == [("2024-05-01", 2, "two"), ("2024-05-01", 3, "three"), ("2024-05-02", 1, "later")]


def test_a_backfilled_window_does_not_bring_old_rows_back(world: World) -> None:
    world.sql(
        "CREATE TABLE ev (k INTEGER, v TEXT, at TIMESTAMP)",
        "INSERT INTO ev VALUES (1,'first','2024-05-01 10:00:00'),(2,'two','2024-05-01 11:00:00')",
        "INSERT INTO ev VALUES (1,'second','2024-05-02 10:00:00')",
    )
    spec = world.spec(read={"mode": "window", "cursor": "at"}, write={"mode": "merge", "keys": ["k"]}, target=BY_DAY)
    for period in (day("2024-05-01"), day("2024-05-02"), day("2024-05-01", backfill=True), day("2024-05-01", backfill=True)):
        assert world.load(spec, "ev", period).error is None
    assert sorted((r["dt"], r["k"], r["v"]) for r in world.visible(spec, "ev")) == [
        ("2024-05-01", 2, "two"),
        ("2024-05-02", 1, "second"),
    ]


def test_keys_with_awkward_names_and_rows_that_move_between_partitions(world: World) -> None:
    world.sql(
        'CREATE TABLE odd ("Order Id" INTEGER, city TEXT, n INTEGER)',
        "INSERT INTO odd VALUES (1,'Rome',1),(2,'',2),(3,NULL,3),(4,'a/b=c',4)",
    )
    spec = world.spec(
        write={"mode": "merge", "keys": ["Order Id"], "order_by": "n"},
        target={"partition_by": [{"name": "p", "from": "column:city"}]},
    )
    check(world.load(spec, "odd"), rows_written=4)
    check(world.load(spec, "odd"), "unchanged", rows_unchanged=4)
    world.sql("UPDATE odd SET city='Rome', n=9 WHERE \"Order Id\" IN (2,4)", "UPDATE odd SET city='Oslo', n=1 WHERE \"Order Id\"=3")
    check(world.load(spec, "odd"), rows_read=4, rows_written=2, rows_unchanged=1, rows_deduplicated=1)
    name = next(c for c in world.visible(spec, "odd")[0] if c not in ("city", "n", "p"))
    found = sorted((r[name], r["city"], r["p"]) for r in world.visible(spec, "odd"))
    assert found == [(1, "Rome", "Rome"), (2, "Rome", "Rome"), (3, None, None), (4, "Rome", "Rome")]
