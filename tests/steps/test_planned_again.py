"""A run whose plan is overtaken plans anew: others moved the watermark, took its files, or stood in its way. No failure, no
row twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.steps.effects import Stage
from tests.steps.test_load import check
from tests.steps.test_row_edits import dies
from tests.steps.world import World, ids

APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "merge", "keys": ["id"]}}
DT = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}


def at_its_claim(world: World, meanwhile: Callable[[], Any]) -> World:
    """The same world for a run that has made its plan, and stands before its first claim until `meanwhile` is over."""
    been: list[bool] = []

    def at(_: int, name: str) -> None:
        if name == "before ledger.batches.claim" and not been:
            been.append(True)
            meanwhile()

    return World(world.folder, world.kind, world.options, wrap=Stage(at).wrap)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,'b')")
    return made


@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["append", "merge"])
@pytest.mark.parametrize("ends", ["whole", "ledger.batches.decide", "catalog.put_partitions", "ledger.batches.commit"])
def test_another_run_was_faster_or_died_in_the_way(world: World, row: dict, ends: str) -> None:
    spec = world.spec(**row)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")

    def other() -> None:
        if ends == "whole":
            check(world.load(spec, "orders", run="other"), rows_written=1)
        else:
            dies(world, ends, row)
        world.sql("INSERT INTO orders VALUES (3,'tie'),(4,'d')" if row is APPEND else "INSERT INTO orders VALUES (4,'d')")

    check(at_its_claim(world, other).load(spec, "orders"), rows_written=2 if row is APPEND else 1)
    assert ids(world.visible(spec, "orders")) == ([1, 2, 3, 3, 4] if row is APPEND else [1, 2, 3, 4])
    check(world.load(spec, "orders"), "nothing_new")


@pytest.mark.parametrize("ends", ["whole", "ledger.batches.decide"])
def test_the_other_left_nothing_to_do(world: World, ends: str) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    other = (lambda: world.load(spec, "orders")) if ends == "whole" else (lambda: dies(world, ends, APPEND))
    check(at_its_claim(world, other).load(spec, "orders"), "nothing_new")
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]


def test_late_ties_that_another_took_are_not_taken_again(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (2,'tie')")

    def other() -> None:
        dies(world, "ledger.batches.decide", APPEND)
        world.sql("INSERT INTO orders VALUES (2,'another tie')")

    check(at_its_claim(world, other).load(spec, "orders"), rows_written=1)
    assert ids(world.visible(spec, "orders")) == [1, 2, 2, 2]


@pytest.mark.parametrize("row", [{}, DT], ids=["one partition", "by period"])
def test_a_snapshot_behind_a_dead_one_reads_the_source_as_it_is_then(world: World, row: dict) -> None:
    spec = world.spec(**row)

    def other() -> None:
        dies(world, "ledger.batches.decide", row)
        world.sql("INSERT INTO orders VALUES (3,'c')")

    check(at_its_claim(world, other).load(spec, "orders"), rows_written=3)
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]


@pytest.mark.parametrize("ends", ["whole", "ledger.batches.decide"])
def test_files_that_another_run_took_are_left_to_it(tmp_path: Path, ends: str) -> None:
    (tmp_path / "in").mkdir()
    world = World(tmp_path, kind="files", options={"path": "in/*"})
    row = {"read": {"mode": "new_files"}, "write": {"mode": "append"}}
    spec = world.spec(**row)
    (tmp_path / "in" / "a.csv").write_text("id\n1\n")

    def other() -> None:
        if ends == "whole":
            check(world.load(spec, "src"), rows_written=1)
        else:
            from tests.steps.effects import Killed
            from tests.steps.test_row_edits import die_before

            with pytest.raises(Killed):
                World(tmp_path, world.kind, world.options, wrap=die_before(ends).wrap).load(spec, "src", run="dead")
        (tmp_path / "in" / "b.csv").write_text("id\n2\n")

    check(at_its_claim(world, other).load(spec, "src"), rows_written=1)
    assert ids(world.visible(spec, "src")) == [1, 2]
    check(world.load(spec, "src"), "nothing_new")
