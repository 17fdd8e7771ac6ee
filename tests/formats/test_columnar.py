"""Parquet files of one table whose own schemas drifted apart; Avro shares all of this."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.offset import Everything
from airflow_dataops.sources import open_source
from airflow_dataops.sources.base import ReadRequest
from tests.sources.files_cases import files_spec

EPOCH = "1970-01-01 00:00:00.000"


def read(folder: Path, *columns: pa.Array) -> tuple[pa.DataType, list[Any], list[DeadLetter]]:
    """Column `v` of a table with one file per array: its type, its values in order of file, the dead letters."""
    for n, values in enumerate(columns):
        pq.write_table(pa.table({"v": values}), folder / f"{n}.parquet")
    reading = open_source(files_spec("*.parquet"), None, base_path=str(folder)).read(ReadRequest("drops", Everything()))
    batches = list(reading)
    rows = [value for batch in batches for value in batch.records.column("v").to_pylist()]
    return reading.schema.column("v").type, rows, [letter for batch in batches for letter in batch.dead_letters]


def test_a_new_field_of_a_struct_leaves_the_values_of_the_others(tmp_path: Path) -> None:
    t, rows, dead = read(
        tmp_path,
        pa.array([{"Name": "Ann", "zip code": 1}]),
        pa.array([{"City": "Ulm", "NAME": "Bob"}]),
        pa.array([None, {"City": "Rom"}]),
    )
    assert t == pa.struct([("name", pa.string()), ("zip_x0020_code", pa.int64()), ("city", pa.string())])
    assert [None if row is None else tuple(row.values()) for row in rows] == [
        ("Ann", 1, None),
        ("Bob", None, "Ulm"),
        None,
        (None, None, "Rom"),
    ]
    assert not dead


def test_structs_inside_lists_and_maps_are_matched_too(tmp_path: Path) -> None:
    one = pa.array([[{"Sku": "a"}]])
    two = pa.array([[{"sku": "b", "Qty": 2}], []])
    _, rows, _ = read(tmp_path, one, two)
    assert rows == [[{"sku": "a", "qty": None}], [{"sku": "b", "qty": 2}], []]


@pytest.mark.parametrize(
    ("first", "second", "t", "values"),
    [
        (pa.array([1], pa.int32()), pa.array([0.5]), pa.float64(), [1.0, 0.5]),
        (pa.array([1]), pa.array(["x"]), pa.string(), ["1", "x"]),
        (pa.array([True]), pa.array([7]), pa.string(), ["true", "7"]),
        (pa.array([Decimal("1.50")]), pa.array([2], pa.decimal128(38, 0)), pa.string(), ["1.50", "2"]),
        (pa.array([dt.date(2024, 5, 1)]), pa.array([0], pa.timestamp("ms")), pa.string(), ["2024-05-01", EPOCH]),
        (pa.array(["a", None]).dictionary_encode(), pa.array(["b"], pa.large_string()), pa.string(), ["a", None, "b"]),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([-1]), pa.decimal128(20, 0), [Decimal(2**64 - 1), Decimal(-1)]),
    ],
)  # fmt: skip
def test_types_that_no_promotion_joins_are_read_as_text_files_would_be(
    tmp_path: Path, first: pa.Array, second: pa.Array, t: pa.DataType, values: list[Any]
) -> None:
    assert read(tmp_path, first, second) == (t, values, [])


def test_a_value_that_the_common_type_cannot_hold_is_a_dead_letter(tmp_path: Path) -> None:
    late = dt.datetime(9999, 12, 31)
    t, rows, dead = read(
        tmp_path, pa.array([1000], pa.timestamp("ns")), pa.array([dt.datetime(2024, 5, 1), late], pa.timestamp("us"))
    )
    assert (t, len(rows)) == (pa.timestamp("ns"), 2)
    assert [(d.source_file, d.source_offset, d.reason, d.column, d.raw) for d in dead] == [
        ("1.parquet", 2, "value_out_of_range", "v", b'{"v":"9999-12-31 00:00:00.000000"}')
    ]
    t, rows, dead = read(tmp_path, pa.array([2**53 + 1, 2**53]), pa.array([0.5, None]))
    assert (t, rows, [d.source_offset for d in dead]) == (pa.float64(), [2.0**53, 0.5, None], [1])


def test_bytes_and_nested_values_have_no_text_that_could_join_them(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"'0.parquet' and '1.parquet' as one table: column 'v'"):
        read(tmp_path, pa.array([b"x"]), pa.array(["x"]))
    with pytest.raises(InventoryError, match="'v' is struct<a: int64> and int64"):
        read(tmp_path, pa.array([{"a": 1}]), pa.array([1]))
