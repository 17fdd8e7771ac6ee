"""The source in memory keeps the contract, and what tests of steps ask of it beside."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError
from airflow_dataops.core.offset import Everything, FileSet
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.sources.memory import MemorySource
from tests.sources.contract import ORDERS, Case, SourceContract, rows_of


class TestContract(SourceContract):
    @pytest.fixture
    def case(self) -> Case:
        without = ORDERS.set_column(2, "updated_at", pa.nulls(10, pa.timestamp("us")))
        return Case(MemorySource({"orders": ORDERS, "undated": without}), "orders", True, "undated")


class TestContractOfFiles(SourceContract):
    @pytest.fixture
    def case(self) -> Case:
        source = MemorySource()
        for n in range(3):
            source.put_file("orders", f"orders/{n}.csv", ORDERS.slice(n * 4, 4))
        return Case(source, "orders", True)


def test_a_snapshot_does_not_see_later_changes_and_isolation_none_does() -> None:
    source = MemorySource({"orders": ORDERS.slice(0, 4)})
    snapshot, live = (
        iter(source.read(ReadRequest("orders", Everything(), 2, isolation=isolation))) for isolation in ("snapshot", "none")
    )
    seen, seen_live = [next(snapshot)], [next(live)]
    source.append("orders", ORDERS.slice(4))
    assert len(rows_of([*seen, *snapshot])) == 4
    assert len(rows_of([*seen_live, *live])) == 10


def test_a_replaced_file_is_not_the_listed_one() -> None:
    source = MemorySource()
    first = source.put_file("orders", "a.csv", ORDERS)
    assert rows_of(list(source.read(ReadRequest("orders", FileSet((first,)))))) == ORDERS.to_pylist()
    second = source.put_file("orders", "a.csv", ORDERS)
    assert source.identify(second).content == source.identify(second).content
    for do in (lambda: source.identify(first), lambda: source.read(ReadRequest("orders", FileSet((first,))))):
        with pytest.raises(ConflictError):
            do()
    source.delete_file("orders", "a.csv")
    with pytest.raises(ConflictError):
        source.read(ReadRequest("orders", FileSet((second,))))


def test_fails_when_told_and_only_once() -> None:
    source = MemorySource({"orders": ORDERS}, clock=5.0)
    source.fail("orders", UnavailableError("gone"), after_batches=1)
    reading = iter(source.read(ReadRequest("orders", Everything(), 4)))
    next(reading)
    with pytest.raises(UnavailableError):
        next(reading)
    assert len(rows_of(list(source.read(ReadRequest("orders", Everything()))))) == 10
    assert source.now() == 5.0
    source.drop("orders")
    with pytest.raises(InventoryError):
        source.describe("orders")
