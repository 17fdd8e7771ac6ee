"""What cases cannot say: large files, late surprises, files that change, paths that lead away."""

from __future__ import annotations

import gzip
import os
import random
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import ConflictError, DataOpsError, InventoryError, ProofError
from airflow_dataops.core.offset import CursorRange, Everything, FileSet
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.sources import open_source
from airflow_dataops.sources.base import Batch, ReadRequest, SchemaMoved, Source
from airflow_dataops.storage import open_storage
from tests.servers.s3 import S3Server
from tests.sources.files_cases import files_spec
from tests.storage.test_store import connection_to


def opened(folder: Path, path: str = "drop", **options: object) -> Source:
    return open_source(files_spec(path, **options), None, base_path=str(folder))


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / "drop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(source: Source, table: str, expected: TableSchema | None = None) -> list[Batch]:
    return list(source.read(ReadRequest(table, Everything(), expected=expected)))


def column(batches: list[Batch], name: str) -> list[object]:
    return [value for batch in batches for value in batch.records.column(name).to_pylist()]


MANY = 400_000  # rows: several heads and blocks long


@pytest.mark.parametrize(
    ("late", "t", "first", "last"),
    [
        (b"2.5", pa.float64(), 1.0, 2.5),
        (b"12345678901234567.25", pa.decimal128(19, 2), 1, "12345678901234567.25"),
        (b"n/a", pa.string(), "1", "n/a"),
        (b"007", pa.string(), "1", "007"),
    ],
)
def test_a_late_value_moves_the_schema_once(tmp_path: Path, late: bytes, t: pa.DataType, first: object, last: object) -> None:
    put(tmp_path, "a.csv", b"id,n\n" + b"1,1\n" * MANY + b"2," + late + b"\n")
    source = opened(tmp_path)
    assert source.describe("a").schema.column("n").type == pa.int64()
    with pytest.raises(SchemaMoved) as moved:
        read(source, "a")
    assert moved.value.schema.column("n").type == t
    batches = read(source, "a", moved.value.schema)
    values = column(batches, "n")
    assert (len(values), str(values[0]).rstrip(".0"), str(values[-1])) == (MANY + 1, str(first).rstrip(".0"), str(last))
    assert sum(len(batch.dead_letters) for batch in batches) == 0


def test_a_late_column_moves_the_schema(tmp_path: Path) -> None:
    for n in range(12):
        put(tmp_path, f"o/{n:02}.csv", b"id,extra\n1,2\n" if n == 11 else b"id\n1\n")
        put(tmp_path, f"j/{n:02}.json", b'{"id":1,"extra":2}' if n == 11 else b'{"id":1}')
        path = put(tmp_path, f"p/{n:02}.parquet", b"")
        pq.write_table(pa.table({"id": [1], "extra": [2]} if n == 11 else {"id": [1]}), path)
    source = opened(tmp_path)
    for table in ("o", "j", "p"):
        with pytest.raises(SchemaMoved) as moved:
            read(source, table)
        assert moved.value.schema.names == ("id", "extra")
        assert column(read(source, table, moved.value.schema), "extra") == [None] * 11 + [2]


