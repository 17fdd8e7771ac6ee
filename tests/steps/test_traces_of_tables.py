"""Traces of the model in which the table itself goes on under a writer: late rows, compaction, reruns, columns
(docs/order-of-effects.md)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.steps.traces import Traced, asleep

APPEND_IDS = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
APPEND_DAYS = {"read": {"mode": "window", "cursor": "at"}, "write": {"mode": "append"}}
MERGE = {"write": {"mode": "merge", "keys": ["id"]}}
BY_DAY = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
FIRST, SECOND = "2023-05-01", "2023-05-02"


def on(day: str) -> datetime:
    return datetime.fromisoformat(f"{day} 10:00:00")


def test_a10_a_row_tied_with_the_watermark_that_came_after_the_read_is_taken(tmp_path: Path) -> None:
    world = Traced(tmp_path, APPEND_IDS)
    world.put((1, "a"), (2, "b"))
    with asleep("before ledger.batches.freeze", lambda: world.put((1, "a"), (2, "b"), (2, "late"))) as stage:
        assert world.loads("r1", stage).accounting.rows_written == 2
    assert world.loads("r2").accounting.rows_written == 1
    assert world.loads("r3").outcome == "nothing_new"
    assert world.visible() == [(1, "a"), (2, "b"), (2, "late")]


def test_a10_rows_near_the_sources_clock_are_left_to_a_later_run(tmp_path: Path) -> None:
    world = Traced(tmp_path, {**APPEND_DAYS, "read": {"mode": "watermark", "cursor": "at", "lag_seconds": 60}})
    noon = datetime(2023, 5, 1, 12)
    world.source.clock = 1_682_942_400.0  # noon, by the source's own clock
    early, late, last = ((1, noon.replace(hour=11)), (2, noon.replace(hour=11, minute=59, second=30)), (3, noon))
    world.put(early, last, columns=("id", "at"))
    assert world.loads("r1").accounting.rows_written == 1
    world.put(early, late, last, columns=("id", "at"))  # its transaction ended after ours began
    world.source.clock += 120
    assert world.loads("r2").accounting.rows_written == 2
    assert world.visible() == [early, late, last]


def with_two_rows(folder: Path, row: dict[str, Any]) -> Traced:
    world = Traced(folder, row)
    world.put((1, on(FIRST)), (2, on(FIRST)), columns=("id", "at"))
    world.loads("r1", period=FIRST)
    return world


@pytest.mark.parametrize("moment", ["before lake.link", "before ledger.decisions.mark"])
def test_a17_an_append_that_runs_again_leaves_the_directory_of_its_first_generation(tmp_path: Path, moment: str) -> None:
    """Asleep before it joins the directory, or before it asks what is decided: then it is told of the later generation."""
    world = with_two_rows(tmp_path, APPEND_DAYS)
    world.put((3, on(SECOND)), columns=("id", "at"))

    def finished_then_run_again() -> None:
        world.loads("r2", period=SECOND)
        world.put((4, on(SECOND)), columns=("id", "at"))
        assert world.loads("cleared", period=SECOND).generation == 2

    with asleep(moment, finished_then_run_again) as stage:
        world.load("r2", stage, period=SECOND)
    assert world.visible() == [(1, on(FIRST)), (2, on(FIRST)), (4, on(SECOND))]
    assert world.ledger.decisions.marked() == ()


@pytest.mark.parametrize("swaps", [True, False], ids=["compare-and-swap", "last writer wins"])
def test_a18_a_partition_written_back_from_an_older_reading_is_put_right_before_the_commit(tmp_path: Path, swaps: bool) -> None:
    world = Traced(tmp_path, {}, swaps)
    world.put((1, "a"))
    world.loads("r1")
    (read,) = world.catalog.get_partitions("d", "orders", [()])
    world.put((1, "b"))

    def cascade() -> None:
        world.catalog.put_partitions("d", "orders", [replace(read, parameters={"cascaded": "yes"})])

    with asleep("after catalog.put_partitions", cascade) as stage:
        world.loads("r2", stage)
    assert world.visible() == [(1, "b")]
    (shown,) = world.catalog.get_partitions("d", "orders", [()])
    assert (shown.epoch, shown.columns) == (world.decided().epoch, world.decided().schema.columns)


def test_a18_an_append_beside_a_new_column_is_shown_with_the_columns_of_what_stands(tmp_path: Path) -> None:
    """Both decisions have the same location, so the location alone does not tell which of them is shown."""
    world = Traced(tmp_path, APPEND_IDS, compares_and_swaps=False)
    world.put((1, "a"))
    world.loads("r1")
    world.put((1, "a"), (2, "b"))

    def newer() -> None:
        world.put((1, "a", None), (2, "b", None), (3, "c", "Rome"), columns=("id", "v", "city"))
        world.loads("r3")

    with asleep("before catalog.put_partitions", newer) as stage:
        world.load("r2", stage)
    (shown,) = world.catalog.get_partitions("d", "orders", [()])
    assert (shown.epoch, shown.columns) == (world.decided().epoch, world.decided().schema.columns)


def test_a19_two_writers_that_add_a_column_each_end_with_both(tmp_path: Path) -> None:
    world = Traced(tmp_path, BY_DAY)
    world.put((1, "a"))
    world.loads("r0", period="2023-04-30")
    world.put((1, "a", "x"), columns=("id", "v", "x"))

    def other_column() -> None:
        world.put((1, "a", "y"), columns=("id", "v", "y"))
        world.loads("r2", period=SECOND)

    with asleep("before catalog.alter_table", other_column) as stage:
        world.load("r1", stage, period=FIRST)  # the other run may have finished this batch
    shown = world.catalog.get_table("d", "orders")
    assert shown is not None and {"id", "v", "x", "y"} <= {column.name for column in shown.columns}
    names = [column.name for column in shown.columns if not column.name.startswith("_")]
    found = {row[-1]: dict(zip(names, row, strict=False)) for row in world.visible()}
    assert (found[FIRST]["x"], found[FIRST]["y"], found[SECOND]["x"], found[SECOND]["y"]) == ("x", None, None, "y")
