"""What a load promises, mode by mode, on a real database, lake and ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dataops.core.errors import UnavailableError
from airflow_dataops.steps.load import load
from airflow_dataops.steps.run import Run
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Stage
from tests.steps.world import World, day, ids


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount DECIMAL(10,2), at TIMESTAMP)",
        "INSERT INTO orders VALUES (1,'a',1.5,'2024-05-01 10:00:00'),(2,'b',2.25,'2024-05-01 23:59:59')",
        "INSERT INTO orders VALUES (3,'c',NULL,'2024-05-02 00:00:00')",
    )
    return made


DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


def check(result, outcome="loaded", **counts):
    assert result.error is None, result.error
    assert result.outcome == outcome
    for name, value in counts.items():
        assert getattr(result.accounting, name) == value, (name, result.accounting)
    result.accounting.prove("test")


def test_full_snapshot_into_an_unpartitioned_table(world: World) -> None:
    spec = world.spec()
    check(world.load(spec, "orders"), rows_read=3, rows_written=3)
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]


def test_an_unchanged_snapshot_rewrites_nothing_and_says_so(world: World) -> None:
    spec = world.spec()
    world.load(spec, "orders")
    before = sorted(p for p in (world.folder / "lake").rglob("*.parquet"))
    shown = {p: p.stat().st_mtime_ns for p in before}
    check(world.load(spec, "orders"), "unchanged", rows_read=3, rows_unchanged=3, rows_written=0)
    assert all(p.exists() and p.stat().st_mtime_ns == t for p, t in shown.items())
    world.sql("UPDATE orders SET name='z' WHERE id=1")
    check(world.load(spec, "orders"), "loaded", rows_written=3)
    assert [r["name"] for r in world.visible(spec, "orders") if r["id"] == 1] == ["z"]


def test_full_snapshots_by_period_keep_each_day(world: World) -> None:
    spec = world.spec(target=DT)
    check(world.load(spec, "orders", "2024-05-01"), rows_written=3)
    world.sql("DELETE FROM orders WHERE id=1")
    check(world.load(spec, "orders", "2024-05-02"), rows_written=2)
    rows = world.visible(spec, "orders")
    assert sorted((r["dt"], r["id"]) for r in rows) == [
        ("2024-05-01", 1), ("2024-05-01", 2), ("2024-05-01", 3), ("2024-05-02", 2), ("2024-05-02", 3),
    ]  # fmt: skip


def test_a_backfill_of_a_source_without_history_is_refused_without_retry(world: World) -> None:
    result = world.load(world.spec(target=DT), "orders", day("2024-01-01", backfill=True))
    assert (result.outcome, result.error_code, result.retryable) == ("failed", "range", False)
    snapshot = world.spec(target=DT, read={"mode": "full", "backfill": "snapshot"})
    check(world.load(snapshot, "orders", day("2024-01-01", backfill=True)), rows_written=3)


def test_a_window_has_exactly_the_rows_of_its_period_however_often_it_runs(world: World) -> None:
    spec = world.spec(read={"mode": "window", "cursor": "at"}, target=DT)
    for _ in range(2):
        world.load(spec, "orders", "2024-05-01")
        world.load(spec, "orders", "2024-05-02")
        world.load(spec, "orders", "2024-05-03")
        rows = world.visible(spec, "orders")
        assert sorted((r["dt"], r["id"]) for r in rows) == [("2024-05-01", 1), ("2024-05-01", 2), ("2024-05-02", 3)]


@pytest.mark.parametrize("write", [{"mode": "append"}, {"mode": "merge", "keys": ["id"]}])
def test_a_watermark_reads_what_is_new_and_neither_loses_nor_doubles_ties(world: World, write: dict) -> None:
    spec = world.spec(read={"mode": "watermark", "cursor": "at"}, write=write)
    check(world.load(spec, "orders"), rows_read=3, rows_written=3)
    check(world.load(spec, "orders"), "nothing_new")
    world.sql("INSERT INTO orders VALUES (4,'late tie',1,'2024-05-02 00:00:00')")
    check(world.load(spec, "orders"), rows_written=1)
    check(world.load(spec, "orders"), "nothing_new")
    world.sql("INSERT INTO orders VALUES (5,'tie',1,'2024-05-02 00:00:00'),(6,'new',1,'2024-05-03 00:00:00')")
    check(world.load(spec, "orders"), rows_written=2)
    assert ids(world.visible(spec, "orders")) == [1, 2, 3, 4, 5, 6]


def test_append_by_watermark_into_period_partitions(world: World) -> None:
    spec = world.spec(read={"mode": "watermark", "cursor": "id"}, write={"mode": "append"}, target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("INSERT INTO orders VALUES (4,'x',1,NULL)")
    world.load(spec, "orders", "2024-05-01")
    world.sql("INSERT INTO orders VALUES (5,'y',1,NULL)")
    world.load(spec, "orders", "2024-05-02")
    assert sorted((r["dt"], r["id"]) for r in world.visible(spec, "orders")) == [
        ("2024-05-01", 1), ("2024-05-01", 2), ("2024-05-01", 3), ("2024-05-01", 4), ("2024-05-02", 5),
    ]  # fmt: skip


def test_merge_by_key_updates_and_inserts(world: World) -> None:
    spec = world.spec(read={"mode": "watermark", "cursor": "at"}, write={"mode": "merge", "keys": ["id"]})
    world.load(spec, "orders")
    world.sql(
        "UPDATE orders SET name='updated', at='2024-06-01 00:00:00' WHERE id=1",
        "INSERT INTO orders VALUES (9,'n',1,'2024-06-02 00:00:00')",
    )
    check(world.load(spec, "orders"), rows_written=2, rows_deduplicated=1)
    rows = world.visible(spec, "orders")
    assert ids(rows) == [1, 2, 3, 9]
    assert {r["name"] for r in rows if r["id"] == 1} == {"updated"}


def test_a_merged_row_that_changes_its_partition_leaves_the_old_one(world: World) -> None:
    target = {"partition_by": [{"name": "by_name", "from": "column:name"}]}
    spec = world.spec(read={"mode": "full"}, write={"mode": "merge", "keys": ["id"]}, target=target)
    world.load(spec, "orders")
    world.sql("UPDATE orders SET name='b' WHERE id=1")
    check(world.load(spec, "orders"))
    assert sorted((r["by_name"], r["id"]) for r in world.visible(spec, "orders")) == [("b", 1), ("b", 2), ("c", 3)]


def test_a_full_snapshot_by_data_column_empties_partitions_that_vanished(world: World) -> None:
    spec = world.spec(target={"partition_by": [{"name": "by_name", "from": "column:name"}]})
    world.load(spec, "orders")
    world.sql("UPDATE orders SET name='b' WHERE name='a'")
    check(world.load(spec, "orders"), rows_read=3, rows_written=2, rows_unchanged=1)
    assert sorted((r["by_name"], r["id"]) for r in world.visible(spec, "orders")) == [("b", 1), ("b", 2), ("c", 3)]


def test_rows_that_meet_under_one_key_are_deduplicated_newest_wins(world: World) -> None:
    world.sql(
        "CREATE TABLE log (k INTEGER, v TEXT, seq INTEGER)",
        "INSERT INTO log VALUES (1,'old',1),(1,'new',5),(1,'mid',3),(2,'only',1),(3,NULL,NULL),(3,'set',0)",
    )
    spec = world.spec(write={"mode": "merge", "keys": ["k"], "order_by": "seq"})
    check(world.load(spec, "log"), rows_read=6, rows_written=3, rows_deduplicated=3)
    assert sorted((r["k"], r["v"]) for r in world.visible(spec, "log")) == [(1, "new"), (2, "only"), (3, "set")]


def test_a_new_column_and_a_wider_type_evolve_the_table(world: World) -> None:
    spec = world.spec(target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET city='Rome' WHERE id=2")
    check(world.load(spec, "orders", "2024-05-02"))
    rows = world.visible(spec, "orders")
    assert {r["city"] for r in rows if r["dt"] == "2024-05-01"} == {None}
    assert {r["city"] for r in rows if r["dt"] == "2024-05-02"} == {None, "Rome"}
    edges = world.edges(spec)
    events = edges.ledger.drift.events("d.src")
    assert [e["kind"] for e in events] == ["structural"]
    world.load(spec, "orders", "2024-05-03")
    assert len(edges.ledger.drift.events("d.src")) == 1


def test_breaking_drift_is_held_and_its_siblings_go_on(world: World) -> None:
    spec = world.spec(target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql(
        "DROP TABLE orders",
        "CREATE TABLE orders (id TEXT, name TEXT, amount DECIMAL(10,2), at TIMESTAMP)",
        "INSERT INTO orders VALUES ('x','n',1,NULL)",
    )
    check(world.load(spec, "orders", "2024-05-02"), "held", rows_read=1, rows_held=1, rows_written=0)
    assert {r["dt"] for r in world.visible(spec, "orders")} == {"2024-05-01"}


def test_a_failing_table_is_reported_and_its_retry_does_only_what_is_not_done(world: World) -> None:
    spec = world.spec()
    assert world.load(spec, "nowhere").error_code == "inventory"
    first = world.load(spec, "orders", run="r1")
    again = world.load(spec, "orders", run="r1")
    check(again, "done_before", rows_written=3)
    assert (again.batch_id, again.generation) == (first.batch_id, first.generation)


def test_an_empty_table_is_there_with_no_rows(world: World) -> None:
    world.sql("CREATE TABLE empty (id INTEGER, name TEXT)")
    spec = world.spec(target=DT)
    check(world.load(spec, "empty"), rows_read=0, rows_written=0)
    assert world.visible(spec, "empty") == []


def test_a_foreign_change_of_the_catalog_stops_the_table(world: World) -> None:
    from dataclasses import replace

    spec = world.spec()
    world.load(spec, "orders")
    catalog = world.edges(spec).catalog
    partition = catalog.get_partitions("d", "orders", [()])[0]
    catalog.put_partitions("d", "orders", [replace(partition, location="file:///elsewhere")])
    world.sql("INSERT INTO orders VALUES (7,'x',1,NULL)")
    result = world.load(spec, "orders")
    assert (result.outcome, result.error_code) == ("failed", "foreign_change")


def test_masked_and_dropped_columns_never_reach_the_lake(world: World) -> None:
    spec = world.spec(privacy={"columns": {"name": "hash", "amount": "drop"}})
    check(world.load(spec, "orders"), rows_written=3)
    rows = world.visible(spec, "orders")
    assert all("amount" not in r and r["name"] not in ("a", "b", "c") and len(r["name"]) == 32 for r in rows)
    check(world.load(spec, "orders"), "unchanged")


def test_a_query_stands_for_one_table(world: World) -> None:
    from airflow_dataops.steps.discover import discover

    query = "SELECT id, upper(name) AS name FROM orders WHERE id < 3"
    spec = world.spec(tables=["orders", {"match": "few", "read": {"query": query}}])
    assert [t.name for t in discover(spec, world.edges(spec)).tables] == ["orders", "few"]
    check(world.load(spec, "few"), rows_written=2)
    assert [r["name"] for r in world.visible(spec, "few")] == ["A", "B"]


@pytest.mark.parametrize(("mode", "backfill"), [("window", False), ("watermark", False), ("watermark", True)])
def test_rows_without_a_cursor_value_are_not_left_out_silently(world: World, mode: str, backfill: bool) -> None:
    world.sql("INSERT INTO orders VALUES (9,'no time',1,NULL)")
    write = "append" if mode == "watermark" else "overwrite_partition"
    spec = world.spec(read={"mode": mode, "cursor": "at"}, target=DT, write={"mode": write})
    result = world.load(spec, "orders", day("2024-05-01", backfill=backfill))
    assert (result.outcome, result.error_code) == ("failed", "range")
    assert "NULL" in (result.error or "")


def test_a_text_cursor_goes_by_code_point_whatever_its_collation(world: World) -> None:
    world.sql("CREATE TABLE codes (code TEXT COLLATE NOCASE, v INTEGER)", "INSERT INTO codes VALUES ('A',1),('b',2),('C',3)")
    spec = world.spec(read={"mode": "watermark", "cursor": "code"}, write={"mode": "append"})
    check(world.load(spec, "codes"), rows_written=3)
    check(world.load(spec, "codes"), "nothing_new")
    world.sql("INSERT INTO codes VALUES ('b',4),('b ',5),('c',6),('bB',7),('ä',8)")
    check(world.load(spec, "codes"), rows_written=5)
    check(world.load(spec, "codes"), "nothing_new")
    assert sorted(r["v"] for r in world.visible(spec, "codes")) == [1, 2, 3, 4, 5, 6, 7, 8]
    world.sql("INSERT INTO codes VALUES ('ö',9)", "DELETE FROM codes WHERE v < 9")
    check(world.load(spec, "codes"), rows_written=1)
    world.sql("DELETE FROM codes")
    check(world.load(spec, "codes"), "nothing_new")


def test_a_result_that_the_ledger_does_not_take_fails_its_table_and_no_sibling(world: World) -> None:
    """The table is published already; its retry finds it done and tells. An error from before says more, and stays."""
    world.sql("CREATE TABLE lines (id INTEGER PRIMARY KEY)", "INSERT INTO lines VALUES (7)")
    outages = [UnavailableError("Cannot write to ledger: down -> an answer. Try again.")]

    def down_once(_: int, effect: str) -> None:
        if outages and effect == "before ledger.runs.record":
            raise outages.pop()

    spec, run = world.spec(), Run("run", day("2024-05-01"))
    broken = World(world.folder, wrap=Stage(down_once).wrap).edges(spec)
    orders, lines = load(spec, broken, run, ["orders", "lines"]).tables
    assert (orders.outcome, orders.error_code, orders.retryable, orders.target) == ("failed", "unavailable", True, "d.orders")
    assert orders.accounting.rows_written == 3 and "Cannot write to ledger" in str(orders.error)
    assert (lines.outcome, lines.error) == ("loaded", None)
    assert ids(world.visible(spec, "orders")) == [1, 2, 3] and ids(world.visible(spec, "lines")) == [7]
    assert verify(spec, broken, ["orders", "lines"], run).unfinished == (("orders", "the run never came to it"),)

    again = load(spec, world.edges(spec), run, ["orders", "lines"])
    assert [t.outcome for t in again.tables] == ["done_before", "done_before"]
    verify(spec, world.edges(spec), ["orders", "lines"], run).raise_for_problems(spec.id)

    outages.append(UnavailableError("Cannot write to ledger: down -> an answer. Try again."))
    (missing,) = load(spec, broken, run, ["no_such_table"]).tables
    assert not outages and (missing.outcome, missing.retryable) == ("failed", False) and "no_such_table" in str(missing.error)
