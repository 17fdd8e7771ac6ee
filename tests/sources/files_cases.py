"""Rows for the tests of file sources, and how the formats write them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa

from airflow_dataops.core.spec import PipelineSpec


def files_spec(path: str, conn_id: str | None = None, **options: Any) -> PipelineSpec:
    """A row of kind files, named `drops`."""
    return PipelineSpec.model_validate(
        {"name": "drops", "domain": "sales", "kind": "files", "owner": "t", "conn_id": conn_id,
         "options": {"path": path, **options}}
    )  # fmt: skip


def write_csv(rows: pa.Table) -> bytes:
    """As Python's own writer has it: NULL is nothing, texts are quoted where they must be."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in rows.to_pylist():
        writer.writerow(["" if v is None else v for v in row.values()])
    return out.getvalue().encode()


def write_ndjson(rows: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows.to_pylist()).encode()


def write_avro(path: Path, rows: pa.Table) -> None:
    """Orders as Avro."""
    schema = {
        "type": "record", "name": "order", "fields": [
            {"name": "id", "type": "long"},
            {"name": "customer", "type": ["null", "string"]},
            {"name": "updated_at", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        ],
    }  # fmt: skip
    micros = rows["updated_at"].cast(pa.int64()).to_pylist()
    records = [{**row, "updated_at": at} for row, at in zip(rows.to_pylist(), micros, strict=True)]
    with path.open("wb") as out:
        fastavro.writer(out, schema, records, codec="deflate")
