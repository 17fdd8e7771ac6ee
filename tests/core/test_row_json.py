"""Rows as the JSON of a dead letter."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from airflow_dataops.core.row_json import rows_to_json
from tests.core.arrow_values import batches


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (pa.array([2**63 - 1]), 2**63 - 1),
        (pa.array([0.1]), 0.1),
        (pa.array([float("nan")]), "nan"),
        (pa.array([float("-inf")]), "-inf"),
        (pa.array([True]), True),
        (pa.array([None]), None),
        (pa.array(["Ä\n\x00"]), "Ä\n\x00"),
        (pa.array([b"\xff\x00"]), "ff00"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([Decimal("1E-20")]), "0.00000000000000000001"),
        (pa.array([dt.date(2024, 5, 1)]), "2024-05-01"),
        (pa.array([1], pa.timestamp("ns", "UTC")), "1970-01-01 00:00:00.000000001Z"),
        (pa.array([[1, None]]), [1, None]),
        (pa.array([{"a": {"b": [Decimal("1.0")]}}]), {"a": {"b": ["1.0"]}}),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [["k", 1]]),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array([b"a" * 16], pa.binary(16)).cast(pa.uuid()), "61" * 16),
        (pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"]).buffers()), "a\\xff"),
        (pa.UnionArray.from_sparse(pa.array([1], pa.int8()), [pa.array([5]), pa.array(["x"])]), "x"),
    ],
    ids=lambda v: str(v.type) if isinstance(v, pa.Array) else None,
)
def test_a_value(array: pa.Array, value: Any) -> None:
    (row,) = rows_to_json(pa.RecordBatch.from_arrays([array], names=["c"]))
    assert json.loads(row) == {"c": value}


@given(batches(depth=2))
def test_every_row_is_one_json_object_with_every_column(records: pa.RecordBatch) -> None:
    rows = [json.loads(row) for row in rows_to_json(records)]
    assert len(rows) == records.num_rows
    for at, row in enumerate(rows):
        assert list(row) == records.schema.names
        for name, value in row.items():
            assert (value is not None) == records.column(name)[at].is_valid
