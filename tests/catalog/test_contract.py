"""What every catalog keeps to. The names A… and D… are the model's traces."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from airflow_dataops.catalog.base import Catalog, CatalogPartition, CatalogTable
from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.schema import Column
from tests.catalog.conftest import lake

LAKE = lake()

COLUMNS = (Column("id", pa.int64(), False, "the 'key'", "ID"), Column("total", pa.decimal128(12, 2)))
DT = Column("dt", pa.string())
ORDERS = CatalogTable(
    "sales", "orders", COLUMNS, (DT,), f"{LAKE}/sales/orders", "parquet", "Orders; of {{ x }} 'all'\n", "sales-data",
    {"dataops.source": "sales.shop:orders", "k'": 'v"\\'},
)  # fmt: skip


def part(*values: str | None, epoch: int = 1, place: str = "a1") -> CatalogPartition:
    location = f"{LAKE}/sales/orders/{place}/{quote(repr(values).replace('/', ' '))}"
    return CatalogPartition(values, location, COLUMNS, epoch, {"dataops.epoch": str(epoch)})


def shown(catalog: Catalog, *values: str | None) -> CatalogPartition | None:
    found = catalog.get_partitions("sales", "orders", [values])
    return found[0] if found else None


def read_whole(catalog: Catalog, days: list[tuple[str]]) -> set[int]:
    """The epochs that a reader sees together, each at its place. A metastore answers from several reads of its own database, so
    a write may fall between them (seen once in some thousand reads; even between a partition's place and its parameters); what
    two reads in a row agree on stood so at one moment. Glue changes each partition by itself: there only each is seen whole."""
    last: tuple[CatalogPartition, ...] | None = None
    while True:
        found = catalog.get_partitions("sales", "orders", days)
        if catalog.kind != "hive" or found == last:
            assert all(p.location == part(*p.values, place=str(p.epoch)).location for p in found), found
            return {found[0].epoch} if catalog.kind == "glue" else {p.epoch for p in found}
        last = found


def looks_first(catalog: Catalog) -> bool:
    """Whether a late writer, alone at that moment, is refused: by compare-and-swap, or because a metastore without it is
    looked at, under a lock, before it is altered."""
    return catalog.compares_and_swaps or catalog.kind in ("hive", "glue")


def test_a_database_is_made_once(catalog: Catalog) -> None:
    catalog.ensure_database("sales", f"{LAKE}/elsewhere")
    catalog.ensure_database("crm", f"{LAKE}/crm")
    assert catalog.databases() == ("crm", "sales")
    assert catalog.table_names("crm") == () == catalog.table_names("nothing")


def test_a_table_comes_back_as_it_was_created(catalog: Catalog) -> None:
    created = catalog.create_table(ORDERS)
    assert replace(created, version="") == ORDERS and created.version
    assert catalog.get_table("sales", "orders") == created
    assert catalog.get_table("sales", "nothing") is None and catalog.get_table("nothing", "orders") is None
    catalog.create_table(replace(ORDERS, name="a_table"))
    assert catalog.table_names("sales") == ("a_table", "orders")


def test_a_table_is_created_once_and_in_a_database(catalog: Catalog) -> None:
    catalog.create_table(ORDERS)
    with pytest.raises(ConflictError, match="is there already"):
        catalog.create_table(ORDERS)
    with pytest.raises(InventoryError, match="there is no database crm"):
        catalog.create_table(replace(ORDERS, database="crm"))


def test_columns_are_added_last_and_widened(catalog: Catalog) -> None:
    before = catalog.create_table(ORDERS)
    wider = (
        replace(COLUMNS[0], comment="", nullable=True),
        replace(COLUMNS[1], type=pa.decimal128(20, 4)),
        Column("note", pa.string()),
    )
    after = catalog.alter_table(before, replace(before, columns=wider, comment="new", parameters={"x": "y"}))
    assert after.columns == wider and after.version != before.version
    assert (after.comment, after.parameters, catalog.get_table("sales", "orders")) == ("new", {"x": "y"}, after)


REFUSED = {
    "dropped": (COLUMNS[0],),
    "reordered": COLUMNS[::-1],
    "renamed": (COLUMNS[0], replace(COLUMNS[1], name="sum")),
    "inserted in the middle": (COLUMNS[0], Column("note", pa.string()), COLUMNS[1]),
    "narrowed": (replace(COLUMNS[0], type=pa.int32()), COLUMNS[1]),
    "of another kind": (replace(COLUMNS[0], type=pa.float64()), COLUMNS[1]),
    "of fewer integer digits": (COLUMNS[0], replace(COLUMNS[1], type=pa.decimal128(12, 4))),
    "twice but for case": (*COLUMNS, Column("ID", pa.string())),
    "like the partition column": (*COLUMNS, Column("DT", pa.string())),
    "without a type": (*COLUMNS, Column("note", pa.null())),
    "with a long name": (*COLUMNS, Column("n" * 129, pa.string())),
    "with a long comment": (*COLUMNS, Column("note", pa.string(), comment="c" * 257)),
}


@pytest.mark.parametrize("how", REFUSED)
def test_columns_are_positional_and_append_only(catalog: Catalog, how: str) -> None:
    before = catalog.create_table(ORDERS)
    with pytest.raises(InventoryError, match="Cannot"):
        catalog.alter_table(before, replace(before, columns=REFUSED[how]))
    assert catalog.get_table("sales", "orders") == before


@pytest.mark.parametrize(
    "change",
    [{"name": "n" * 129}, {"name": ""}, {"comment": "c" * 257}, {"parameters": {"k": "v" * 4001}}, {"location": "l" * 4001}],
)
def test_hives_limits_are_refused_when_a_table_is_created(catalog: Catalog, change: dict[str, Any]) -> None:
    with pytest.raises(InventoryError, match="Cannot keep"):
        catalog.create_table(replace(ORDERS, **change))
    assert catalog.table_names("sales") == ()


def test_what_is_just_within_the_limits_is_kept(catalog: Catalog) -> None:
    table = replace(ORDERS, name="n" * 128, comment="c" * 256, parameters={"k": "v" * 4000})
    assert replace(catalog.create_table(table), version="") == table


def test_names_and_partition_columns_never_change(catalog: Catalog) -> None:
    before = catalog.create_table(ORDERS)
    for change in ({"name": "other"}, {"partition_columns": ()}, {"partition_columns": (replace(DT, type=pa.int64()),)}):
        with pytest.raises(InventoryError, match="Cannot alter table"):
            catalog.alter_table(before, replace(before, **change))


def test_a19_of_two_writers_of_one_version_one_plans_again(catalog: Catalog) -> None:
    """Each adds a column to what it has read. Without compare-and-swap the first column is lost: Hive's gap, which the
    step closes by recording the columns as a decision."""
    read = catalog.create_table(ORDERS)
    first, second = ((*COLUMNS, Column(name, pa.string())) for name in ("a", "b"))
    after = catalog.alter_table(read, replace(read, columns=first))
    if looks_first(catalog):
        with pytest.raises(ConflictError, match="Another writer changed it"):
            catalog.alter_table(read, replace(read, columns=second))
        again = catalog.alter_table(after, replace(after, columns=(*first, Column("b", pa.string()))))
        assert [c.name for c in again.columns] == ["id", "total", "a", "b"]
    else:
        assert [c.name for c in catalog.alter_table(read, replace(read, columns=second)).columns] == ["id", "total", "b"]


def test_of_many_writers_at_once_one_alters(catalog: Catalog) -> None:
    if not catalog.compares_and_swaps:  # locks of a metastore whose own database is Derby lock each other out
        return
    read = catalog.create_table(ORDERS)
    start = threading.Barrier(6)

    def alter(number: int) -> str:
        start.wait()
        try:
            catalog.alter_table(read, replace(read, columns=(*COLUMNS, Column(f"c{number}", pa.string()))))
        except ConflictError:
            return "again"
        return "done"

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(alter, range(6))) == ["again"] * 5 + ["done"]


def test_a_dropped_table_cannot_be_altered(catalog: Catalog) -> None:
    read = catalog.create_table(ORDERS)
    catalog.put_partitions("sales", "orders", [part("1")])
    for _ in range(2):
        catalog.drop_table("sales", "orders")
    assert catalog.get_table("sales", "orders") is None
    with pytest.raises(ConflictError, match="its version is none"):
        catalog.alter_table(read, replace(read, comment="x"))
    catalog.create_table(ORDERS)
    assert catalog.page_partitions("sales", "orders") == ()


def test_partitions_come_back_as_they_were_put(catalog: Catalog) -> None:
    catalog.create_table(ORDERS)
    parts = [part("2024-05-06"), part(None), part("a'b/../é😀\n{{ x }}")]
    catalog.put_partitions("sales", "orders", parts)
    found = catalog.get_partitions("sales", "orders", [p.values for p in parts] + [("nothing",)])
    assert sorted(found, key=repr) == sorted(parts, key=repr)
    assert catalog.get_partitions("sales", "orders", []) == () == catalog.get_partitions("sales", "nothing", [("x",)])


def test_an_unpartitioned_table_has_one_partition_without_values(catalog: Catalog) -> None:
    catalog.create_table(replace(ORDERS, partition_columns=()))
    catalog.put_partitions("sales", "orders", [part()])
    assert catalog.get_partitions("sales", "orders", [()]) == (part(),) == catalog.page_partitions("sales", "orders")


def test_partitions_are_paged_in_order_of_values_null_first(catalog: Catalog) -> None:
    catalog.create_table(replace(ORDERS, partition_columns=(DT, Column("region", pa.string()))))
    ordered = [
        (None, None),
        (None, "a"),
        ("10", "a"),
        ("10!", "a"),
        ("2", None),
        ("2", "B"),
        ("2", "a"),
        ("2", "é"),
        ("2", "😀"),
    ]
    catalog.put_partitions("sales", "orders", [part(*v) for v in ordered[::-1]])
    seen: list[Any] = []
    while page := catalog.page_partitions("sales", "orders", seen[-1] if seen else None, limit=3):
        assert len(page) <= 3
        seen += [p.values for p in page]
    assert seen == ordered


def test_many_partitions_in_one_call(catalog: Catalog) -> None:
    catalog.create_table(ORDERS)
    parts = [part(f"{i:05d}") for i in range(1203)]
    catalog.put_partitions("sales", "orders", parts)
    assert len(catalog.get_partitions("sales", "orders", [p.values for p in parts])) == 1203
    assert len(catalog.page_partitions("sales", "orders")) == 1000
    catalog.drop_partitions("sales", "orders", [p.values for p in parts[1:]])
    assert [p.values for p in catalog.page_partitions("sales", "orders")] == [("00000",)]


def test_a4_a_later_decision_is_never_replaced_by_an_earlier_one(catalog: Catalog) -> None:
    """With compare-and-swap a zombie shows nothing; without, it shows an older complete version until the next sweep."""
    catalog.create_table(ORDERS)
    catalog.put_partitions("sales", "orders", [part("mon", epoch=2, place="new"), part("tue", epoch=1, place="new")])
    zombie = [part("mon", epoch=1, place="old"), part("tue", epoch=1, place="again"), part("wed", epoch=1, place="first")]
    catalog.put_partitions("sales", "orders", zombie)
    expected = part("mon", epoch=2, place="new") if looks_first(catalog) else zombie[0]
    assert [shown(catalog, day) for day in ("mon", "tue", "wed")] == [expected, *zombie[1:]]


@pytest.mark.parametrize(
    "bad",
    [part("tue", "x"), part(), part("mon"), part("v" * 2001), replace(part("tue"), location="l" * 4001)],
    ids=["too many values", "too few", "twice", "long value", "long location"],
)
def test_a18_all_partitions_of_a_call_are_put_or_none(catalog: Catalog, bad: CatalogPartition) -> None:
    catalog.create_table(ORDERS)
    with pytest.raises(InventoryError, match="Cannot"):
        catalog.put_partitions("sales", "orders", [part("mon"), bad])
    assert catalog.page_partitions("sales", "orders") == ()


def test_partitions_of_no_table_are_refused(catalog: Catalog) -> None:
    with pytest.raises(InventoryError, match="the catalog does not have it"):
        catalog.put_partitions("sales", "orders", [part("mon")])


def test_a_partitions_columns_are_its_own(catalog: Catalog) -> None:
    before = catalog.create_table(ORDERS)
    catalog.put_partitions("sales", "orders", [part("mon")])
    wider = (*COLUMNS, Column("note", pa.string()))
    catalog.alter_table(before, replace(before, columns=wider))
    catalog.put_partitions("sales", "orders", [replace(part("tue"), columns=wider)])
    found = catalog.page_partitions("sales", "orders")
    assert [p.columns for p in found] == [COLUMNS, wider]


def test_dropping_is_idempotent(catalog: Catalog) -> None:
    catalog.create_table(ORDERS)
    catalog.put_partitions("sales", "orders", [part("mon"), part("tue")])
    for _ in range(2):
        catalog.drop_partitions("sales", "orders", [("mon",), ("nothing",)])
    catalog.drop_partitions("sales", "nothing", [("mon",)])
    catalog.drop_table("sales", "nothing")
    assert [p.values for p in catalog.page_partitions("sales", "orders")] == [("tue",)]


def test_a_reader_sees_a_call_whole_while_many_write(catalog: Catalog) -> None:
    """D3: a query over two partitions sees both of one decision."""
    catalog.create_table(ORDERS)
    days = [("mon",), ("tue",)]
    catalog.put_partitions("sales", "orders", [part(*d, epoch=1, place="1") for d in days])
    stop = threading.Event()

    def read() -> int:
        seen = 0
        while not stop.is_set() or not seen:
            epochs = read_whole(catalog, days)
            assert len(epochs) == 1, epochs
            seen += 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(read)
        for epoch in range(2, 30):
            catalog.put_partitions("sales", "orders", [part(*d, epoch=epoch, place=str(epoch)) for d in days])
        stop.set()
        assert reader.result(timeout=60) > 0
