"""Periods of a schedule: cases as a story, and the laws that hold for every schedule, zone and moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.schedule import (
    PRESETS,
    jitter_seconds,
    last_started,
    parse_schedule,
    period_at,
    period_before,
    period_now,
    period_of_interval,
    period_of_key,
    periods_between,
    starts_at,
)

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/airflow/schedule.yaml").read_text())
SCHEDULES = ["@hourly", "@daily", "@weekly", "@monthly", "30 6 * * *", "15 */6 * * *", "*/20 * * * *", "0 5 * * 1-5", "none"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
moments = st.datetimes(datetime(2011, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
# Around changes of the clock, where every law is in danger.
changes = st.sampled_from(
    [
        datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 10, 27, 1, tzinfo=UTC), datetime(2024, 11, 3, 6, tzinfo=UTC),
        datetime(2024, 4, 25, 22, tzinfo=UTC), datetime(2024, 10, 31, 21, tzinfo=UTC), datetime(2024, 4, 6, 15, tzinfo=UTC),
        datetime(2011, 12, 30, 10, tzinfo=UTC),
    ]
).flatmap(lambda at: st.timedeltas(timedelta(hours=-30), timedelta(hours=30)).map(lambda d: at + d))  # fmt: skip


@pytest.mark.parametrize("case", CASES["accepted"], ids=lambda c: f"{c['schedule']} {c.get('timezone', 'UTC')}")
def test_accepted(case: dict[str, Any]) -> None:
    schedule = parse_schedule(case["schedule"], case.get("timezone", "UTC"))
    at = datetime.fromisoformat(case["at"])
    complete = period_before(schedule, at)
    assert period_at(schedule, at).key == case["current"]
    assert complete.key == case["last_complete"]
    assert starts_at(schedule, complete) == datetime.fromisoformat(case["starts_at"])


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda c: c["schedule"])
def test_refused(case: dict[str, Any]) -> None:
    with pytest.raises(InventoryError, match=case["because"]):
        parse_schedule(case["schedule"])


def test_unknown_timezone() -> None:
    for zone in ("Mars/Olympus", "", "../etc/passwd", "UTC\n"):
        with pytest.raises(InventoryError, match="no such zone"):
            parse_schedule("@daily", zone)


def test_presets_are_those_of_airflow() -> None:
    from airflow.utils.dates import cron_presets

    assert cron_presets == PRESETS


@given(text=st.sampled_from(SCHEDULES), zone=st.sampled_from(ZONES), moment=moments | changes)
@settings(max_examples=300)
def test_periods_tile_time(text: str, zone: str, moment: datetime) -> None:
    """Every moment lies in exactly one period; its key leads back to it; its neighbours touch it and have other keys."""
    schedule = parse_schedule(text, zone)
    period = period_at(schedule, moment)
    assert period.start.timestamp() <= moment.timestamp() < period.end.timestamp()
    again = period_of_key(schedule, period.key)
    assert (again.start.timestamp(), again.end.timestamp()) == (period.start.timestamp(), period.end.timestamp())
    following = period_at(schedule, period.end)
    assert following.start.timestamp() == period.end.timestamp()
    assert following.key > period.key
    assert period_before(schedule, following.start).key == period.key


@given(text=st.sampled_from(SCHEDULES[:-1]), zone=st.sampled_from(ZONES), moment=moments | changes)
@settings(max_examples=200)
def test_a_run_never_starts_before_its_period_is_over(text: str, zone: str, moment: datetime) -> None:
    schedule = parse_schedule(text, zone)
    period = last_started(schedule, moment)
    assert period.end.timestamp() <= starts_at(schedule, period).timestamp() <= moment.timestamp()
    following = period_at(schedule, period.end)
    assert starts_at(schedule, following).timestamp() > moment.timestamp()


def test_days_have_23_and_25_hours() -> None:
    schedule = parse_schedule("@daily", "Europe/Berlin")
    hours = {
        p.key: (p.end.timestamp() - p.start.timestamp()) / 3600
        for day in (date(2024, 3, 31), date(2024, 10, 27), date(2024, 5, 1))
        for p in periods_between(schedule, day, day + timedelta(days=1))
    }
    assert hours == {"2024-03-31": 23, "2024-10-27": 25, "2024-05-01": 24}


def test_the_doubled_hour_is_one_period_and_the_missing_one_none() -> None:
    schedule = parse_schedule("@hourly", "Europe/Berlin")
    autumn = periods_between(schedule, datetime(2024, 10, 27, 1), datetime(2024, 10, 27, 4))
    assert [(p.key, p.end.timestamp() - p.start.timestamp()) for p in autumn] == [
        ("2024-10-27T01", 3600), ("2024-10-27T02", 7200), ("2024-10-27T03", 3600),
    ]  # fmt: skip
    spring = periods_between(schedule, datetime(2024, 3, 31, 1), datetime(2024, 3, 31, 4))
    assert [p.key for p in spring] == ["2024-03-31T01", "2024-03-31T03"]


@pytest.mark.parametrize(
    "key", ["", "2024-5-1", "2024-05-01 ", "2024-05-01T00", "2024-02-30", "2024-05-01'; --", "{{ ds }}", "20240501", "٢٠٢٤-٠٥-٠١"]
)
def test_malformed_keys_are_refused(key: str) -> None:
    with pytest.raises(InventoryError, match="partition key"):
        period_of_key(parse_schedule("@daily"), key)


def test_a_key_between_two_periods_is_refused() -> None:
    with pytest.raises(InventoryError, match="'2024-05-12', the period that contains it"):
        period_of_key(parse_schedule("@weekly"), "2024-05-15")
    with pytest.raises(InventoryError, match="no period"):
        period_of_key(parse_schedule("@hourly", "Europe/Berlin"), "2024-03-31T02")


def test_periods_between_is_half_open() -> None:
    schedule = parse_schedule("@daily", "America/New_York")
    assert [p.key for p in periods_between(schedule, date(2024, 2, 28), date(2024, 3, 2))] == [
        "2024-02-28", "2024-02-29", "2024-03-01",
    ]  # fmt: skip
    assert [p.key for p in periods_between(schedule, datetime(2024, 2, 28, 1), date(2024, 3, 1))] == ["2024-02-29"]
    for period in periods_between(schedule, date(2024, 2, 28), date(2024, 3, 2)):
        assert period.backfill and period.start.tzinfo == ZoneInfo("America/New_York")
    with pytest.raises(InventoryError, match="empty"):
        periods_between(schedule, date(2024, 3, 1), date(2024, 3, 1))


def test_neither_key_nor_interval() -> None:
    schedule = parse_schedule("@daily", "Asia/Tokyo")
    now = datetime(2024, 5, 1, 16, tzinfo=UTC)  # one o'clock on the second in Tokyo
    assert period_now(schedule, now, reads_windows=False).key == "2024-05-02"
    assert period_now(schedule, now, reads_windows=True).key == "2024-05-01"


@pytest.mark.parametrize("key", ["9999-12-31", "0001-01-01", "1899-12-31", "2200-01-01"])
def test_keys_of_years_that_have_no_periods(key: str) -> None:
    with pytest.raises(InventoryError, match="of the years 1900 to 2199"):
        period_of_key(parse_schedule("@daily"), key)


def test_intervals_are_taken_as_given() -> None:
    schedule = parse_schedule("@daily", "Asia/Tokyo")
    start, end = datetime(2024, 5, 1, 15, tzinfo=UTC), datetime(2024, 5, 2, 3, tzinfo=UTC)
    period = period_of_interval(schedule, start, end)
    assert (period.key, period.start, period.end, period.given) == ("2024-05-02", start, end, "interval")
    with pytest.raises(InventoryError, match="no length"):
        period_of_interval(schedule, start, start)


def _row(name: str, **fields: Any) -> PipelineSpec:
    return PipelineSpec(domain="sales", name=name, kind="sql", owner="o", **fields)


def test_jitter_is_of_the_id_and_bounded() -> None:
    found = {jitter_seconds(_row(f"s{n}")) for n in range(200)}
    assert len(found) > 150 and max(found) <= 900
    assert jitter_seconds(_row("orders")) == jitter_seconds(_row("orders")) == 727
    assert max(jitter_seconds(_row(f"s{n}", schedule="*/5 * * * *")) for n in range(100)) <= 30
    assert jitter_seconds(_row("orders", jitter_seconds=7)) == 7
    assert jitter_seconds(_row("orders", jitter_seconds=7, schedule="none")) == 0
