"""Columns as a metastore keeps them, and beside them what Hive has no place for.

A Hive column is name, type and comment. Whether a timestamp is an instant and of which unit, whether a column is nullable and how
the source spells it goes into table parameters, as Spark does with its schemas: JSON of the columns that need it, cut into parts
that fit. It counts only while Hive's type is still the one it was written for: who alters the table elsewhere is believed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from airflow_dataops.catalog.hive_types import arrow_type, hive_type
from airflow_dataops.catalog.hive_wire import WIRE
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.schema import Column
from airflow_dataops.core.types_text import type_from_text, type_to_text

log = logging.getLogger(__name__)

OWN = "dataops.catalog."
"""Parameters of this name belong to the catalog; callers never see them."""

_PART = OWN + "columns."
_PART_CHARACTERS = 3900  # a parameter's value holds 4,000 on some databases

Details = Mapping[str, Mapping[str, Any]]
"""By column name: `type`, `nullable`, `source_name`, each only where Hive's column does not say it."""


def to_fields(table: str, columns: Iterable[Column], before: Sequence[Any] = (), known: Sequence[Column] = ()) -> list[Any]:
    """Columns as FieldSchema. Where one of `before` (read as `known`) is of the same type already, its own spelling stays:
    a `varchar(10)` does not become a `string` because of a new neighbour. InventoryError for a type that Hive has none for."""
    fields = []
    for position, column in enumerate(columns):
        stands = position < len(known) and type_to_text(known[position].type) == type_to_text(column.type)
        try:
            text = before[position].type if stands else hive_type(column.type)
        except ValueError:
            raise InventoryError(
                f"Cannot keep column {column.name!r} of {table}: type {type_to_text(column.type)} -> one that Hive has. "
                "Cast it in `read.query`, or drop it with `privacy.columns`."
            ) from None
        fields.append(WIRE["FieldSchema"](name=column.name, type=text, comment=column.comment or None))
    return fields


def to_columns(table: str, fields: Iterable[Any], details: Details) -> tuple[Column, ...]:
    """FieldSchema as columns. InventoryError for a type that cannot be loaded into."""
    return tuple(_column(table, field, details.get(field.name, {})) for field in fields)


def details_of(columns: Iterable[Column], fields: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """What must be kept beside the fields so that the columns come back as they are."""
    found: dict[str, dict[str, Any]] = {}
    for column, field in zip(columns, fields, strict=True):
        beside: dict[str, Any] = {}
        if type_to_text(arrow_type(field.type)) != type_to_text(column.type):
            beside["type"] = type_to_text(column.type)
        if not column.nullable:
            beside["nullable"] = False
        if column.source_name is not None:
            beside["source_name"] = column.source_name
        if beside:
            found[column.name] = beside
    return found


def to_parameters(details: Details) -> dict[str, str]:
    """The details as parameters, cut into parts."""
    if not details:
        return {}
    text = json.dumps(details, separators=(",", ":"), sort_keys=True)  # ASCII: a character is a byte
    parts = [text[at : at + _PART_CHARACTERS] for at in range(0, len(text), _PART_CHARACTERS)]
    return {f"{_PART}{number}": part for number, part in enumerate(parts)}


def from_parameters(table: str, parameters: Mapping[str, str]) -> Details:
    """The inverse of `to_parameters`; nothing, and a warning, when somebody has damaged them."""
    text = "".join(parameters[key] for key in sorted((k for k in parameters if k.startswith(_PART)), key=_number))
    if not text:
        return {}
    try:
        details = json.loads(text)
        return {str(name): dict(beside) for name, beside in details.items()}
    except (ValueError, TypeError, AttributeError):
        log.warning("table %s: its parameters %s* cannot be read; columns are taken as Hive types them", table, _PART)
        return {}


def _number(key: str) -> tuple[int, str]:
    digits = key.removeprefix(_PART)
    return (int(digits) if digits.isdecimal() else 1 << 30, key)


def _column(table: str, field: Any, beside: Mapping[str, Any]) -> Column:
    try:
        kept = arrow_type(field.type or "")
    except ValueError as error:
        raise InventoryError(
            f"Cannot use table {table}: column {field.name!r} is of type {str(field.type)[:100]} -> a type that rows can be loaded "
            f"into. {error} Give the row another `target.table`."
        ) from None
    source = beside.get("source_name")
    return Column(
        name=field.name,
        type=_finer(kept, beside.get("type")),
        nullable=beside.get("nullable") is not False,
        comment=field.comment or "",
        source_name=source if isinstance(source, str) else None,
    )


def _finer(kept: pa.DataType, text: Any) -> pa.DataType:
    """The recorded type, as long as Hive's is still the one it is shown as."""
    if not isinstance(text, str):
        return kept
    try:
        recorded = type_from_text(text)
        return recorded if hive_type(recorded) == hive_type(kept) else kept
    except ValueError:
        return kept
