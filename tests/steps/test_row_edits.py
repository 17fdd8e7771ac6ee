"""A row that is edited between runs: nothing is doubled, lost or mixed, whatever state the last run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.sweep import sweep_table
from tests.steps.effects import Killed, Stage
from tests.steps.test_load import check
from tests.steps.world import World, ids

MARK = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "merge", "keys": ["id"]}}
BY_NAME = {"partition_by": [{"name": "p", "from": "column:name"}]}
DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,'b')")
    return made


def die_before(effect: str) -> Stage:
    """Dies before the first effect of that name."""
    dead: list[bool] = []

    def at(_: int, name: str) -> None:
        if dead or name == f"before {effect}":
            dead.append(True)
            raise Killed(name)

    return Stage(at)


def dies(world: World, effect: str, row: dict[str, Any], period: str = "2024-05-01") -> None:
    with pytest.raises(Killed):
        World(world.folder, wrap=die_before(effect).wrap).load(world.spec(**row), "orders", period, run="dead")


def refused(result: Any, *words: str) -> None:
    assert (result.outcome, result.error_code, result.retryable) == ("failed", "inventory", False), result
    assert all(word in result.error for word in words), result.error


@pytest.mark.parametrize("target", [{}, DT])
def test_a_snapshot_is_not_appended_to(world: World, target: dict) -> None:
    check(world.load(world.spec(target=target), "orders"), rows_written=2)
    refused(world.load(world.spec(target=target, **MARK), "orders"), "full snapshot", "target.table")
    check(world.load(world.spec(target={**target, "table": "fresh"}, **MARK), "orders"), rows_written=2)
    assert ids(world.visible(world.spec(target=target), "orders")) == [1, 2]


def test_a_frozen_batch_is_finished_as_it_was_staged(world: World) -> None:
    """Staged to overwrite, died before deciding, and then the row says append."""
    world.load(world.spec(), "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    dies(world, "ledger.batches.decide", {})
    edited = world.spec(**MARK)
    sweep_table(table_spec(edited, "orders"), world.edges(edited))
    assert ids(world.visible(edited, "orders")) == [1, 2, 3]


def test_a_frozen_watermark_batch_moves_the_watermark_whatever_the_row_says(world: World) -> None:
    dies(world, "ledger.batches.decide", MERGE)
    full = world.spec(write=MERGE["write"])
    world.load(full, "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    check(world.load(world.spec(**MERGE), "orders"), rows_written=1)
    assert ids(world.visible(full, "orders")) == [1, 2, 3]


def test_an_open_batch_of_another_read_mode_is_given_up(world: World) -> None:
    dies(world, "ledger.batches.freeze", {})
    spec = world.spec(**MARK)
    check(world.load(spec, "orders", run="dead"), rows_written=2)
    assert world.edges(spec).ledger.offsets.watermark(table_spec(spec, "orders").key) == 2
    check(world.load(spec, "orders"), "nothing_new")
    assert ids(world.visible(spec, "orders")) == [1, 2]


def test_merged_rows_survive_an_append_that_runs_again(world: World) -> None:
    """Files that a merge wrote hold rows of many batches, and no file name can say whose."""
    world.sql(
        "CREATE TABLE ev (id INTEGER, at TIMESTAMP)", "INSERT INTO ev VALUES (1,'2024-05-01 10:00:00'),(2,'2024-05-02 10:00:00')"
    )
    read = {"read": {"mode": "window", "cursor": "at"}}
    merge = world.spec(**read, write={"mode": "merge", "keys": ["id"]})
    for key in ("2024-05-01", "2024-05-02"):
        assert world.load(merge, "ev", key).error is None
    append = world.spec(**read, write={"mode": "append"})
    again = world.load(append, "ev", "2024-05-01")
    assert (again.outcome, again.error_code, again.retryable) == ("failed", "range", False), again
    check(world.load(append, "ev", "2024-05-02"), rows_written=1)
    assert ids(world.visible(append, "ev")) == [1, 2]


def test_other_partition_rules_are_refused_under_the_same_column_name(world: World) -> None:
    world.load(world.spec(target=BY_NAME), "orders")
    refused(
        world.load(world.spec(target={"partition_by": [{"name": "p", "from": "period_start"}]}), "orders"),
        "period_start",
        "column:name",
    )
    refused(world.load(world.spec(), "orders"), "partitioned by")


@pytest.mark.parametrize("name", ["_batch_id", "_ingested_at"])
def test_a_partition_never_has_the_name_of_a_standard_column(world: World, name: str) -> None:
    refused(world.load(world.spec(target={"partition_by": [{"name": name, "from": "period_start"}]}), "orders"), name)


def test_switched_standards_keep_every_row(world: World) -> None:
    world.load(world.spec(standards={"row_fingerprint": False, "batch_id": False}, **MARK), "orders")
    world.sql("INSERT INTO orders VALUES (2,'tie'),(3,'c')")
    check(world.load(world.spec(**MARK), "orders"), rows_read=3, rows_written=2, rows_deduplicated=1)
    world.sql("INSERT INTO orders VALUES (4,'d')")
    check(world.load(world.spec(standards={"ingested_at": False}, **MARK), "orders"), rows_written=1)
    assert ids(world.visible(world.spec(**MARK), "orders")) == [1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("column", "action", "row"),
    [
        ("id", "mask", {"write": {"mode": "merge", "keys": ["id"]}}),
        ("id", "hash", MARK),
        ("id", "mask", MARK),
        ("name", "hash", {"write": {"mode": "merge", "keys": ["id"], "order_by": "name"}}),
    ],
)
def test_privacy_cannot_take_away_what_the_row_works_with(world: World, column: str, action: str, row: dict) -> None:
    result = world.load(world.spec(privacy={"columns": {column: action}}, **row), "orders")
    refused(result, column, action)
    assert world.visible(world.spec(), "orders") == []


def test_a_hashed_key_still_merges(world: World) -> None:
    spec = world.spec(privacy={"columns": {"id": "hash"}}, write={"mode": "merge", "keys": ["id"]})
    world.load(spec, "orders")
    world.sql("UPDATE orders SET name='z' WHERE id=2")
    check(world.load(spec, "orders"), rows_written=1, rows_unchanged=1)
    assert sorted(r["name"] for r in world.visible(spec, "orders")) == ["a", "z"]


def test_a_cursor_that_changed_its_kind_is_refused_not_guessed(world: World) -> None:
    world.sql("CREATE TABLE t (c DATE)", "INSERT INTO t VALUES ('2024-05-01')")
    spec = world.spec(read={"mode": "watermark", "cursor": "c"}, write={"mode": "append"})
    check(world.load(spec, "t"), rows_written=1)
    world.sql("DROP TABLE t", "CREATE TABLE t (c INTEGER)", "INSERT INTO t VALUES (5)")
    result = world.load(spec, "t")
    assert (result.error_code, result.retryable) == ("range", False), result


def test_rows_stored_before_a_privacy_rule_came_are_known_under_it(world: World) -> None:
    world.load(world.spec(**MARK), "orders")
    private = world.spec(privacy={"columns": {"name": "hash"}}, **MARK)
    check(world.load(private, "orders"), "nothing_new")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    check(world.load(private, "orders"), rows_read=2, rows_written=1, rows_deduplicated=1)
    check(world.load(private, "orders"), "nothing_new")
    assert ids(world.visible(private, "orders")) == [1, 2, 3]


def test_records_beyond_the_limit_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,name\n1,a\n" + "secret-value\n" * 5)
    world = World(tmp_path, kind="files", options={"path": "in/*"})
    result = world.load(world.spec(dead_letters={"max_rows": 2}), "src")
    assert (result.error_code, result.retryable) == ("limit", False)
    assert "secret" not in result.error
    (kept,) = (tmp_path / "dead").rglob("*.parquet")
    assert str(kept) in result.error
    assert not list((tmp_path / "lake").rglob("*.parquet"))
