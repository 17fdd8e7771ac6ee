"""Values as text columns of our own databases: JSON, and schemas that many rows share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.types_text import type_from_text, type_to_text


class JsonText(sa.types.TypeDecorator[Any]):
    """JSON in a text column. ASCII only, so that NUL and bytes that are not UTF-8 (file names) survive any database."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else json_text(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


def json_text(value: Any) -> str:
    """One text per value. TypeError for what JSON cannot hold."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def columns_to_json(columns: Iterable[Column]) -> list[list[Any]]:
    """`[name, type, nullable, comment, source name]` per column, in order."""
    return [[c.name, type_to_text(c.type), c.nullable, c.comment, c.source_name] for c in columns]


def columns_of_json(data: list[list[Any]]) -> tuple[Column, ...]:
    """The inverse of `columns_to_json`."""
    return tuple(Column(name, type_from_text(kind), nullable, comment, source) for name, kind, nullable, comment, source in data)


def schema_to_json(schema: TableSchema) -> dict[str, Any]:
    """Columns and keys. Encodings that hold the same values (large_string, string) become one."""
    return {"columns": columns_to_json(schema.columns), "keys": list(schema.keys)}


def schema_of_json(data: dict[str, Any]) -> TableSchema:
    """The inverse of `schema_to_json`."""
    return TableSchema(columns_of_json(data["columns"]), tuple(data["keys"]))


def text_id(text: str) -> str:
    """32 hex digits that stand for a text which many rows share."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
