"""The catalog against the ledger against the lake: what is found, what is put right, what is left alone (docs/partitions.md)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.catalog.base import CatalogPartition
from airflow_dataops.core.errors import LimitError, UnavailableError
from airflow_dataops.steps.drop_limits import DropLimits
from airflow_dataops.steps.load import load_table
from airflow_dataops.steps.partition_sync import (
    PartitionSyncPlan,
    PartitionSyncResult,
    apply_partition_sync,
    check_partition_sync,
    list_partitions,
    partition_sync,
    plan_partition_sync,
)
from airflow_dataops.steps.run import Run
from airflow_dataops.steps.sweep import sweep_table
from tests.steps.effects import Stage
from tests.steps.traces import Traced, asleep, dying
from tests.steps.world import day

BY_CITY = {"target": {"partition_by": [{"name": "p", "from": "column:v"}]}}
LIMITS = DropLimits(1000, 10)
ODD = ("2024-05-01 10:00:00", "a/b", "", None, "50%", "a=b", "__x", "ä'\"")
"""Values as a source may have them (behaviour 12)."""


def world(folder: Path, values: tuple[str | None, ...] = ("a", "b", "c"), **more: Any) -> Traced:
    traced = Traced(folder, BY_CITY, **more)
    traced.put(*enumerate(values))
    traced.loads("first")
    return traced


def planned(traced: Traced, **how: bool) -> PartitionSyncPlan:
    return plan_partition_sync(traced.table, traced.edges(), **how)


def repaired(traced: Traced, stage: Stage | None = None, **how: bool) -> PartitionSyncResult:
    return apply_partition_sync(planned(traced), traced.edges(stage), **how)


def states(plan: PartitionSyncPlan) -> dict[str, str]:
    return {found.partition: found.state for found in plan.wrong}


def shown(traced: Traced, *names: str) -> list[CatalogPartition]:
    return list(traced.catalog.get_partitions(traced.table.database, traced.table.table, [(name,) for name in names]))


def put(traced: Traced, *partitions: CatalogPartition) -> None:
    """Somebody else's write: no compare-and-swap keeps it out."""
    table = traced.table
    traced.catalog.drop_partitions(table.database, table.table, [p.values for p in partitions])
    traced.catalog.put_partitions(table.database, table.table, partitions)


def place(traced: Traced, name: str) -> Path:
    return traced.folder / "lake" / traced.ledger.decisions.current(traced.table.key)[name].location


def test_nothing_is_wrong_with_what_was_loaded(tmp_path: Path) -> None:
    traced = world(tmp_path)
    assert planned(traced, deep=True) == PartitionSyncPlan(traced.table, 3, 0, ())
    assert repaired(traced) == PartitionSyncResult("d.orders", 3, 0)
    assert traced.ledger.drift.ddl(traced.table.key)[0]["statement"] == "create_table"  # nothing else was done


def lose(traced: Traced, name: str) -> None:
    traced.catalog.drop_partitions(traced.table.database, traced.table.table, [(name,)])


def rewind(traced: Traced, name: str) -> None:
    """The catalog shows an older decision: a writer woke up late, or a metastore was restored."""
    (old,) = shown(traced, name)
    traced.put(*((n, v) for n, v in enumerate(("a", "b", "c"), start=10)))
    traced.loads("second")
    put(traced, old)


@pytest.mark.parametrize(("break_", "state"), [(lose, "missing"), (rewind, "stale")])
def test_what_the_catalog_does_not_show_is_shown_anew(tmp_path: Path, break_: Callable[[Traced, str], None], state: str) -> None:
    traced = world(tmp_path)
    break_(traced, "b")
    before = traced.visible()
    assert states(planned(traced)) == {"p=b": state}
    assert traced.visible() == before  # a plan changes nothing
    done = repaired(traced)
    assert (done.shown, done.dropped, done.left) == (("p=b",), (), ())
    assert len(traced.visible()) == 3 and planned(traced).wrong == () and traced.ledger.decisions.marked() == ()
    audited = traced.ledger.drift.ddl(traced.table.key)[0]
    assert (audited["statement"], audited["after"]) == ("show_partitions", ["p=b"])


