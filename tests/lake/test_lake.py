"""One contract for every lake: local disk and a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError, InventoryError, ProofError
from airflow_dataops.lake import open_lake
from airflow_dataops.lake.base import AtLeast, FileLayout, Lake

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("amount", pa.decimal128(12, 2))])


def rows(start: int, count: int) -> pa.RecordBatch:
    ids = list(range(start, start + count))
    return pa.RecordBatch.from_arrays(
        [pa.array(ids), pa.array([f"n{i % 3}" for i in ids]), pa.array([Decimal(i) / 4 for i in ids], pa.decimal128(12, 2))],
        schema=SCHEMA,
    )


@pytest.fixture(params=["local", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path) -> Iterator[Lake]:
    if request.param == "local":
        opened = open_lake(f"file://{tmp_path}/lake")
    else:
        server = request.getfixturevalue("s3_server")
        connection = Connection(
            "s3", "aws", login=server.access_key, password=server.secret_key,
            extra={"endpoint_url": server.endpoint, "region_name": server.region},
        )  # fmt: skip
        opened = open_lake(f"s3://{server.new_bucket()}/lake", connection)
    yield opened
    opened.close()


def put(lake: Lake, path: str, *batches: pa.RecordBatch, layout: FileLayout | None = None) -> None:
    writer = lake.open_file(path, batches[0].schema, layout or FileLayout())
    for batch in batches:
        writer.write(batch)
    writer.close({"fingerprint": "f1:x", "rows": str(sum(b.num_rows for b in batches))})


def test_a_file_is_invisible_until_it_is_closed_and_its_footer_tells_what_is_in_it(lake: Lake) -> None:
    writer = lake.open_file("db/t/a/part-0.parquet", SCHEMA, FileLayout(row_group_rows=10))
    writer.write(rows(0, 25))
    assert lake.list("db/t") == ()
    writer.close({"fingerprint": "f1:25:ab"})
    footer = lake.footer("db/t/a/part-0.parquet")
    assert (footer.rows, footer.schema.names, footer.metadata["fingerprint"]) == (25, SCHEMA.names, "f1:25:ab")
    assert [e.path for e in lake.list("db/t")] == ["db/t/a/part-0.parquet"]
    assert lake.list("db/t")[0].bytes == footer.bytes > 0


def test_an_aborted_file_leaves_nothing(lake: Lake) -> None:
    writer = lake.open_file("db/t/a/part-0.parquet", SCHEMA, FileLayout(row_group_rows=2))
    writer.write(rows(0, 5))
    writer.abort()
    assert lake.list("db") == ()


def test_no_file_is_ever_replaced(lake: Lake) -> None:
    put(lake, "db/t/a.parquet", rows(0, 3))
    with pytest.raises(ProofError, match="exists"):
        lake.open_file("db/t/a.parquet", SCHEMA, FileLayout())
    assert lake.footer("db/t/a.parquet").rows == 3


def test_old_files_are_read_under_a_wider_schema(lake: Lake) -> None:
    old = pa.RecordBatch.from_pydict(
        {"id": pa.array([1, 2], pa.int32()), "amount": pa.array([Decimal("1.50")] * 2, pa.decimal128(5, 2))}
    )
    put(lake, "db/t/old.parquet", old)
    put(lake, "db/t/new.parquet", rows(10, 2))
    found = pa.Table.from_batches(lake.read(["db/t/old.parquet", "db/t/new.parquet"], SCHEMA), SCHEMA).to_pylist()
    assert [r["id"] for r in found] == [1, 2, 10, 11]
    assert found[0] == {"id": 1, "name": None, "amount": Decimal("1.50")}


def test_reading_can_start_at_a_value(lake: Lake) -> None:
    put(lake, "db/t/a.parquet", rows(0, 100), layout=FileLayout(row_group_rows=10))
    found = [b.column("id").to_pylist() for b in lake.read(["db/t/a.parquet"], SCHEMA, ["id"], where=AtLeast("id", 97))]
    assert [i for part in found for i in part] == [97, 98, 99]


def test_an_object_appears_under_a_second_name_once(lake: Lake) -> None:
    put(lake, "db/t/a/x.parquet", rows(0, 3))
    put(lake, "db/t/b/y.parquet", rows(0, 5))
    assert lake.link("db/t/a/x.parquet", "db/t/live/x.parquet") is True
    assert lake.link("db/t/b/y.parquet", "db/t/live/x.parquet") is False
    assert lake.footer("db/t/live/x.parquet").rows == 3


def test_a_directory_is_deleted_whole_and_only_it(lake: Lake) -> None:
    put(lake, "db/t/a/x.parquet", rows(0, 3))
    put(lake, "db/t/ab/y.parquet", rows(0, 3))
    assert lake.delete_directory("db/t/a") == 1
    assert lake.delete_directory("db/t/a") == 0
    assert [e.path for e in lake.list("db")] == ["db/t/ab/y.parquet"]
    with pytest.raises(InventoryError):
        lake.delete_directory("")


@pytest.mark.parametrize("path", ["../x.parquet", "a/../../x.parquet", "/etc/x.parquet", "a\0b.parquet"])
def test_no_path_leaves_the_root(lake: Lake, path: str) -> None:
    with pytest.raises(DataOpsError):
        put(lake, path, rows(0, 1))


def test_a_damaged_or_missing_file_is_a_failed_proof(lake: Lake, tmp_path) -> None:
    with pytest.raises(ProofError):
        lake.footer("db/t/none.parquet")
    with pytest.raises(ProofError):
        list(lake.read(["db/t/none.parquet"], SCHEMA))


def test_a_truncated_file_is_a_failed_proof(tmp_path) -> None:
    lake = open_lake(f"file://{tmp_path}/lake")
    put(lake, "a.parquet", rows(0, 1000))
    whole = (tmp_path / "lake/a.parquet").read_bytes()
    (tmp_path / "lake/a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProofError):
        lake.footer("a.parquet")


def test_dictionaries_only_where_they_pay() -> None:
    from airflow_dataops.lake.parquet_file import dictionary_columns

    assert dictionary_columns(rows(0, 5000)) == ["name"]


def test_a_scan_meets_every_row_once_under_the_types_of_its_file(lake: Lake) -> None:
    put(lake, "a.parquet", *[rows(k * 100, 100) for k in range(7)], layout=FileLayout(row_group_rows=64))
    put(lake, "b.parquet", pa.RecordBatch.from_pylist([{"id": "text", "extra": 1.5}]))
    put(lake, "c.parquet", rows(700, 0))
    seen = list(lake.scan(["a.parquet", "b.parquet", "c.parquet"], lambda batch: (batch.schema.names, batch.column(0).to_pylist())))
    assert [v for names, values in seen if names == SCHEMA.names for v in values] == list(range(700))
    assert [values for names, values in seen if names == ["id", "extra"]] == [["text"]]
    assert list(lake.scan([], len)) == []


def test_a_scan_has_few_files_open_and_stops_when_it_is_told(lake: Lake) -> None:
    put(lake, "a.parquet", rows(0, 10))
    asked = []

    def paths() -> Iterator[str]:
        for number in range(500):
            asked.append(number)
            yield "a.parquet"

    found = lake.scan(paths(), lambda batch: batch.num_rows)
    assert [next(found) for _ in range(3)] == [10, 10, 10]
    found.close()
    assert len(asked) < 20


def test_a_scan_says_what_went_wrong(lake: Lake, tmp_path) -> None:
    put(lake, "a.parquet", *[rows(k * 100, 100) for k in range(3)], layout=FileLayout(row_group_rows=50))

    def refuse(batch: pa.RecordBatch) -> None:
        if batch.column(0)[0].as_py() >= 100:
            raise ProofError("Cannot prove it.")

    with pytest.raises(ProofError, match="Cannot prove it"):
        list(lake.scan(["a.parquet"], refuse))
    with pytest.raises(ProofError, match="Somebody deleted one"):
        list(lake.scan(["a.parquet", "gone.parquet"], len))
    if lake.uri("").startswith("file:"):
        (tmp_path / "lake" / "half.parquet").write_bytes((tmp_path / "lake" / "a.parquet").read_bytes()[:-300])
        with pytest.raises(ProofError, match=r"Cannot read lake files"):
            list(lake.scan(["half.parquet"], len))


def test_a_file_that_is_damaged_or_cut_while_it_is_read_is_told(tmp_path) -> None:
    """pyarrow takes the end of the bytes for the end of the rows."""
    lake = open_lake(f"file://{tmp_path}/lake")
    put(lake, "a.parquet", *[rows(k * 5000, 5000) for k in range(8)], layout=FileLayout(row_group_rows=5000))
    file = tmp_path / "lake" / "a.parquet"
    whole = file.read_bytes()

    def cut(batch: pa.RecordBatch) -> int:
        os.truncate(file, 2000)
        return batch.num_rows

    with pytest.raises(ProofError, match=r"row group|damaged|under the table"):
        list(lake.scan(["a.parquet"], cut))
    file.write_bytes(whole[:3000] + bytes(range(256)) * 12 + whole[3000 + 256 * 12 :])
    for read in (lambda: lake.scan(["a.parquet"], len), lambda: lake.read(["a.parquet"], SCHEMA)):
        with pytest.raises(ProofError, match="Cannot read lake files"):
            list(read())
    size = int.from_bytes(whole[-8:-4], "little")
    file.write_bytes(whole[: -8 - size] + b"\xff" * size + whole[-8:])
    with pytest.raises(ProofError, match=r"Cannot read the footer of lake file a\.parquet"):
        lake.footer("a.parquet")