def test_a_column_that_turns_late_into_another_is_reported_as_such(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", b"n\n" + b"1000001\n" * 150_000 + b"red\n" * 150_001)
    source, expected = opened(tmp_path), TableSchema.of_arrow(pa.schema([("n", pa.int64())]))
    with pytest.raises(SchemaMoved) as moved:
        read(source, "a", expected)
    assert moved.value.schema.column("n").type == pa.string()
    assert len(column(read(source, "a", moved.value.schema), "n")) == 300_001


def test_few_foreign_values_in_a_large_file_are_dead_letters_with_their_lines(tmp_path: Path) -> None:
    lines = [b"%d,%d" % (n, n) for n in range(MANY)]
    bad = sorted(random.Random(1).sample(range(MANY), 50))
    for n in bad:
        lines[n] = b"%d,n/a" % n
    put(tmp_path, "a.csv", b"id,n\n" + b"\n".join(lines) + b"\n")
    expected = TableSchema.of_arrow(pa.schema([("id", pa.int64()), ("n", pa.int64())]))
    batches = read(opened(tmp_path), "a", expected)
    letters = [letter for batch in batches for letter in batch.dead_letters]
    assert [(letter.source_offset, letter.raw) for letter in letters] == [(n + 2, b"%d,n/a" % n) for n in bad]
    assert column(batches, "id") == [n for n in range(MANY) if n not in set(bad)]
    places = [place for batch in batches for place in batch.source_offsets.to_pylist()]
    assert places == [n + 2 for n in range(MANY) if n not in set(bad)]


def test_the_first_foreign_letters_decide_the_encoding_of_an_ascii_file(tmp_path: Path) -> None:
    ascii_part = b"id,name\n" + b"1,plain\n" * 300_000
    put(tmp_path, "west.csv", ascii_part + "2,café\n3,Müller\n".encode("cp1252"))
    put(tmp_path, "utf8.csv", ascii_part + "2,café\n3,Müller\n".encode())
    put(tmp_path, "bad.csv", ascii_part + b"2,\xff\xfe\n3,x\n")
    source = opened(tmp_path)
    for table, encoding in (("west", "cp1252"), ("utf8", "utf-8")):
        reading = source.read(ReadRequest(table, Everything()))
        assert reading.traits["encoding"] == "utf-8"
        assert column(list(reading), "name")[-2:] == ["café", "Müller"]
        assert reading.traits["encoding"] == encoding
    batches = read(source, "bad")
    assert [letter.raw for batch in batches for letter in batch.dead_letters] == [b"2,\xff\xfe"]
    assert len(column(batches, "id")) == 300_001


def test_a_field_of_ten_megabytes(tmp_path: Path) -> None:
    long = ("x" * 17 + '\n""') * 500_000
    put(tmp_path, "a.csv", f'id,t\n1,"{long}"\n2,y\n'.encode())
    put(tmp_path, "b.csv", b"id,t\n1," + b"x" * 10_000_000 + b"\n2,y\n")
    put(tmp_path, "c.json", b'[{"id":1,"t":"' + b"x" * 10_000_000 + b'"},{"id":2,"t":"y"}]')
    put(tmp_path, "d.ndjson", b'{"id":1,"t":"' + b"x" * 10_000_000 + b'"}\n{"id":2,"t":"y"}\n')
    source = opened(tmp_path)
    assert [len(str(v)) for v in column(read(source, "a"), "t")] == [9_500_000, 1]
    for table in "bcd":
        assert [len(str(v)) for v in column(read(source, table), "t")] == [10_000_000, 1], table
    offsets = [n for batch in read(source, "a") for n in batch.source_offsets.to_pylist()]
    assert offsets == [2, 500_003]


def test_memory_is_flat_in_the_size_of_a_file(tmp_path: Path) -> None:
    row = b"12345,some text that is not short,2.5,2024-05-01\n"
    peaks = []
    for name, times in (("small", 300_000), ("large", 1_200_000)):
        put(tmp_path, f"{name}.csv.gz", gzip.compress(b"id,t,f,d\n" + row * times, 1))
        before = pa.total_allocated_bytes()
        peak = 0
        tracemalloc.start()
        for batch in opened(tmp_path).read(ReadRequest(name, Everything())):
            assert len(batch.records)
            peak = max(peak, pa.total_allocated_bytes() - before)
        peaks.append(peak + tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3
    assert peaks[1] < 100_000_000


def test_a_file_is_read_as_the_one_that_was_listed(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"id\n1\n")
    source = opened(tmp_path)
    (listed,) = source.files("a")
    (known,) = [source.identify(file) for file in source.files("a")]
    assert column(list(source.read(ReadRequest("a", FileSet((listed,))))), "id") == [1]
    os.utime(path, ns=(1, 1))  # touched: another etag, the same bytes
    assert column(list(source.read(ReadRequest("a", FileSet((known,))))), "id") == [1]
    with pytest.raises(ConflictError):
        source.read(ReadRequest("a", FileSet((listed,))))
    path.write_bytes(b"id\n2\n")  # the same size, other bytes
    with pytest.raises(ConflictError):
        source.read(ReadRequest("a", FileSet((known,))))
    path.unlink()
    with pytest.raises(ConflictError, match="gone"):
        source.read(ReadRequest("a", FileSet((known,))))


@pytest.mark.parametrize("change", ["append", "replace", "delete"])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, change: str) -> None:
    path = put(tmp_path, "a.csv", b"id\n" + b"1\n" * MANY)
    reading = iter(opened(tmp_path).read(ReadRequest("a", Everything())))
    next(reading)
    if change == "append":
        with path.open("ab") as out:
            out.write(b"2\n")
    elif change == "replace":
        path.with_suffix(".new").write_bytes(path.read_bytes())
        os.replace(path.with_suffix(".new"), path)
    else:
        path.unlink()
    with pytest.raises(ConflictError):
        list(reading)


def test_new_files_do_not_disturb_a_fixed_set(tmp_path: Path) -> None:
    put(tmp_path, "o/1.csv", b"id\n1\n")
    source = opened(tmp_path)
    fixed = FileSet(source.files("o"))
    put(tmp_path, "o/2.csv", b"id\n2\n")
    assert column(list(source.read(ReadRequest("o", fixed))), "id") == [1]
    assert column(read(source, "o"), "id") == [1, 2]


def test_a_damaged_page_or_block_is_noticed(tmp_path: Path) -> None:
    parquet = put(tmp_path, "p.parquet", b"")
    pq.write_table(pa.table({"id": range(10_000)}), parquet, compression="zstd")
    data = bytearray(parquet.read_bytes())
    data[4:60] = b"\xff" * 56
    parquet.write_bytes(data)
    avro = put(tmp_path, "v.avro", b"")
    schema = {"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}]}
    with avro.open("wb") as out:
        fastavro.writer(out, schema, [{"id": n} for n in range(50_000)], codec="deflate")
    avro.write_bytes(avro.read_bytes()[:-40])
    for table in ("p", "v"):
        with pytest.raises(ProofError, match="Send the file again"):
            read(opened(tmp_path), table)


def test_discovery_tells_of_a_broken_table_and_goes_on(tmp_path: Path) -> None:
    put(tmp_path, "bad.parquet", b"PAR1")
    put(tmp_path, "good.csv", b"id,t\n" + b"1,x\n" * 1000)
    bad, good = opened(tmp_path).discover()
    assert (bad.name, len(bad.schema), "bad.parquet" in bad.traits["problem"]) == ("bad", 0, True)
    assert (good.name, good.rows_estimate, good.bytes_estimate) == ("good", 1000, 4005)
    assert opened(tmp_path).describe("bad") == bad


def _outside(folder: Path) -> list[Callable[[], Source]]:
    secret = folder / "secret.csv"
    secret.write_text("password\nx\n")
    root = folder / "root"
    (root / "drop").mkdir(parents=True)
    (root / "drop/link.csv").symlink_to(secret)
    (root / "away").symlink_to(folder)
    given = Connection("drops", "fs", extra={"path": str(root)})

    def by(path: str, connection: Connection | None) -> Callable[[], Source]:
        return lambda: open_source(files_spec(path, conn_id="drops"), connection, base_path=str(root))

    return [
        by("../secret.csv", None), by("drop/../../secret.csv", None), by("drop/link.csv", None), by("away", None),
        by("away/*.csv", None), by("drop/*.csv", None), by("drop", None), by(str(secret), given),
        by("../secret.csv", given), by(f"{root}/../secret.csv", given), by("../*", None), by("dr\0p", None),
    ]  # fmt: skip


@pytest.mark.parametrize("which", range(12))
def test_no_path_and_no_link_leads_out_of_the_root(tmp_path: Path, which: int) -> None:
    with pytest.raises(InventoryError) as caught:
        source = _outside(tmp_path)[which]()
        for table in source.table_names() or ("drops",):
            read(source, table)
    assert "password" not in str(caught.value)


def test_a_base_path_comes_from_the_connection_then_from_the_inventory(tmp_path: Path) -> None:
    put(tmp_path / "given", "a.csv", b"id\n1\n")
    put(tmp_path / "own", "a.csv", b"id\n2\n")
    given = Connection("drops", "fs", extra={"path": str(tmp_path / "given")})
    for connection, path, value in [
        (given, "drop", 1),
        (None, "./drop/", 2),
        (given, str(tmp_path / "given/drop"), 1),
        (None, (tmp_path / "given/drop").as_uri(), 1),
        (None, str(tmp_path / "given/drop/a.csv"), 1),
        (None, str(tmp_path / "given/d*/a.csv"), 1),
    ]:
        source = open_source(files_spec(path), connection, base_path=str(tmp_path / "own"))
        (table,) = source.table_names()
        assert column(read(source, table), "id") == [value], path
    with pytest.raises(InventoryError, match="type 'postgres'"):
        open_source(files_spec("drop"), Connection("x", "postgres"), base_path=str(tmp_path))
    with pytest.raises(InventoryError, match="nothing is there"):
        opened(tmp_path, "drop/absent").table_names()


def test_a_folder_that_is_not_there_is_no_empty_table(tmp_path: Path) -> None:
    """It may be a mount that is down: a full read would empty the table."""
    put(tmp_path, "a.csv", b"id\n1\n")
    glob = opened(tmp_path, "drop/*.csv")
    (tmp_path / "drop").rename(tmp_path / "gone")
    with pytest.raises(InventoryError, match="nothing is there"):
        read(glob, "drops")
    (tmp_path / "drop").mkdir()
    assert read(glob, "drops") == []


def test_a_file_read_long_ago_does_not_stop_the_new_ones(tmp_path: Path) -> None:
    put(tmp_path, "1.csv.gz", b"\x1f\x8b damaged since")
    put(tmp_path, "2.csv", b"id\n2\n")
    source = opened(tmp_path, "drop/*")
    assert "1.csv.gz" in source.describe("drops").traits["problem"]
    new = source.files("drops")[1:]
    assert column(list(source.read(ReadRequest("drops", FileSet(new)))), "id") == [2]


def test_an_abandoned_reading_leaves_no_thread_behind(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", b"id\n" + b"1\n" * MANY)
    before = threading.active_count()
    for end in ("close", "forget", "finish"):
        reading = opened(tmp_path).read(ReadRequest("a", Everything(), 1000))
        batches = iter(reading)
        next(batches)
        if end == "close":
            reading.close()
        elif end == "forget":
            del batches
        else:
            assert sum(len(batch.records) for batch in batches) == MANY - 1000
    assert threading.active_count() == before


def test_parquet_and_a_glob_on_s3(s3_server: S3Server, s3_bucket: str) -> None:
    connection = connection_to(s3_server)
    store = open_storage(f"s3://{s3_bucket}", connection)
    for day in (1, 2):
        with store.filesystem.open_output_stream(f"{s3_bucket}/in/{day}/orders.parquet") as out:
            pq.write_table(pa.table({"id": [day]}), out)
    for path, table, ids in [
        ("in/*/orders.parquet", "drops", [1, 2]),
        ("in/2/orders.parquet", "drops", [2]),
        ("in/2", "orders", [2]),
        ("in", "1", [1]),
        ("absent", None, []),
    ]:
        source = open_source(files_spec(f"s3://{s3_bucket}/{path}", conn_id="drops"), connection, base_path="/")
        assert table in source.table_names() or (table is None and not source.table_names())
        if table is not None:
            assert column(read(source, table), "id") == ids
            (listed, *_) = source.files(table)
            assert source.identify(listed).content == listed.etag
    source = open_source(files_spec(f"s3://{s3_bucket}/in", conn_id="drops"), connection, base_path="/")
    listed = FileSet(source.files("1"))
    store.filesystem.copy_file(f"{s3_bucket}/in/2/orders.parquet", f"{s3_bucket}/in/1/orders.parquet")
    with pytest.raises(ConflictError):
        source.read(ReadRequest("1", listed))


def test_what_files_cannot_do_is_said(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", b"id\n1\n")
    source = opened(tmp_path)
    wrong: list[Callable[[], object]] = [
        lambda: source.high_cursor("a", "id"),
        lambda: source.read(ReadRequest("a", CursorRange("id", None, 1))),
        lambda: source.read(ReadRequest("a", Everything(), query="select 1")),
        lambda: source.describe("a", "select 1"),
        lambda: opened(tmp_path, colour="red"),
        lambda: read(opened(tmp_path, delimiter="¦"), "a"),
        lambda: read(opened(tmp_path, quote="\n"), "a"),
        lambda: read(opened(tmp_path, quote=";", delimiter=";"), "a"),
        lambda: open_source(files_spec("x").model_copy(update={"kind": "ftp"}), None, base_path="/"),
        lambda: open_source(files_spec("x").model_copy(update={"kind": "sql"}), None, base_path="/"),
    ]
    for do in wrong:
        with pytest.raises(DataOpsError, match="Cannot"):
            do()
    assert source.now() is None
