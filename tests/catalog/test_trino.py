"""An engine that knows nothing of us reads what we publish: after every change of a source, every partition, old and new, by its
values. Trino over a real metastore; our own reading of the files beside it. The numbers are those of the list of thirty."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.catalog.base import Catalog
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.readers import fails
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.held import answer, let_go
from airflow_dataops.steps.maintain import Limits, maintain_table
from tests.catalog.conftest import hive_catalog
from tests.catalog.site import Site
from tests.servers.hive import HiveServer
from tests.servers.trino import TrinoError, TrinoServer

Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def inside(hive_server: HiveServer) -> str:
    return hive_server.new_catalog()


@pytest.fixture(scope="module")
def trino(inside: str, hive_server: HiveServer, trino_server: TrinoServer) -> tuple[TrinoServer, str]:
    """Trino and the name under which it sees this module's tables."""
    name = f"c_{secrets.token_hex(4)}"
    trino_server.new_catalog(name, hive_server, inside)
    return trino_server, name


@pytest.fixture
def catalog(inside: str, hive_server: HiveServer) -> Iterator[Catalog]:
    opened = hive_catalog(hive_server, catalog_name=inside)
    yield opened
    opened.close()


@pytest.fixture
def database() -> str:
    """Of its own for each test."""
    return f"d_{secrets.token_hex(4)}"


@pytest.fixture
def site(catalog: Catalog, tmp_path: Path, database: str) -> Site:
    return Site(catalog, tmp_path, target=by(database))


def by(database: str, *columns: str) -> dict[str, Any]:
    days = {"name": "dt", "from": "period_start"}
    return {"database": database, "partition_by": [{"name": f"p_{c}", "from": f"column:{c}"} for c in columns] or [days]}


@pytest.fixture
def read(trino: tuple[TrinoServer, str]) -> Read:
    """All rows of a table as Trino sees them, without standard columns, in order of `order`."""

    def rows(site: Site, table: str = "t", order: str = "id") -> list[dict[str, Any]]:
        server, name = trino
        target = table_spec(site.spec, table)
        found = server.query(f'SELECT * FROM {name}."{target.database}"."{target.table}" ORDER BY "{order}"')
        return [{n: v for n, v in row.items() if n not in STANDARD_COLUMNS} for row in found]

    return rows


def naive(*of: int) -> datetime:
    return datetime(*of)  # type: ignore[arg-type]


MONTH = date(2024, 5, 1)
WIDENINGS = {
    "01-int8-int64": (pa.int8(), -7, pa.int64(), 2**40, -7, 2**40),
    "01-int32-int64": (pa.int32(), 2**31 - 1, pa.int64(), 2**62, 2**31 - 1, 2**62),
    "float-double": (pa.float32(), 0.5, pa.float64(), 0.1, 0.5, 0.1),
    "02-decimal-scale": (pa.decimal128(10, 2), Decimal("12345678.25"), pa.decimal128(12, 4), Decimal("0.0001"),
                         Decimal("12345678.2500"), Decimal("0.0001")),
    "02-decimal-beyond-64-bit": (pa.decimal128(10, 2), Decimal("-1.01"), pa.decimal128(30, 8), Decimal("1e20"),
                                 Decimal("-1.01000000"), Decimal("100000000000000000000.00000000")),
    "int-decimal": (pa.int32(), 5, pa.decimal128(12, 2), Decimal("0.25"), Decimal("5.00"), Decimal("0.25")),
    "int-long-decimal": (pa.int64(), 5, pa.decimal128(12, 2), Decimal("0.25"), Decimal("5.00"), Decimal("0.25")),
    "03-int-text": (pa.int32(), 42, pa.string(), "0042", "42", "0042"),
    "03-decimal-text": (pa.decimal128(10, 2), Decimal("1.50"), pa.string(), "x", "1.50", "x"),
    "03-double-text": (pa.float64(), 0.5, pa.string(), "x", "0.5", "x"),
    "03-date-text": (pa.date32(), MONTH, pa.string(), "x", "2024-05-01", "x"),
    "timestamp-finer": (pa.timestamp("ms"), naive(2024, 5, 1, 1), pa.timestamp("us"), naive(2024, 5, 1, 1, 0, 0, 7),
                        naive(2024, 5, 1, 1), naive(2024, 5, 1, 1, 0, 0, 7)),
    "list-of-wider": (pa.list_(pa.int32()), [1, None], pa.list_(pa.int64()), [2**40], [1, None], [2**40]),
}  # fmt: skip
"""Type and value of the first day, those of the second, and both as they are read under the table's type."""


