"""`target.retention_days`: what is dropped when, what stays, and what happens to rows that are older (docs/partitions.md)."""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.catalog.base import CatalogPartition
from airflow_dataops.core.errors import LimitError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.steps.drop_limits import DropLimits
from airflow_dataops.steps.retention import (
    ExpiryPlan,
    TableExpired,
    all_partitions,
    apply_expiry,
    check_expiry,
    expire,
    plan_expiry,
)
from airflow_dataops.steps.sweep import sweep, sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Stage
from tests.steps.traces import DEAD, GRACE, LEASE, Traced, asleep, dying

DAY = 86_400.0
BY_PERIOD = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}], "retention_days": 30}}
MAY = [f"2024-05-{day:02d}" for day in range(1, 6)]
JUNE_3RD = 1_717_372_800.0  # 2024-06-03: 30 days after the end of May the 3rd
LIMITS = DropLimits(1000, 50)


def world(folder: Path, row: dict[str, Any] | None = None, **more: Any) -> Traced:
    """May 1st to 5th, one row each; it is June the 3rd."""
    traced = Traced(folder, row or BY_PERIOD, **more)
    traced.clock.now = JUNE_3RD - 20 * DAY
    for number, day in enumerate(MAY):
        traced.put((number, day))
        traced.loads(f"run {day}", period=day)
    traced.clock.now = JUNE_3RD
    return traced


def keeping(traced: Traced, days: int) -> PipelineSpec:
    target = BY_PERIOD["target"] | {"retention_days": days}
    return PipelineSpec.model_validate(traced.spec.model_dump(by_alias=True) | {"target": target})


def planned(traced: Traced) -> ExpiryPlan:
    return plan_expiry(traced.table, all_partitions(traced.ledger, traced.table.key), traced.clock(), None)


def expired(traced: Traced, stage: Stage | None = None) -> TableExpired:
    return apply_expiry(planned(traced), traced.edges(stage))


def days(traced: Traced) -> list[Any]:
    """The partitions that a reader finds; FileNotFoundError when one of them leads nowhere."""
    return sorted({row[-1] for row in traced.visible()})


def files(traced: Traced) -> int:
    return len(list((traced.folder / "lake").rglob("*.parquet")))


def test_what_is_over_for_long_enough_is_dropped_oldest_first_and_its_files_go_after_the_grace(tmp_path: Path) -> None:
    traced = world(tmp_path)
    plan = planned(traced)
    assert [d.name for d in plan.drop] == ["dt=2024-05-01", "dt=2024-05-02", "dt=2024-05-03"]
    assert (plan.standing, plan.undated) == (5, 0)
    done = expired(traced)
    assert (done.dropped, done.rows, done.left, done.foreign) == (tuple(d.name for d in plan.drop), 3, 0, ())
    assert days(traced) == MAY[3:] and planned(traced).drop == () and planned(traced).standing == 2
    assert verify(traced.spec, traced.edges(), ["orders"]).ok
    assert traced.ledger.decisions.marked() == ()
    traced.clock.wait(GRACE - 1)
    traced.expire()
    assert files(traced) == 5  # somebody's query may still read them
    traced.clock.wait(1)
    traced.expire()
    assert files(traced) == 2 and days(traced) == MAY[3:]


def test_a_period_that_is_over_for_long_enough_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    traced = world(tmp_path)
    expired(traced)
    result = traced.load("again", period="2024-05-03")
    assert (result.error_code, result.retryable) == ("range", False)
    assert "period 2024-05-03 of d.orders: it was over 2024-05-04" in str(result.error)
    assert days(traced) == MAY[3:] and traced.loads("again 4", period="2024-05-04").outcome == "loaded"


def test_a_longer_retention_lets_a_backfill_bring_it_back(tmp_path: Path) -> None:
    traced = world(tmp_path)
    expired(traced)
    traced.spec = keeping(traced, 60)
    traced.put((7, "back"))
    assert traced.loads("back", period="2024-05-01").outcome == "loaded"
    assert days(traced) == ["2024-05-01", *MAY[3:]] and planned(traced).drop == ()


BY_DATA = {
    "read": {"mode": "full"},
    "target": {"partition_by": [{"name": "d", "from": "column:at", "transform": "day"}], "retention_days": 30},
}


def snapshot(traced: Traced, *days: int) -> None:
    traced.put(*((day, dt.datetime(2024, 5, day)) for day in days), columns=("id", "at"))


