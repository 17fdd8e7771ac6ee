"""The maintenance alone: no run of the table, no source. What the dead left is finished, what the living hold is not touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.sweep import SweepResult, sweep
from airflow_dataops.steps.verify import verify
from tests.ledger.actors import Clock
from tests.steps.effects import Killed, Stage
from tests.steps.test_held import NEW_COLUMN
from tests.steps.test_row_edits import die_before
from tests.steps.world import World, day, ids

GRACE, DEAD, LEASE = 1_000.0, 50_000.0, 100.0
DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}
MARK = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}


class Down:
    """A source that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise UnavailableError(f"Cannot read source: it was asked for {name} -> an answer. It is down.")


@dataclass
class Maintained(World):
    """A world whose source is only up for runs; time moves when it is told to."""

    lease_seconds: float = LEASE

    def edges(self, spec: PipelineSpec, writer: str = "w") -> Edges:
        return replace(super().edges(spec, writer), grace_seconds=GRACE, dead_after_seconds=DEAD)

    def sweep(self, *specs: PipelineSpec, opened: Callable[[PipelineSpec], Any] | None = None) -> SweepResult:
        ledger = self.edges(specs[0]).ledger
        return sweep(specs, ledger, opened or self.opened)

    @contextmanager
    def opened(self, spec: PipelineSpec) -> Iterator[Edges]:
        yield replace(self.edges(spec), source=Down(), privacy_key=None)

    def dies(self, effect: str, spec: PipelineSpec, table: str = "orders", period: str = "2024-05-01") -> None:
        """A run of the table, killed before its first effect of that name."""
        with pytest.raises(Killed):
            Maintained(self.folder, wrap=die_before(effect).wrap, clock=self.clock).load(spec, table, period, run="dead")

    def wait(self, seconds: float) -> None:
        self.clock.wait(seconds)  # type: ignore[attr-defined]

    def files(self) -> set[Path]:
        return set((self.folder / "lake").rglob("*.parquet"))


@pytest.fixture
def world(tmp_path: Path) -> Maintained:
    made = Maintained(tmp_path, clock=Clock())
    made.sql("CREATE TABLE orders (id INTEGER, name TEXT)", "INSERT INTO orders VALUES (1,'a'),(2,'b')")
    return made


def proved(world: World, spec: PipelineSpec) -> None:
    edges = world.edges(spec)
    verify(spec, edges, ["orders"]).raise_for_problems("the sweep")
    assert edges.ledger.batches.unfinished() == ()


MERGE = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "merge", "keys": ["id"]}}
AT = ["ledger.batches.decide", "ledger.decisions.mark", "catalog.put_partitions", "ledger.batches.commit"]


@pytest.mark.parametrize("effect", AT)
@pytest.mark.parametrize("row", [{}, {"target": DT}, MARK, MERGE], ids=["full", "by period", "append", "merge"])
def test_what_a_dead_run_left_is_whole_and_committed_after_the_sweep_alone(world: Maintained, row: dict, effect: str) -> None:
    spec = world.spec(**row)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    world.dies(effect, spec)
    world.wait(LEASE)
    result = world.sweep(spec)
    assert [(t.target, t.finished, t.error) for t in result.tables] == [("d.orders", 1, None)]
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]
    proved(world, spec)
    assert not any(t.changed for t in world.sweep(spec).tables)


def test_the_first_batch_of_a_table_is_finished_too(world: Maintained) -> None:
    spec = world.spec()
    world.dies("catalog.create_table", spec)
    world.wait(LEASE)
    assert world.sweep(spec).tables[0].finished == 1
    assert ids(world.visible(spec, "orders")) == [1, 2]


@pytest.mark.parametrize("effect", AT)
def test_a_batch_that_a_live_run_holds_is_left_alone(world: Maintained, effect: str) -> None:
    """The sweep comes while the run stands before that effect; the run goes on and ends as if nobody had been there."""
    spec = world.spec(**MARK)
    world.load(spec, "orders")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    swept: list[SweepResult] = []

    def come(reached: int, name: str) -> None:
        if name == f"before {effect}" and not swept:
            world.wait(LEASE - 1)
            swept.append(world.sweep(spec))

    alive = Maintained(world.folder, wrap=Stage(come).wrap, clock=world.clock)
    result = alive.load(spec, "orders")
    assert (result.outcome, result.error) == ("loaded", None)
    assert [(t.finished, t.left, t.error) for t in swept[0].tables] == [(0, 1, None)]
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]


def test_freezing_prolongs_the_lease(world: Maintained) -> None:
    """Reading may have taken nearly all of it; publishing begins with a whole one."""

    def slow(_: int, name: str) -> None:
        if name == "before ledger.batches.freeze":
            world.wait(LEASE - 1)
        if name == "before ledger.batches.decide":
            raise Killed(name)

    with pytest.raises(Killed):
        Maintained(world.folder, wrap=Stage(slow).wrap, clock=world.clock).load(world.spec(), "orders")
    world.wait(LEASE - 1)
    assert [(t.finished, t.left) for t in world.sweep(world.spec()).tables] == [(0, 1)]
    world.wait(1)
    assert [(t.finished, t.left) for t in world.sweep(world.spec()).tables] == [(1, 0)]


