"""What stands in the lake and the catalog is looked at by every run, also by one that has nothing new to publish."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.steps.discover import discover
from airflow_dataops.steps.drift_sync import drift_sync
from airflow_dataops.steps.load import load_table
from airflow_dataops.steps.run import Run, TableResult
from airflow_dataops.steps.verify import VerifyResult, verify
from tests.steps.world import World, day, ids


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, code INTEGER, at TIMESTAMP)")
    made.sql("INSERT INTO orders VALUES (1, 10, '2024-05-01 10:00:00'), (2, 20, '2024-05-01 11:00:00')")
    return made


def run(world: World, spec: PipelineSpec, token: str) -> tuple[TableResult, VerifyResult]:
    edges = world.edges(spec)
    try:
        this = Run(token, day("2024-05-01"))
        return load_table(spec, edges, this, "orders"), verify(spec, edges, ["orders"], this)
    finally:
        for edge in (edges.source, edges.ledger, edges.catalog):
            edge.close()


def test_files_that_somebody_deleted_are_written_again(world: World) -> None:
    spec = world.spec()
    run(world, spec, "a")
    for file in (world.folder / "lake").rglob("*.parquet"):
        file.unlink()
    result, verified = run(world, spec, "b")
    assert result.outcome == "loaded"
    assert verified.ok
    assert ids(world.visible(spec, "orders")) == [1, 2]


def test_an_unchanged_run_proves_what_stands(world: World) -> None:
    spec = world.spec()
    run(world, spec, "a")
    (file,) = (world.folder / "lake").rglob("*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF  # as many bytes, another content
    file.write_bytes(data)
    result, verified = run(world, spec, "b")
    assert result.outcome == "unchanged"
    assert not verified.ok


def test_a_partition_that_the_catalog_lost_is_shown_again(world: World) -> None:
    spec = world.spec()
    run(world, spec, "a")
    edges = world.edges(spec)
    edges.catalog.drop_partitions("d", "orders", [()])
    edges.catalog.close()
    assert world.visible(spec, "orders") == []
    result, verified = run(world, spec, "b")
    assert result.outcome == "unchanged"
    assert verified.ok
    assert ids(world.visible(spec, "orders")) == [1, 2]


@pytest.mark.parametrize("write", [{"mode": "append"}, {"mode": "merge", "keys": ["id"]}])
def test_numbers_that_become_text_by_the_contract_are_still_proved(world: World, write: dict[str, object]) -> None:
    spec = world.spec(read={"mode": "watermark", "cursor": "at"}, write=write, contract={"to_string": "widen"})
    assert run(world, spec, "a")[1].ok
    world.sql("ALTER TABLE orders RENAME TO before", "CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT, at TIMESTAMP)")
    world.sql("INSERT INTO orders SELECT id, CAST(code AS TEXT), at FROM before", "INSERT INTO orders VALUES (3,'x','2024-05-02')")
    for token in ("b", "c"):
        result, verified = run(world, spec, token)
        assert result.error is None
        assert verified.ok, verified
    world.sql("INSERT INTO orders VALUES (4,'y','2024-05-03')")
    assert run(world, spec, "d")[1].ok
    assert sorted((r["id"], str(r["code"])) for r in world.visible(spec, "orders")) == [(1, "10"), (2, "20"), (3, "x"), (4, "y")]


def test_a_held_table_says_which_drift_is_to_be_decided(world: World) -> None:
    spec = world.spec()
    run(world, spec, "a")
    world.sql("DROP TABLE orders", "CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT, at TIMESTAMP)")
    world.sql("INSERT INTO orders VALUES (1, 'x', NULL)")
    result, _ = run(world, spec, "b")
    assert result.outcome == "held"
    assert result.reason == "column 'code' is int64, the source now says string"
    assert "code" in str(run(world, spec, "c")[0].reason)


def test_a_table_named_without_a_wildcard_that_is_not_there_fails_on_its_own(world: World) -> None:
    spec = world.spec(tables=["orders", "not_there"])
    edges = world.edges(spec)
    try:
        found = discover(spec, edges)
        assert [t.name for t in found.tables] == ["orders", "not_there"]
        synced = drift_sync(spec, edges, found.tables)
        assert synced.created == ("d.orders",)
        assert [name for name, _ in synced.failed] == ["not_there"]
        results = [load_table(spec, edges, Run("a", day("2024-05-01")), t.name) for t in found.tables]
        assert [r.outcome for r in results] == ["loaded", "failed"]
        assert "not_there" in str(results[1].error)
    finally:
        for edge in (edges.source, edges.ledger, edges.catalog):
            edge.close()


def test_a_damaged_fingerprint_of_a_row_is_found(world: World) -> None:
    spec = world.spec()
    run(world, spec, "a")
    (path,) = (world.folder / "lake").rglob("*.parquet")
    with pq.ParquetFile(path) as file:
        table, metadata = file.read(), {k: v for k, v in (file.metadata.metadata or {}).items() if k.startswith(b"dataops.")}
    at, other = table.schema.get_field_index("_row_fingerprint"), pa.array([b"x" * 16] * 2, pa.binary(16))
    table = table.set_column(at, "_row_fingerprint", other)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    edges = world.edges(spec)
    (verified,) = verify(spec, edges, ["orders"]).tables
    for edge in (edges.source, edges.ledger, edges.catalog):
        edge.close()
    assert [p.problem for p in verified.partitions] == ["2 rows whose `_row_fingerprint` is not that of their values -> none"]
