"""The timetable as Airflow's scheduler and backfill ask it. The database-backed half is in test_end_to_end.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
import pytest
from airflow.exceptions import InvalidPartitionKeyError
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import DagRunInfo, TimeRestriction

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.plugins.timetable import PeriodTimetable


def _next(timetable: PeriodTimetable, start: datetime, last: DagRunInfo | None = None, catchup: bool = True) -> DagRunInfo:
    restriction = TimeRestriction(pendulum.instance(start), None, catchup)
    info = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
    assert info is not None
    return info


def _backfill(timetable: PeriodTimetable, first: str, last: str) -> list[str | None]:
    """As the command gives the dates: midnight UTC of both."""
    bounds = {name: datetime.fromisoformat(text).replace(tzinfo=UTC) for name, text in (("earliest", first), ("latest", last))}
    return [info.partition_key for info in timetable.iter_partition_dagrun_infos(**bounds)]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Europe/Berlin"])
@pytest.mark.parametrize("schedule", ["@daily", "30 6 * * *", "59 23 * * *"])
@pytest.mark.parametrize("jitter", [0, 77, 86399])
def test_a_backfill_gives_exactly_the_calendar_keys(schedule: str, zone: str, jitter: int) -> None:
    timetable = PeriodTimetable(schedule, timezone=zone, jitter_seconds=jitter)
    expected = ["2024-03-30", "2024-03-31", "2024-04-01"]  # Berlin changes its clock in between
    assert _backfill(timetable, "2024-03-30", "2024-04-01") == expected
    assert _backfill(timetable, "2024-03-30", "2024-03-30") == expected[:1]


def test_a_backfill_of_hours() -> None:
    timetable = PeriodTimetable("17 * * * *", timezone="Europe/Berlin", jitter_seconds=300)
    found = _backfill(timetable, "2024-10-27T01:00", "2024-10-27T04:00")
    assert found == ["2024-10-27T01", "2024-10-27T02", "2024-10-27T03", "2024-10-27T04"]


def test_a_backfill_leaves_out_what_is_not_over() -> None:
    today = datetime.now(UTC).date()
    found = _backfill(PeriodTimetable("@daily"), str(today - timedelta(days=2)), str(today + timedelta(days=2)))
    assert found == [str(today - timedelta(days=2)), str(today - timedelta(days=1))]


@pytest.mark.parametrize("jitter", [0, 900])
def test_runs_follow_each_other_from_the_start_date(jitter: int) -> None:
    timetable = PeriodTimetable("30 6 * * *", timezone="Europe/Berlin", jitter_seconds=jitter)
    start = datetime(2024, 3, 29, tzinfo=pendulum.timezone("Europe/Berlin"))
    keys, starts, info = [], [], None
    for _ in range(4):
        info = _next(timetable, start, info)
        keys.append(info.partition_key)
        starts.append(info.run_after - timedelta(seconds=jitter))
    assert keys == ["2024-03-29", "2024-03-30", "2024-03-31", "2024-04-01"]
    assert [s.isoformat() for s in starts] == [
        "2024-03-30T05:30:00+00:00", "2024-03-31T04:30:00+00:00", "2024-04-01T04:30:00+00:00", "2024-04-02T04:30:00+00:00",
    ]  # fmt: skip


@pytest.mark.parametrize("jitter", [0, 60, 7200])
def test_without_catchup_the_newest_complete_period_comes_next(jitter: int) -> None:
    """Also when the jitter is longer than the period: the run must not run away from itself."""
    timetable = PeriodTimetable("@hourly", jitter_seconds=jitter)
    before = datetime.now(UTC)
    info = _next(timetable, datetime(2024, 1, 1, tzinfo=UTC), catchup=False)
    assert info.run_after.timestamp() <= datetime.now(UTC).timestamp()
    assert info.run_after.timestamp() > before.timestamp() - 3600
    assert info.partition_date is not None
    assert info.run_after == info.partition_date + timedelta(seconds=3600 + jitter)
    following = _next(timetable, datetime(2024, 1, 1, tzinfo=UTC), last=info, catchup=False)
    assert following.partition_date == info.partition_date + timedelta(hours=1)


def test_after_a_backfill_the_scheduler_does_not_repeat_its_last_period() -> None:
    timetable = PeriodTimetable("@daily", jitter_seconds=600)
    last = list(timetable.iter_partition_dagrun_infos(
        earliest=datetime(2024, 5, 1, tzinfo=UTC), latest=datetime(2024, 5, 3, tzinfo=UTC)
    ))[-1]  # fmt: skip
    info = _next(timetable, datetime(2024, 1, 1, tzinfo=UTC), last)
    assert (last.partition_key, info.partition_key) == ("2024-05-03", "2024-05-04")


def test_a_run_of_another_kind_of_schedule_is_followed() -> None:
    last = DagRunInfo(run_after=pendulum.datetime(2024, 5, 3, 12), data_interval=None)
    assert _next(PeriodTimetable("@daily"), datetime(2024, 1, 1, tzinfo=UTC), last).partition_key == "2024-05-03"


def test_nothing_after_the_end_date() -> None:
    restriction = TimeRestriction(pendulum.datetime(2024, 1, 1), pendulum.datetime(2024, 1, 2), True)
    info: Any = None
    keys = []
    while info := PeriodTimetable("@daily").next_dagrun_info_v2(last_dagrun_info=info, restriction=restriction):
        keys.append(info.partition_key)
    assert keys == ["2024-01-01", "2024-01-02"]


def test_keys_lead_back_to_their_date() -> None:
    timetable = PeriodTimetable("45 5 * * *", timezone="Asia/Tokyo")
    assert timetable.resolve_partition_date("2024-05-01") == datetime(2024, 4, 30, 15, tzinfo=UTC)
    for key in ("2024-5-1", "2024-05-01T00", "yesterday"):
        with pytest.raises(InvalidPartitionKeyError, match="partition key"):
            timetable.resolve_partition_date(key)
    with pytest.raises(InvalidPartitionKeyError, match="no period"):
        PeriodTimetable("@weekly").resolve_partition_date("2024-05-15")


def test_rows_with_one_schedule_have_one_timetable() -> None:
    one = PeriodTimetable.shared("30 6 * * *", "Europe/Berlin", 60)
    assert PeriodTimetable.shared("30 6 * * *", "Europe/Berlin", 60) is one is decode_timetable(encode_timetable(one))
    others = [("30 6 * * *", "UTC", 60), ("30 6 * * *", "Europe/Berlin", 0), ("31 6 * * *", "Europe/Berlin", 60)]
    assert len({one, *(PeriodTimetable.shared(*other) for other in others)}) == 4


def test_serialised_small_and_whole() -> None:
    timetable = PeriodTimetable("30 6 * * 1-5", timezone="Europe/Berlin", jitter_seconds=77)
    data = encode_timetable(timetable)
    assert len(json.dumps(data)) < 200
    back = decode_timetable(data)
    assert back == timetable and hash(back) == hash(timetable)
    assert isinstance(back, PeriodTimetable)
    assert _backfill(back, "2024-05-03", "2024-05-06") == _backfill(timetable, "2024-05-03", "2024-05-06")
    assert back != PeriodTimetable("30 6 * * 1-5", timezone="Europe/Berlin")
    assert (back.partitioned, back.periodic, back.can_be_scheduled, back.summary) == (True, True, True, "30 6 * * 1-5")


@pytest.mark.parametrize("schedule", ["none", "@continuous", "every day"])
def test_only_schedules_with_periods(schedule: str) -> None:
    with pytest.raises(InventoryError):
        PeriodTimetable(schedule)
