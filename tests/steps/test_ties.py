"""Rows tied with the watermark are neither lost nor doubled, whatever happens between two runs: rules of privacy come and go,
columns come and go, a batch waits for a person."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings

from airflow_dataops.core.table_spec import table_spec
from tests.steps.test_load import check
from tests.steps.world import World, ids

APPEND = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}}
FREEZE = {"contract": {"columns": "freeze"}}
ACTIONS = ("keep", "mask", "hash", "drop")


def privacy(**columns: str) -> dict[str, Any]:
    return {"privacy": {"columns": columns}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql(
        "CREATE TABLE log (id INTEGER, name TEXT, at INTEGER)", "INSERT INTO log VALUES (1,'a',1),(2,'b',5),(3,'c',5),(4,NULL,5)"
    )
    return made


def stored(world: World, spec: Any, column: str = "id") -> list[Any]:
    return sorted((r[column] for r in world.visible(spec, "log")), key=repr)


CHANGES = [(was, now) for was in ACTIONS for now in ACTIONS if was != now]


@pytest.mark.parametrize(("was", "now"), CHANGES)
def test_a_privacy_rule_comes_goes_or_changes(world: World, was: str, now: str) -> None:
    check(world.load(world.spec(**APPEND, **privacy(name=was)), "log"), rows_written=4)
    spec = world.spec(**APPEND, **privacy(name=now))
    check(world.load(spec, "log"), "nothing_new")
    world.sql("INSERT INTO log VALUES (50,'x',5)")
    check(world.load(spec, "log"), rows_read=4, rows_written=1, rows_deduplicated=3)
    world.sql("INSERT INTO log VALUES (51,'x',5),(60,'x',6)")
    check(world.load(spec, "log"), rows_written=2, rows_deduplicated=4)
    assert stored(world, spec) == [1, 2, 3, 4, 50, 51, 60]


@pytest.mark.parametrize(("was", "now"), [("mask", "keep"), ("keep", "mask"), ("hash", "keep"), ("keep", "drop")])
def test_in_a_merge_a_changed_rule_reaches_the_tied_rows_once(world: World, was: str, now: str) -> None:
    world.load(world.spec(**MERGE, **privacy(name=was)), "log")
    spec = world.spec(**MERGE, **privacy(name=now))
    first = world.load(spec, "log")
    assert first.error is None and first.accounting.rows_written == 2  # NULL is NULL under any rule
    check(world.load(spec, "log"), "nothing_new")
    assert stored(world, spec) == [1, 2, 3, 4]
    tied = sorted((r["name"] for r in world.visible(spec, "log") if r["id"] in (2, 3)), key=repr)
    assert tied == {"keep": ["b", "c"], "mask": ["***", "***"], "drop": [None, None]}[now]


@pytest.mark.parametrize("was", ["mask", "hash"])
def test_rows_that_only_a_hidden_value_tells_apart(world: World, was: str) -> None:
    """No column but the hidden one differs. A digest still tells who is new; behind masks the number is right."""
    world.sql("DELETE FROM log", "INSERT INTO log VALUES (7,'a',5),(7,'b',5)")
    world.load(world.spec(**APPEND, **privacy(name=was)), "log")
    world.sql("DELETE FROM log", "INSERT INTO log VALUES (7,'new',5),(7,'a',5),(7,'b',5)")
    spec = world.spec(**APPEND)
    check(world.load(spec, "log"), rows_written=1)
    assert len(stored(world, spec)) == 3
    if was == "hash":
        assert stored(world, spec, "name")[-1] == "new"


def test_a_key_that_was_changed_tells_no_more_than_a_mask(world: World) -> None:
    from dataclasses import replace

    from airflow_dataops.steps.load import load_table
    from airflow_dataops.steps.run import Run
    from tests.steps.world import day

    spec = world.spec(**APPEND, **privacy(name="hash"))
    world.load(spec, "log")
    world.sql("INSERT INTO log VALUES (5,'d',5)")
    edges = replace(world.edges(spec), privacy_key=b"another secret!!")
    check(load_table(spec, edges, Run("r", day("2024-05-01")), "log"), rows_written=1)
    assert stored(world, spec) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["append", "merge"])
@pytest.mark.parametrize("default", ["NULL", "'x'"])
def test_a_column_that_comes_with_a_value_for_every_row(world: World, row: dict, default: str) -> None:
    spec = world.spec(**row)
    world.load(spec, "log")
    world.sql(f"ALTER TABLE log ADD COLUMN city TEXT DEFAULT {default}", "INSERT INTO log VALUES (5,'e',5,'Rome'),(6,'f',6,'Oslo')")
    assert world.load(spec, "log").error is None
    assert stored(world, spec) == [1, 2, 3, 4, 5, 6]
    check(world.load(spec, "log"), "nothing_new")
    check(world.load(spec, "log"), "nothing_new")


def test_of_two_that_look_the_same_the_one_with_the_new_column_is_new(world: World) -> None:
    world.sql("DELETE FROM log", "INSERT INTO log VALUES (7,'a',5)")
    spec = world.spec(**APPEND)
    world.load(spec, "log")
    world.sql("ALTER TABLE log ADD COLUMN city TEXT", "DELETE FROM log")
    world.sql("INSERT INTO log VALUES (7,'a',5,'Rome'),(7,'a',5,NULL)")
    check(world.load(spec, "log"), rows_written=1)
    assert stored(world, spec, "city") == ["Rome", None]


@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["append", "merge"])
def test_a_column_that_goes(world: World, row: dict) -> None:
    spec = world.spec(**row)
    world.load(spec, "log")
    world.sql("ALTER TABLE log DROP COLUMN name", "INSERT INTO log VALUES (5,5),(6,6)")
    assert world.load(spec, "log").error is None
    assert stored(world, spec) == [1, 2, 3, 4, 5, 6]
    check(world.load(spec, "log"), "nothing_new")


def test_an_update_of_a_tied_row_is_seen_and_a_deletion_changes_nothing(world: World) -> None:
    appended, merged = world.spec(**APPEND), world.spec(**MERGE, target={"table": "merged"})
    for spec in (appended, merged):
        world.load(spec, "log")
    world.sql("UPDATE log SET name='new' WHERE id=2", "DELETE FROM log WHERE id=3")
    check(world.load(appended, "log"), rows_written=1, rows_deduplicated=1)
    check(world.load(merged, "log"), rows_written=1)
    assert stored(world, appended, "name") == sorted(["a", "b", "c", "new", None], key=repr)
    assert stored(world, merged, "name") == sorted(["a", "new", "c", None], key=repr)


def waiting(world: World, spec: Any) -> list[int]:
    """Ids of rows in held batches."""
    contents = world.edges(spec).ledger.batches.held(table_spec(spec, "log").key)
    paths = [world.folder / "lake" / str(f["path"]) for c in contents for p in c.partitions for f in p.files]
    return sorted(i for path in paths for i in pq.ParquetFile(path).read(["id"]).column(0).to_pylist())


@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["append", "merge"])
def test_rows_that_wait_for_a_person_are_known(world: World, row: dict) -> None:
    spec = world.spec(**row, **FREEZE)
    world.load(spec, "log")
    world.sql("ALTER TABLE log ADD COLUMN city TEXT", "INSERT INTO log VALUES (6,'f',6,'Rome')")
    check(world.load(spec, "log"), "held", rows_held=1)
    world.sql("INSERT INTO log VALUES (60,'tie',6,'Oslo'),(7,'g',7,'Bonn')")
    check(world.load(spec, "log"), "held", rows_held=2, rows_deduplicated=1)
    world.sql("ALTER TABLE log DROP COLUMN city")  # the drift goes; what waits still waits
    check(world.load(spec, "log"), "nothing_new")
    world.sql("INSERT INTO log VALUES (70,'tie',7)")
    for _ in range(2):
        world.load(spec, "log")
    assert (stored(world, spec), waiting(world, spec)) == ([1, 2, 3, 4], [6, 7, 60, 70])


def test_rows_that_wait_under_another_type_are_known_by_the_rest(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "log")
    world.sql(
        "CREATE TABLE l2 (id INTEGER, name INTEGER, at INTEGER)", "INSERT INTO l2 SELECT id, id * 10, at FROM log",
        "INSERT INTO l2 VALUES (6,60,6)", "DROP TABLE log", "ALTER TABLE l2 RENAME TO log",
    )  # fmt: skip
    world.load(spec, "log")
    world.sql("INSERT INTO log VALUES (61,610,6)")  # a tie alone, while the drift is held
    check(world.load(spec, "log"), "held", rows_read=2, rows_held=1, rows_deduplicated=1)
    check(world.load(spec, "log"), "nothing_new")
    world.sql("INSERT INTO log VALUES (7,70,7)")
    world.load(spec, "log")
    both = Counter(stored(world, spec)) + Counter(waiting(world, spec))
    assert both == Counter([1, 2, 3, 4, 6, 7, 61])


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("tie"), st.integers(1, 3)),
        st.tuples(st.just("newer"), st.integers(1, 3)),
        st.tuples(st.just("privacy"), st.sampled_from(ACTIONS)),
        st.tuples(st.just("column"), st.sampled_from(["NULL", "'x'"])),
        st.tuples(st.just("drop column"), st.just(0)),
        st.tuples(st.just("contract"), st.sampled_from(["evolve", "freeze"])),
        st.tuples(st.just("load"), st.just(0)),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


@example(events=[("tie", 1), ("privacy", "drop"), ("tie", 3), ("load", 0), ("privacy", "keep")])
@settings(
    max_examples=int(os.environ.get("TIES_EXAMPLES", 8)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=EVENTS)
def test_whatever_happens_each_row_is_there_once(events: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("ties"))
    world.sql("CREATE TABLE log (id INTEGER, name TEXT, at INTEGER)")
    number = at = columns = 0
    rule, contract = "keep", "evolve"
    for what, value in [("newer", 2), ("load", 0), *events, ("load", 0), ("load", 0)]:
        names = [row[1] for row in world.sql("PRAGMA table_info(log)")]
        if what in ("tie", "newer"):
            at += what == "newer"
            for _ in range(value):
                number += 1
                world.sql(f"INSERT INTO log (id, name, at) VALUES ({number}, 'n{number % 2}', {at})")
        elif what == "privacy":
            rule = value
        elif what == "column":
            columns += 1
            world.sql(f"ALTER TABLE log ADD COLUMN extra{columns} TEXT DEFAULT {value}")
        elif what == "drop column":
            for name in [n for n in names if n.startswith("extra")][:1]:
                world.sql(f"ALTER TABLE log DROP COLUMN {name}")
        elif what == "contract":
            contract = value
        else:
            spec = world.spec(**APPEND, **privacy(name=rule), contract={"columns": contract})
            result = world.load(spec, "log")
            assert result.error is None, result.error
    found = Counter(ids(world.visible(spec, "log"))) + Counter(waiting(world, spec))
    assert found == Counter(range(1, number + 1)), events


class Watched:
    """A lake that tells whose footers were read."""

    def __init__(self, lake: Any) -> None:
        self.lake, self.footers = lake, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lake, name)

    def footer(self, path: str) -> Any:
        self.footers.append(path)
        return self.lake.footer(path)


def test_only_files_that_may_reach_the_watermark_are_opened(tmp_path: Path) -> None:
    """The ledger knows how far each batch has read; a table of years has thousands of files."""
    lakes: list[Watched] = []

    def watch(name: str, edge: Any) -> Any:
        if name != "lake":
            return edge
        lakes.append(Watched(edge))
        return lakes[-1]

    world = World(tmp_path, wrap=watch)
    world.sql("CREATE TABLE log (id INTEGER, name TEXT, at INTEGER)")
    spec = world.spec(**APPEND, target={"partition_by": [{"name": "at_day", "from": "column:at"}]})
    for n in range(6):
        world.sql(f"INSERT INTO log VALUES ({n},'a',{n})")
        check(world.load(spec, "log"), rows_written=1)
    world.sql("INSERT INTO log VALUES (60,'tied',5),(61,'new',9)")
    before = {str(p.relative_to(tmp_path / "lake")) for p in (tmp_path / "lake").rglob("*.parquet")}
    assert len(before) == 6
    check(world.load(spec, "log"), rows_read=3, rows_written=2, rows_deduplicated=1)
    opened = [path for path in lakes[-1].footers if any(path.endswith(known) for known in before)]
    assert len(opened) == 1 and "at_day=5" in opened[0], opened
    assert stored(world, spec) == [0, 1, 2, 3, 4, 5, 60, 61]
