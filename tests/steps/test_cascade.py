"""Columns of old partitions follow their table, in batches, whoever comes in between and whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.schema import Column
from airflow_dataops.steps import cascade as cascading
from airflow_dataops.steps.cascade import Cascaded, cascade
from airflow_dataops.steps.maintain import Limits, maintain_table
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Killed, Stage
from tests.steps.traces import DEAD, LEASE, Traced, asleep, dying

BY_DAY: dict[str, Any] = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
DAYS = [f"2023-05-{n:02d}" for n in range(1, 8)]
CITY = Column("city", pa.string())


def of_days(folder: Path, swaps: bool = True) -> Traced:
    world = Traced(folder, BY_DAY, swaps)
    for n, day in enumerate(DAYS):
        world.put((n, "a"))
        world.loads(f"r{n}", period=day)
    return world


def widened(world: Traced, *columns: Column) -> None:
    """The table gets a column as somebody's drift sync gives it: its partitions are left behind."""
    table = world.catalog.get_table("d", "orders")
    assert table is not None
    world.catalog.alter_table(table, replace(table, columns=(*table.columns, *(columns or (CITY,)))))


def shown_columns(world: Traced) -> dict[str | None, tuple[str, ...]]:
    return {p.values[0]: tuple(c.name for c in p.columns) for p in world.catalog.page_partitions("d", "orders")}


def behind(world: Traced) -> list[str | None]:
    return sorted(day for day, names in shown_columns(world).items() if "city" not in names)


def proved(world: Traced) -> None:
    assert verify(world.spec, world.edges(), ["orders"]).ok


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascading, "BATCH", 3)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("swaps", [True, False], ids=["compare-and-swap", "last writer wins"])
def test_all_old_partitions_follow_at_their_places(tmp_path: Path, swaps: bool) -> None:
    world = of_days(tmp_path, swaps)
    rows, before = world.visible(), world.ledger.decisions.current(world.table.key)
    widened(world)
    assert len(behind(world)) == 7
    assert cascade(world.table, world.edges()) == Cascaded(7, 0)
    assert behind(world) == []
    for name, now in world.ledger.decisions.current(world.table.key).items():
        was = before[name]
        assert (now.location, now.rows, now.fingerprint, now.epoch) == (was.location, was.rows, was.fingerprint, was.epoch + 1)
    assert [row[:2] for row in world.visible()] == [row[:2] for row in rows]
    assert world.ledger.decisions.marked() == ()
    proved(world)
    ddl = [e for e in world.ledger.drift.ddl(world.table.key) if e["statement"] == "cascade_columns"]
    assert sorted(e["partitions"] for e in ddl) == [1, 3, 3]
    assert cascade(world.table, world.edges()) == Cascaded()


def test_it_ends_at_its_limit_and_goes_on_later(tmp_path: Path) -> None:
    world = of_days(tmp_path)
    widened(world)
    assert cascade(world.table, world.edges(), most=5) == Cascaded(5, 2)
    assert behind(world) == DAYS[5:]
    assert cascade(world.table, world.edges()) == Cascaded(2, 0)


def test_never_on_a_table_without_partitions(tmp_path: Path) -> None:
    world = Traced(tmp_path, {})
    world.put((1, "a"))
    world.loads("r1")
    widened(world)
    before = world.decided()
    stage = Stage(lambda *_: None)
    assert cascade(world.table, world.edges(stage)) == Cascaded()
    assert world.decided() == before and stage.names == []


def test_a_run_that_brings_a_column_takes_few_old_partitions_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = of_days(tmp_path)
    world.put((9, "a", "Rome"), columns=("id", "v", "city"))
    monkeypatch.setattr(cascading, "FEW", 6)
    world.loads("r9", period="2023-05-09")
    assert behind(world) == DAYS
    monkeypatch.setattr(cascading, "FEW", 7)
    world.put((10, "a", "Oslo"), columns=("id", "v", "city"))
    world.loads("r10", period="2023-05-10")
    assert behind(world) == []
    proved(world)


def test_a_run_without_drift_does_not_ask_the_catalog_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = of_days(tmp_path)

    def never(*_: object) -> None:
        raise RuntimeError("asked")

    monkeypatch.setattr(cascading, "current_table", never)
    world.loads("r9", period="2023-05-09")
    world.put((10, "a", "Oslo"), columns=("id", "v", "city"))
    assert world.load("r10", period="2023-05-10").error_code == "unexpected"  # the spy is no DataOpsError: it can be seen