def test_what_was_never_ours_is_told_and_never_touched(tmp_path: Path) -> None:
    traced = world(tmp_path)
    (mine,) = shown(traced, "b")
    theirs = replace(mine, location=f"file://{tmp_path}/theirs", epoch=0)
    put(traced, theirs, replace(theirs, values=("z",)), replace(mine, values=("y",)))
    assert states(planned(traced)) == {"p=b": "foreign", "p=z": "foreign", "p=y": "unknown"}
    done = repaired(traced, drop=True)
    assert (done.shown, done.dropped, len(done.left)) == ((), (), 3)
    assert shown(traced, "b", "z") == [theirs, replace(theirs, values=("z",))]
    assert traced.ledger.decisions.marked() == ()


def test_what_the_lake_has_lost_is_dropped_on_a_word_only_and_can_be_loaded_again(tmp_path: Path) -> None:
    traced = world(tmp_path)
    shutil.rmtree(place(traced, "p=b"))
    (found,) = planned(traced).wrong
    assert (found.partition, found.state, found.epoch, found.rows) == ("p=b", "gone", 1, 1)
    assert [left.state for left in repaired(traced).left] == ["gone"] and shown(traced, "b")
    done = repaired(traced, drop=True)
    assert (done.dropped, done.left) == (("p=b",), ())
    assert shown(traced, "b") == [] and [row[0] for row in traced.visible()] == [0, 2] and planned(traced).wrong == ()
    assert traced.ledger.decisions.latest(traced.table.key, ["p=b"])["p=b"].dropped == "gone"
    assert traced.ledger.drift.ddl(traced.table.key)[0]["before"][0]["rows"] == 1  # how many are lost is on record
    assert traced.loads("again").accounting.rows_written == 1  # not "unchanged": nothing stands there
    assert [row[0] for row in traced.visible()] == [0, 1, 2]


def test_what_came_back_between_plan_and_repair_is_not_dropped(tmp_path: Path) -> None:
    traced = world(tmp_path)
    shutil.move(place(traced, "p=b"), tmp_path / "away")
    plan = planned(traced)
    shutil.move(tmp_path / "away", place(traced, "p=b"))
    assert apply_partition_sync(plan, traced.edges(), drop=True).dropped == () and len(traced.visible()) == 3


def test_25_a_listing_that_finds_most_of_them_gone_stops_and_changes_nothing(tmp_path: Path) -> None:
    values = tuple(f"v{n:02d}" for n in range(50))
    traced = world(tmp_path, values)
    lose(traced, "v49")
    for n in range(30):
        shutil.rmtree(place(traced, f"p=v{n:02d}"))
    before = traced.catalog.page_partitions("d", "orders")
    with pytest.raises(LimitError, match=r"30 of 50 would be dropped -> at most 10 \(1000, 10 %\)\. Nothing was changed"):
        check_partition_sync(planned(traced), LIMITS)
    (told,) = partition_sync(traced.spec, traced.edges(), LIMITS, drop=True)
    assert told.error_code == "limit" and "a lake that is not mounted" in str(told.error)
    assert traced.catalog.page_partitions("d", "orders") == before and len(traced.ledger.decisions.current(traced.table.key)) == 50
    check_partition_sync(planned(traced), DropLimits(1000, 60))


def test_25_a_listing_that_fails_stops_and_changes_nothing(tmp_path: Path) -> None:
    traced = world(tmp_path)
    lose(traced, "a")
    edges = traced.edges()

    class Down:
        def __getattr__(self, name: str) -> Any:
            return getattr(edges.lake, name)

        def list(self, directory: str) -> Any:
            if directory.endswith("p=c"):
                raise UnavailableError("Cannot list: no answer -> one.")
            return edges.lake.list(directory)

    with pytest.raises(UnavailableError):
        plan_partition_sync(traced.table, replace(edges, lake=Down()))  # type: ignore[arg-type]
    (told,) = partition_sync(traced.spec, replace(edges, lake=Down()), LIMITS, drop=True)  # type: ignore[arg-type]
    assert told.error_code == "unavailable" and not shown(traced, "a")


