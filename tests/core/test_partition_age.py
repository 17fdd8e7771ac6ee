"""When a partition's time was over: by its values, by the zone, by the schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.partition_age import partition_age, refuse_ageless, retention_floor
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import PartitionSpec

SCHEMA = TableSchema(
    (
        Column("day", pa.date32()), Column("naive", pa.timestamp("us")), Column("instant", pa.timestamp("us", "UTC")),
        Column("city", pa.string()), Column("code", pa.int64()),
    )
)  # fmt: skip
BERLIN = "Europe/Berlin"


def spec(name: str, from_: str, transform: str = "identity") -> PartitionSpec:
    return PartitionSpec.model_validate({"name": name, "from": from_, "transform": transform})


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("from_", "transform", "value", "end"),
    [
        ("period_start", "identity", "2024-05-01", at("2024-05-02", BERLIN)),
        ("period_start", "identity", "2024-05-01T13", at("2024-05-01T14:00", BERLIN)),
        ("period_start", "identity", "2024-05-01T13:30", at("2024-05-01T13:31", BERLIN)),
        ("period_start", "month", "2024-12", at("2025-01-01", BERLIN)),
        ("period_start", "year", "2024", at("2025-01-01", BERLIN)),
        ("column:day", "identity", "2024-03-30", at("2024-03-31", BERLIN)),
        ("column:day", "identity", "2024-03-31", at("2024-04-01", BERLIN)),  # a day of 23 hours
        ("column:day", "month", "2024-02", at("2024-03-01", BERLIN)),
        ("column:naive", "identity", "2024-05-01 10:00:00.5", at("2024-05-01T10:00:01", BERLIN)),
        ("column:naive", "hour", "2024-05-01T10", at("2024-05-01T11:00", BERLIN)),
        ("column:instant", "day", "2024-05-01", at("2024-05-02")),
        ("column:instant", "identity", "2024-05-01 10:00:00", at("2024-05-01T10:00:01")),
        ("column:day", "identity", None, None),
        ("column:day", "identity", "9999-12-31", None),  # no later day has a name
        ("column:day", "identity", "2024-02-30", None),
        ("period_start", "year", "2024-05", None),
        ("period_start", "identity", "manual", None),
        ("column:city", "identity", "2024-05-01", None),  # a text that looks like a date is a text
        ("column:code", "identity", "20240501", None),
    ],
)  # fmt: skip
def test_the_end_of_what_a_value_names(from_: str, transform: str, value: str | None, end: float | None) -> None:
    assert partition_age([spec("p", from_, transform)], SCHEMA, BERLIN).end([value]) == end


def test_of_several_columns_the_earliest_end_counts() -> None:
    age = partition_age([spec("y", "column:day", "year"), spec("c", "column:city"), spec("d", "column:day", "day")], SCHEMA, "UTC")
    assert age.end(["2024", "Rome", "2024-05-01"]) == at("2024-05-02")
    assert age.end(["2024", "Rome", None]) == at("2025-01-01")
    assert age.end([None, "Rome", None]) is None


def test_a_period_ends_where_its_schedule_says() -> None:
    week = {"2024-05-06": at("2024-05-13")}
    age = partition_age([spec("dt", "period_start")], SCHEMA, "UTC", week.get)
    assert age.end(["2024-05-06"]) == at("2024-05-13")
    assert age.end(["2024-05-07"]) == at("2024-05-08")  # of a schedule before: by its form


def test_over_at_the_very_moment_of_its_end_and_never_without_one() -> None:
    age = partition_age([spec("dt", "period_start")], SCHEMA, "UTC")
    end = at("2024-05-02")
    assert [age.is_over(["2024-05-01"], moment) for moment in (end - 1, end, None)] == [False, True, False]
    assert not age.is_over([None], end)
    assert retention_floor(end, 2) == datetime(2024, 4, 30, tzinfo=UTC).timestamp() and retention_floor(end, None) is None


def test_a_table_without_time_is_refused_by_name_and_type() -> None:
    by = [spec("c", "column:city"), spec("x", "column:gone")]
    with pytest.raises(InventoryError, match=r"d\.orders: its partition columns are c \(string\), x -> one that is a date"):
        refuse_ageless("d.orders", "target.retention_days", by, SCHEMA, partition_age(by, SCHEMA, "UTC"))
