"""The periods a range stands for: both ends count, on the wall clock of the row, as Airflow's timetable has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.plugins.timetable import PeriodTimetable
from dag_factory.fleet.backfill import backfill_spec, keys_of

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)


def row(**more: Any) -> PipelineSpec:
    return PipelineSpec(**{"domain": "a", "name": "b", "kind": "sql", "owner": "ann", **more})


def test_both_ends_are_part_of_the_range() -> None:
    assert keys_of(row(), backfill_spec("2024-05-01", "2024-05-03", "failed"), NOW) == ("2024-05-01", "2024-05-02", "2024-05-03")
    assert keys_of(row(), backfill_spec("2024-05-01", "2024-05-01", "failed"), NOW) == ("2024-05-01",)
    assert keys_of(row(), backfill_spec("2024-05-31", "2024-06-05", "failed"), NOW) == ("2024-05-31",), "today is not over"


@pytest.mark.parametrize("schedule", ["@daily", "@hourly", "@weekly", "@monthly", "30 6 * * *", "0 */6 * * *"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
@pytest.mark.parametrize(("first", "last"), [("2024-03-08", "2024-03-12"), ("2023-10-28T05:00", "2023-11-06T07:30")])
def test_the_keys_are_those_of_airflows_timetable(schedule: str, zone: str, first: str, last: str) -> None:
    asked = backfill_spec(first, last, "none")
    timetable = PeriodTimetable(schedule, timezone=zone)
    theirs = timetable.iter_partition_dagrun_infos(
        earliest=asked.first.replace(tzinfo=UTC), latest=asked.last.replace(tzinfo=UTC)
    )
    assert keys_of(row(schedule=schedule, timezone=zone), asked) == tuple(info.partition_key for info in theirs)


def test_a_long_range_has_no_gap() -> None:
    keys = keys_of(row(schedule="@weekly"), backfill_spec("2019-01-01", "2024-05-03", "failed"), NOW)
    assert (len(keys), keys[0], keys[-1]) == (278, "2019-01-06", "2024-04-28")
    assert len(set(keys)) == 278


@pytest.mark.parametrize("schedule", ["none", "@continuous"])
def test_a_row_without_periods_is_refused(schedule: str) -> None:
    with pytest.raises(InventoryError, match=r"dataops run a\.b"):
        keys_of(row(schedule=schedule), backfill_spec("2024-05-01", "2024-05-03", "failed"), NOW)


def test_too_many_periods_are_refused() -> None:
    with pytest.raises(InventoryError, match="more than 10000"):
        keys_of(row(schedule="*/5 * * * *"), backfill_spec("2023-01-01", "2024-05-03", "failed"), NOW)


@pytest.mark.parametrize(
    ("first", "last", "reprocess"),
    [("2024-05-02", "2024-05-01", "none"), ("x", "2024-05-01", "none"), ("2024-05-01", "2024-13-01", "none"),
     ("2024-05-01T00:00+02:00", "2024-05-02", "none"), ("0001-01-01", "2024-05-02", "none"), ("2024-05-01", "2024-05-02", "all")],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(first: str, last: str, reprocess: str) -> None:
    with pytest.raises(InventoryError, match="Cannot use"):
        backfill_spec(first, last, reprocess)
