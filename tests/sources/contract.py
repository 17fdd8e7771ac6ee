"""What every `Source` promises, as one suite. An implementation subclasses `SourceContract` in its own test module and
gives a `case` fixture; pytest collects the inherited tests there.

    class TestMemory(SourceContract):
        @pytest.fixture
        def case(self) -> Case: ...
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.errors import InventoryError, RangeError
from airflow_dataops.core.offset import CursorRange, Everything
from airflow_dataops.sources.base import Batch, ReadRequest, Source

DAY = dt.datetime(2024, 5, 1)  # naive on purpose: a column without a zone
ORDERS = pa.table(
    {
        "id": pa.array(range(1, 11), pa.int64()),
        "customer": pa.array(["Ann", "Bob", None, "Ann", "007", "Zoë", "O'Hara", 'say "hi"', "a,b", "x\ny"], pa.string()),
        # Ties on purpose: three rows at one moment, two at another.
        "updated_at": pa.array([DAY + dt.timedelta(hours=h) for h in (0, 1, 1, 1, 2, 3, 4, 4, 5, 6)], pa.timestamp("us")),
    }
)
"""The rows that every implementation serves as its table of orders."""


@dataclass
class Case:
    """A source that serves ORDERS as `table`. `cursors`: whether it can be read by `updated_at` and `id`, `text_cursors`:
    whether by `customer`. `null_cursor_table`: a table with a NULL in its column `updated_at`."""

    source: Source
    table: str
    cursors: bool
    null_cursor_table: str | None = None
    text_cursors: bool = True


def rows_of(batches: list[Batch]) -> list[dict[str, Any]]:
    return sorted((row for batch in batches for row in batch.records.to_pylist()), key=lambda row: row["id"])


def read(case: Case, range_: Any = None, batch_rows: int = 65536, **changes: Any) -> list[Batch]:
    reading = case.source.read(ReadRequest(case.table, range_ or Everything(), batch_rows, **changes))
    try:
        return list(reading)
    finally:
        reading.close()


class SourceContract:
    """The suite."""

    @pytest.fixture(autouse=True)
    def _closed_afterwards(self, case: Case) -> Iterator[None]:
        yield
        case.source.close()

    def test_lists_its_tables_in_a_stable_order(self, case: Case) -> None:
        names = case.source.table_names()
        assert case.table in names
        assert list(names) == sorted(set(names))
        assert case.source.table_names() == names
        assert tuple(table.name for table in case.source.discover()) == names

    def test_describes_columns_in_order(self, case: Case) -> None:
        described = case.source.describe(case.table)
        assert described.name == case.table
        assert list(described.schema.names) == ORDERS.column_names
        assert described.schema.to_arrow().types == ORDERS.schema.types
        assert described.rows_estimate is None or described.rows_estimate >= 0
        assert described == next(t for t in case.source.discover() if t.name == case.table)

    def test_reads_every_row_exactly(self, case: Case) -> None:
        assert rows_of(read(case)) == ORDERS.to_pylist()

    @pytest.mark.parametrize("batch_rows", [1, 3, 10, 11])
    def test_batches_are_bounded_and_all_of_the_promised_schema(self, case: Case, batch_rows: int) -> None:
        reading = case.source.read(ReadRequest(case.table, Everything(), batch_rows))
        batches = list(reading)
        reading.close()
        assert all(len(batch.records) <= batch_rows for batch in batches)
        assert all(batch.records.schema.equals(reading.schema.to_arrow()) for batch in batches)
        assert all(batch.source_offsets is None or len(batch.source_offsets) == len(batch.records) for batch in batches)
        assert rows_of(batches) == ORDERS.to_pylist()

    def test_reads_the_same_again(self, case: Case) -> None:
        assert rows_of(read(case)) == rows_of(read(case))

    def test_a_reading_may_be_closed_half_way_and_twice(self, case: Case) -> None:
        reading = case.source.read(ReadRequest(case.table, Everything(), 1))
        next(iter(reading))
        reading.close()
        reading.close()
        assert rows_of(read(case)) == ORDERS.to_pylist()

    def test_an_unknown_table_is_for_the_inventory(self, case: Case) -> None:
        for hostile in ("no_such_table", 'x"; drop table orders; --', "../orders", "{{ ds }}", ""):
            with pytest.raises(InventoryError):
                case.source.describe(hostile)
            with pytest.raises(InventoryError):
                list(case.source.read(ReadRequest(hostile, Everything())))
        assert rows_of(read(case)) == ORDERS.to_pylist()

    @pytest.mark.parametrize("low_inclusive", [False, True])
    @pytest.mark.parametrize("high_inclusive", [False, True])
    @pytest.mark.parametrize(("low", "high"), [(None, None), (1, 4), (1, 1), (None, 1), (4, None), (7, 9), (3, 2)])
    def test_a_cursor_range_is_exactly_that_range(
        self, case: Case, low: int | None, high: int | None, low_inclusive: bool, high_inclusive: bool
    ) -> None:
        bounds = [None if hour is None else DAY + dt.timedelta(hours=hour) for hour in (low, high)]
        asked = CursorRange("updated_at", bounds[0], bounds[1], low_inclusive, high_inclusive)
        if not case.cursors:
            with pytest.raises(InventoryError):
                read(case, asked)
            return

        def inside(at: dt.datetime) -> bool:
            above = bounds[0] is None or at > bounds[0] or (low_inclusive and at == bounds[0])
            return above and (bounds[1] is None or at < bounds[1] or (high_inclusive and at == bounds[1]))

        assert rows_of(read(case, asked, 2)) == [row for row in ORDERS.to_pylist() if inside(row["updated_at"])]

    def test_neighbouring_ranges_neither_lose_nor_double_ties(self, case: Case) -> None:
        if not case.cursors:
            return
        found = []
        for low, high in [(None, 1), (1, 4), (4, 6)]:
            bounds = [None if hour is None else DAY + dt.timedelta(hours=hour) for hour in (low, high)]
            found += read(case, CursorRange("updated_at", bounds[0], bounds[1]))
        assert rows_of(found) == ORDERS.to_pylist()

    def test_text_is_cut_by_code_point(self, case: Case) -> None:
        if not case.cursors:
            return
        names = [row["customer"] for row in ORDERS.to_pylist() if row["customer"] is not None]
        if not case.text_cursors:
            with pytest.raises(RangeError):
                read(case, CursorRange("customer", None, names[0]))
            return
        for low, high in itertools.pairwise(["", *sorted(set(names))]):
            found = [row["customer"] for row in rows_of(read(case, CursorRange("customer", low, high)))]
            assert found == [name for name in names if low < name <= high]

    def test_the_high_cursor_is_inside_its_own_range(self, case: Case) -> None:
        for cursor, highest in (("updated_at", DAY + dt.timedelta(hours=6)), ("id", 10)):
            if not case.cursors:
                with pytest.raises(InventoryError):
                    case.source.high_cursor(case.table, cursor)
                continue
            assert case.source.high_cursor(case.table, cursor) == highest
            assert len(rows_of(read(case, CursorRange(cursor, None, highest)))) == 10

    def test_rows_without_a_cursor_value_are_refused(self, case: Case) -> None:
        if case.null_cursor_table is not None:
            with pytest.raises(RangeError, match="updated_at"):
                case.source.high_cursor(case.null_cursor_table, "updated_at")

    def test_an_unknown_cursor_is_for_the_inventory(self, case: Case) -> None:
        with pytest.raises(InventoryError):
            read(case, CursorRange("no_such_column", None, 1))
        with pytest.raises(InventoryError):
            case.source.high_cursor(case.table, "no_such_column")

    def test_files_are_listed_in_order_and_identified_by_content(self, case: Case) -> None:
        files = case.source.files(case.table)
        assert [file.path for file in files] == sorted(file.path for file in files)
        for file in files:
            known = case.source.identify(file)
            assert (known.path, known.size, known.etag) == (file.path, file.size, file.etag)
            assert known.content
            assert case.source.identify(known) == known
