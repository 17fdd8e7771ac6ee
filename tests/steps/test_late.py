"""`target.late: reject`: rows whose partition was over before the range that is read are dead letters, and counted."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.steps.held import settle
from tests.steps.letters import letters, replayed
from tests.steps.world import World

DAY = {"name": "d", "from": "column:made", "transform": "day"}
LIMITS = {"dead_letters": {"max_share": 1.0}}


def row(late: str = "reject", **read: Any) -> dict[str, Any]:
    modes = {"mode": "watermark", "cursor": "changed", **read}
    return {
        "read": modes, "write": {"mode": "merge", "keys": ["id"]}, "target": {"partition_by": [DAY], "late": late}, **LIMITS,
    }  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Order 1, made and changed on May the 1st, is loaded; order 2, made on the 2nd, is there too."""
    world = World(tmp_path / "w")
    world.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, made TIMESTAMP, changed TIMESTAMP)",
        "INSERT INTO orders VALUES (1,'2024-05-01 10:00:00','2024-05-01 10:00:00')",
        "INSERT INTO orders VALUES (2,'2024-05-02 10:00:00','2024-05-03 09:00:00')",
    )
    return world


LATE = (
    "INSERT INTO orders VALUES (3,'2024-05-02 23:00:00','2024-05-04 10:00:00')",  # its day was over before the watermark
    "INSERT INTO orders VALUES (4,'2024-05-03 01:00:00','2024-05-04 11:00:00')",  # the watermark stands in its day
    "INSERT INTO orders VALUES (5,NULL,'2024-05-04 12:00:00')",  # no day at all
)


def ids(world: World, spec: Any) -> list[int]:
    return sorted(r["id"] for r in world.visible(spec, "orders"))


def test_a_first_load_has_no_late_rows_and_a_later_one_counts_them(world: World) -> None:
    spec = world.spec(**row())
    assert world.load(spec, "orders").accounting.rows_written == 2
    world.sql(*LATE)
    counts = world.load(spec, "orders", "2024-05-04").accounting
    # The row that is tied with the watermark is read again, and is known.
    assert (counts.rows_written, counts.rows_dead_lettered) == (2, 1), counts
    assert counts.rows_read == counts.rows_accounted and ids(world, spec) == [1, 2, 4, 5]
    (letter,) = letters(world)
    assert (letter.reason, letter.rows, letter.stage) == ("late", 1, "conform")
    assert "over before the range that was read" in letter.message
    assert replayed(world, spec).failed_again == 0  # whoever replays it lets it in
    assert ids(world, spec) == [1, 2, 3, 4, 5]


def test_merge_lets_them_in(world: World) -> None:
    spec = world.spec(**row("merge"))
    world.load(spec, "orders")
    world.sql(*LATE)
    assert world.load(spec, "orders", "2024-05-04").accounting.rows_dead_lettered == 0
    assert ids(world, spec) == [1, 2, 3, 4, 5]


def test_an_overlap_keeps_partitions_open_for_longer(world: World) -> None:
    spec = world.spec(**row(overlap_seconds=86_400))
    world.load(spec, "orders")
    world.sql(*LATE)
    assert world.load(spec, "orders", "2024-05-04").accounting.rows_dead_lettered == 0
    assert 3 in ids(world, spec)


@pytest.mark.parametrize(("target", "counts", "shown"), [
    ({"late": "reject"}, {"rows_written": 2, "rows_dead_lettered": 1}, [1, 2, 4, 5]),
    ({"retention_days": 1}, {"rows_written": 2, "rows_filtered": 1}, [4, 5]),
])  # fmt: skip
def test_what_was_held_is_let_in_by_the_same_rules(
    world: World, target: dict[str, Any], counts: dict[str, int], shown: list[int]
) -> None:
    """It was kept whole while it waited."""
    world.clock = lambda: dt.datetime(2024, 5, 4, 13, tzinfo=dt.UTC).timestamp()
    loose = row("merge")
    world.load(world.spec(**loose), "orders")
    spec = world.spec(**loose | {"target": {"partition_by": [DAY], **target}}, contract={"columns": "freeze"})
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", *(text.replace(")", ",'Rome')") for text in LATE))
    assert world.load(spec, "orders", "2024-05-04").accounting.rows_held == 3
    edges = world.edges(spec)
    (hold,) = edges.ledger.holds.list()
    _, done = settle(spec, hold, "approve", "ann", edges)
    assert (len(done.published), done.error) == (1, None)
    (found,) = (r.accounting for r in edges.ledger.batches.history() if r.batch_id == done.published[0])
    assert found is not None and found.rows_read == found.rows_accounted
    assert {name: getattr(found, name) for name in counts} == counts
    assert [n for n in ids(world, spec) if n > 2] == [n for n in shown if n > 2]
    assert [letter.reason for letter in letters(world)] == (["late"] if "late" in target else [])
    if "late" in target:
        assert replayed(world, spec).failed_again == 0
        assert ids(world, spec) == [1, 2, 3, 4, 5]


def test_a_row_that_moves_to_a_closed_partition_stays_where_it_was(world: World) -> None:
    """Its older version is what the table goes on to show: the letter says so, nothing is lost."""
    spec = world.spec(**row())
    world.load(spec, "orders")
    world.sql("UPDATE orders SET made='2024-04-01', changed='2024-05-04 10:00:00' WHERE id=2")
    assert world.load(spec, "orders", "2024-05-04").accounting.rows_dead_lettered == 1
    assert ids(world, spec) == [1, 2]


def test_a_window_closes_what_was_over_when_it_begins(world: World) -> None:
    spec = world.spec(**{**row(mode="window"), "write": {"mode": "append"}})
    counts = world.load(spec, "orders", "2024-05-03").accounting
    assert (counts.rows_read, counts.rows_written, counts.rows_dead_lettered) == (1, 0, 1)


def test_a_cursor_that_is_no_time_cannot_tell(world: World) -> None:
    spec = world.spec(**row(cursor="id"))
    world.load(spec, "orders")
    world.sql(*LATE)
    result = world.load(spec, "orders", "2024-05-04")
    assert result.error_code == "inventory" and "cursor 'id' is of type int -> a date or timestamp" in str(result.error)


def test_limits_of_dead_letters_hold_for_late_rows_too(world: World) -> None:
    spec = world.spec(**{**row(), "dead_letters": {"max_rows": 0}})
    world.load(spec, "orders")
    world.sql(*LATE)
    result = world.load(spec, "orders", "2024-05-04")
    assert result.error_code == "limit" and "(late: 1)" in str(result.error) and ids(world, spec) == [1, 2]
