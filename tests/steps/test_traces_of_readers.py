"""Traces of the model that a reader would notice: half a batch, a row twice or nowhere, a directory that is gone
(docs/order-of-effects.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.steps.effects import watch
from tests.steps.traces import DEAD, GRACE, SEVERAL_FILES, SMALL_FILES, Traced, asleep, rows_of

APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
MERGE = {"write": {"mode": "merge", "keys": ["id"]}}
BY_V = {"target": {"partition_by": [{"name": "p", "from": "column:v"}]}}
V0, V1 = [(1, "a"), (2, "b")], [(1, "a"), (2, "c")]


def seen_by_readers(world: Traced, run: str) -> list[list[tuple[Any, ...]]]:
    """What queries saw that were made at each effect of the run, each different sight once, in order."""
    seen: list[list[tuple[Any, ...]]] = []

    def look(_: str) -> None:
        rows = world.visible()
        if not seen or seen[-1] != rows:
            seen.append(rows)

    assert world.loads(run, watch(look)).outcome == "loaded"
    return seen


def test_a06_an_append_of_several_files_is_seen_whole(tmp_path: Path) -> None:
    world = Traced(tmp_path, APPEND | SMALL_FILES)
    world.put_many(10)
    world.loads("r1")
    world.put_many(SEVERAL_FILES)
    counts: list[int] = []

    def look(_: str) -> None:
        counts.append(sum(pq.ParquetFile(file).metadata.num_rows for file in world.planned()))

    world.loads("r2", watch(look))
    assert sorted(set(counts)) == [10, SEVERAL_FILES]
    assert len(world.planned()) > 2


@pytest.mark.parametrize("row", [{}, APPEND, MERGE], ids=["overwrite", "append", "merge"])
@pytest.mark.parametrize("until", ["freeze", "decide", "commit"])
def test_a14_what_is_staged_is_in_use_before_any_catalog_shows_it(tmp_path: Path, row: dict[str, Any], until: str) -> None:
    world = Traced(tmp_path, row)
    world.put(*V0)
    world.loads("r1")
    world.put(*V0, (3, "c"))
    with asleep(f"before ledger.batches.{until}", lambda: world.expire(patience=False)) as stage:
        world.loads("r2", stage)
    assert world.visible() == [*V0, (3, "c")]
    assert world.decided().rows == 3


def test_a15_the_grace_of_a_replaced_directory_begins_when_readers_see_the_new_one(tmp_path: Path) -> None:
    world = Traced(tmp_path, {})
    world.put(*V0)
    world.loads("r1")
    world.put(*V1)
    with asleep("before catalog.put_partitions", lambda: world.clock.wait(10 * GRACE)) as stage:
        world.loads("r2", stage)  # decided long ago, shown just now
    query = world.planned()
    world.put((5, "e"))
    world.loads("r3")
    world.clock.wait(GRACE - 1)
    world.expire()
    assert rows_of(query) == V1
    world.clock.wait(1)
    world.expire()
    assert not any(file.exists() for file in query)
    assert world.visible() == [(5, "e")]


@pytest.mark.parametrize("swaps", [True, False], ids=["compare-and-swap", "last writer wins"])
def test_a16_where_a_sleeper_may_still_point_nothing_is_deleted(tmp_path: Path, swaps: bool) -> None:
    world = Traced(tmp_path, {}, swaps)
    world.put((0, "base"))
    world.loads("base")
    world.put(*V0)

    def replaced_and_expired() -> None:
        world.put(*V1)
        world.loads("b2")
        world.clock.wait(10 * GRACE)
        world.expire()

    seen: list[list[tuple[Any, ...]]] = []
    with asleep("before catalog.put_partitions", replaced_and_expired, awake=lambda: seen.append(world.visible())) as stage:
        world.load("b1", stage)
    assert seen[0] == (V1 if swaps else V0)  # where nothing compares it shows its older version, which is still there
    assert all(rows in (V0, V1) for rows in seen) and world.visible() == V1
    world.clock.wait(DEAD)
    assert world.loads("b3").outcome == "unchanged"  # its sweep shows what stands, whatever the sleeper did
    assert world.visible() == V1
    world.clock.wait(DEAD)
    world.expire()
    assert [rows_of([file]) for file in (tmp_path / "lake").rglob("*.parquet")] == [V1]


def test_a20_a_row_that_moves_between_partitions_of_a_snapshot_is_seen_once(tmp_path: Path) -> None:
    world = Traced(tmp_path, BY_V)
    world.put(*V0)
    world.loads("r1")
    world.put((1, "b"), (2, "b"))
    seen = seen_by_readers(world, "r2")
    assert [[(row[0], row[-1]) for row in rows] for rows in seen] == [[(1, "a"), (2, "b")], [(1, "b"), (2, "b")]]


def test_a21_a_merged_row_that_changes_its_partition_is_seen_once(tmp_path: Path) -> None:
    world = Traced(tmp_path, MERGE | BY_V)
    world.put(*V0)
    world.loads("r1")
    world.put((1, "b"))
    seen = seen_by_readers(world, "r2")
    assert [[(row[0], row[-1]) for row in rows] for rows in seen] == [[(1, "a"), (2, "b")], [(1, "b"), (2, "b")]]
