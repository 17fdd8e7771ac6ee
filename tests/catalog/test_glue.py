"""Glue beyond the contract suite: the product's steps over it, what it says no to, and its own shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from airflow_dataops.catalog import open_catalog
from airflow_dataops.catalog.base import CatalogPartition, CatalogTable
from airflow_dataops.catalog.glue import GlueCatalog
from airflow_dataops.catalog.glue_calls import GlueAddress, GlueCalls
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError
from airflow_dataops.core.schema import Column
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.verify import verify
from tests.servers.glue import GlueServer
from tests.steps.world import World, visible_rows

ROWS: dict[str, Any] = {
    "read": {"mode": "full"},
    "write": {"mode": "overwrite_partition"},
    "target": {"database": "sales", "partition_by": [{"name": "city_part", "from": "column:city"}]},
}
TABLE = CatalogTable("sales", "orders", (Column("id", pa.int64()),), (Column("dt", pa.string()),), "s3://lake/sales/orders")


@pytest.fixture
def catalog(glue_server: GlueServer) -> Iterator[GlueCatalog]:
    glue_server.empty()
    opened = open_catalog("glue", connection=glue_server.connection())
    assert isinstance(opened, GlueCatalog)
    opened.ensure_database("sales", "s3://lake/sales")
    yield opened
    opened.close()


def glue(catalog: GlueCatalog) -> Any:
    return catalog.calls.client


def test_load_unchanged_drift_and_proof(catalog: GlueCatalog, tmp_path: Path) -> None:
    def wrap(name: str, edge: Any) -> Any:
        if name != "catalog":
            return edge
        edge.close()
        return catalog

    world = World(tmp_path, wrap=wrap)
    world.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, at TIMESTAMP)",
        "INSERT INTO orders VALUES (1, 'a/b', '2024-05-01 10:00:00'), (2, NULL, NULL), (3, 'a=b c%', NULL)",
        *(f"INSERT INTO orders (id, city) VALUES ({n}, 'c{n}')" for n in range(100, 130)),
    )
    spec = world.spec(**ROWS)
    assert world.load(spec, "orders").outcome == "loaded"
    asked = catalog.calls.counted.copy()
    assert world.load(spec, "orders").outcome == "unchanged"
    assert (catalog.calls.counted - asked).total() <= 5, catalog.calls.counted - asked
    world.sql("ALTER TABLE orders ADD COLUMN note TEXT", "INSERT INTO orders (id, city, note) VALUES (4, 'a/b', 'new')")
    assert world.load(spec, "orders").outcome == "loaded"
    rows = {r["id"]: (r["city_part"], r["note"]) for r in visible_rows(catalog, table_spec(spec, "orders"))}
    assert len(rows) == 34 and (rows[1], rows[2], rows[3], rows[4]) == (
        ("a/b", None), (None, None), ("a=b c%", None), ("a/b", "new"),
    )  # fmt: skip
    assert verify(spec, world.edges(spec)).ok
    made = glue(catalog).get_table(DatabaseName="sales", Name="orders")["Table"]
    assert made["Owner"] == spec.owner and made["Parameters"]["dataops.spec"] == spec.fingerprint
    assert made["Parameters"]["dataops.source"].startswith(spec.id)


def test_what_a_table_input_may_hold_beside_stays(catalog: GlueCatalog) -> None:
    """A crawler's table: what we have no word for is not lost by an alter."""
    serde = {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe", "Parameters": {"a": "b"}}
    glue(catalog).create_table(
        DatabaseName="sales",
        TableInput={
            "Name": "orders", "Description": "made by hand", "Retention": 7, "Owner": "dba", "TableType": "EXTERNAL_TABLE",
            "Parameters": {"classification": "parquet", "UPDATED_BY_CRAWLER": "c"},
            "PartitionKeys": [{"Name": "dt", "Type": "string"}],
            "StorageDescriptor": {
                "Columns": [{"Name": "id", "Type": "int"}, {"Name": "code", "Type": "varchar(10)"}], "SerdeInfo": serde,
                "Location": "s3://lake/sales/orders",
            },
        },
    )  # fmt: skip
    before = catalog.get_table("sales", "orders")
    assert before is not None and (before.owner, [c.type for c in before.columns]) == ("dba", [pa.int32(), pa.string()])
    catalog.alter_table(before, replace(before, columns=(*before.columns, Column("note", pa.string()))))
    after = glue(catalog).get_table(DatabaseName="sales", Name="orders")["Table"]
    assert (after["Description"], after["Retention"], after["Owner"]) == ("made by hand", 7, "dba")
    assert [c["Type"] for c in after["StorageDescriptor"]["Columns"]] == ["int", "varchar(10)", "string"]
    assert after["StorageDescriptor"]["SerdeInfo"] == serde
    assert {"classification": "parquet", "UPDATED_BY_CRAWLER": "c"}.items() <= after["Parameters"].items()


def test_comments_that_glue_cannot_hold_come_back_whole(catalog: GlueCatalog) -> None:
    long = "é" * 128 + "\nof two lines " + "x" * 100
    table = catalog.create_table(replace(TABLE, columns=(Column("id", pa.int64(), comment=long),)))
    assert table.columns[0].comment == long
    (held,) = glue(catalog).get_table(DatabaseName="sales", Name="orders")["Table"]["StorageDescriptor"]["Columns"]
    assert len(held["Comment"].encode()) <= 255 and "\n" not in held["Comment"]
    glue(catalog).update_table(
        DatabaseName="sales",
        TableInput={
            "Name": "orders", "Parameters": {}, "PartitionKeys": [{"Name": "dt", "Type": "string"}], "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": {
                "Columns": [{**held, "Comment": "by hand"}], "Location": "s3://lake/sales/orders",
                "SerdeInfo": {"SerializationLibrary": "parquet.hive.serde.ParquetHiveSerDe"},
            },
        },
    )  # fmt: skip
    assert (found := catalog.get_table("sales", "orders")) is not None and found.columns[0].comment == "by hand"


def test_a_partition_that_fails_in_a_list_fails_the_call(catalog: GlueCatalog) -> None:
    catalog.create_table(TABLE)
    parts = [CatalogPartition((f"d{n}",), f"s3://lake/d{n}", TABLE.columns, 1, {}) for n in range(130)]
    catalog.put_partitions("sales", "orders", parts)
    catalog.drop_partitions("sales", "orders", [("d7",), ("nothing",)])
    raw = catalog._raw("sales", "orders")
    changed = catalog._of_names("sales", raw, [f"dt=d{n}" for n in range(6, 9)])
    assert [p.values for p in changed] == [["d6"], ["d8"]]
    changed[0].values = ["d7"]
    with pytest.raises(Exception, match=r"[Nn]ot found"):
        catalog.calls.call(
            "alter_partitions_with_environment_context", "x", db_name="sales", tbl_name="orders", new_parts=changed,
            environment_context=None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("AccessDeniedException", InventoryError, "Check rights, region and limits of connection 'glue'"),
        ("ResourceNumberLimitExceededException", InventoryError, "Check rights, region and limits"),
        ("ThrottlingException", UnavailableError, "Try again later"),
        ("ConcurrentModificationException", ConflictError, "another writer changed it"),
        ("InternalServiceException", UnavailableError, "Try again later"),
    ],
)
def test_what_glue_says_no_to(catalog: GlueCatalog, code: str, kind: type[Exception], says: str) -> None:
    catalog.create_table(TABLE)

    def refuse(params: Any, **_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "because"}}, "GetTable")

    glue(catalog).meta.events.register("before-call.glue.GetTable", refuse)
    with pytest.raises(kind, match=says) as told:
        catalog.get_table("sales", "orders")
    assert str(told.value).startswith("Cannot read table sales.orders: ")


def test_a_glue_that_does_not_answer(glue_server: GlueServer) -> None:
    address = GlueAddress.of_connection(glue_server.connection(endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(UnavailableError, match=r"EndpointConnectionError -> an answer of http://127\.0\.0\.1:9"):
        GlueCatalog(GlueCalls(address)).get_table("sales", "orders")


def test_connections() -> None:
    def of(**extra: Any) -> GlueAddress:
        return GlueAddress.of_connection(Connection("aws", "aws", login="AK", password="geheim", extra=extra))

    own = of(service_config={"glue": {"endpoint_url": "http://glue"}}, endpoint_url="http://all", glue_catalog_id="12")
    assert (own.aws.endpoint, own.glue_catalog_id, str(own)) == ("http://glue", "12", "http://glue")
    assert str(of(region_name="eu-west-1")) == "Glue in eu-west-1" and "geheim" not in repr(of())
    assert GlueAddress.of_connection(None).aws.access_key is None
    with pytest.raises(InventoryError, match="extra role_arn -> only"):
        of(role_arn="arn")
