"""Partition names, and batches split into partitions."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.partition import (
    parse_partition_name,
    partition_columns,
    partition_name,
    split,
    values_from,
    values_of,
)
from airflow_dataops.core.partition_name import DEFAULT_PARTITION, escape, unescape
from airflow_dataops.core.period import Period
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import PartitionSpec
from airflow_dataops.core.types_text import type_from_text, type_to_text
from tests.core.arrow_values import columns

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "partition" / "names.yaml").read_text(encoding="utf-8"))
BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = Period("2024-05-01", dt.datetime(2024, 5, 1, tzinfo=BERLIN), dt.datetime(2024, 5, 2, tzinfo=BERLIN))
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def by(name: str, source: str, transform: str = "identity") -> PartitionSpec:
    return PartitionSpec.model_validate({"name": name, "from": source, "transform": transform})


@pytest.mark.parametrize("case", CASES["names"], ids=lambda case: case["name"])
def test_partition_name(case: dict[str, Any]) -> None:
    assert partition_name(case["columns"], case["values"]) == case["name"]
    assert parse_partition_name(case["name"]) == tuple(zip(case["columns"], case["values"], strict=True))


@given(st.lists(st.tuples(texts, st.one_of(st.none(), texts)), max_size=4))
def test_a_partition_name_reads_back(pairs: list[tuple[str, str | None]]) -> None:
    name = partition_name([c for c, _ in pairs], [v for _, v in pairs])
    assert parse_partition_name(name) == tuple(pairs)
    assert name.count("/") == max(len(pairs) - 1, 0)


@given(st.text())
def test_an_escaped_text_is_one_safe_path_segment(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("\"#'*/:=?\\{[]^\x00\n\x7f")


def test_the_empty_text_is_hives_null() -> None:
    assert partition_name(["x"], [""]) == f"x={DEFAULT_PARTITION}"
    assert parse_partition_name("x=") == (("x", None),)


def test_a_value_longer_than_a_directory_name_is_refused() -> None:
    assert partition_name(["x"], ["v" * 253])
    with pytest.raises(InventoryError, match="shorter column"):
        partition_name(["x"], ["v" * 254])


@pytest.mark.parametrize("text", ["dt", "=x", "dt=1//x=2", "/"])
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="column=value"):
        parse_partition_name(text)


EXACT = ["string", "int8", "int64", "bool", "date", "decimal(12,4)", "decimal(38,38)"]
EXACT += [f"timestamp[{unit}{zone}]" for unit in ("ms", "us", "ns") for zone in ("", ",UTC")]


@given(st.data(), st.sampled_from(EXACT))
def test_a_value_reads_back_from_its_text(data: st.DataObject, text: str) -> None:
    t = type_from_text(text)
    column = data.draw(columns(t, 4))
    spelled = values_of(column)
    assert values_from(spelled, t) == column
    assert spelled.null_count == column.null_count


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([5], pa.int8()), "5"),
        (pa.array([Decimal("5.00")]), "5"),
        (pa.array([Decimal("-0.5000")]), "-0.5"),
        (pa.array([Decimal("100")]), "100"),
        (pa.array([True]), "true"),
        (pa.array([dt.date(2024, 5, 1)]), "2024-05-01"),
        (pa.array([dt.datetime(2024, 5, 1, 10)], pa.timestamp("ns")), "2024-05-01 10:00:00"),
        (pa.array([dt.datetime(2024, 5, 1, 10, 0, 0, 500_000)], pa.timestamp("us")), "2024-05-01 10:00:00.5"),
        (pa.array([dt.datetime(2024, 5, 1, 22, tzinfo=dt.UTC)], pa.timestamp("us", "Europe/Berlin")), "2024-05-01 22:00:00"),
    ],
    ids=str,
)
def test_one_value_has_one_text_whatever_stores_it(array: pa.Array, text: str) -> None:
    assert values_of(array).to_pylist() == [text]


@pytest.mark.parametrize(
    ("source", "transform", "column", "t", "value"),
    [
        ("period_start", "identity", None, "string", "2024-05-01"),
        ("period_start", "year", None, "int32", "2024"),
        ("period_start", "month", None, "string", "2024-05"),
        ("period_start", "day", None, "date", "2024-05-01"),
        ("period_start", "hour", None, "string", "2024-05-01T00"),
        ("column:Made At", "identity", pa.array(["x"]), "string", "x"),
        ("column:Made At", "identity", pa.array([7], pa.int16()), "int16", "7"),
        ("column:Made At", "year", pa.array([dt.date(2024, 5, 1)]), "int32", "2024"),
        ("column:Made At", "month", pa.array([dt.date(999, 5, 1)]), "string", "0999-05"),
        ("column:Made At", "day", pa.array([dt.datetime(2024, 5, 1, 23, 59)]), "date", "2024-05-01"),
        ("column:Made At", "hour", pa.array([dt.datetime(2024, 5, 1, 23, 59)]), "string", "2024-05-01T23"),
        ("column:Made At", "day", pa.array([dt.datetime(1969, 12, 31, 23)]), "date", "1969-12-31"),
        ("column:Made At", "day", pa.array([0], pa.timestamp("us", "UTC")), "date", "1970-01-01"),
    ],
    ids=str,
)
def test_partition_of_a_row(source: str, transform: str, column: pa.Array | None, t: str, value: str) -> None:
    spec = by("p", source, transform)
    data = pa.array([1]) if column is None else column
    records = pa.record_batch({"made_x0020_at": data})
    (partition_column,) = partition_columns([spec], TableSchema.of_arrow(records.schema))
    assert partition_column == Column("p", type_from_text(t))
    assert split(records, [spec], PERIOD) == [((value,), records)]
    assert values_of(values_from(pa.array([value]), partition_column.type)).to_pylist() == [value]


def test_rows_are_split_by_partition_and_keep_their_order() -> None:
    records = pa.record_batch({"region": ["EU", None, "US", "EU", "", "US"], "n": [1, 2, 3, 4, 5, 6]})
    parts = split(records, [by("dt", "period_start"), by("part", "column:region")], PERIOD)
    assert [(values, part.column("n").to_pylist()) for values, part in parts] == [
        (("2024-05-01", None), [2, 5]),  # to Hive, '' and NULL are one partition
        (("2024-05-01", "EU"), [1, 4]),
        (("2024-05-01", "US"), [3, 6]),
    ]
    assert [part.column("region").to_pylist() for _, part in parts] == [[None, ""], ["EU", "EU"], ["US", "US"]]


def test_one_partition_is_the_batch_itself_and_no_rows_are_none() -> None:
    records = pa.record_batch({"n": [1, 2]})
    ((values, part),) = split(records, [by("dt", "period_start")], PERIOD)
    assert values == ("2024-05-01",) and part is records
    assert split(records, [], None) == [((), records)]
    assert split(records.slice(0, 0), [by("dt", "period_start")], PERIOD) == []


@given(st.data(), st.lists(st.sampled_from(EXACT), min_size=1, max_size=3), st.integers(0, 12))
def test_a_split_is_a_partition_of_the_rows(data: st.DataObject, kinds: list[str], rows: int) -> None:
    arrays = {f"c{i}": data.draw(columns(type_from_text(text), rows)) for i, text in enumerate(kinds)}
    records = pa.record_batch({**arrays, "row": pa.array(range(rows), pa.int64())})
    specs = [by(f"p{i}", f"column:c{i}") for i in range(len(kinds))]
    parts = split(records, specs, None)
    seen = [row for _, part in parts for row in part.column("row").to_pylist()]
    assert sorted(seen) == list(range(rows))
    assert len({values for values, _ in parts}) == len(parts)
    for values, part in parts:
        assert part.num_rows
        for i, value in enumerate(values):
            assert {text or None for text in values_of(part.column(f"c{i}")).to_pylist()} == {value}
        assert part.column("row").to_pylist() == sorted(part.column("row").to_pylist())
        assert part == records.take(part.column("row"))


@pytest.mark.parametrize(
    ("spec", "column", "found"),
    [
        (by("p", "column:x"), pa.array([1.5]), "type double|type float64"),
        (by("p", "column:x"), pa.array([b"a"]), "type binary"),
        (by("p", "column:x"), pa.array([[1]]), "type list"),
        (by("p", "column:x", "day"), pa.array(["2024-05-01"]), "a date or timestamp"),
        (by("p", "column:x", "hour"), pa.array([dt.date(2024, 5, 1)]), "a timestamp"),
        (by("p", "column:gone"), pa.array([1]), "no column of that name"),
        (by("p", "column:x"), pa.nulls(1), "no column of that name with a type"),
        (by("P", "period_start"), pa.array([1]), "the name 'P'"),
    ],
    ids=str,
)
def test_what_cannot_be_a_partition_is_refused_at_the_plan(spec: PartitionSpec, column: pa.Array, found: str) -> None:
    with pytest.raises(InventoryError, match=found):
        partition_columns([spec], TableSchema.of_arrow(pa.schema({"x": column.type})))


def test_a_run_without_a_period_has_no_period_partition() -> None:
    records = pa.record_batch({"n": [1]})
    with pytest.raises(InventoryError, match="no period"):
        split(records, [by("dt", "period_start")], None)
    with pytest.raises(InventoryError, match="no such column"):
        split(records, [by("p", "column:m")], None)


def test_a_column_with_many_values_is_split_in_time() -> None:
    rows = 200_000
    records = pa.record_batch({"a": pa.array(range(rows)), "b": pa.array([i % 7 for i in range(rows)])})
    parts = split(records, [by("p", "column:b"), by("q", "column:a")], None)
    assert len(parts) == rows and type_to_text(parts[0][1].schema.field("a").type) == "int64"
