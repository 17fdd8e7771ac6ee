"""How values of the contract are kept in the ledger's columns, and how rows become values of the contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.errors import StopError
from airflow_dataops.core.offset import FileIdentity, range_of_json
from airflow_dataops.core.profile import Profile
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.ledger.base import BatchContent, BatchRecord, Claim, Decision, FileFacts, StagedPartition
from airflow_dataops.ledger.tables import batch, decision, partition, schema_text
from airflow_dataops.storage.sql_database import ROWS_PER_STATEMENT, SqlDatabase
from airflow_dataops.storage.sql_text import json_text, schema_of_json, schema_to_json, text_id

MAX_NAME_BYTES = 2000
"""Longest partition name and directory: an index row of PostgreSQL holds 2,704 bytes."""

RECORD_COLUMNS = [c for c in batch.c if c.name != "content"]
DECISION_COLUMNS = [*decision.c, schema_text.c.schema]


def content_to_json(content: BatchContent) -> dict[str, Any]:
    """All of a batch's content. `files` must hold JSON values only."""
    return {
        "partitions": [
            {
                "name": p.name, "values": list(p.values), "directory": p.directory, "files": [dict(f) for f in p.files],
                "rows": p.rows, "fingerprint": p.fingerprint, "unchanged": p.unchanged,
                "profile": p.profile.to_json() if p.profile is not None else None,
            }
            for p in content.partitions
        ],
        "schema": schema_to_json(content.schema),
        "accounting": content.accounting.to_json(),
        "fingerprint": content.fingerprint,
        "source_fingerprint": content.source_fingerprint,
        "source_schema": schema_to_json(content.source_schema) if content.source_schema is not None else None,
        "complete": content.complete,
        "traits": dict(content.traits),
    }  # fmt: skip


def content_of_json(data: dict[str, Any]) -> BatchContent:
    """The inverse of `content_to_json`."""
    return BatchContent(
        partitions=tuple(
            StagedPartition(
                p["name"],
                tuple(p["values"]),
                p["directory"],
                tuple(p["files"]),
                p["rows"],
                p["fingerprint"],
                p["unchanged"],
                Profile.of_json(p["profile"]) if p.get("profile") is not None else None,
            )
            for p in data["partitions"]
        ),
        schema=schema_of_json(data["schema"]),
        accounting=Accounting.of_json(data["accounting"]),
        fingerprint=data["fingerprint"],
        source_fingerprint=data["source_fingerprint"],
        source_schema=schema_of_json(data["source_schema"]) if data["source_schema"] is not None else None,
        complete=data["complete"],
        traits=data["traits"],
    )


def claim_of_row(row: sa.Row[Any], writer: str, *, asked: bool = True) -> Claim:
    """`row` holds all columns of `batch`."""
    return Claim(
        row.table_key, row.batch_id, row.generation, row.attempt, row.sequence, row.state, row.scope,
        range_of_json(row.range), row.period_key, row.directory, writer, asked,
        content_of_json(row.content) if row.content is not None else None,
    )  # fmt: skip


def record_of_row(row: sa.Row[Any]) -> BatchRecord:
    """`row` holds RECORD_COLUMNS."""
    return BatchRecord(
        row.table_key, row.source_id, row.source_table, row.target, row.batch_id, row.generation, row.attempt,
        row.sequence, row.state, row.scope, range_of_json(row.range), row.period_key, row.run, row.claimed_at,
        row.frozen_at, row.committed_at,
        Accounting.of_json(row.accounting) if row.accounting is not None else None, row.fingerprint,
    )  # fmt: skip


