"""Which engines read which older file: the table of docs/compaction.md, row by row."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.readers import READERS, fails, parse_readers, unreadable
from airflow_dataops.core.schema import Column, TableSchema

NOT_SPARK, NOT_HIVE = {"spark"}, {"hive", "spark"}
ROWS = [
    (pa.int32(), pa.int32(), set()),
    (pa.int8(), pa.int32(), set()),
    (pa.int32(), pa.int64(), NOT_SPARK),
    (pa.float32(), pa.float64(), NOT_SPARK),
    (pa.decimal128(10, 2), pa.decimal128(12, 2), set()),
    (pa.decimal128(10, 2), pa.decimal128(12, 4), NOT_SPARK),
    (pa.int32(), pa.decimal128(12, 2), NOT_HIVE),
    (pa.int32(), pa.decimal128(18, 2), NOT_HIVE),
    (pa.int64(), pa.decimal128(21, 2), {"hive", "spark", "trino"}),
    (pa.int64(), pa.string(), NOT_HIVE),
    (pa.decimal128(10, 2), pa.string(), NOT_HIVE),
    (pa.bool_(), pa.string(), {"hive", "spark", "trino"}),
    (pa.float64(), pa.string(), {"hive", "spark", "trino"}),
    (pa.date32(), pa.timestamp("us"), {"hive", "spark", "trino"}),
    (pa.timestamp("ms"), pa.timestamp("us"), set()),
    (pa.list_(pa.int32()), pa.list_(pa.int64()), NOT_SPARK),
    (pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.decimal128(12, 0)), NOT_HIVE),
    (pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int32()), ("b", pa.string())]), set()),
    (pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int64())]), NOT_SPARK),
    (pa.struct([("a", pa.int32())]), pa.struct([("b", pa.int32())]), READERS - {"duckdb"}),
    (pa.string(), pa.int64(), READERS - {"duckdb"}),
]


def _id(value: object) -> str:
    return "+".join(sorted(value)) or "none" if isinstance(value, set | frozenset) else str(value)


@pytest.mark.parametrize(("written", "shown", "failing"), ROWS, ids=_id)
def test_who_does_not_read_what(written: pa.DataType, shown: pa.DataType, failing: set[str]) -> None:
    assert fails(written, shown) == failing


def test_only_the_asked_readers_and_the_columns_that_both_have() -> None:
    written = [Column("id", pa.int32()), Column("gone", pa.int32()), Column("n", pa.int32())]
    shown = TableSchema((Column("id", pa.int64()), Column("n", pa.string()), Column("new", pa.string())))
    assert unreadable(written, shown) == {"id": {"spark"}, "n": {"hive", "spark"}}
    assert unreadable(written, shown, frozenset({"hive", "trino"})) == {"n": {"hive"}}
    assert unreadable(written, shown, frozenset({"trino"})) == {}


def test_a_row_of_readers() -> None:
    assert parse_readers(" Trino,duckdb ") == {"trino", "duckdb"}
    for text in ("", " , ", "presto"):
        with pytest.raises(InventoryError, match="readers"):
            parse_readers(text)
