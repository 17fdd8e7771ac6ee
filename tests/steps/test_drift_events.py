"""Drift as it is told, through whole loads: one event for each news, the audit of each DDL, retired columns, comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.sources.memory import MemorySource
from airflow_dataops.steps.discover import discover
from airflow_dataops.steps.drift_sync import drift_sync
from tests.steps.test_load import check
from tests.steps.test_load_files import NEW, put
from tests.steps.test_row_edits import dies
from tests.steps.world import World, day, ids

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}
APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,'b')")
    return made


def events(world: World, spec: Any) -> list[Mapping[str, Any]]:
    """Oldest first."""
    return list(world.edges(spec).ledger.drift.events("d.src"))[::-1]


def told(world: World, spec: Any) -> list[list[str]]:
    return [[change["text"] for change in event["changes"]] for event in events(world, spec)]


def ddl(world: World, spec: Any, table: str = "orders") -> list[Mapping[str, Any]]:
    return list(world.edges(spec).ledger.drift.ddl(table_spec(spec, table).key))[::-1]


def shown(world: World, spec: Any, table: str = "orders") -> TableSchema:
    found = world.edges(spec).catalog.get_table("d", table)
    assert found is not None
    return TableSchema(found.columns)


@pytest.mark.parametrize("path", ["load alone", "drift_sync first"])
def test_a_new_column_is_one_event_and_its_ddl_names_it(world: World, path: str) -> None:
    spec = world.spec(target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET city='Rome'")
    for period in ("2024-05-02", "2024-05-03"):
        edges = world.edges(spec)
        if path == "drift_sync first":
            drift_sync(spec, edges, discover(spec, edges).tables)
        check(world.load(spec, "orders", period))
    (event,) = events(world, spec)
    assert [c["text"] for c in event["changes"]] == ["new column 'city' (string)"]
    assert (event["rows"], event["decision"], event["source_table"], event["target"]) == (2, "applied", "orders", "d.orders")
    batches = world.edges(spec).ledger.batches.history("d.src")
    assert event["batch_id"] == next(b.batch_id for b in batches if b.period_key == "2024-05-02")
    created, altered, cascaded = ddl(world, spec)
    assert cascaded["statement"] == "cascade_columns"
    assert (created["statement"], created["drift"], created["before"]) == ("create_table", None, None)
    assert (altered["statement"], altered["drift"]) == ("alter_table", event["id"])
    assert set(altered["after"]) - set(altered["before"]) == {"city string"}


def test_held_drift_is_told_as_held(world: World) -> None:
    spec = world.spec(contract={"columns": "freeze"})
    world.load(spec, "orders")
    world.sql("ALTER TABLE orders ADD COLUMN name_of TEXT", "ALTER TABLE orders DROP COLUMN name")
    check(world.load(spec, "orders"), "held")
    (event,) = events(world, spec)
    assert (event["decision"], event["decided_by"], event["decided_at"]) == ("held", None, None)
    assert {c["change"]: c["done"] for c in event["changes"]} == {"column_added": "held", "column_vanished": "applied"}


@pytest.mark.parametrize("effect", ["ledger.drift.observe", "ledger.batches.decide", "ledger.batches.commit"])
def test_whoever_finishes_a_batch_tells_of_it_once(world: World, effect: str) -> None:
    world.load(world.spec(), "orders")
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "UPDATE orders SET city='Rome'")
    dies(world, effect, {})
    spec = world.spec()
    for run in ("dead", "next"):
        world.load(spec, "orders", run=run)
    assert told(world, spec) == [["new column 'city' (string)"]]
    assert [entry["drift"] for entry in ddl(world, spec)][1:] == [events(world, spec)[0]["id"]]


def test_a_column_that_comes_and_goes_twenty_times_is_one_event_and_one_ddl(world: World) -> None:
    spec = world.spec(**APPEND)
    world.load(spec, "orders")
    for n in range(3, 23):
        world.sql(
            "ALTER TABLE orders ADD COLUMN city TEXT" if n % 2 else "ALTER TABLE orders DROP COLUMN city",
            f"INSERT INTO orders (id, name{', city' if n % 2 else ''}) VALUES ({n}, 'n'{', ' + repr(f'c{n}') if n % 2 else ''})",
        )
        check(world.load(spec, "orders"), rows_written=1)
    (event,) = events(world, spec)
    assert (event["flips"], [c["text"] for c in event["changes"]]) == ({"city": 19}, ["new column 'city' (string)"])
    assert len(ddl(world, spec)) == 2
    rows = {r["id"]: r.get("city") for r in world.visible(spec, "orders")}
    assert rows == {1: None, 2: None} | {n: f"c{n}" if n % 2 else None for n in range(3, 23)}


def test_a_column_that_stays_away_is_retired_and_comes_back(world: World) -> None:
    spec = world.spec(contract={"retire_runs": 2, "debounce_runs": 0}, target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders DROP COLUMN name")
    comments = []
    for n in range(2, 6):
        check(world.load(spec, "orders", f"2024-05-0{n}"))
        comments.append(shown(world, spec).column("name").comment)
    assert comments[0] == "" and comments[1].startswith("retired 20") and comments[1:] == comments[1:2] * 3
    assert [len(ddl(world, spec)), told(world, spec)[1:]] == [
        2, [["column 'name' is retired: the source has not shown it for a while"]]
    ]  # fmt: skip
    assert ddl(world, spec)[-1]["drift"] == events(world, spec)[-1]["id"]
    world.sql("ALTER TABLE orders ADD COLUMN name TEXT", "UPDATE orders SET name='z'")
    check(world.load(spec, "orders", "2024-05-06"))
    assert (shown(world, spec).column("name").comment, told(world, spec)[2:]) == ("", [["column 'name' is back in the source"]])
    names = {r["dt"]: r["name"] for r in world.visible(spec, "orders") if r["id"] == 1}
    assert [names[f"2024-05-0{n}"] for n in range(1, 7)] == ["a", None, None, None, None, "z"]


def test_a_retired_column_that_comes_back_otherwise_is_for_the_type_rules(world: World) -> None:
    spec = world.spec(contract={"retire_runs": 1, "debounce_runs": 0}, target=DT)
    world.load(spec, "orders", "2024-05-01")
    world.sql("ALTER TABLE orders DROP COLUMN name")
    world.load(spec, "orders", "2024-05-02")
    world.sql("ALTER TABLE orders ADD COLUMN name INTEGER", "UPDATE orders SET name=1")
    check(world.load(spec, "orders", "2024-05-03"), "held")
    assert told(world, spec)[-1] == [
        "column 'name' is back in the source", "column 'name' is string, the source now says int64"
    ]  # fmt: skip


def test_files_of_an_old_period_are_no_drift_back(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    world = World(tmp_path, kind="files", options={"path": "in/*"})
    spec = world.spec(**NEW)
    put(world, "1.csv", "id,name\n1,a\n")
    check(world.load(spec, "src", "2024-05-01"))
    put(world, "2.csv", "id,name,city\n2,b,Rome\n")
    check(world.load(spec, "src", "2024-05-02"))
    check(world.load(spec, "src", day("2024-05-01", backfill=True)))
    put(world, "3.csv", "id,name,city\n3,c,Oslo\n")
    check(world.load(spec, "src", "2024-05-03"))
    put(world, "4.csv", "")
    world.load(spec, "src", "2024-05-04")
    assert told(world, spec) == [["new column 'city' (string)"]]
    assert ids(world.visible(spec, "src")) == [1, 2, 3]


def test_another_form_of_files_is_infrastructure(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    world = World(tmp_path, kind="files", options={"path": "in/*"})
    spec = world.spec(**NEW)
    for number, text in enumerate(("id,name\n1,a\n2,ö\n", "id,name\n3,ü\n", "id;name\r\n4;für\r\n5;größer\r\n6;Käse\r\n"), 1):
        (world.folder / "in" / f"{number}.csv").write_bytes(text.encode("cp1252" if number == 3 else "utf-8"))
        check(world.load(spec, "src", f"2024-05-0{number}"))
    (event,) = events(world, spec)
    assert (event["kind"], event["decision"]) == ("infrastructure", "noted")
    assert {c["name"] for c in event["changes"]} == {"delimiter", "encoding", "line_ends"}


class Commented(MemorySource):
    """A source whose columns have comments."""

    comments: Mapping[str, str] = {}

    def _with_comments(self, schema: TableSchema) -> TableSchema:
        return replace(schema, columns=tuple(replace(c, comment=self.comments.get(c.name, "")) for c in schema))

    def describe(self, table: str, query: str | None = None) -> Any:
        found = super().describe(table, query)
        return replace(found, schema=self._with_comments(found.schema))

    def read(self, request: Any) -> Any:
        reading = super().read(request)
        reading.schema = self._with_comments(reading.schema)
        return reading


def test_comments_follow_the_source_without_an_alarm(tmp_path: Path) -> None:
    source = Commented({"orders": pa.table({"id": [1], "name": ["a"]})})
    world = World(tmp_path, wrap=lambda name, edge: source if name == "source" else edge)
    spec = world.spec(contract={"retire_runs": 1, "debounce_runs": 0})
    source.comments = {"id": "the key"}
    world.load(spec, "orders", "2024-05-01")
    source.comments = {"id": "ü" * 400, "name": "who"}
    world.load(spec, "orders", "2024-05-02")
    world.load(spec, "orders", "2024-05-03")
    assert (shown(world, spec).column("id").comment, shown(world, spec).column("name").comment) == ("ü" * 256, "who")
    assert [entry["drift"] for entry in ddl(world, spec)] == [None, None] and events(world, spec) == []
    kept = world.edges(spec).ledger.drift.schema(table_spec(spec, "orders").key)
    assert kept is not None and kept.column("id").comment == "ü" * 400
    source.put("orders", pa.table({"id": [1]}))
    world.load(spec, "orders", "2024-05-04")
    assert shown(world, spec).column("name").comment.endswith(": who")
    source.put("orders", pa.table({"id": [1], "name": ["a"]}))
    world.load(spec, "orders", "2024-05-05")
    assert shown(world, spec).column("name").comment == "who"
