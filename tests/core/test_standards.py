"""Standard columns."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, row_fingerprints
from airflow_dataops.core.spec import StandardsSpec
from airflow_dataops.core.standards import stamp, standard_columns

ROWS = pa.record_batch({"id": [1, 2], "name": ["a", None]})
AT = dt.datetime(2024, 5, 1, 10, 0, 0, 7, tzinfo=dt.UTC)
AT_US = 1_714_557_600_000_007


def test_every_switch_has_its_columns() -> None:
    everything = standard_columns(StandardsSpec(), has_origin=True)
    assert {c.name for c in everything} == STANDARD_COLUMNS
    assert [c.name for c in standard_columns(StandardsSpec(), has_origin=False)] == [
        "_ingested_at",
        "_batch_id",
        "_row_fingerprint",
    ]
    for switch, gone in {
        "ingested_at": {"_ingested_at"},
        "batch_id": {"_batch_id"},
        "origin": {"_source_file", "_source_offset"},
        "row_fingerprint": {"_row_fingerprint"},
    }.items():
        left = standard_columns(StandardsSpec(**{switch: False}), has_origin=True)
        assert {c.name for c in everything} - {c.name for c in left} == gone


def test_rows_are_stamped() -> None:
    prints = row_fingerprints(ROWS)
    stamped = stamp(
        ROWS, StandardsSpec(), ingested_at_us=AT_US, batch_id="b1", source_file="in/a.csv", source_offsets=pa.array([2, 3]),
        fingerprints=prints,
    )  # fmt: skip
    assert stamped.schema.names == ["id", "name", *(c.name for c in standard_columns(StandardsSpec(), True))]
    assert [stamped.schema.field(c.name).type for c in standard_columns(StandardsSpec(), True)] == stamped.schema.types[2:]
    assert stamped.column("_ingested_at").to_pylist() == [AT, AT]
    assert stamped.column("_batch_id").to_pylist() == ["b1", "b1"]
    assert stamped.column("_source_file").to_pylist() == ["in/a.csv"] * 2
    assert stamped.column("_source_offset").to_pylist() == [2, 3]
    assert [bytes.fromhex(f"{hi:016x}{lo:016x}") for hi, lo in prints.tolist()] == stamped.column("_row_fingerprint").to_pylist()
    assert np.array_equal(row_fingerprints(stamped), prints)


def test_a_column_that_is_there_is_filled_where_it_stands() -> None:
    rows = pa.record_batch({"_batch_id": pa.nulls(2, pa.string()), "id": [1, 2]})
    stamped = stamp(rows, StandardsSpec(row_fingerprint=False, ingested_at=False), ingested_at_us=0, batch_id="b2")
    assert stamped.schema.names == ["_batch_id", "id"]
    assert stamped.column("_batch_id").to_pylist() == ["b2", "b2"]


def test_a_fingerprint_that_was_asked_for_is_never_left_out() -> None:
    with pytest.raises(ValueError, match="row_fingerprint"):
        stamp(ROWS, StandardsSpec(), ingested_at_us=0, batch_id="b")


def test_no_rows_are_stamped_too() -> None:
    empty = ROWS.slice(0, 0)
    stamped = stamp(empty, StandardsSpec(), ingested_at_us=0, batch_id="b", fingerprints=row_fingerprints(empty))
    assert stamped.num_rows == 0 and stamped.num_columns == 5
