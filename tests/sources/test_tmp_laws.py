"""Laws of reading: nothing depends on where heads and blocks end, one restart settles a schema, no record is lost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dataops.core.offset import Everything
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.formats import csv_format, json_format
from airflow_dataops.sources import open_source
from airflow_dataops.sources.base import ReadRequest, SchemaMoved
from tests.formats.test_text_types import EXPECTED, WORDS
from tests.sources.files_cases import files_spec

Outcome = tuple[TableSchema, list[tuple[int, str]], list[tuple[int, str, bytes]]]


def outcome(data: bytes, name: str, expected: TableSchema | None, batch_rows: int) -> Outcome:
    """(schema, (line, row) of all rows, (line, reason, raw) of all dead letters), after at most one restart."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(data)
        source = open_source(files_spec(name, header=True), None, base_path=folder)
        for restart in range(2):
            reading = source.read(ReadRequest("drops", Everything(), batch_rows, expected=expected))
            try:
                batches = list(reading)
                break
            except SchemaMoved as moved:
                assert restart == 0, "one restart must be enough"
                expected = moved.schema
            finally:
                reading.close()
    rows = [
        (line, str({name: column[n] for name, column in zip(batch.records.schema.names, batch.records.columns, strict=True)}))
        for batch in batches
        for n, line in enumerate(batch.source_offsets.to_pylist())
    ]
    letters = [(n.source_offset, n.reason, n.raw) for batch in batches for n in batch.dead_letters]
    return reading.schema, sorted(rows), sorted(letters)


def types(*columns: pa.DataType | None) -> TableSchema | None:
    known = [(f"c{n}", t) for n, t in enumerate(columns) if t is not None and not pa.types.is_null(t)]
    return TableSchema(tuple(Column(name, t) for name, t in known)) if known else None


# What a writer must quote, so that the words stay what they are.
CELL = st.one_of(WORDS.filter(lambda word: not set(word) & set(',"\r\n')), st.sampled_from(['""', '"7"', "5.0", "2.50"]))


@settings(max_examples=2000)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=25), EXPECTED, EXPECTED, st.integers(1, 4))
def test_csv_is_the_same_in_any_blocks(
    rows: list[tuple[str, str]], first: pa.DataType | None, second: pa.DataType | None, batch_rows: int
) -> None:
    data = b"c0,c1\n" + b"".join(f"{a},{b}\n".encode() for a, b in rows)
    whole = outcome(data, "a.csv", types(first, second), 65536)
    with (
        patch.object(csv_format, "_HEAD_BYTES", 1),
        patch.object(csv_format, "_MIN_BLOCK", 1),
        patch.object(csv_format, "_MAX_BLOCK", 1),
    ):
        assert outcome(data, "a.csv", types(first, second), batch_rows) == whole
    _, kept, letters = whole
    assert sorted([line for line, _ in kept] + [line for line, _, _ in letters]) == list(range(2, len(rows) + 2))
    assert all(raw == data.split(b"\n")[line - 1] for line, _, raw in letters)


JSON_SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-9, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.5, 0.1, -0.0, 5.0]),
    st.text(max_size=3),
)
JSON_VALUE = st.recursive(
    JSON_SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
INNER = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.decimal128(20, 2)]
JSON_TYPES = st.sampled_from([None, *INNER, pa.list_(pa.int64()), pa.struct([("x", pa.int64())])])


@settings(max_examples=2000)
@given(st.lists(st.dictionaries(st.sampled_from(["c0", "c1"]), JSON_VALUE), min_size=1, max_size=15), JSON_TYPES, JSON_TYPES)
def test_json_is_the_same_in_any_blocks_and_by_any_parser(
    records: list[dict[str, Any]], first: pa.DataType | None, second: pa.DataType | None
) -> None:
    data = b"".join(json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n" for record in records)
    whole = outcome(data, "a.ndjson", types(first, second), 65536)
    with patch.object(json_format, "_HEAD_RECORDS", 1), patch.object(json_format, "_BLOCK_BYTES", 1):
        assert outcome(data, "a.ndjson", types(first, second), 3) == whole
    with patch.object(json_format, "_by_arrow", lambda *_: None):
        assert outcome(data, "a.ndjson", types(first, second), 65536) == whole
    schema, kept, letters = whole
    assert sorted([line for line, _ in kept] + [line for line, _, _ in letters]) == list(range(1, len(records) + 1))
    document = b"[" + b",\n".join(data.splitlines()) + b"]"
    as_document = outcome(document, "a.json", types(first, second), 65536)
    assert as_document[:2] == (schema, kept)


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.json"])
@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_rows_dead_letters_or_an_error_that_names_the_file(name: str, data: bytes) -> None:
    from airflow_dataops.core.errors import DataOpsError

    try:
        outcome(data, name, None, 2)
    except DataOpsError as error:
        assert name in str(error) or "column" in str(error), str(error)
