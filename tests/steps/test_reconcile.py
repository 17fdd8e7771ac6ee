"""The source against the lake: equal after every mode, and each way to differ is found and named by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.buckets import BUCKETS, BucketSums, buckets_of, fitting
from airflow_dataops.core.errors import ProofError
from airflow_dataops.core.fingerprint import row_fingerprints
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.reconcile import Reconciled, TableReconciled, raise_for_differences, reconcile
from tests.steps.world import World

BY_CITY = [{"name": "city_part", "from": "column:city"}]
BY_DAY = [{"name": "dt", "from": "period_start"}]
MODES: dict[str, dict[str, Any]] = {
    "full": {"read": {"mode": "full"}},
    "full by city": {"read": {"mode": "full"}, "target": {"partition_by": BY_CITY}},
    "full by period": {"read": {"mode": "full"}, "target": {"partition_by": BY_DAY}},
    "window": {"read": {"mode": "window", "cursor": "at"}, "target": {"partition_by": BY_DAY}},
    "watermark merge": {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "merge", "keys": ["id"]}},
    "watermark append": {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}},
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, total DECIMAL(10,2), at TIMESTAMP, note TEXT)",
        *(
            f"INSERT INTO orders VALUES ({n}, 'c{n % 3}', {n}.5, '2024-05-0{1 + n % 2} 0{n % 9}:00:00', 'é{n}')"
            for n in range(40)
        ),
    )
    return world


def loaded(world: World, mode: str, **more: Any) -> PipelineSpec:
    spec = world.spec(**MODES[mode], **more)
    for day in ("2024-05-01", "2024-05-02"):
        result = world.load(spec, "orders", day)
        assert result.outcome in ("loaded", "unchanged", "nothing_new"), result
    return spec


def compared(world: World, spec: PipelineSpec) -> TableReconciled:
    (table,) = reconcile(spec, world.edges(spec), ["orders"])
    return table


@pytest.mark.parametrize("mode", MODES)
def test_what_was_loaded_is_equal(world: World, mode: str) -> None:
    table = compared(world, loaded(world, mode))
    assert table.ok and table.error is None, table
    assert sum(span.source_rows for span in table.spans) == sum(span.lake_rows for span in table.spans) == 40
    raise_for_differences("d.src", [table])


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "watermark append"])
def test_each_difference_is_named_by_its_key(world: World, mode: str) -> None:
    """At the source: one row changed, one gone, one more, within the range that was read."""
    spec = loaded(world, mode)
    world.sql(
        "UPDATE orders SET note = '' WHERE id = 7",
        "DELETE FROM orders WHERE id = 12",
        "INSERT INTO orders VALUES (90, 'c1', 1, '2024-05-02 01:00:00', NULL)",
    )
    table = compared(world, spec)
    found = sorted((one.how, one.key) for span in table.spans for one in span.differences)
    assert found == [("differs", "id=7"), ("only in the lake", "id=12"), ("only in the source", "id=90")]
    assert sum(s.differing for s in table.spans) == sum(s.only_in_lake for s in table.spans) == 1
    with pytest.raises(ProofError, match=r"id=12 \(only in the lake\)"):
        raise_for_differences("d.src", [table])


def rewrite(world: World, spec: PipelineSpec, partition: str, change: Any) -> None:
    """Somebody's hand in the lake: the first file of a partition, changed behind the ledger's back."""
    decision = world.edges(spec).ledger.decisions.current(table_spec(spec, "orders").key)[partition]
    file = sorted((world.folder / "lake" / decision.location).rglob("*.parquet"))[0]
    pq.write_table(change(pq.ParquetFile(file).read()), file)


def test_a_row_lost_or_doubled_in_the_lake_is_found(world: World) -> None:
    spec = loaded(world, "full by city")
    rewrite(world, spec, "city_part=c0", lambda rows: pa.concat_tables([rows.slice(1), rows.slice(3, 1)]))
    (span,) = compared(world, spec).spans
    assert (span.only_in_source, span.only_in_lake, span.differing) == (1, 1, 0)
    assert [(one.how, one.key) for one in span.differences] == [("only in the source", "id=0"), ("only in the lake", "id=9")]


def test_a_row_in_the_wrong_partition_differs(world: World) -> None:
    spec = loaded(world, "full by city")
    kept: list[pa.Table] = []
    rewrite(world, spec, "city_part=c0", lambda rows: (kept.append(rows.slice(0, 1)), rows.slice(1))[1])
    rewrite(world, spec, "city_part=c1", lambda rows: pa.concat_tables([rows, kept[0]]))
    (span,) = compared(world, spec).spans
    assert (span.source_rows, span.lake_rows, span.differing) == (40, 40, 1) and span.differences[0].key == "id=0"


def test_masked_columns_are_compared_and_shown_as_they_are_stored(world: World) -> None:
    spec = loaded(world, "full", privacy={"columns": {"note": "mask", "id": "hash"}, "key_conn_id": "key"})
    assert compared(world, spec).ok
    world.sql("UPDATE orders SET total = 99 WHERE id = 7")
    (span,) = compared(world, spec).spans
    assert span.differing == 1 and "id=7" not in span.differences[0].key and span.differences[0].key.startswith("id=")


def test_numbers_that_are_text_by_now_are_compared_as_text(world: World) -> None:
    spec = world.spec(
        read={"mode": "watermark", "cursor": "at"}, write={"mode": "merge", "keys": ["id"]}, contract={"to_string": "widen"}
    )
    world.sql("CREATE TABLE t (id INTEGER, n INTEGER, at TIMESTAMP)", "INSERT INTO t VALUES (1, 5, '2024-05-01')")
    world.load(spec, "t")
    world.sql("DROP TABLE t", "CREATE TABLE t (id INTEGER, n TEXT, at TIMESTAMP)")
    world.sql("INSERT INTO t VALUES (1, '5', '2024-05-01'), (2, 'x', '2024-05-02')")
    assert world.load(spec, "t").outcome == "loaded"
    (table,) = reconcile(spec, world.edges(spec), ["t"])
    assert table.ok, table


def test_files_are_read_again_by_identity(tmp_path: Path) -> None:
    world = World(tmp_path, kind="files", options={"path": "in/*.csv"})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,code\n" + "".join(f"{n},{n:03d}\n" for n in range(50)))
    spec = world.spec(read={"mode": "new_files"}, write={"mode": "append"})
    (name,) = world.edges(spec).source.table_names()
    assert world.load(spec, name).outcome == "loaded"
    (tmp_path / "in" / "b.csv").write_text("id,code\n50,x\nragged,1,2\n")
    world.load(spec.model_copy(update={"dead_letters": spec.dead_letters.model_copy(update={"max_share": 1.0})}), name)
    (table,) = reconcile(spec, world.edges(spec), [name])
    assert table.ok and table.spans[0].dead_lettered == 1, table
    (tmp_path / "in" / "a.csv").write_text("id,code\n1,001\n")
    (table,) = reconcile(spec, world.edges(spec), [name])
    assert table.error is not None and "a.csv" in table.error


def test_a_table_that_was_never_loaded_has_nothing_to_compare(world: World) -> None:
    assert compared(world, world.spec()).spans == ()


def test_only_as_many_rows_are_looked_at_as_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = loaded(world, "full")
    monkeypatch.setattr("airflow_dataops.steps.reconcile.COLLECTED_ROWS", 4)
    world.sql("UPDATE orders SET note = 'z'")
    (span,) = compared(world, spec).spans
    assert span.at_least and 1 <= span.differing <= 4 and str(span).startswith("at least ")


def test_bucket_sums_differ_exactly_where_rows_do() -> None:
    rows = pa.record_batch({"id": pa.array(range(5000)), "v": pa.array([n % 7 for n in range(5000)])})
    prints = row_fingerprints(rows)
    one, other = BucketSums(), BucketSums()
    one.add(prints, buckets_of(prints))
    for start in range(4000, -1, -1000):
        other.add(prints[start : start + 1000], buckets_of(prints[start : start + 1000]))
    assert not len(one.differing(other)) and one.rows.sum() == 5000 and buckets_of(prints).max() < BUCKETS
    other.add(prints[17:18], buckets_of(prints[17:18]))
    assert list(one.differing(other)) == [buckets_of(prints)[17]]
    assert list(fitting([1, 2, 3], one.rows * 0 + 2, 5)) == [1, 2] and list(fitting([1], one.rows * 0 + 9, 5)) == [1]


def test_a_difference_reads_as_a_sentence() -> None:
    text = str(Reconciled((), 3, 2, only_in_source=1))
    assert text.startswith("1 rows only in the source, 0 only in the lake, 0 differ, of 3 and 2")
