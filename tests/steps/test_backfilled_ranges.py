"""Backfilled periods of a watermark source: the runs after them read around them, and every row is there once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from airflow_dataops.core.table_spec import table_spec
from tests.steps.effects import Killed, Stage
from tests.steps.test_load import check
from tests.steps.test_planned_again import at_its_claim
from tests.steps.world import World, day, ids

APPEND = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}}
DT = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
MODES = pytest.mark.parametrize("row", [APPEND, MERGE, APPEND | DT], ids=["append", "merge", "partitioned"])


def add(world: World, **rows: str) -> None:
    world.sql(*(f"INSERT INTO orders VALUES ({number[1:]}, '2024-{at}')" for number, at in rows.items()))


def backfill(world: World, spec: Any, key: str) -> Any:
    return world.load(spec, "orders", day(key, backfill=True))


def stored(world: World, spec: Any) -> list[Any]:
    return ids(world.visible(spec, "orders"))


def watermark(world: World, spec: Any) -> Any:
    return world.edges(spec).ledger.offsets.watermark(table_spec(spec, "orders").key)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, at TIMESTAMP)")
    add(made, n1="04-29 10:00:00", n2="05-01 00:00:00", n3="05-01 23:00:00", n4="05-02 00:00:00", n5="05-03 10:00:00")
    return made


@MODES
def test_a_period_that_was_backfilled_before_the_first_load(world: World, row: dict) -> None:
    spec = world.spec(**row)
    check(backfill(world, spec, "2024-05-01"), rows_written=2)
    assert watermark(world, spec) is None
    check(world.load(spec, "orders", "2024-05-04"), rows_read=3, rows_written=3)
    assert stored(world, spec) == [1, 2, 3, 4, 5]
    check(world.load(spec, "orders", "2024-05-04"), "nothing_new")


@MODES
def test_periods_that_were_backfilled_above_the_watermark(world: World, row: dict) -> None:
    """Apart, next to each other, and the last one up to the highest row."""
    spec = world.spec(**row)
    world.load(spec, "orders", "2024-05-04")
    add(world, n6="05-04 00:00:00", n7="05-05 10:00:00", n8="05-06 10:00:00", n9="05-07 00:00:00", n10="05-08 10:00:00")
    for key in ("2024-05-08", "2024-05-06", "2024-05-05"):
        check(backfill(world, spec, key), rows_written=1)
    check(world.load(spec, "orders", "2024-05-08"), rows_written=2)
    assert stored(world, spec) == list(range(1, 11))
    check(world.load(spec, "orders", "2024-05-08"), "nothing_new")
    add(world, n11="05-09 00:00:00")
    check(world.load(spec, "orders", "2024-05-09"), rows_read=1, rows_written=1)
    again = backfill(world, spec, "2024-05-06")  # exactly that range, whatever was read since
    assert (again.error, again.accounting.rows_read) == (None, 1)
    assert stored(world, spec) == list(range(1, 12))


def test_a_row_at_the_end_of_a_backfilled_period_that_comes_late(world: World) -> None:
    """The end belongs to what comes after the period, and ties with the watermark there are read."""
    spec = world.spec(**APPEND)
    backfill(world, spec, "2024-05-03")
    check(world.load(spec, "orders"), rows_written=4)
    check(world.load(spec, "orders"), "nothing_new")
    add(world, n6="05-04 00:00:00")
    check(world.load(spec, "orders"), rows_written=1)
    add(world, n7="05-04 00:00:00")
    check(world.load(spec, "orders"), rows_read=2, rows_written=1, rows_deduplicated=1)
    assert stored(world, spec) == [1, 2, 3, 4, 5, 6, 7]


def test_a_backfill_that_follows_upon_the_watermark_leaves_it(world: World) -> None:
    spec = world.spec(**APPEND)
    for key in ("2024-05-01", "2024-05-03"):
        backfill(world, spec, key)
    world.load(spec, "orders")
    stands = watermark(world, spec)
    add(world, n6="05-04 00:00:00", n7="05-05 00:00:00")
    check(backfill(world, spec, "2024-05-04"), rows_written=1)  # it begins where the watermark is, past a backfilled period
    assert watermark(world, spec) == stands
    check(world.load(spec, "orders"), rows_written=1)
    assert stored(world, spec) == [1, 2, 3, 4, 5, 6, 7]


def test_what_a_row_with_windows_has_loaded_is_not_loaded_again(world: World) -> None:
    windows = world.spec(read={"mode": "window", "cursor": "at"}, write={"mode": "append"})
    for key in ("2024-05-01", "2024-05-03"):
        world.load(windows, "orders", key)
    check(world.load(world.spec(**APPEND), "orders"), rows_read=2, rows_written=2)
    assert stored(world, windows) == [1, 2, 3, 4, 5]


def test_a_backfill_that_is_faster_is_read_around(world: World) -> None:
    spec = world.spec(**APPEND)
    faster = at_its_claim(world, lambda: check(backfill(world, spec, "2024-05-01"), rows_written=2))
    check(faster.load(spec, "orders"), rows_written=3)
    assert stored(world, spec) == [1, 2, 3, 4, 5]


def test_a_backfilled_period_that_is_held_counts(world: World) -> None:
    spec = world.spec(**APPEND, contract={"columns": "freeze"})
    world.sql("DELETE FROM orders WHERE id > 1")
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (2,'2024-05-01 00:00:00','Rome')")
    check(backfill(world, spec, "2024-05-01"), "held", rows_held=1)
    assert world.load(spec, "orders").accounting.rows_held == 0  # up to the held period, where only a tie is
    check(world.load(spec, "orders"), "nothing_new")
    world.sql("INSERT INTO orders VALUES (3,'2024-05-02 00:00:00','Oslo')")
    check(world.load(spec, "orders"), "held", rows_read=1, rows_held=1)
    check(world.load(spec, "orders"), "nothing_new")


BEFORE = [("free_from", 1), ("freeze", 1), ("put_partitions", 1), ("commit", 1)]
BEFORE += [("free_from", 2), ("claim", 2), ("freeze", 2), ("commit", 2)]
"""Effects of a run with two ranges, and which of their occurrences it dies before."""


@pytest.mark.parametrize(("effect", "occurrence"), BEFORE)
def test_the_retry_of_a_run_reads_what_lies_behind_the_backfilled_period(world: World, effect: str, occurrence: int) -> None:
    spec = world.spec(**APPEND)
    backfill(world, spec, "2024-05-01")
    seen: list[str] = []

    def die(_: int, name: str) -> None:
        seen.extend([name] if name.startswith("before ") and name.endswith(f".{effect}") else [])
        if len(seen) == occurrence:
            raise Killed(name)

    with pytest.raises(Killed):
        World(world.folder, wrap=Stage(die).wrap).load(spec, "orders", run="one")
    assert world.load(spec, "orders", run="one").error is None
    assert stored(world, spec) == [1, 2, 3, 4, 5]
    check(world.load(spec, "orders"), "nothing_new")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(0, 16)),
        st.tuples(st.just("backfill"), st.integers(0, 7)),
        st.tuples(st.just("run"), st.just(0)),
    ),
    min_size=2, max_size=14,
)  # fmt: skip


@example(steps=[("row", 9), ("backfill", 3), ("run", 0), ("row", 8), ("backfill", 4), ("row", 10), ("run", 0)], row=APPEND)
@settings(
    max_examples=int(os.environ.get("BACKFILL_EXAMPLES", 6)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, row=st.sampled_from([APPEND, MERGE]))
def test_whatever_the_order_each_row_is_there_once(
    steps: list[tuple[str, int]], row: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Half days from the first of May on. A row may come as late as the newest row or period that was read, no later."""
    world = World(tmp_path_factory.mktemp("backfills"))
    world.sql("CREATE TABLE orders (id INTEGER, at TIMESTAMP)")
    spec, passed = world.spec(**row), -1
    rows: dict[int, int] = {}
    closed: set[int] = set()
    for what, number in [*steps, ("run", 0), ("run", 0)]:
        if what == "row":
            if number >= passed and number // 2 not in closed:
                rows[len(rows) + 1] = number
                add(world, **{f"n{len(rows)}": f"05-{1 + number // 2:02d} {number % 2 * 12:02d}:00:00"})
        elif what == "backfill":
            result = backfill(world, spec, f"2024-05-{1 + number:02d}")
            if result.error is None:
                closed.add(number)
            else:  # only what lies at the watermark, or below it, and was not backfilled before
                assert result.error_code == "range" and number not in closed and number * 2 <= passed, (result, passed)
        else:
            result = world.load(spec, "orders")
            assert result.error is None, result.error
            passed = max([passed, *rows.values()])
        assert len(set(got := stored(world, spec))) == len(got)
    assert stored(world, spec) == sorted(rows)