def current_decisions(
    connection: sa.Connection, table_key: str, names: Iterable[str] | None = None, *, with_dropped: bool = False
) -> dict[str, Decision]:
    """The decision with the partition's epoch, of the asked partitions or of all of the table; of dropped ones only when asked."""
    query = (
        sa.select(*DECISION_COLUMNS)
        .join(partition, is_current())
        .join(schema_text, schema_text.c.schema_id == decision.c.schema_id)
        # Any name: so much said of partitions, SQLite begins with them, and not with the many decisions there are to each.
        .where(partition.c.table_key == table_key, partition.c.name >= "")
    )
    if not with_dropped:
        query = query.where(decision.c.dropped.is_(None))
    parts = [query] if names is None else [query.where(partition.c.name.in_(chunk)) for chunk in chunks(names)]
    schemas: dict[str, TableSchema] = {}  # thousands of partitions, a handful of schemas
    found: dict[str, Decision] = {}
    for part in parts:
        for row in connection.execute(part):
            if row.schema_id not in schemas:
                schemas[row.schema_id] = schema_of_json(row.schema)
            found[row.name] = decision_of_row(row, schemas[row.schema_id])
    return found


def decision_of_row(row: sa.Row[Any], schema: TableSchema) -> Decision:
    """`row` holds all columns of `decision`."""
    return Decision(
        row.name, tuple(row.partition_values), row.epoch, row.location, row.rows, row.bytes, row.fingerprint, schema,
        row.batch_id, row.generation, row.dropped,
    )  # fmt: skip


def is_current(of: sa.FromClause = decision) -> sa.ColumnElement[bool]:
    """Joins `partition` to its current decision."""
    return (partition.c.table_key == of.c.table_key) & (partition.c.name == of.c.name) & (partition.c.epoch == of.c.epoch)


def keep_schemas(database: SqlDatabase, connection: sa.Connection, schemas: Iterable[TableSchema]) -> dict[TableSchema, str]:
    """Stores each schema once and returns its id. Once per transaction: the order of ids keeps two from waiting for each other."""
    texts = {schema: schema_to_json(schema) for schema in set(schemas)}
    ids = {schema: text_id(json_text(data)) for schema, data in texts.items()}
    rows = {ids[schema]: {"schema_id": ids[schema], "schema": data} for schema, data in texts.items()}
    database.insert_missing(connection, schema_text, [rows[key] for key in sorted(rows)])
    return ids


def keep_facts(
    database: SqlDatabase, connection: sa.Connection, facts: Iterable[FileFacts | None]
) -> dict[FileFacts | None, dict[str, Any]]:
    """The columns of `partition` that keep each of these."""
    known = {one for one in facts if one is not None}
    ids = keep_schemas(database, connection, (schema for one in known for schema in one.schemas))
    kept: dict[FileFacts | None, dict[str, Any]] = {None: {"file_count": None, "file_schemas": None}}
    return kept | {one: {"file_count": one.count, "file_schemas": sorted(ids[s] for s in one.schemas)} for one in known}


def stat_id(file: FileIdentity) -> str:
    """Stands for path, size and etag."""
    return text_id(json_text([file.path, file.size, file.etag]))


def content_id(file: FileIdentity) -> str | None:
    """Stands for path and content; None while the content is not known."""
    return text_id(json_text([file.path, file.content])) if file.content else None


def chunks(names: Iterable[str]) -> Iterable[list[str]]:
    """Distinct names in order, as many at a time as one statement can bind."""
    distinct = sorted(set(names))
    return (distinct[i : i + ROWS_PER_STATEMENT] for i in range(0, len(distinct), ROWS_PER_STATEMENT))


def chunks_of(ids: Iterable[int]) -> Iterable[list[int]]:
    """Distinct numbers in order, as many at a time as one statement can bind."""
    distinct = sorted(set(ids))
    return (distinct[i : i + ROWS_PER_STATEMENT] for i in range(0, len(distinct), ROWS_PER_STATEMENT))


def lies_in(path: str, directory: str) -> bool:
    """Whether the path is this directory or lies below it."""
    return path == directory or path.startswith(f"{directory}/")


def check_path(path: str, what: str) -> None:
    """StopError unless the path is relative to the lake's root, stays below it, and is short enough to be kept."""
    bad = path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path
    if bad or len(path.encode()) > MAX_NAME_BYTES:
        raise StopError(
            f"Cannot record {what} {path[:200]!r}: {len(path)} characters -> a path below the lake's root, without '..', of at "
            f"most {MAX_NAME_BYTES} bytes. Nothing was published; report this as a defect."
        )
