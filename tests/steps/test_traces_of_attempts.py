"""Traces of the model in which two attempts, or two runs, work on the same rows (docs/order-of-effects.md).

P0 is the process that dies or sleeps, P1 the one that comes meanwhile; v0 → v1: the source changed in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dataops.core.errors import UnavailableError
from tests.steps.traces import SEVERAL_FILES, SMALL_FILES, Traced, asleep, dying, rows_of

APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
V0, V1 = [(1, "a"), (2, "b")], [(2, "c")]


@pytest.fixture(params=[True, False], ids=["compare-and-swap", "last writer wins"])
def swaps(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a01_files_of_a_dead_attempt_are_never_seen(tmp_path: Path) -> None:
    world = Traced(tmp_path, SMALL_FILES)
    world.put_many(SEVERAL_FILES)
    with dying("before ledger.batches.freeze") as stage:
        world.load("r", stage)
    assert len(list(tmp_path.rglob("*.parquet"))) > 1
    world.put(*V1)
    assert world.loads("r").accounting.rows_written == 1
    assert world.visible() == V1
    assert len(world.planned()) == 1


def test_a02_an_attempt_that_lives_on_writes_where_nobody_reads(tmp_path: Path) -> None:
    world = Traced(tmp_path, SMALL_FILES)
    world.put_many(SEVERAL_FILES)

    def retry() -> None:
        world.put(*V1)
        world.loads("r")
        assert len(list(tmp_path.rglob("*.parquet"))) == 2  # the one that P0 had closed, and the one that is read

    with asleep("before lake.open_file", retry, nth=2) as stage:
        late = world.load("r", stage)
    assert (late.outcome, late.error_code) == ("failed", "fenced")
    assert len(list(tmp_path.rglob("*.parquet"))) > 2  # P0 did write
    assert world.visible() == V1


def test_a03_a_rerun_leaves_the_files_of_the_first_run_as_they_are(tmp_path: Path) -> None:
    world = Traced(tmp_path, {})
    world.put(*V0)
    first = world.loads("r")
    query = world.planned()
    world.put(*V1)
    again = world.loads("cleared")
    assert (first.generation, again.generation) == (1, 2)
    assert again.batch_id == first.batch_id
    assert rows_of(query) == V0
    assert world.visible() == V1


@pytest.mark.parametrize("effect", ["ledger.batches.decide", "catalog.put_partitions", "ledger.batches.commit"])
def test_a04_an_older_batch_never_replaces_a_newer_one(tmp_path: Path, effect: str, swaps: bool) -> None:
    world = Traced(tmp_path, {}, swaps)
    world.put((0, "base"))
    world.loads("base")
    world.put(*V0)

    def newer() -> None:
        world.put(*V1)
        world.loads("b2")
        assert world.visible() == V1

    with asleep(f"before {effect}", newer) as stage:
        world.load("b1", stage)
    assert world.visible() == V1
    assert [b.state for b in world.batches()] == ["committed"] * 3


@pytest.mark.parametrize("dies", ["catalog.put_partitions", "ledger.batches.commit"])
def test_a05_unchanged_is_told_against_what_is_decided_now(tmp_path: Path, dies: str) -> None:
    world = Traced(tmp_path, {})
    world.put(*V0)
    world.loads("r1")
    world.put(*V1)
    with dying(f"before {dies}") as stage:
        world.load("r2", stage)
    world.put(*V0)  # the source is as it was when the last commit was made
    assert world.loads("r3").outcome == "loaded"
    assert world.visible() == V0


@pytest.mark.parametrize("dies", ["ledger.batches.freeze", "ledger.batches.decide", "ledger.batches.commit"])
@pytest.mark.parametrize("who", ["retry", "another run"])
def test_a07_rows_that_came_meanwhile_do_not_change_the_range(tmp_path: Path, dies: str, who: str) -> None:
    world = Traced(tmp_path, APPEND)
    world.put(*V0)
    with dying(f"before {dies}") as stage:
        world.load("r", stage)
    world.put(*V0, (3, "c"), (4, "d"))
    world.clock.wait(1_000)
    world.loads("r" if who == "retry" else "r2")
    if dies != "ledger.batches.freeze" or who == "retry":
        assert world.batches()[0].range.high == 2  # type: ignore[union-attr]
    world.loads("next")
    assert world.visible() == [*V0, (3, "c"), (4, "d")]


@pytest.mark.parametrize("dies", ["ledger.batches.decide", "lake.link", "catalog.put_partitions"])
def test_a08_what_was_frozen_is_adopted_and_not_read_again(tmp_path: Path, dies: str) -> None:
    world = Traced(tmp_path, APPEND)
    world.put((0, "base"))
    world.loads("base")
    world.put((0, "base"), *V0)
    with dying(f"before {dies}") as stage:
        world.load("r", stage)
    world.put((0, "base"), (1, "a"), (9, "b"))  # row 2 has moved to 9: the range (0, 2] has fewer rows now
    world.source.fail("orders", UnavailableError("Cannot read orders: it is read again -> adopted."))
    retry = world.loads("r")
    assert (retry.outcome, retry.accounting.rows_written) == ("done_before", 2)
    assert world.visible() == [(0, "base"), *V0]
    assert world.load("next").error_code == "unavailable"  # the trap was still set: nobody had read
    assert world.loads("next").accounting.rows_written == 1


def test_a09_a_late_commit_never_takes_the_watermark_back(tmp_path: Path) -> None:
    world = Traced(tmp_path, APPEND)
    world.put((1, "a"))

    def next_range() -> None:
        world.put((1, "a"), (2, "b"))
        world.loads("r2")
        assert world.ledger.offsets.watermark(world.table.key) == 2

    with asleep("before ledger.batches.commit", next_range) as stage:
        world.load("r1", stage)
    assert world.ledger.offsets.watermark(world.table.key) == 2
    assert world.loads("r3").outcome == "nothing_new"
    assert world.visible() == [(1, "a"), (2, "b")]
