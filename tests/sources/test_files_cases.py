"""Every file under tests/cases/files is a list of stories: these files lie in a folder, this is what each table gives.

A case: `files` (name → text, or {text, encoding, compression, cut_bytes} or {hex}); `options` of the row; `expected`: the
lake table's columns, if there is one; `tables`: name → columns (in order, type as text), rows, and where it matters the
line of each row, the dead letters as [line, reason, raw text], traits, `error` (class and a part of its message), and
`moved: true` when the first reading must find late that the schema has to be another one.
"""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import lzma
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from airflow_dataops.core import errors
from airflow_dataops.core.offset import Everything
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.types_text import type_from_text, type_to_text
from airflow_dataops.sources import open_source
from airflow_dataops.sources.base import Batch, Reading, ReadRequest, SchemaMoved, Source
from tests.sources.files_cases import files_spec

CASES = Path(__file__).parents[1] / "cases/files"
COMPRESSIONS = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


def all_cases() -> list[Any]:
    found = []
    for file in sorted(CASES.glob("*.yaml")):
        found += [pytest.param(case, id=f"{file.stem}: {case['name']}") for case in yaml.safe_load(file.read_text())]
    return found


def content(spec: Any) -> bytes:
    if isinstance(spec, str):
        return spec.encode()
    if "hex" in spec:
        return bytes.fromhex(spec["hex"])
    data = (spec["text"] * spec.get("times", 1)).encode(spec.get("encoding", "utf-8"))
    if "compression" in spec:
        data = COMPRESSIONS[spec["compression"]](data)
    return data[: len(data) - spec.get("cut_bytes", 0)] + bytes.fromhex(spec.get("then_hex", ""))


def plain(value: Any) -> Any:
    """A value as YAML would write it."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(value) if isinstance(value, float) and value != value else value


def read_all(source: Source, table: str, expected: TableSchema | None, batch_rows: int) -> tuple[Reading, list[Batch], int]:
    """The batches, read again when the schema moved; and how often it did."""
    moves = 0
    while True:
        reading = source.read(ReadRequest(table, Everything(), batch_rows, expected=expected))
        try:
            return reading, list(reading), moves
        except SchemaMoved as moved:
            moves += 1
            assert moves == 1, "one restart must be enough"
            expected = moved.schema
        finally:
            reading.close()


@pytest.mark.parametrize("case", all_cases())
@pytest.mark.parametrize("batch_rows", [2, 65536])
def test_case(case: dict[str, Any], batch_rows: int, tmp_path: Path) -> None:
    for name, spec in case["files"].items():
        path = tmp_path / "drop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(spec))
    source = open_source(files_spec(case.get("path", "drop"), **case.get("options", {})), None, base_path=str(tmp_path))
    expected = None
    if "expected" in case:
        expected = TableSchema(tuple(Column(n, type_from_text(t)) for n, t in case["expected"].items()))
    assert sorted(case["tables"]) == list(source.table_names())
    for table, told in case["tables"].items():
        if "error" in told:
            kind, text = told["error"]
            with pytest.raises(getattr(errors, kind)) as caught:
                read_all(source, table, expected, batch_rows)
            assert text in str(caught.value)
            continue
        reading, batches, moves = read_all(source, table, expected, batch_rows)
        assert {c.name: type_to_text(c.type) for c in reading.schema} == told["columns"]
        assert list(reading.schema.names) == list(told["columns"])
        rows = [list(row.values()) for batch in batches for row in batch.records.to_pylist()]
        assert [[plain(v) for v in row] for row in rows] == told.get("rows", [])
        assert all(len(batch.records) <= batch_rows for batch in batches)
        assert all(batch.records.schema == reading.schema.to_arrow() for batch in batches)
        if "lines" in told:
            assert [n for batch in batches for n in batch.source_offsets.to_pylist()] == told["lines"]
        letters = [letter for batch in batches for letter in batch.dead_letters]
        found = [[letter.source_offset, letter.reason, letter.raw.decode("latin-1")] for letter in letters]
        assert found == told.get("dead_letters", [])
        assert {letter.source_file for letter in letters} <= {batch.source_file for batch in batches} - {None}
        assert told.get("traits", {}).items() <= reading.traits.items()
        assert bool(moves) == told.get("moved", False)
