"""A source that is renamed, or gone: its tables go on, or say what they are. Over real edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_dataops.catalog import open_catalog
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.sources_base import Retirement
from airflow_dataops.steps.retired import RETIRED, mark_retired
from airflow_dataops.steps.run import Edges
from tests.steps.world import World, ids

TARGET = {"database": "d", "table": "orders"}
WATERMARK = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}, "target": TARGET}


def with_orders(folder: Path) -> World:
    world = World(folder)
    world.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)", "INSERT INTO orders VALUES (1, 'pen'), (2, 'ink')")
    return world


def test_a_renamed_source_reads_on_and_doubles_nothing(tmp_path: Path) -> None:
    world = with_orders(tmp_path)
    old, new = world.spec(**WATERMARK), world.spec(**WATERMARK, name="dst", renamed_from="src")
    assert world.load(old, "orders").accounting.rows_written == 2
    assert world.load(new, "orders").outcome == "nothing_new"
    world.sql("INSERT INTO orders VALUES (3, 'nib')")
    assert world.load(new, "orders").accounting.rows_written == 1
    assert ids(world.visible(new, "orders")) == [1, 2, 3]
    assert (
        world.load(world.spec(**WATERMARK, name="dst"), "orders").outcome == "nothing_new"
    )  # once it is recorded, the row need not say it


def test_a_run_of_the_old_name_that_is_still_under_way_doubles_nothing(tmp_path: Path) -> None:
    world = with_orders(tmp_path)
    old, new = world.spec(**WATERMARK), world.spec(**WATERMARK, name="dst", renamed_from="src")
    world.load(old, "orders")
    world.sql("INSERT INTO orders VALUES (3, 'nib')")
    world.load(new, "orders")
    assert world.load(old, "orders").outcome == "nothing_new"
    world.sql("INSERT INTO orders VALUES (4, 'cap')")
    world.load(old, "orders")
    assert world.load(new, "orders").outcome == "nothing_new"
    assert ids(world.visible(new, "orders")) == [1, 2, 3, 4]


def test_a_period_that_is_run_again_under_the_new_name_replaces_its_rows(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sql("CREATE TABLE orders (id INTEGER, at TEXT)", "INSERT INTO orders VALUES (1, '2024-05-01 10:00:00')")
    window = {
        "read": {"mode": "full", "backfill": "snapshot"}, "write": {"mode": "overwrite_partition"},
        "target": TARGET | {"partition_by": [{"name": "dt", "from": "period_start"}]},
    }  # fmt: skip
    world.load(world.spec(**window), "orders")
    world.sql("INSERT INTO orders VALUES (2, '2024-05-01 11:00:00')")
    new = world.spec(**window, name="dst", renamed_from="src")
    result = world.load(new, "orders")
    assert ids(world.visible(new, "orders")) == [1, 2] and result.outcome == "loaded"


def test_a_chain_of_renames_and_a_rename_back(tmp_path: Path) -> None:
    world = with_orders(tmp_path)
    world.load(world.spec(**WATERMARK), "orders")
    for name, former in (("b", "src"), ("c", "b"), ("src", "c")):
        world.sql("INSERT INTO orders (item) VALUES ('more')")
        renamed = world.spec(**WATERMARK, name=name, renamed_from=former)
        assert world.load(renamed, "orders").accounting.rows_written == 1
    assert ids(world.visible(world.spec(**WATERMARK), "orders")) == [1, 2, 3, 4, 5]


class Maintained:
    """The maintenance of one loaded table, and what the catalog says of it."""

    def __init__(self, folder: Path) -> None:
        self.world = with_orders(folder)
        self.world.load(self.world.spec(**WATERMARK), "orders")
        self.ledger = open_ledger(self.world.ledger_url, clock=lambda: 1_700_000_000.0)
        self.catalog = open_catalog("embedded", ledger_url=self.world.ledger_url)

    @contextmanager
    def opened(self, of: PipelineSpec) -> Iterator[Edges]:
        yield self.world.edges(of)

    def says(self) -> str | None:
        table = self.catalog.get_table("d", "orders")
        assert table is not None
        return table.parameters.get(RETIRED)

    def show(self, *specs: PipelineSpec, gone: Sequence[Retirement] = ()) -> None:
        self.ledger.sources.apply("inv", {spec.id: spec.model_dump_json(by_alias=True) for spec in specs}, gone)

    def look(self) -> str | None:
        result = mark_retired(self.ledger, self.opened)
        assert not result.failed
        return self.says()


@pytest.fixture
def maintained(tmp_path: Path) -> Iterator[Maintained]:
    made = Maintained(tmp_path)
    yield made
    made.ledger.close()
    made.catalog.close()


@pytest.mark.parametrize("looked", [True, False])
def test_a_rename_after_the_removal_tells_the_tables(looked: bool, maintained: Maintained) -> None:
    spec = maintained.world.spec
    old, new = spec(**WATERMARK), spec(**WATERMARK, name="dst", renamed_from="src")
    maintained.show(old)
    maintained.show(gone=[Retirement(old.id, 2e9)])
    assert maintained.look() == "2023-11-14"
    maintained.ledger.sources.carry(new.id, old.id)
    maintained.show(new, gone=[Retirement(old.id, 2e9, new.id)])
    if looked:
        assert maintained.look() is None
    maintained.show(gone=[Retirement(new.id, 2e9)])
    assert maintained.look() == "2023-11-14"


def test_after_a_rename_back_the_name_that_was_tried_says_nothing(maintained: Maintained) -> None:
    spec = maintained.world.spec
    old, new = spec(**WATERMARK), spec(**WATERMARK, name="dst", renamed_from="src")
    maintained.show(old)
    for row, gone in ((new, old), (old, new)):
        maintained.ledger.sources.carry(row.id, gone.id)
        maintained.show(row, gone=[Retirement(gone.id, 2e9, row.id)])
        maintained.world.load(gone, "orders")  # a late run
        assert maintained.look() is None
    maintained.ledger.sources.carry(old.id, new.id)
    assert maintained.look() is None and maintained.ledger.sources.former_ids() == {new.id: old.id}


def test_after_a_new_name_is_dropped_the_old_one_has_the_tables(maintained: Maintained) -> None:
    spec = maintained.world.spec
    old, new = spec(**WATERMARK), spec(**WATERMARK, name="dst", renamed_from="src")
    maintained.show(old)
    maintained.ledger.sources.carry(new.id, old.id)
    maintained.show(new, gone=[Retirement(old.id, 2e9, new.id)])
    maintained.ledger.sources.carry(old.id, new.id)
    maintained.show(old, gone=[Retirement(new.id, 2e9)])
    assert maintained.look() is None and maintained.ledger.sources.former_ids() == {new.id: old.id}


def test_tables_of_a_retired_source_say_so_until_it_is_back(maintained: Maintained) -> None:
    world, ledger, opened, says = maintained.world, maintained.ledger, maintained.opened, maintained.says
    spec = world.spec(**WATERMARK)
    ledger.sources.apply("inv", {spec.id: spec.model_dump_json(by_alias=True)}, [])
    assert (mark_retired(ledger, opened).tables, says()) == ((), None)
    ledger.sources.apply("inv", {}, [Retirement(spec.id, 0.0)])
    assert (mark_retired(ledger, opened).tables, says()) == (("d.orders",), "2023-11-14")
    assert mark_retired(ledger, opened).tables == ()
    world.sql("ALTER TABLE orders ADD COLUMN more TEXT", "INSERT INTO orders VALUES (3, 'nib', 'x')")
    world.load(spec, "orders")  # a run by hand, or one that was under way
    assert says() == "2023-11-14"
    ledger.sources.apply("inv", {spec.id: spec.model_dump_json(by_alias=True)}, [])
    assert (mark_retired(ledger, opened).tables, says()) == (("d.orders",), None)
    ledger.sources.apply("inv", {spec.id: "{}"}, [])
    ledger.sources.apply("inv", {}, [Retirement(spec.id, 0.0)])
    assert set(mark_retired(ledger, opened).failed) == {spec.id} and says() is None