def test_rows_older_than_the_row_keeps_are_left_out_and_counted(tmp_path: Path) -> None:
    """A full snapshot holds them each time, and would bring back each time what was dropped."""
    traced = Traced(tmp_path, BY_DATA)
    traced.clock.now = JUNE_3RD - 20 * DAY
    snapshot(traced, 1, 2, 3, 4, 5)
    traced.loads("first", period="2024-05-14")
    traced.clock.now = JUNE_3RD
    assert len(expired(traced).dropped) == 3
    snapshot(traced, 1, 2, 3, 4, 6)
    counts = traced.loads("second", period="2024-06-03").accounting
    assert (counts.rows_read, counts.rows_written, counts.rows_unchanged, counts.rows_filtered) == (5, 1, 1, 3)
    assert [row[0] for row in traced.visible()] == [4, 6]
    edges = traced.edges()
    sweep_table(traced.table, edges)
    assert verify(traced.spec, edges, ["orders"]).ok


def test_a_merge_forgets_the_rows_that_were_dropped(tmp_path: Path) -> None:
    """The key of a dropped row comes again with a newer date: it is one row, in the partition of that date."""
    row = BY_DATA | {"read": {"mode": "full"}, "write": {"mode": "merge", "keys": ["id"]}}
    traced = Traced(tmp_path, row)
    traced.clock.now = JUNE_3RD - 20 * DAY
    traced.put((1, dt.datetime(2024, 5, 1)), (2, dt.datetime(2024, 5, 5)), columns=("id", "at"))
    traced.loads("first", period="2024-05-14")
    traced.clock.now = JUNE_3RD
    assert expired(traced).dropped == ("d=2024-05-01",)
    traced.put((1, dt.datetime(2024, 5, 20)), columns=("id", "at"))
    assert traced.loads("second", period="2024-06-03").accounting.rows_written == 1
    assert sorted(r[0] for r in traced.visible()) == [1, 2] and verify(traced.spec, traced.edges(), ["orders"]).ok


def test_a_partition_column_that_tells_no_time_stops_its_table(tmp_path: Path) -> None:
    row = {"target": {"partition_by": [{"name": "p", "from": "column:v"}], "retention_days": 30}}
    traced = Traced(tmp_path, row)
    traced.put((1, "2024-05-01"))
    result = traced.load("first")
    assert result.error_code == "inventory" and "its partition columns are p (string) -> one that is a date" in str(result.error)


def test_a_foreign_partition_is_never_touched(tmp_path: Path) -> None:
    traced = world(tmp_path)
    table = traced.table
    (mine,) = traced.catalog.get_partitions(table.database, table.table, [("2024-05-01",)])
    theirs = CatalogPartition(mine.values, f"file://{tmp_path}/theirs", mine.columns, 99)
    traced.catalog.put_partitions(table.database, table.table, [theirs])
    done = expired(traced)
    assert (done.foreign, done.dropped) == (("dt=2024-05-01",), ("dt=2024-05-02", "dt=2024-05-03"))
    assert traced.catalog.get_partitions(table.database, table.table, [("2024-05-01",)]) == (theirs,)


def test_what_somebody_is_loading_is_left(tmp_path: Path) -> None:
    traced = world(tmp_path)
    plan = planned(traced)
    longer = keeping(traced, 90)
    traced.spec, before = longer, traced.spec
    traced.put((1, "rerun"))
    with asleep("before ledger.batches.freeze", lambda: left.append(apply_expiry(plan, traced.edges()).left)) as stage:
        left: list[int] = []
        traced.loads("rerun", stage, period="2024-05-01")
    assert left == [1] and days(traced) == ["2024-05-01", *MAY[3:]]
    traced.spec = before
    assert expired(traced).dropped == ("dt=2024-05-01",)  # its time is over all the same


def test_what_was_found_unchanged_and_is_dropped_meanwhile_is_published_after_all(tmp_path: Path) -> None:
    """Its reader was thought dead, so nothing was left for it; and it lives."""
    traced = world(tmp_path)
    plan = planned(traced)
    traced.spec = keeping(traced, 90)
    traced.put((0, MAY[0]))

    def meanwhile() -> None:
        traced.clock.wait(LEASE + 1)
        assert MAY[0] in str(apply_expiry(plan, traced.edges()).dropped)

    with asleep("before ledger.batches.freeze", meanwhile) as stage:
        assert traced.loads("rerun", stage, period=MAY[0]).accounting.rows_unchanged == 1
    assert days(traced) == [MAY[0], *MAY[3:]] and verify(traced.spec, traced.edges(), ["orders"]).ok


def test_more_than_may_be_dropped_at_once_is_left_to_a_person(tmp_path: Path) -> None:
    plan = replace(planned(world(tmp_path)), drop=tuple(planned(world(tmp_path / "b")).drop) * 4, standing=20)
    with pytest.raises(LimitError, match=r"12 of 20 would be dropped -> at most 10 \(1000, 50 %\)\. Nothing was changed"):
        check_expiry(plan, LIMITS)
    check_expiry(plan, DropLimits(1000, 60))
    with pytest.raises(LimitError):
        check_expiry(plan, DropLimits(11, 100))


