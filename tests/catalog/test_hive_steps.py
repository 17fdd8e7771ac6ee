"""The product's steps over a real metastore, read as a stranger would: metastore → location → files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest

from airflow_dataops.catalog.base import CatalogPartition
from airflow_dataops.catalog.hive import HiveCatalog
from airflow_dataops.catalog.hive_wire import WIRE
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.run import Run
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.catalog.conftest import OldMetastoreCalls, hive_catalog
from tests.servers.hive import HiveServer
from tests.steps.world import World, day, visible_rows

ROWS: dict[str, Any] = {
    "read": {"mode": "full"},
    "write": {"mode": "overwrite_partition"},
    "target": {"database": "sales", "partition_by": [{"name": "city_part", "from": "column:city"}]},
}


@pytest.fixture
def catalog(hive_server: HiveServer) -> Iterator[HiveCatalog]:
    opened = hive_catalog(hive_server)
    yield opened
    opened.close()


def world_of(catalog: HiveCatalog, folder: Path) -> World:
    def wrap(name: str, edge: Any) -> Any:
        if name != "catalog":
            return edge
        edge.close()
        return catalog

    world = World(folder, wrap=wrap)
    world.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, total DECIMAL(10,2), at TIMESTAMP)",
        "INSERT INTO orders VALUES (1, 'a/b', 1.25, '2024-05-01 10:00:00'), (2, NULL, 2, NULL), (3, 'a=b c%', 3, NULL)",
    )
    return world


def rows_of(catalog: HiveCatalog, spec: Any, table: str = "orders") -> list[dict[str, Any]]:
    return visible_rows(catalog, table_spec(spec, table))


@pytest.mark.parametrize("old", [False, True], ids=["compare-and-swap", "without"])
def test_load_verify_rerun_and_drift(hive_server: HiveServer, tmp_path: Path, old: bool) -> None:
    catalog = hive_catalog(hive_server, OldMetastoreCalls) if old else hive_catalog(hive_server)
    world = world_of(catalog, tmp_path)
    spec = world.spec(**ROWS)
    assert world.load(spec, "orders", run="first").outcome == "loaded"
    first = rows_of(catalog, spec)
    assert {(r["id"], r["city_part"]) for r in first} == {(1, "a/b"), (2, None), (3, "a=b c%")}
    edges = world.edges(spec)
    assert verify(spec, edges, ["orders"], Run("first", day("2024-05-01"))).ok and verify(spec, edges).ok

    world.sql(*(f"INSERT INTO orders (id, city) VALUES ({n}, 'c{n}')" for n in range(100, 124)))
    assert world.load(spec, "orders").outcome == "loaded"
    asked = catalog.calls.counted.copy()
    assert world.load(spec, "orders").outcome == "unchanged"
    assert (catalog.calls.counted - asked).total() <= 5, catalog.calls.counted - asked

    world.sql("DELETE FROM orders WHERE id >= 100")
    world.sql("ALTER TABLE orders ADD COLUMN note TEXT", "INSERT INTO orders (id, city, note) VALUES (4, 'a/b', 'new')")
    assert world.load(spec, "orders").outcome == "loaded"
    after = [r for r in rows_of(catalog, spec) if r["id"] < 100]
    assert len(after) == len(rows_of(catalog, spec))
    assert [(r["id"], r["city_part"], r["note"]) for r in sorted(after, key=lambda r: r["id"])] == [
        (1, "a/b", None), (2, None, None), (3, "a=b c%", None), (4, "a/b", "new")
    ]  # fmt: skip
    assert verify(spec, world.edges(spec)).ok
    catalog.close()


def test_a_table_without_partitions_is_swapped_whole(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    spec = world.spec(**{**ROWS, "target": {"database": "sales"}})
    world.load(spec, "orders")
    place = catalog.get_partitions("sales", "orders", [()])[0].location
    world.sql("UPDATE orders SET total = 9 WHERE id = 1")
    world.load(spec, "orders")
    (shown,) = catalog.get_partitions("sales", "orders", [()])
    table = catalog.get_table("sales", "orders")
    assert (
        shown.location != place
        and shown.epoch == 2
        and table is not None
        and table.location == f"file://{tmp_path}/lake/sales/orders"
    )
    assert sorted(str(r["total"]) for r in rows_of(catalog, spec)) == ["2.00", "3.00", "9.00"]
    assert unquote(shown.location) == "file://" + raw(catalog, "orders").sd.location.removeprefix("file:")


def test_a_writer_that_wakes_late_is_put_right_by_the_next_run(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    spec = world.spec(**ROWS)
    world.load(spec, "orders")
    stale = catalog.page_partitions("sales", "orders")
    world.sql("UPDATE orders SET total = total + 1")
    world.load(spec, "orders")
    newest = catalog.page_partitions("sales", "orders")
    # It had looked before the others wrote, so it sees no later epoch: as if it wrote the same one.
    catalog.put_partitions("sales", "orders", [replace(p, epoch=newest[0].epoch) for p in stale])
    assert world.load(spec, "orders").outcome == "unchanged"
    assert catalog.page_partitions("sales", "orders") == newest


def test_a_partition_that_others_moved_stops_the_table(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    spec = world.spec(**ROWS)
    world.load(spec, "orders")
    moved = [replace(p, location=f"file://{tmp_path}/elsewhere") for p in catalog.page_partitions("sales", "orders")]
    catalog.put_partitions("sales", "orders", moved[:1])
    world.sql("UPDATE orders SET total = total + 1")
    result = world.load(spec, "orders")
    assert (result.outcome, result.error_code) == ("failed", "foreign_change")
    assert catalog.page_partitions("sales", "orders")[0].location == f"file://{tmp_path}/elsewhere"


def test_a_dropped_partition_comes_back_with_a_sweep(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    spec = world.spec(**ROWS)
    world.load(spec, "orders")
    before = catalog.page_partitions("sales", "orders")
    catalog.drop_partitions("sales", "orders", [before[0].values])
    edges = world.edges(spec)
    table = table_spec(spec, "orders", edges.state_id)
    edges.ledger.decisions.mark(table.key, list(edges.ledger.decisions.current(table.key)), edges.writer)
    assert sweep_table(table, edges).projected == 1
    assert catalog.page_partitions("sales", "orders") == before


def raw(catalog: HiveCatalog, name: str) -> Any:
    return catalog._raw("sales", name)


def test_a_table_that_does_not_fit_fails_alone(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    world.sql("CREATE TABLE customers AS SELECT * FROM orders")
    spec = world.spec(**ROWS)
    catalog.ensure_database("sales", f"file://{tmp_path}/lake/sales")
    orc = foreign(catalog, tmp_path, serde="org.apache.hadoop.hive.ql.io.orc.OrcSerde")
    assert catalog.table_names("sales") == ("orders",)
    result = world.load(spec, "orders")
    assert result.error_code == "inventory"
    assert "kept by org.apache.hadoop.hive.ql.io.orc.OrcSerde -> a plain table" in str(result.error)
    assert world.load(spec, "customers").outcome == "loaded"
    assert raw(catalog, "orders").parameters == orc.parameters


def test_an_existing_table_is_adopted_with_its_types_and_serde(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    spec = world.spec(**{**ROWS, "contract": {"columns": "evolve"}})
    catalog.ensure_database("sales", f"file://{tmp_path}/lake/sales")
    foreign(catalog, tmp_path, "parquet.hive.serde.ParquetHiveSerDe", "array<map<string,struct<a:tinyint,b:char(3)>>>")
    world.sql("ALTER TABLE orders ADD COLUMN note TEXT")
    assert world.load(spec, "orders").outcome == "loaded"
    table = raw(catalog, "orders")
    assert {f.name: f.type for f in table.sd.cols if not f.name.startswith("_")} == {
        "id": "bigint", "city": "varchar(20)", "total": "decimal(10,2)", "at": "timestamp",
        "other": "array<map<string,struct<a:tinyint,b:char(3)>>>", "note": "string",
    }  # fmt: skip
    assert table.sd.serdeInfo.serializationLib == "parquet.hive.serde.ParquetHiveSerDe" and table.owner == "dba"
    assert table.parameters["mine"] == "stays" and table.sd.cols[1].comment == "of 20"
    assert {r["id"] for r in rows_of(catalog, spec)} == {1, 2, 3}


def test_the_data_of_others_in_an_unpartitioned_table_is_never_replaced(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    catalog.ensure_database("sales", f"file://{tmp_path}/lake/sales")
    before = foreign(catalog, tmp_path, "parquet.hive.serde.ParquetHiveSerDe", place="lake/dba", partitioned=False)
    result = world.load(world.spec(**{**ROWS, "target": {"database": "sales"}}), "orders")
    assert (result.outcome, result.error_code) == ("failed", "foreign_change")
    assert raw(catalog, "orders").sd.location == before.sd.location == f"file:{tmp_path}/lake/dba/sales/orders"


def test_an_existing_table_is_loaded_where_it_stands(catalog: HiveCatalog, tmp_path: Path) -> None:
    """Behaviours 14 and 25 of the reference: its place is read from the catalog, never guessed."""
    world = world_of(catalog, tmp_path)
    catalog.ensure_database("sales", f"file://{tmp_path}/lake/sales")
    foreign(catalog, tmp_path, "parquet.hive.serde.ParquetHiveSerDe", place="lake/of the dba")
    assert world.load(world.spec(**ROWS), "orders").outcome == "loaded"
    place = f"file://{tmp_path}/lake/of%20the%20dba/sales/orders/"
    assert all(p.location.startswith(place) for p in catalog.page_partitions("sales", "orders"))
    assert {r["id"] for r in rows_of(catalog, world.spec(**ROWS))} == {1, 2, 3}
    moved = world.spec(**{**ROWS, "target": {**ROWS["target"], "location": "sales/orders"}})
    result = world.load(moved, "orders")
    assert result.error_code == "inventory" and f"it stands at {place[:-1]} -> " in str(result.error)


def test_a_table_outside_the_lake_fails_alone_before_anything_is_read(catalog: HiveCatalog, tmp_path: Path) -> None:
    world = world_of(catalog, tmp_path)
    catalog.ensure_database("sales", f"file://{tmp_path}/lake/sales")
    foreign(catalog, tmp_path, "parquet.hive.serde.ParquetHiveSerDe", place="lake2")
    result = world.load(world.spec(**ROWS), "orders")
    assert result.error_code == "inventory" and "Name the lake that holds it in `target.lake`" in str(result.error)
    assert not list(tmp_path.glob("lake*/**/*.parquet"))


def foreign(
    catalog: HiveCatalog, folder: Path, serde: str, bystander: str = "int", place: str = "lake", partitioned: bool = True
) -> Any:
    """A table that somebody else has made."""
    field, database = WIRE["FieldSchema"], "sales"
    cols = [("id", "bigint"), ("city", "varchar(20)"), ("total", "decimal(10,2)"), ("at", "timestamp"), ("other", bystander)]
    table = WIRE["Table"](
        tableName="orders", dbName=database, catName=catalog._catalog_name(), owner="dba", tableType="EXTERNAL_TABLE",
        partitionKeys=[field(name="city_part", type="string")] if partitioned else [],
        parameters={"EXTERNAL": "TRUE", "mine": "stays"},
        sd=WIRE["StorageDescriptor"](
            cols=[field(name=n, type=t, comment="of 20" if n == "city" else None) for n, t in cols],
            location=f"file:{folder}/{place}/sales/orders", inputFormat="x", outputFormat="y", numBuckets=-1,
            serdeInfo=WIRE["SerDeInfo"](serializationLib=serde, parameters={}),
        ),
    )  # fmt: skip
    catalog.calls.call("create_table", "make a table", tbl=table)
    return raw(catalog, "orders")


def test_a_change_of_a_dba_is_seen_and_kept(catalog: HiveCatalog, tmp_path: Path) -> None:
    """Out-of-band DDL between two runs, and between reading and altering."""
    world = world_of(catalog, tmp_path)
    spec = world.spec(**ROWS)
    world.load(spec, "orders")
    ours = catalog.get_table("sales", "orders")
    assert ours is not None
    table = raw(catalog, "orders")
    table.sd.cols.append(WIRE["FieldSchema"](name="dba_column", type="smallint"))
    catalog.calls.call(
        "alter_table_with_environment_context", "alter", dbname=catalog._database("sales"), tbl_name="orders", new_tbl=table,
        environment_context=None,
    )  # fmt: skip
    wider = (*ours.columns, *[replace(ours.columns[0], name="b", type=pa.string())])
    with pytest.raises(Exception, match="Another writer changed it"):
        catalog.alter_table(ours, replace(ours, columns=wider))
    world.sql("ALTER TABLE orders ADD COLUMN note TEXT", "UPDATE orders SET note = 'x'")
    assert world.load(spec, "orders").outcome == "loaded"
    columns = [c.name for c in (catalog.get_table("sales", "orders") or ours).columns]
    assert columns.index("dba_column") < columns.index("note")


def test_new_and_standing_partitions_of_one_call(catalog: HiveCatalog, tmp_path: Path) -> None:
    """More than are asked for blindly: Hive 4.0 fails on long lists of partitions that are not there."""
    world = world_of(catalog, tmp_path)
    world.load(world.spec(**ROWS), "orders")
    old = catalog.page_partitions("sales", "orders")
    lake, epoch = f"file://{tmp_path}/lake", {"dataops.epoch": "1"}
    new = [CatalogPartition((f"n{n}",), f"{lake}/n{n}", old[0].columns, 1, epoch) for n in range(60)]
    swapped = [replace(p, epoch=p.epoch + 1, parameters={"dataops.epoch": "2"}) for p in old]
    catalog.put_partitions("sales", "orders", [*new, *swapped])
    assert {p.values for p in catalog.page_partitions("sales", "orders")} == {p.values for p in (*new, *old)}
    assert {p.epoch for p in catalog.get_partitions("sales", "orders", [p.values for p in old])} == {2}