def test_the_one_partition_of_a_table_without_any_is_never_dropped(tmp_path: Path) -> None:
    traced = Traced(tmp_path, {})
    traced.put((1, "a"))
    traced.loads("first")
    shutil.rmtree(place(traced, ""))
    assert states(planned(traced)) == {"": "gone"} and planned(traced).drop == ()
    assert repaired(traced, drop=True).dropped == () and len(shown_table(traced)) == 1


def shown_table(traced: Traced) -> tuple[CatalogPartition, ...]:
    return traced.catalog.page_partitions("d", "orders")


def test_files_with_other_bytes_are_told(tmp_path: Path) -> None:
    traced = world(tmp_path)
    (file,) = place(traced, "p=b").glob("*.parquet")
    file.write_bytes(file.read_bytes() + b"x")
    assert states(planned(traced)) == {"p=b": "changed"}


def test_rows_that_are_not_those_decided_are_told_when_they_are_read(tmp_path: Path) -> None:
    traced = world(tmp_path)
    (a,), (b,) = (list(place(traced, name).glob("*.parquet")) for name in ("p=a", "p=b"))
    assert a.stat().st_size == b.stat().st_size  # else it would be told without reading
    b.write_bytes(a.read_bytes())
    assert states(planned(traced)) == {} and states(planned(traced, deep=True)) == {"p=b": "differs"}


def test_whoever_is_at_work_is_not_judged(tmp_path: Path) -> None:
    """Late is not gone: between its decision and its catalog a partition looks missing."""
    traced = world(tmp_path)
    traced.put((0, "a"), (1, "b"), (2, "c"), (3, "d"))
    plans: list[PartitionSyncPlan] = []
    with asleep("before catalog.put_partitions", lambda: plans.append(planned(traced))) as stage:
        traced.loads("second", stage)
    assert (plans[0].standing, plans[0].busy, plans[0].wrong) == (4, 1, ())


def test_a_partition_decided_while_the_pages_are_read_is_not_called_wrong(tmp_path: Path) -> None:
    traced = world(tmp_path)
    edges = traced.edges()

    class Moving:
        def __getattr__(self, name: str) -> Any:
            return getattr(edges.catalog, name)

        def get_partitions(self, *asked: Any) -> Any:
            traced.put((5, "a"), (6, "b"), (7, "c"))
            traced.loads("meanwhile")
            return edges.catalog.get_partitions(*asked)

    plan = plan_partition_sync(traced.table, replace(edges, catalog=Moving()))  # type: ignore[arg-type]
    assert (plan.busy, plan.wrong) == (3, ())


@pytest.mark.parametrize("compares_and_swaps", [True, False], ids=["cas", "no-cas"])
@pytest.mark.parametrize(
    "when",
    [
        "after ledger.drift.record_ddl", "after ledger.decisions.mark", "after catalog.put_partitions",
        "before ledger.partitions.drop", "after ledger.partitions.drop", "before catalog.drop_partitions",
        "after catalog.drop_partitions",
    ],
)  # fmt: skip
def test_dead_at_any_effect_a_sweep_and_another_repair_end_it(when: str, compares_and_swaps: bool, tmp_path: Path) -> None:
    traced = world(tmp_path, compares_and_swaps=compares_and_swaps)
    lose(traced, "a")
    shutil.rmtree(place(traced, "p=b"))
    with dying(when) as stage:
        repaired(traced, stage, drop=True)
    edges = replace(traced.edges(), dead_after_seconds=0.0)
    sweep_table(traced.table, edges)
    repaired(traced, drop=True)
    assert [row[0] for row in traced.visible()] == [0, 2] and planned(traced).wrong == ()
    assert traced.ledger.decisions.marked() == ()