@pytest.mark.parametrize("case", WIDENINGS.values(), ids=WIDENINGS.keys())
def test_a_widened_column_is_read_from_old_partitions_and_new_ones(case: tuple[Any, ...], site: Site, read: Read) -> None:
    """What an engine cannot read of old files, the maintenance has written again."""
    old_type, old, new_type, new, first, second = case
    site.spec = site.spec.model_copy(update={"contract": ContractSpec(to_string="widen", date_to_timestamp=True)})
    site.shows(id=[1, 2], v=pa.array([old, None], old_type))
    assert [row["v"] for row in read(site)] == [old, None]
    assert site.shows(id=[3], v=pa.array([new], new_type)).outcome == "loaded"
    if "trino" not in fails(old_type, site.columns().column("v").type):
        assert [row["v"] for row in read(site)] == [first, None, second]
    kept(site)
    assert [row["v"] for row in read(site)] == [first, None, second]
    assert [row["dt"] for row in read(site)] == ["2024-05-01", "2024-05-01", "2024-05-02"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (pa.array([True]), pa.array(["x"])),
        (pa.array([MONTH]), pa.array([naive(2024, 5, 2)], pa.timestamp("us"))),
    ],
    ids=["boolean-text", "date-timestamp"],
)
def test_what_the_metastore_refuses_changes_nothing(old: pa.Array, new: pa.Array, site: Site, read: Read) -> None:
    site.spec = site.spec.model_copy(update={"contract": ContractSpec(to_string="widen", date_to_timestamp=True)})
    site.shows(id=[1], v=old)
    result = site.shows(id=[2], v=new)
    assert result.outcome == "failed" and "the metastore says" in result.error
    assert [row["v"] for row in read(site)] == old.to_pylist()


def kept(site: Site, table: str = "t") -> None:
    """As the maintenance does it."""
    done = maintain_table(table_spec(site.spec, table), site.world.edges(site.spec), Limits())
    assert not done.failed, done.why_failed


def test_columns_come_go_and_come_back(site: Site, read: Read) -> None:
    """5, 6, 9: a column in the middle goes last; an old partition that is loaded again has it; one that is gone reads NULL."""
    site.shows(id=[1], c=["x"])
    site.shows(id=[2], b=["new"], c=["y"])
    assert read(site) == [
        {"id": 1, "c": "x", "b": None, "dt": "2024-05-01"}, {"id": 2, "c": "y", "b": "new", "dt": "2024-05-02"},
    ]  # fmt: skip
    assert site.world.load(site.spec, "t", "2024-05-01").outcome == "loaded"
    assert {(row["dt"], row["b"]) for row in read(site)} == {("2024-05-01", "new"), ("2024-05-02", "new")}
    site.shows(id=[3], c=["z"])
    site.shows(id=[4], b=["back"], c=["w"])
    assert [(row["id"], row["b"], row["c"]) for row in read(site)] == [
        (2, "new", "y"), (2, "new", "y"), (3, None, "z"), (4, "back", "w"),
    ]  # fmt: skip


def test_03_values_of_another_type_stand_beside(site: Site, read: Read) -> None:
    site.spec = site.spec.model_copy(update={"contract": ContractSpec(to_string="shadow_column")})
    site.shows(id=[1], v=pa.array([5], pa.int64()))
    site.shows(id=[2], v=["n/a"])
    assert [(row["v"], row["v__str"]) for row in read(site)] == [(5, None), (None, "n/a")]


def test_08_an_approved_rename(site: Site, read: Read) -> None:
    site.shows(id=[1], cust_nm=["Ann"])
    site.shows(id=[2], cust_name=["Bob"])
    edges, table = site.world.edges(site.spec), table_spec(site.spec, "t")
    (hold,) = edges.ledger.holds.list()
    answer(table, hold, "rename", "ann", edges.ledger)
    assert let_go(table, edges).error is None
    site.shows(id=[3], cust_name=["Eve"])
    assert [(row["cust_nm"], row["cust_name"]) for row in read(site)] == [("Ann", None), ("Bob", None), ("Eve", None)]


def test_10_names_that_no_engine_likes(site: Site, read: Read) -> None:
    site.shows("sales-2024.q1", id=[1], **{"#acct": ["a"], "1st": [True], "select": [2], "Zürich €": ["z"]})
    (row,) = read(site, "sales-2024.q1")
    assert [v for name, v in row.items() if name not in ("id", "dt")] == ["a", True, 2, "z"]


VALUES = ("2024-05-01 10:00:00", "a/b", "x=y", "100%", "%2F", "a'b\"c", "zoë", " ", ".", "#?", "", None)


def test_12_partition_values_are_found_again(catalog: Catalog, tmp_path: Path, database: str, read: Read) -> None:
    site = Site(catalog, tmp_path, target=by(database, "k"))
    for day in range(2):
        shown = {"id": list(range(len(VALUES))), "day": [day] * len(VALUES)}
        assert site.shows(**shown, k=pa.array(VALUES, pa.string())).outcome == "loaded"
    names = [p.values for p in catalog.page_partitions(database, "t")]
    assert len(names) == len(VALUES) - 1  # Hive has one partition for NULL and the empty text
    assert [(row["k"], row["p_k"], row["day"]) for row in read(site)] == [(value, value or None, 1) for value in VALUES]


