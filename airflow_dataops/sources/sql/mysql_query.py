"""The columns of a query on MySQL or MariaDB, from a prepared statement: described by the server, not run."""

from __future__ import annotations

import struct
from typing import Any

from pymysql.constants import COMMAND, FIELD_TYPE
from pymysql.protocol import FieldDescriptorPacket

from airflow_dataops.sources.sql.database import SqlColumn
from airflow_dataops.sources.sql.mysql_types import column_of

NOT_NULL, UNSIGNED, ENUM, SET = 1, 32, 256, 2048
"""Flags of a column in the protocol's own numbers."""

BINARY = 63
"""The protocol's character set of bytes."""


def prepared_fields(client: Any, statement: str) -> list[Any]:
    """The result's columns as the protocol describes them. (Even with LIMIT 0 the server would run a subquery in FROM,
    and PyMySQL itself has no prepared statements.) The connection is good for nothing else afterwards."""
    client._execute_command(COMMAND.COM_STMT_PREPARE, statement)
    columns, parameters = struct.unpack_from("<HH", client._read_packet().get_all_data(), 5)
    if parameters:
        for _ in range(parameters + 1):
            client._read_packet()
    return [client._read_packet(FieldDescriptorPacket) for _ in range(columns)]


def column_of_field(field: Any) -> SqlColumn:
    """A column of a query's result, from the protocol's own description of it."""
    kind, declared, precision, scale = _KINDS.get(field.type_code, "varchar"), "", None, None
    unsigned = bool(field.flags & UNSIGNED)
    if kind == "decimal":
        scale = field.scale
        precision = field.length - (1 if scale else 0) - (0 if unsigned else 1)
    elif kind == "bit":
        precision = field.length
    elif field.flags & (ENUM | SET):
        kind = "enum" if field.flags & ENUM else "set"
    elif kind in ("varchar", "blob"):
        kind = "varbinary" if field.charsetnr == BINARY else "varchar"
    declared = f"{kind} unsigned" if unsigned and kind != "year" else kind
    return column_of(field.name, kind, declared, precision, scale, nullable=not field.flags & NOT_NULL)


_KINDS = {
    FIELD_TYPE.TINY: "tinyint", FIELD_TYPE.SHORT: "smallint", FIELD_TYPE.INT24: "mediumint", FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint", FIELD_TYPE.YEAR: "year", FIELD_TYPE.BIT: "bit", FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "double", FIELD_TYPE.DECIMAL: "decimal", FIELD_TYPE.NEWDECIMAL: "decimal", FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.DATETIME: "datetime", FIELD_TYPE.TIMESTAMP: "timestamp", FIELD_TYPE.TIME: "time",
    FIELD_TYPE.GEOMETRY: "geometry", FIELD_TYPE.BLOB: "blob", FIELD_TYPE.TINY_BLOB: "blob", FIELD_TYPE.MEDIUM_BLOB: "blob",
    FIELD_TYPE.LONG_BLOB: "blob", FIELD_TYPE.JSON: "json",
}  # fmt: skip
