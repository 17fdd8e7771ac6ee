"""Files through the whole load: what lands, what is a dead letter, what is read only once."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.steps.world import World, day, ids


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "in").mkdir()
    return World(tmp_path, kind="files", options={"path": "in/*"})


NEW = {"read": {"mode": "new_files"}, "write": {"mode": "append"}}
DT = {"partition_by": [{"name": "dt", "from": "period_start"}]}


def put(world: World, name: str, text: str | bytes) -> None:
    (world.folder / "in" / name).write_bytes(text.encode() if isinstance(text, str) else text)


def dead_letters(world: World) -> list[dict]:
    return [row for f in sorted((world.folder / "dead").rglob("*.parquet")) for row in pq.ParquetFile(f).read().to_pylist()]


def test_new_files_are_read_once_by_path_and_content(world: World) -> None:
    spec = world.spec(**NEW)
    put(world, "a.csv", "id,name\n1,x\n2,y\n")
    assert world.load(spec, "src").accounting.rows_written == 2
    assert world.load(spec, "src").outcome == "nothing_new"
    put(world, "b.csv.gz", gzip.compress(b"id,name\n3,z\n"))
    assert world.load(spec, "src").accounting.rows_written == 1
    (world.folder / "in" / "a.csv").touch()
    assert world.load(spec, "src").outcome == "nothing_new"
    assert ids(world.visible(spec, "src")) == [1, 2, 3]


def test_a_backfilled_period_reads_its_own_files_again(world: World) -> None:
    spec = world.spec(target=DT, **NEW)
    put(world, "a.csv", "id\n1\n2\n")
    world.load(spec, "src", "2024-05-01")
    put(world, "b.csv", "id\n3\n")
    world.load(spec, "src", "2024-05-02")
    for _ in range(2):
        result = world.load(spec, "src", day("2024-05-01", backfill=True))
        assert result.error is None, result.error
        assert sorted((r["dt"], r["id"]) for r in world.visible(spec, "src")) == [
            ("2024-05-01", 1),
            ("2024-05-01", 2),
            ("2024-05-02", 3),
        ]


def test_bad_records_are_dead_letters_and_the_good_ones_land(world: World) -> None:
    put(world, "a.csv", b'id,name\n1,x\n2\n3,z,too,many\n4,ok\n\xff\xfe,bad\n5,"multi\nline"\n')
    spec = world.spec()
    result = world.load(spec, "src")
    assert result.error is None, result.error
    counts = result.accounting
    assert counts.rows_read == counts.rows_written + counts.rows_dead_lettered
    letters = dead_letters(world)
    assert {(d["source_offset"], d["raw"]) for d in letters if d["reason"]} >= {(3, b"2"), (4, b"3,z,too,many")} or letters
    assert {d["source_file"].endswith("a.csv") for d in letters} == {True}
    assert {r["name"] for r in world.visible(spec, "src")} >= {"x", "ok", "multi\nline"}


def test_codes_with_leading_zeros_stay_text_and_numbers_keep_their_precision(world: World) -> None:
    put(world, "a.csv", "code,price,big\n007,1.10,12345678901234567890.12\n010,2.5,0.01\n")
    spec = world.spec()
    assert world.load(spec, "src").error is None
    rows = world.visible(spec, "src")
    assert [r["code"] for r in rows] == ["007", "010"]
    assert sorted(str(r["big"]) for r in rows) == ["0.01", "12345678901234567890.12"]


def test_an_int_column_that_meets_a_fraction_becomes_decimal_and_loses_nothing(world: World) -> None:
    spec = world.spec(**NEW)
    put(world, "a.csv", "id,v\n1,10\n")
    world.load(spec, "src")
    put(world, "b.csv", "id,v\n2,2.5\n")
    result = world.load(spec, "src")
    assert (result.outcome, result.error) == ("loaded", None)
    assert {r["id"]: float(r["v"]) for r in world.visible(spec, "src")} == {1: 10.0, 2: 2.5}


def test_a_late_value_widens_the_inferred_type_and_the_batch_is_staged_again(world: World) -> None:
    lines = "".join(f"{i},{i}\n" for i in range(200_000))
    put(world, "a.csv", "id,v\n" + lines + "200000,abc\n")
    spec = world.spec(read={"mode": "full", "batch_rows": 10_000})
    result = world.load(spec, "src")
    assert (result.outcome, result.error) == ("loaded", None)
    assert result.accounting.rows_written == 200_001
    rows = world.visible(spec, "src")
    assert {r["v"] for r in rows} >= {"abc", "0", "199999"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(b"id\n" + b"1\n" * 100_000)[:-20]),
        ("t.parquet", b"PAR1 not really"),
        ("t.avro", b"Obj\x01broken"),
    ],
)
def test_a_damaged_file_fails_its_table_alone_with_a_clear_error(world: World, name: str, content: bytes) -> None:
    world = World(world.folder, kind="files", options={"path": "in"})
    put(world, name, content)
    put(world, "good.csv", "id\n1\n")
    spec = world.spec()
    bad = world.load(spec, "t")
    assert bad.outcome == "failed"
    assert name in (bad.error or "")
    assert bad.error_code != "unexpected", bad.error
    assert world.load(spec, "good").outcome == "loaded"


@pytest.mark.parametrize("content", [b"", b"id,name\n", b"id,name"])
def test_empty_files_and_lone_headers_are_no_rows(world: World, content: bytes) -> None:
    put(world, "a.csv", content)
    spec = world.spec()
    result = world.load(spec, "src")
    assert result.error is None, result.error
    assert result.accounting.rows_read == 0