def test_18_two_schemas_of_two_writers_are_one_table(site: Site, read: Read) -> None:
    site.shows(id=[1], a=["x"])
    site.shows(id=[2], a=["y"], b=[2.5])
    site.shows(id=[3], a=["z"], c=[True])
    site.shows(id=[4], a=["w"])
    assert [(row["a"], row["b"], row["c"]) for row in read(site)] == [
        ("x", None, None), ("y", 2.5, None), ("z", None, True), ("w", None, None),
    ]  # fmt: skip


def test_a_struct_grows_inside_a_list_and_a_map(site: Site, read: Read) -> None:
    small, big = pa.struct([("a", pa.int32())]), pa.struct([("b", pa.string()), ("a", pa.int64())])
    site.shows(id=[1], s=pa.array([{"a": 1}], small), l=pa.array([[{"a": 1}]], pa.list_(small)),
               m=pa.array([[("k", {"a": 1})]], pa.map_(pa.string(), small)))  # fmt: skip
    two = {"b": "x", "a": 2**40}
    site.shows(id=[2], s=pa.array([two], big), l=pa.array([[two]], pa.list_(big)),
               m=pa.array([[("k", two)]], pa.map_(pa.string(), big)))  # fmt: skip
    old, new = {"a": 1, "b": None}, {"a": 2**40, "b": "x"}
    assert [(row["s"], row["l"], row["m"]) for row in read(site)] == [(old, [old], {"k": old}), (new, [new], {"k": new})]


LONG = "zoë\0\n'\"" * 999


def test_23_27_every_type_reads_as_it_was(site: Site, read: Read) -> None:
    moment = naive(2024, 5, 1, 10, 20, 30, 123456)
    values: dict[str, tuple[pa.DataType, Any]] = {
        "bool": (pa.bool_(), True), "tiny": (pa.int8(), -128), "small": (pa.int16(), -32768), "unsigned": (pa.uint32(), 2**32 - 1),
        "big": (pa.int64(), -(2**63)), "huge": (pa.uint64(), 2**64 - 1), "real": (pa.float32(), 0.5),
        "double": (pa.float64(), 1e308),
        "money": (pa.decimal128(38, 18), Decimal("12345678901234567890.123456789012345678")), "text": (pa.string(), LONG),
        "bytes": (pa.binary(), b"\x00\xff"), "day": (pa.date32(), date(1, 1, 1)), "naive": (pa.timestamp("us"), moment),
        "zoned": (pa.timestamp("us", "UTC"), moment.replace(tzinfo=UTC)), "items": (pa.list_(pa.string()), ["a", None, ""]),
        "map": (pa.map_(pa.string(), pa.decimal128(5, 2)), [("k", Decimal("1.50"))]),
    }  # fmt: skip
    site.shows(id=[1, 2], **{name: pa.array([value, None], kind) for name, (kind, value) in values.items()})
    full, empty = read(site)
    assert {name: empty[name] for name in values} == dict.fromkeys(values)
    expected = {name: value for name, (_, value) in values.items()}
    expected |= {"huge": Decimal(2**64 - 1), "zoned": moment, "map": {"k": Decimal("1.50")}}
    assert {name: full[name] for name in values} == expected


@pytest.mark.timeout(300)
def test_a_reader_never_sees_a_mixture_a_gap_or_an_error(site: Site, trino: tuple[TrinoServer, str]) -> None:
    """A partition is overwritten a hundred times while Trino reads it in a loop: one version each time, whole, in order."""
    server, name = trino
    target = table_spec(site.spec, "t")
    asked = f'SELECT v, count(*) AS n FROM {name}."{target.database}"."{target.table}" GROUP BY v'
    site.shows(id=[0], v=[0])
    seen: list[list[dict[str, Any]]] = []
    failed: list[TrinoError] = []
    over = threading.Event()

    def reader() -> None:
        try:
            while not over.is_set():
                seen.append(server.query(asked))
                over.wait(0.1)  # the processor is for others, too
        except TrinoError as error:
            failed.append(error)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for version in range(1, 101):
            rows = version % 7 + 1
            site.source.put("t", pa.table({"id": list(range(rows)), "v": [version] * rows}))
            assert site.world.load(site.spec, "t", "2024-05-01").outcome == "loaded"
    finally:
        over.set()
        thread.join()
    assert failed == []
    seen.append(server.query(asked))
    assert all(len(versions) == 1 for versions in seen), seen
    versions = [(row["v"], row["n"]) for (row,) in seen]
    assert all(n == v % 7 + 1 for v, n in versions) and versions == sorted(versions) and versions[-1][0] == 100
    assert len({v for v, _ in versions}) > 10, "hardly anything was read meanwhile"