def test_12_odd_values_are_found_again_after_a_restart(tmp_path: Path) -> None:
    traced = world(tmp_path, ODD)
    assert len(traced.catalog.page_partitions("d", "orders")) == len(ODD) - 1  # NULL and '' are one
    again = Traced(tmp_path, BY_CITY)
    again.source, again.catalog, again.ledger, again.clock = traced.source, traced.catalog, traced.ledger, traced.clock
    assert again.loads("second").outcome == "unchanged" and planned(again).wrong == ()
    names = [found.partition for found in list_partitions(again.table, again.edges())]
    assert len(names) == len(ODD) - 1 and "p=2024-05-01 10%3A00%3A00" in names and "p=__HIVE_DEFAULT_PARTITION__" in names
    for partition in shown_table(again):
        again.catalog.drop_partitions("d", "orders", [partition.values])
    assert set(repaired(again).shown) == set(names) and len(again.visible()) == len(ODD)


@pytest.mark.parametrize("compares_and_swaps", [True, False], ids=["cas", "no-cas"])
def test_13_a_second_runner_adds_the_same_partition_without_an_error(tmp_path: Path, compares_and_swaps: bool) -> None:
    traced = Traced(tmp_path, BY_CITY, compares_and_swaps=compares_and_swaps)
    traced.put((1, "a"))
    with asleep("before catalog.put_partitions", lambda: traced.loads("second")) as stage:
        first = traced.load("first", stage)
    assert first.error is None and [row[0] for row in traced.visible()] == [1]
    assert planned(traced).wrong == () and len(shown_table(traced)) == 1


def test_13_another_place_is_that_partitions_trouble_only(tmp_path: Path) -> None:
    traced = world(tmp_path)
    (mine,) = shown(traced, "b")
    put(traced, replace(mine, location=f"file://{tmp_path}/theirs"))
    lose(traced, "c")
    done = repaired(traced)
    assert done.shown == ("p=c",) and [left.partition for left in done.left] == ["p=b"]


def test_20_files_without_registration_are_registered_by_the_next_run(tmp_path: Path) -> None:
    traced = Traced(tmp_path, BY_CITY)
    traced.put((1, "a"), (2, "b"))
    with dying("before catalog.put_partitions") as stage:
        traced.load("first", stage)
    assert shown_table(traced) == ()
    assert planned(traced).busy == 2  # late, not gone: its batch is not over
    traced.loads("first")
    assert [row[0] for row in traced.visible()] == [1, 2] and planned(traced).wrong == ()


def test_partitions_are_asked_for_by_name_or_page_never_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_dataops.steps.partition_sync.PAGE", 4)
    traced = world(tmp_path, tuple(f"v{n:02d}" for n in range(10)))
    edges = traced.edges()
    asked: list[int] = []

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(edges.catalog, name)

        def get_partitions(self, database: str, table: str, values: Any) -> Any:
            asked.append(len(values))
            return edges.catalog.get_partitions(database, table, values)

        def page_partitions(self, database: str, table: str, after: Any = None, limit: int = 10_000) -> Any:
            asked.append(limit)
            return edges.catalog.page_partitions(database, table, after, limit)

    plan = plan_partition_sync(traced.table, replace(edges, catalog=Counted()))  # type: ignore[arg-type]
    assert plan.standing == 10 and plan.wrong == () and max(asked) == 4
    found = list(list_partitions(traced.table, edges, "p=v03", 3))
    assert [f.partition for f in found] == ["p=v04", "p=v05", "p=v06"]


def test_one_table_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    traced = world(tmp_path)
    traced.source.put("customers", pa.table({"id": [1], "v": ["a"]}))
    assert load_table(traced.spec, traced.edges(), Run("c", day("2024-05-01")), "customers").error is None
    lose(traced, "a")
    traced.catalog.drop_table("d", "customers")
    results = {r.target: r for r in partition_sync(traced.spec, traced.edges(), LIMITS)}
    assert results["d.customers"].error_code == "inventory" and results["d.orders"].shown == ("p=a",)
