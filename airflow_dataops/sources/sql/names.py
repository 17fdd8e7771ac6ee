"""How a table of a database is called in the product: `schema.table`, or `table` where the connection fixes the schema.

A part that has a dot or a double quote in it (or is empty) is written as SQL would: in double quotes, doubled inside.
So every name reads back to exactly one (schema, table), whatever characters it holds, and an ordinary name stays plain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_dataops.core.errors import InventoryError

_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+')


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table in its schema (database for MySQL); None where the connection's own is meant."""

    schema: str | None
    table: str

    def __str__(self) -> str:
        return ".".join(_written(part) for part in (self.schema, self.table) if part is not None)


def parse_name(text: str) -> TableName:
    """The inverse of `str(TableName)`. InventoryError when the text is not of that form."""
    parts, at = [], 0
    while match := _PART.match(text, at):
        part = match.group()
        parts.append(part[1:-1].replace('""', '"') if part.startswith('"') else part)
        at = match.end()
        if at == len(text):
            break
        if text[at] != "." or len(parts) == 2:
            parts = []
            break
        at += 1
    else:
        parts = []
    if not parts:
        raise InventoryError(
            f"Cannot read table name {text!r}: not of the form -> table or schema.table. A part with a dot or a double quote in "
            'it is written in double quotes: public."order.lines". `dataops discover` lists the names.'
        )
    return TableName(None, parts[0]) if len(parts) == 1 else TableName(parts[0], parts[1])


def _written(part: str) -> str:
    if part and "." not in part and '"' not in part:
        return part
    return '"' + part.replace('"', '""') + '"'