def test_replaced_directories_are_gone_after_their_grace_and_dead_staging_after_its_own(world: Maintained) -> None:
    spec = world.spec()
    world.load(spec, "orders")
    first = world.files()
    world.sql("INSERT INTO orders VALUES (3,'c')")
    world.load(spec, "orders")
    second = world.files() - first
    world.dies("ledger.batches.freeze", spec)
    staged = world.files() - first - second
    assert first and second and staged
    world.wait(GRACE - 1)
    assert not any(t.expired for t in world.sweep(spec).tables)
    assert first <= world.files()
    world.wait(1)
    assert [t.expired for t in world.sweep(spec).tables] == [1]
    assert world.files() == second | staged
    world.load(spec, "orders", run="another")  # abandons what died, whose lease is over
    world.wait(DEAD)
    assert [t.expired for t in world.sweep(spec).tables] == [2]  # and the staging of the unchanged run
    assert world.files() == second
    assert not any(t.changed for t in world.sweep(spec).tables)  # it looks again after a deletion
    assert world.sweep(spec).tables == ()  # at rest: the ledger does not even name it
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]


def test_held_and_frozen_files_are_never_deleted(world: Maintained) -> None:
    spec = world.spec(contract={"columns": "freeze"})
    world.load(spec, "orders")
    world.sql(*NEW_COLUMN)
    assert world.load(spec, "orders").outcome == "held"
    held = world.files()
    world.wait(10 * DEAD)
    assert all(t.error is None for t in world.sweep(spec).tables)
    assert world.files() == held
    assert ids(world.visible(spec, "orders")) == [1, 2]


def test_a_batch_that_was_to_be_held_is_held_by_the_maintenance(world: Maintained) -> None:
    spec = world.spec(contract={"columns": "freeze"})
    world.load(spec, "orders")
    world.sql(*NEW_COLUMN)
    world.dies("ledger.batches.hold", spec)
    world.wait(LEASE)
    assert [(t.finished, t.held) for t in world.sweep(spec).tables] == [(0, 1)]
    assert all("city" not in r for r in world.visible(spec, "orders"))


def test_a_failing_table_never_stops_others(world: Maintained) -> None:
    world.sql("CREATE TABLE a (id INTEGER)", "CREATE TABLE z (id INTEGER)", "INSERT INTO a VALUES (1)", "INSERT INTO z VALUES (1)")
    spec = world.spec()
    for name in ("a", "z"):
        world.load(spec, name)
    world.sql("INSERT INTO a VALUES (2)", "INSERT INTO z VALUES (2)")
    for name in ("a", "z"):
        world.dies("ledger.batches.decide", spec, name)
    edges = world.edges(spec)
    (shown,) = edges.catalog.get_partitions("d", "a", [()])
    edges.catalog.put_partitions("d", "a", [replace(shown, location="file:///elsewhere")])
    world.wait(LEASE)
    result = world.sweep(spec)
    assert [(t.target, t.finished, t.error_code) for t in result.tables] == [("d.a", 0, "foreign_change"), ("d.z", 1, None)]
    assert [t.target for t in result.failures] == ["d.a"]
    assert ids(world.visible(spec, "z")) == [1, 2]


def test_a_source_that_cannot_be_opened_never_stops_others(world: Maintained) -> None:
    one, other, gone = (world.spec(name=name, target={"database": name}) for name in ("one", "other", "gone"))
    for spec in (one, other, gone):
        world.dies("ledger.batches.decide", spec)
    world.wait(LEASE)

    @contextmanager
    def opened(spec: PipelineSpec) -> Iterator[Edges]:
        if spec.name == "one":
            raise InventoryError("Cannot find connection 'lake_of_one'")
        with world.opened(spec) as edges:
            yield edges

    result = world.sweep(one, other, opened=opened)
    assert [(t.source_id, t.finished, t.error_code) for t in result.tables] == [("d.one", 0, "inventory"), ("d.other", 1, None)]
    assert result.strangers == ("d.gone",)


def test_a_row_that_was_sent_elsewhere_since_is_finished_where_it_was(world: Maintained) -> None:
    world.dies("ledger.decisions.mark", world.spec())
    world.wait(LEASE)
    moved = world.spec(target={"table": "fresh"})
    assert [(t.target, t.finished) for t in world.sweep(moved).tables] == [("d.orders", 1)]
    assert ids(world.visible(world.spec(), "orders")) == [1, 2]
    assert world.visible(moved, "orders") == []


def test_a_zombie_that_turned_the_catalog_back_is_corrected(world: Maintained) -> None:
    """Hive's partitions have no compare-and-swap: the last writer wins, until the sweep."""
    spec = world.spec()
    world.load(spec, "orders")
    edges = world.edges(spec)
    key = table_spec(spec, "orders").key
    (older,) = edges.catalog.get_partitions("d", "orders", [()])
    edges.ledger.decisions.mark(key, [""], "zombie")
    world.sql("INSERT INTO orders VALUES (3,'c')")
    world.load(spec, "orders")
    edges.catalog.drop_partitions("d", "orders", [()])
    edges.catalog.put_partitions("d", "orders", [older])
    assert ids(world.visible(spec, "orders")) == [1, 2]
    assert [(t.finished, t.projected) for t in world.sweep(spec).tables] == [(0, 1)]
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]
    assert [w for _, _, w, _ in edges.ledger.decisions.marked()] == ["zombie"]  # it may come again
    world.wait(DEAD)
    world.sweep(spec)
    assert edges.ledger.decisions.marked() == ()


def test_sweeping_needs_nothing_of_the_source(world: Maintained) -> None:
    spec = world.spec(**MARK)
    world.load(spec, "orders", day("2024-05-01"))
    world.sql("INSERT INTO orders VALUES (3,'c')")
    world.dies("ledger.batches.decide", spec)
    world.database.unlink()
    world.wait(LEASE)
    assert world.sweep(spec).tables[0].finished == 1
    assert ids(world.visible(spec, "orders")) == [1, 2, 3]
