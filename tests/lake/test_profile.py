"""The profile of a data file, from its footer alone, against counting."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.profile import ColumnProfile
from airflow_dataops.lake import open_lake
from airflow_dataops.lake.base import FileLayout

HALF = Decimal("0.50")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CASES: list[tuple[str, pa.Array, ColumnProfile]] = [
    ("int", pa.array([3, None, -1], pa.int32()), ColumnProfile(2, -1, 3)),
    ("decimal", pa.array([HALF, -HALF, None], pa.decimal128(10, 2)), ColumnProfile(2, -HALF, HALF)),
    ("float", pa.array([1.5, float("nan"), -0.5]), ColumnProfile(3, -0.5, 1.5)),
    ("only nan", pa.array([float("nan")] * 3), ColumnProfile(3, bounded=False)),
    ("bool", pa.array([True, None, False]), ColumnProfile(2, False, True)),
    ("date", pa.array([date(1, 1, 1), date(2024, 1, 1), None]), ColumnProfile(2, date(1, 1, 1), date(2024, 1, 1))),
    ("naive", pa.array([datetime(2024, 5, 1), None, None]), ColumnProfile(1, datetime(2024, 5, 1), datetime(2024, 5, 1))),
    ("zoned", pa.array([NOON, None, None], pa.timestamp("us", "Europe/Berlin")), ColumnProfile(1, NOON, NOON)),
    ("nanoseconds", pa.array([1, 2, None], pa.timestamp("ns")), ColumnProfile(2, bounded=False)),
    ("beyond Python", pa.array([10**18, None, None], pa.int64()).cast(pa.timestamp("us")), ColumnProfile(1, bounded=False)),
    ("code", pa.array(["0042", "0007", None]), ColumnProfile(2, "0007", "0042")),
    ("prose", pa.array(["x" * 33, "y", None]), ColumnProfile(2, bounded=False)),
    ("no values", pa.array([None] * 3, pa.string()), ColumnProfile(0)),
    ("binary", pa.array([b"a", b"b", None]), ColumnProfile(2, bounded=False)),
    ("list", pa.array([[1], None, [2, 3]]), ColumnProfile(None, bounded=False)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "expected"), CASES, ids=[c[0] for c in CASES])
def test_a_column(name: str, values: pa.Array, expected: ColumnProfile, tmp_path: Path) -> None:
    found = written(tmp_path, {"x": values, "_batch_id": pa.array(["b"] * 3)})
    assert (found.rows, dict(found.columns)) == (3, {"x": expected})
    assert repr(found.columns["x"]) == repr(expected)  # 1 is not True, and a zone is UTC


def test_row_groups_are_one_file(tmp_path: Path) -> None:
    found = written(tmp_path, {"x": pa.array([*range(50), None] * 4), "s": pa.array(["a", "z"] * 102)}, row_group_rows=10)
    assert found.columns == {"x": ColumnProfile(200, 0, 49), "s": ColumnProfile(204, "a", "z")}


def test_no_rows(tmp_path: Path) -> None:
    assert written(tmp_path, {"x": pa.array([], pa.int64())}).columns["x"] == ColumnProfile(0)


def written(folder: Path, columns: dict[str, pa.Array], **layout: Any) -> Any:
    lake = open_lake(f"file://{folder}")
    batch = pa.RecordBatch.from_pydict(columns)
    writer = lake.open_file("a.parquet", batch.schema, FileLayout(**layout))
    writer.write(batch)
    writer.close({})
    return lake.footer("a.parquet").profile
