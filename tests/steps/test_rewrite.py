"""Old partitions whose files an engine does not read under a widened type: found by the ledger, written again, the same rows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_dataops.core.readers import parse_readers
from airflow_dataops.steps.maintain import Limits, maintain_table
from airflow_dataops.steps.verify import verify
from tests.steps.traces import Traced

BY_DAY: dict[str, Any] = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
TEXT = BY_DAY | {"contract": {"to_string": "widen"}}
DAYS = ["2023-05-01", "2023-05-02", "2023-05-03"]


def widened(folder: Path, new: Any, row: dict[str, Any] | None = None) -> Traced:
    """Two days of integers, then one of the new type."""
    world = Traced(folder, row or BY_DAY)
    for n, day in enumerate(DAYS[:2]):
        world.put((n, 5), (n, 7))
        world.loads(f"r{n}", period=day)
    world.put((9, new))
    world.loads("r9", period=DAYS[2])
    return world


def types(world: Traced) -> set[pa.DataType]:
    return {pq.read_schema(file).field("v").type for file in world.planned()}


def test_files_are_written_again_under_the_wider_type_with_the_same_fingerprint(tmp_path: Path) -> None:
    world = widened(tmp_path, Decimal("1.25"))
    before, rows = world.ledger.decisions.current(world.table.key), world.visible()
    assert len(types(world)) == 2
    done = maintain_table(world.table, world.edges(), Limits())
    assert [(p.partition, p.why, p.outcome, p.columns) for p in done.partitions] == [
        (f"dt={day}", "old_types", "compacted", {"v": ["hive", "spark", "trino"]}) for day in DAYS[:2]
    ]
    assert types(world) == {pa.decimal128(21, 2)} and world.visible() == rows
    for name, now in world.ledger.decisions.current(world.table.key).items():
        assert (now.fingerprint, now.rows) == (before[name].fingerprint, before[name].rows)
    assert verify(world.spec, world.edges(), ["orders"]).ok
    assert not maintain_table(world.table, world.edges(), Limits()).changed


def test_only_for_the_engines_of_the_site_and_only_if_it_is_wanted(tmp_path: Path) -> None:
    world = widened(tmp_path, Decimal("1.25"))
    before = world.ledger.decisions.current(world.table.key)
    assert not maintain_table(world.table, world.edges(), Limits(readers=parse_readers("duckdb"))).changed
    named = maintain_table(world.table, world.edges(), Limits(rewrite=False))
    assert [p.outcome for p in named.partitions] == ["planned", "planned"] and not named.more
    assert world.ledger.decisions.current(world.table.key) == before


def test_numbers_that_are_text_by_now_are_proved_as_what_they_were_and_as_what_they_are(tmp_path: Path) -> None:
    world = widened(tmp_path, "seven", TEXT)
    before = world.ledger.decisions.current(world.table.key)
    done = maintain_table(world.table, world.edges(), Limits())
    assert [p.outcome for p in done.partitions] == ["compacted", "compacted"], done
    assert types(world) == {pa.string()}
    assert {(row[0], row[1]) for row in world.visible()} == {(0, "5"), (0, "7"), (1, "5"), (1, "7"), (9, "seven")}
    now = world.ledger.decisions.current(world.table.key)
    assert [now[n].rows for n in sorted(now)] == [before[n].rows for n in sorted(before)]
    assert now["dt=2023-05-01"].fingerprint != before["dt=2023-05-01"].fingerprint
    assert verify(world.spec, world.edges(), ["orders"]).ok


def test_a_forged_number_is_not_written_again_as_text(tmp_path: Path) -> None:
    world = widened(tmp_path, "seven", TEXT)
    victim = world.planned()[0]
    table = pq.ParquetFile(victim).read()
    index = table.schema.get_field_index("v")
    forged = table.set_column(index, table.schema.field(index), [[5, 8]])
    pq.write_table(forged.replace_schema_metadata(pq.read_schema(victim).metadata), victim)
    done = maintain_table(world.table, world.edges(), Limits())
    assert sorted(p.outcome for p in done.partitions) == ["compacted", "failed"]
    assert done.failed and "proof" in done.why_failed


def test_partitions_of_before_are_looked_at_first(tmp_path: Path) -> None:
    """Of a ledger that did not keep yet what files are."""
    import sqlalchemy as sa

    world = widened(tmp_path, Decimal("1.25"))
    with world.ledger._database.write() as connection:  # type: ignore[attr-defined]
        connection.execute(sa.text("UPDATE dataops_partition SET file_count = NULL, file_schemas = NULL"))
    done = maintain_table(world.table, world.edges(), Limits())
    assert [p.outcome for p in done.partitions] == ["compacted", "compacted"]