def test_a_partition_that_a_batch_holds_is_left_to_the_next_round(tmp_path: Path) -> None:
    world = of_days(tmp_path)
    widened(world)
    world.put((0, "b"))
    with dying("before ledger.batches.decide") as stage:
        world.load("again", stage, period=DAYS[0])
    done = maintain_table(world.table, world.edges(), Limits())
    assert (done.cascaded, done.more) == (6, True) and behind(world) == DAYS[:1]
    world.clock.wait(LEASE)
    sweep_table(world.table, world.edges(), leave_live=True)
    done = maintain_table(world.table, world.edges(), Limits())
    assert not done.more and behind(world) == []
    assert (0, "b", None, DAYS[0]) in world.visible()
    proved(world)


def test_a_partition_with_more_than_was_read_of_the_table_is_ahead(tmp_path: Path) -> None:
    """A load adds a column between the reading of the table and the decision: nothing takes it away again."""
    world = of_days(tmp_path)
    widened(world)

    def newer() -> None:
        world.put((0, "a", "Rome", 7), columns=("id", "v", "city", "zip"))
        world.loads("newer", period=DAYS[0])

    with asleep("before ledger.maintenance.recolumn", newer) as stage:
        cascade(world.table, world.edges(stage))
    assert "zip" in shown_columns(world)[DAYS[0]]
    assert (0, "a", "Rome", 7, DAYS[0]) in world.visible()
    cascade(world.table, world.edges())
    assert all("zip" in names for names in shown_columns(world).values())
    proved(world)


@pytest.mark.parametrize("swaps", [True, False], ids=["compare-and-swap", "last writer wins"])
@pytest.mark.parametrize(
    "effect", ["ledger.maintenance.recolumn", "ledger.decisions.mark", "catalog.put_partitions", "ledger.decisions.clear_marks"]
)
def test_a18_a_load_that_moves_a_partition_meanwhile_is_never_undone(tmp_path: Path, effect: str, swaps: bool) -> None:
    """The cascade writes what the ledger says then, not what it has read before."""
    world = of_days(tmp_path, swaps)
    widened(world)

    def move() -> None:
        world.put((0, "moved"))
        world.loads("moved", period=DAYS[0])

    with asleep(f"before {effect}", move) as stage:
        cascade(world.table, world.edges(stage))
    assert (0, "moved", None, DAYS[0]) in world.visible()
    cascade(world.table, world.edges())
    assert (0, "moved", None, DAYS[0]) in world.visible() and behind(world) == []
    proved(world)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_dead_between_any_two_effects_and_the_next_one_goes_on(tmp_path: Path, every: int) -> None:
    calm = of_days(tmp_path / "calm")
    widened(calm)
    stage = Stage(lambda *_: None)
    cascade(calm.table, calm.edges(stage))
    assert stage.count >= 24  # three batches
    for number in range(0, stage.count, every):
        world = of_days(tmp_path / f"w{number}")
        widened(world)
        rows = [row[:2] for row in world.visible()]
        with pytest.raises(Killed):
            cascade(world.table, world.edges(Stage(dead_at(number))))
        assert [row[:2] for row in world.visible()] == rows
        world.clock.wait(DEAD)
        sweep_table(world.table, world.edges())
        done = cascade(world.table, world.edges())
        assert done.left == 0 and behind(world) == [], stage.names[number]
        assert world.ledger.decisions.marked() == ()
        proved(world)


def dead_at(number: int) -> Callable[[int, str], None]:
    def die(reached: int, name: str) -> None:
        if reached >= number:
            raise Killed(name)

    return die


def test_columns_that_widen_follow_too_and_narrower_ones_never(tmp_path: Path) -> None:
    world = of_days(tmp_path)
    table = world.catalog.get_table("d", "orders")
    assert table is not None
    wide = tuple(replace(c, type=pa.decimal128(21, 2)) if c.name == "id" else c for c in table.columns)
    after = world.catalog.alter_table(table, replace(table, columns=wide))
    assert cascade(world.table, world.edges()) == Cascaded(7, 0)
    (shown, *_) = world.catalog.page_partitions("d", "orders")
    assert shown.columns[0].type == pa.decimal128(21, 2)
    decided = world.ledger.decisions.current(world.table.key)
    assert not any(cascading.is_behind(d.schema, table) for d in decided.values())  # an older reading of the table
    assert not any(cascading.is_behind(d.schema, after) for d in decided.values())
