"""Tables of every shape: empty, wide, large values, many partitions and files, awkward partition values, cursors of each type."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.errors import UnavailableError
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.lake import open_lake
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.discover import pack
from airflow_dataops.steps.stage import HELD_BYTES, PartitionFiles
from airflow_dataops.steps.verify import verify
from tests.steps.test_load import check
from tests.steps.world import World, day, ids

DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "full by period": {"target": DT},
    "full by column": {"target": {"partition_by": [{"name": "p", "from": "column:name"}]}},
    "full merge": {"write": {"mode": "merge", "keys": ["id"]}},
    "window": {"read": {"mode": "window", "cursor": "at"}, "target": DT},
    "window append": {"read": {"mode": "window", "cursor": "at"}, "write": {"mode": "append"}, "target": DT},
    "window merge": {"read": {"mode": "window", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}, "target": DT},
    "watermark": {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}, "target": DT},
    "watermark merge": {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_table_that_is_empty_then_full_then_empty_again(world: World, mode: str) -> None:
    row = MODES[mode]
    spec = world.spec(**row)
    world.sql("CREATE TABLE t (id INTEGER, name TEXT, at TIMESTAMP)")
    for _ in range(2):
        result = world.load(spec, "t")
        assert (result.error, result.accounting.rows_read) == (None, 0)
        assert world.visible(spec, "t") == []
    world.sql("INSERT INTO t VALUES (1,'a','2024-05-01 10:00:00'),(2,NULL,'2024-05-01 11:00:00')")
    check(world.load(spec, "t"), rows_read=2, rows_written=2)
    assert ids(world.visible(spec, "t")) == [1, 2]
    world.sql("DELETE FROM t")
    result = world.load(spec, "t")
    assert result.error is None, result.error
    keeps = "merge" in mode or "watermark" in mode
    assert ids(world.visible(spec, "t")) == ([1, 2] if keeps else [])
    verify(spec, world.edges(spec), ["t"]).raise_for_problems(mode)


@pytest.mark.parametrize("mode", [m for m in MODES if m.startswith("window")])
def test_a_period_run_again_is_the_same_and_follows_the_source(world: World, mode: str) -> None:
    spec = world.spec(**MODES[mode])
    world.sql(
        "CREATE TABLE t (id INTEGER, name TEXT, at TIMESTAMP)",
        "INSERT INTO t VALUES (1,'a','2024-05-01 00:00:00'),(2,'b','2024-05-02 00:00:00')",
    )
    seen = []
    for key in ("2024-05-01", "2024-05-02", "2024-05-01", "2024-05-02"):
        assert world.load(spec, "t", day(key, backfill=True)).error is None
        seen.append(world.visible(spec, "t"))
    assert seen[1] == seen[2] == seen[3]
    world.sql("INSERT INTO t VALUES (3,'late','2024-05-01 23:59:59.999999')")
    check(world.load(spec, "t", day("2024-05-01", backfill=True)))
    assert sorted((r["dt"], r["id"]) for r in world.visible(spec, "t")) == [("2024-05-01", 1), ("2024-05-01", 3), ("2024-05-02", 2)]


def test_awkward_partition_values_each_have_their_place(world: World) -> None:
    world.sql("CREATE TABLE t (id INTEGER, c TEXT)")
    values = ["a/b", "a=b", "..", ".", "x y", "%2F", "__HIVE_DEFAULT_PARTITION__", "ünï", "{{ ds }}", "a\nb", "'", "", None]
    import sqlite3

    with sqlite3.connect(world.database) as connection:
        connection.executemany("INSERT INTO t VALUES (?,?)", list(enumerate(values)))
    connection.close()
    spec = world.spec(target={"partition_by": [{"name": "p", "from": "column:c"}]})
    check(world.load(spec, "t"), rows_written=len(values))
    assert {r["id"]: r["p"] for r in world.visible(spec, "t")} == {i: v or None for i, v in enumerate(values)}
    check(world.load(spec, "t"), "unchanged", rows_unchanged=len(values))
    world.sql("DELETE FROM t WHERE id IN (0, 11, 12)")
    check(world.load(spec, "t"), "loaded", rows_written=0, rows_unchanged=len(values) - 3)
    assert ids(world.visible(spec, "t")) == list(range(1, 11))
    lake = (world.folder / "lake").resolve()
    assert all(lake in p.resolve().parents for p in world.folder.rglob("*.parquet") if "dead" not in p.parts)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DATE", ["2024-05-01", "2024-05-02", "2024-05-03"]),
        ("DECIMAL(20,4)", [1.5, 1.75, 2.25]),
        ("REAL", [-0.5, 1e-300, 1e300]),
        ("TEXT", ["a", "b", "ü"]),
        ("INTEGER", [-5, 0, 2**62]),
        ("TIMESTAMP", ["2024-05-01 00:00:00", "2024-05-01 00:00:00.000001", "2024-05-01 00:00:00.000002"]),
    ],
)
def test_a_cursor_of_every_type_neither_loses_nor_doubles(world: World, kind: str, values: list) -> None:
    import sqlite3

    def insert(*rows: tuple) -> None:
        with sqlite3.connect(world.database) as connection:
            connection.executemany("INSERT INTO t VALUES (?,?)", rows)
        connection.close()

    world.sql(f"CREATE TABLE t (id INTEGER, c {kind})")
    spec = world.spec(read={"mode": "watermark", "cursor": "c"}, write={"mode": "append"})
    insert((1, values[0]), (2, values[1]), (2, values[1]))
    check(world.load(spec, "t"), rows_written=3)
    insert((3, values[1]), (2, values[1]))
    check(world.load(spec, "t"), rows_written=2, rows_deduplicated=2)
    insert((4, values[1]), (5, values[2]))
    check(world.load(spec, "t"), rows_written=2)
    check(world.load(spec, "t"), "nothing_new")
    assert ids(world.visible(spec, "t")) == [1, 2, 2, 2, 3, 4, 5]


def test_a_cursor_with_null_is_refused_in_a_watermark(world: World) -> None:
    world.sql("CREATE TABLE t (id INTEGER, c INTEGER)", "INSERT INTO t VALUES (1,1),(2,NULL)")
    spec = world.spec(read={"mode": "watermark", "cursor": "c"}, write={"mode": "append"})
    assert world.load(spec, "t").error_code == "range"
    assert world.visible(spec, "t") == []


def test_nine_hundred_columns_and_ten_megabytes(world: World) -> None:
    columns = ", ".join(f"c{i} INTEGER" for i in range(898))
    world.sql(
        f"CREATE TABLE wide (id INTEGER, big TEXT, {columns})",
        "INSERT INTO wide (id, big, c897) VALUES (1, hex(zeroblob(5000000)), 7), (2, 'x', 8)",
    )
    spec = world.spec(write={"mode": "merge", "keys": ["id"]})
    check(world.load(spec, "wide"), rows_written=2)
    check(world.load(spec, "wide"), "unchanged", rows_unchanged=2)
    shown = world.visible(spec, "wide")
    assert sorted((r["id"], len(r["big"]), r["c897"]) for r in shown) == [(1, 10_000_000, 7), (2, 1, 8)]


def test_large_appends_in_several_files_join_a_live_partition_as_one(world: World) -> None:
    world.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT {} UNION ALL SELECT i+1 FROM n WHERE i < {}) "
    fill = numbers + "INSERT INTO t SELECT i, hex(randomblob(30)) FROM n"
    spec = world.spec(
        read={"mode": "watermark", "cursor": "id"},
        write={"mode": "append"},
        target={**DT, "file_bytes": 1_048_576},
        standards={"row_fingerprint": False},
    )
    world.sql(fill.format(1, 10))
    world.load(spec, "t")
    world.sql(fill.format(11, 140_000))
    check(world.load(spec, "t"), rows_read=139_991, rows_written=139_990, rows_deduplicated=1)
    live = {d.location for d in world.edges(spec).ledger.decisions.current(table_spec(spec, "t").key).values()}
    files = sorted(p.name for place in live for p in (world.folder / "lake" / place).glob("*.parquet"))
    assert len(files) > 2
    world.sql(fill.format(140_001, 140_005))
    check(world.load(spec, "t"), rows_written=5)
    assert ids(world.visible(spec, "t")) == list(range(1, 140_006))
    verify(spec, world.edges(spec), ["t"]).raise_for_problems("several files")


def test_many_partitions_at_once_lose_no_row(world: World) -> None:
    world.sql(
        "CREATE TABLE t (id INTEGER, p INTEGER)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 5000) INSERT INTO t SELECT i, i % 90 FROM n",
    )
    spec = world.spec(target={"partition_by": [{"name": "part", "from": "column:p"}]}, read={"batch_rows": 500})
    check(world.load(spec, "t"), rows_written=5000)
    check(world.load(spec, "t"), "unchanged", rows_unchanged=5000)
    assert ids(world.visible(spec, "t")) == list(range(1, 5001))
    assert len(list((world.folder / "lake").rglob("*g1*.parquet"))) == 90


def spec_of(world: World, **row: Any):
    return table_spec(world.spec(target={"partition_by": [{"name": "p", "from": "column:p"}]}, **row), "t")


def batch(start: int, rows: int, width: int = 800) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": range(start, start + rows), "v": ["x" * width] * rows})


def test_a_rare_partition_does_not_keep_every_batch_in_memory(world: World) -> None:
    """Each of these batches is 8 MB, one row of which goes to a partition that is never full."""
    files = PartitionFiles(open_lake(f"file://{world.folder}/lake"), "a", "b-g1", spec_of(world), batch(0, 1).schema, {})
    before = pa.total_allocated_bytes()
    for number in range(30):
        rows = batch(number * 10_000, 10_000)
        files.write(("often",), rows.slice(1))
        files.write(("rare",), rows.slice(0, 1))
        assert pa.total_allocated_bytes() - before < 2.5 * HELD_BYTES, number
    rare, often = sorted(files.close(), key=lambda p: p.rows)
    assert (rare.rows, often.rows) == (30, 299_970)


def test_open_partitions_share_one_limit_of_memory(world: World) -> None:
    files = PartitionFiles(open_lake(f"file://{world.folder}/lake"), "a", "b-g1", spec_of(world), batch(0, 1).schema, {})
    before = pa.total_allocated_bytes()
    for number in range(300):
        files.write((str(number % 40),), batch(number * 2_000, 2_000))
        assert pa.total_allocated_bytes() - before < 2.5 * HELD_BYTES, number
    written = files.close()
    assert sum(p.rows for p in written) == 600_000
    found = [
        i for p in written for f in p.files for i in pq.read_table(world.folder / "lake" / f.path, columns=["id"])["id"].to_pylist()
    ]
    assert sorted(found) == list(range(600_000))


def test_row_groups_are_whole(world: World) -> None:
    """Batches that do not divide a row group leave no crumbs behind."""
    files = PartitionFiles(open_lake(f"file://{world.folder}/lake"), "a", "b-g1", spec_of(world), batch(0, 1).schema, {})
    for number in range(10):
        files.write(("x",), batch(number * 30_000, 30_000, width=8))
    part = files.close()[0]
    metadata = pq.ParquetFile(world.folder / "lake" / part.files[0].path).metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [65_536] * 4 + [300_000 - 4 * 65_536]


def test_a_full_disk_is_told_to_the_caller(world: World) -> None:
    """The rows are written in another thread: its error must come back, and nothing be left under the file's name."""
    lake = open_lake(f"file://{world.folder}/lake")
    files = PartitionFiles(lake, "a", "b-g1", spec_of(world), batch(0, 1).schema, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UnavailableError, match=r"Cannot (write|finish) lake file"):
            for number in range(10):
                files.write(
                    ("x",), pa.RecordBatch.from_pydict({"id": range(70_000), "v": [f"{number * i:x}" for i in range(70_000)]})
                )
            files.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        files.abort()
    assert lake.list("a") == ()
    assert not list((world.folder / "lake").rglob("*writing"))


