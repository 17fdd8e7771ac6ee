"""Arrow ↔ Hive: names of types, columns with what Hive has no place for, addresses."""

from __future__ import annotations

import string

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.catalog.hive_columns import details_of, from_parameters, to_columns, to_fields, to_parameters
from airflow_dataops.catalog.hive_shapes import from_hadoop, to_hadoop
from airflow_dataops.catalog.hive_types import arrow_type, hive_type
from airflow_dataops.catalog.hive_wire import WIRE
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.schema import Column
from airflow_dataops.storage.paths import split_uri

ARROW = {
    "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64(),
    "float": pa.float32(), "double": pa.float64(), "decimal(38,38)": pa.decimal128(38, 38), "string": pa.string(),
    "binary": pa.binary(), "date": pa.date32(), "timestamp": pa.timestamp("us"), "array<int>": pa.list_(pa.int32()),
    "map<string,array<bigint>>": pa.map_(pa.string(), pa.list_(pa.int64())),
    "struct<a:string,b_1:struct<c:decimal(4,2)>>": pa.struct(
        [("a", pa.string()), ("b_1", pa.struct([("c", pa.decimal128(4, 2))]))]
    ),
}  # fmt: skip
READ_ONLY = {
    "INT": pa.int32(), "integer": pa.int32(), "varchar(65535)": pa.string(), "char(3)": pa.string(),
    "decimal": pa.decimal128(10, 0), "decimal(7)": pa.decimal128(7, 0), "numeric(7, 2)": pa.decimal128(7, 2),
    "double precision": pa.float64(), "timestamp with local time zone": pa.timestamp("us", "UTC"),
    "array< map<string, struct<x:varchar(9), y:date>> >": pa.list_(
        pa.map_(pa.string(), pa.struct([("x", pa.string()), ("y", pa.date32())]))
    ),
}  # fmt: skip
UNREADABLE = [
    "", "void", "uniontype<int,string>", "interval_day_time", "decimal(39,2)", "decimal(2,3)", "decimal(0)", "int,int", "array<int",
    "array<>", "map<int>", "struct<int>", "struct<a:int", "varchar", "varchar(x)", "int>", "array<int>>", "struct<:int>", "char(3",
]  # fmt: skip


@pytest.mark.parametrize("name", ARROW)
def test_each_type_has_one_name(name: str) -> None:
    assert hive_type(ARROW[name]) == name and arrow_type(name) == ARROW[name]


@pytest.mark.parametrize("name", READ_ONLY)
def test_types_of_others_are_understood(name: str) -> None:
    assert arrow_type(name) == READ_ONLY[name]


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_rows_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Cannot read Hive type"):
        arrow_type(name)


@pytest.mark.parametrize("t", [pa.uint8(), pa.time64("us"), pa.decimal256(50, 2), pa.timestamp("us", "Europe/Rome"), pa.null()])
def test_what_hive_has_no_name_for_is_refused(t: pa.DataType) -> None:
    with pytest.raises(InventoryError, match=r"Cannot keep column 'c' of sales\.orders: type .* -> one that Hive has"):
        to_fields("sales.orders", [Column("c", t)])


MOMENTS = [pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC")]
SCALARS = st.sampled_from([*(t for name, t in ARROW.items() if "<" not in name), pa.binary(16), *MOMENTS])
TYPES = st.recursive(
    SCALARS,
    lambda inner: (
        inner.map(pa.list_)
        | st.tuples(SCALARS, inner).map(lambda pair: pa.map_(*pair))
        | st.lists(inner, min_size=1, max_size=3).map(lambda ts: pa.struct([(f"f{i}", t) for i, t in enumerate(ts)]))
    ),
    max_leaves=5,
)
NAMES = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=12)
COLUMNS = st.lists(
    st.builds(Column, NAMES, TYPES, st.booleans(), st.text(max_size=9), st.none() | st.text(min_size=1, max_size=60)),
    max_size=8, unique_by=lambda c: c.name,
)  # fmt: skip


@given(COLUMNS)
def test_columns_come_back_as_they_were(columns: list[Column]) -> None:
    fields = to_fields("t", columns)
    parameters = to_parameters(details_of(columns, fields))
    assert to_columns("t", fields, from_parameters("t", parameters)) == tuple(columns)
    assert all(len(value) <= 4000 for value in parameters.values())


def test_details_of_a_wide_table_are_cut_into_parts() -> None:
    columns = [Column(f"c{n}", pa.timestamp("ns", "UTC"), False, "", f"Ünïcode {n} 😀" * 3) for n in range(900)]
    fields = to_fields("t", columns)
    parameters = {"other": "x", **to_parameters(details_of(columns, fields))}
    assert len(parameters) > 20
    assert to_columns("t", fields, from_parameters("t", dict(reversed(parameters.items())))) == tuple(columns)
    del parameters["dataops.catalog.columns.3"]  # a hand that cut one away: Hive's own types count
    assert to_columns("t", fields, from_parameters("t", parameters))[0] == Column("c0", pa.timestamp("us"))


def test_a_type_that_others_have_changed_is_believed() -> None:
    (field,) = to_fields("t", [Column("at", pa.timestamp("ns", "UTC"))])
    details = details_of([Column("at", pa.timestamp("ns", "UTC"))], [field])
    changed = WIRE["FieldSchema"](name="at", type="string")
    assert to_columns("t", [changed], details) == (Column("at", pa.string()),)


def test_a_neighbour_does_not_change_how_a_type_is_spelled() -> None:
    stand = [WIRE["FieldSchema"](name=n, type=t) for n, t in (("a", "varchar(9)"), ("b", "int"))]
    known = to_columns("t", stand, {})
    fields = to_fields("t", [known[0], Column("b", pa.int64()), Column("c", pa.string())], stand, known)
    assert [f.type for f in fields] == ["varchar(9)", "bigint", "string"]


PLACES = st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda part: part not in (".", "..")), min_size=1, max_size=4)  # fmt: skip


@given(PLACES)
def test_a_local_address_is_hadoops_path_and_back(parts: list[str]) -> None:
    from urllib.parse import quote

    address = "file://" + quote("/lake/" + "/".join(parts))
    assert from_hadoop(to_hadoop(address, "s3a")) == address
    assert to_hadoop(address, "s3a").removeprefix("file:") == "/lake/" + "/".join(parts)


@pytest.mark.parametrize(
    ("hadoop", "ours"),
    [
        ("file:/lake/a b%", "file:///lake/a%20b%25"), ("file:///lake/x", "file:///lake/x"), ("s3a://b/k=%20/x", "s3://b/k=%20/x"),
        ("s3n://b/k", "s3://b/k"), ("s3://b/k", "s3://b/k"), ("hdfs://nn:8020/x y", "hdfs://nn:8020/x y"), ("", ""),
    ],
)  # fmt: skip
def test_locations_of_others_read_as_ours(hadoop: str, ours: str) -> None:
    assert from_hadoop(hadoop) == ours
    if ours.startswith(("file:", "s3:")):
        split_uri(ours)


@pytest.mark.parametrize("scheme", ["s3a", "s3", "s3n"])
def test_s3_is_written_as_hadoop_knows_it(scheme: str) -> None:
    assert to_hadoop("s3://bucket/dt=a%2Fb/x?y", scheme) == f"{scheme}://bucket/dt=a%2Fb/x?y"
    assert from_hadoop(f"{scheme}://bucket/dt=a%2Fb/x?y") == "s3://bucket/dt=a%2Fb/x?y"