class TestFleet:
    def run(self, traced: Traced, limits: DropLimits = LIMITS, stage: Stage | None = None) -> tuple[TableExpired, ...]:
        opened = lambda spec: nullcontext(traced.edges(stage))  # noqa: E731
        return expire([traced.spec], traced.ledger, opened, lambda spec: lambda key: None, limits, traced.clock()).tables

    def test_it_drops_and_has_nothing_to_do_again(self, tmp_path: Path) -> None:
        traced = world(tmp_path)
        (done,) = self.run(traced)
        assert len(done.dropped) == 3 and done.error is None
        assert self.run(traced) == ()

    def test_a_limit_is_reported_and_changes_nothing(self, tmp_path: Path) -> None:
        traced = world(tmp_path)
        (done,) = self.run(traced, DropLimits(2, 100))
        assert done.error_code == "limit" and "dataops partitions expire d.orders --dry-run" in str(done.error)
        assert days(traced) == MAY

    def test_a_table_that_the_row_does_not_load_any_more_is_left_as_it_is(self, tmp_path: Path) -> None:
        traced = world(tmp_path)
        traced.spec = PipelineSpec.model_validate(traced.spec.model_dump(by_alias=True) | {"exclude": ["orders"]})
        assert self.run(traced) == () and days(traced) == MAY


@pytest.mark.parametrize("compares_and_swaps", [True, False], ids=["cas", "no-cas"])
@pytest.mark.parametrize(
    "when",
    [
        f"{side} {effect}"
        for effect in ("ledger.partitions.drop", "catalog.drop_partitions", "ledger.decisions.mark", "ledger.decisions.clear_marks")
        for side in ("before", "after")
    ],
)
def test_dead_at_any_effect_the_next_sweep_ends_it(when: str, compares_and_swaps: bool, tmp_path: Path) -> None:
    traced = world(tmp_path, compares_and_swaps=compares_and_swaps)
    with dying(when) as stage:
        expired(traced, stage)
    assert days(traced) in (MAY, MAY[3:])  # whole, before or after
    sweep([traced.spec], traced.ledger, lambda spec: nullcontext(traced.edges()))
    expired(traced)
    traced.clock.wait(DEAD + 1)
    sweep([traced.spec], traced.ledger, lambda spec: nullcontext(traced.edges()))
    assert days(traced) == MAY[3:] and traced.ledger.decisions.marked() == ()
    traced.clock.wait(DEAD + GRACE)
    traced.expire()
    assert files(traced) == 2 and days(traced) == MAY[3:]


@pytest.mark.parametrize("compares_and_swaps", [True, False], ids=["cas", "no-cas"])
def test_a16_a_sleeping_drop_never_hides_what_came_back(tmp_path: Path, compares_and_swaps: bool) -> None:
    """It wakes with a drop in its hand, beside a longer retention and a backfill: its own verification shows the new rows again."""
    traced = world(tmp_path, compares_and_swaps=compares_and_swaps)
    longer = keeping(traced, 90)

    def backfill() -> None:
        traced.spec = longer
        traced.put((9, "back"))
        traced.loads("back", period="2024-05-01")

    with asleep("before catalog.drop_partitions", backfill) as stage:
        expired(traced, stage)
    assert days(traced) == ["2024-05-01", *MAY[3:]]
    traced.clock.wait(DEAD + GRACE)
    sweep([longer], traced.ledger, lambda spec: nullcontext(traced.edges()))
    assert days(traced) == ["2024-05-01", *MAY[3:]] and traced.ledger.decisions.marked() == ()


def test_a16_a_sleeping_load_points_at_nothing_that_was_deleted(tmp_path: Path) -> None:
    """It wakes with a decision that was dropped since: its mark kept the files, and it takes its partition away again."""
    traced = world(tmp_path, compares_and_swaps=False)
    traced.clock.now = JUNE_3RD + DAY - GRACE
    traced.put((1, "new"))

    def meanwhile() -> None:
        traced.clock.wait(GRACE)
        sweep([traced.spec], traced.ledger, lambda spec: nullcontext(traced.edges()))  # its batch is finished by somebody else
        assert "dt=2024-05-04" in expired(traced).dropped
        traced.clock.wait(10 * GRACE)
        traced.expire()

    def awake() -> None:
        assert len(days(traced)) <= 2  # each of them leads somewhere

    with asleep("before catalog.put_partitions", meanwhile, awake=awake) as stage:
        traced.load("sleeper", stage, period="2024-05-04")
    assert days(traced) == MAY[4:]
    traced.clock.wait(DEAD + GRACE)
    sweep([traced.spec], traced.ledger, lambda spec: nullcontext(traced.edges()))
    traced.expire()
    assert days(traced) == MAY[4:] and files(traced) == 1