def test_packs_of_1600_tables_are_balanced_and_the_same_again() -> None:
    tables = tuple(SourceTable(f"t{i:04d}", TableSchema(), bytes_estimate=(i % 97 + 1) * 5_000_000) for i in range(1600))
    packs = pack(tables, 64)
    assert packs == pack(tuple(reversed(tables)), 64)
    assert len(packs) == 64
    assert sorted(name for p in packs for name in p) == [t.name for t in tables]
    sizes = {t.name: t.bytes_estimate for t in tables}
    loads = [sum(sizes[n] for n in p) for p in packs]
    assert max(loads) < 1.05 * min(loads)
    assert len(pack(tables, 1024)) <= 1024


@pytest.mark.parametrize("harm", ["tampered", "missing", "extra", "garbage", "moved"])
def test_verify_finds_what_somebody_did_to_a_live_directory(world: World, harm: str) -> None:
    world.sql("CREATE TABLE t (id INTEGER, name TEXT)", "INSERT INTO t VALUES (1,'a'),(2,'b')")
    spec = world.spec()
    world.load(spec, "t")
    edges = world.edges(spec)
    assert verify(spec, edges, ["t"]).ok
    (file,) = (world.folder / "lake").rglob("*.parquet")
    rows = pq.read_table(file)
    match harm:
        case "tampered":
            pq.write_table(rows.set_column(1, "name", pa.array(["b", "a"])), file)
        case "missing":
            file.unlink()
        case "extra":
            pq.write_table(rows.slice(0, 1), file.with_name("other.parquet"))
        case "garbage":
            file.with_name("other.parquet").write_bytes(b"no parquet")
        case "moved":
            file.rename(file.with_name("renamed.parquet"))
            file.with_name("renamed.parquet").replace(world.folder / "away.parquet")
    assert not verify(spec, edges, ["t"]).ok
