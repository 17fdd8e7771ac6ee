"""Bound values of PostgreSQL reads: text that the server casts to the column's own type, exactly."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_dataops.core.offset import Scalar
from airflow_dataops.sources.sql.database import Bound

ISOLATION = {"snapshot": "REPEATABLE READ", "none": "READ COMMITTED"}


def value_text(value: Scalar) -> str:
    """Text that the server reads back as exactly this value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(" ")
    if isinstance(value, float):
        return repr(value)
    return value if isinstance(value, str) else str(value)


def bound_sql(number: int, bound: Bound) -> str:
    """The n-th bound's value. What is no bigint is compared as a number, not refused or rounded."""
    kind, value = bound.column.bind, bound.value
    setting = f"current_setting('dataops.bound_{number}')"
    if kind == "bytea" and isinstance(value, str):  # text in an encoding whose bytes have another order
        return f"convert_to({setting}, 'UTF8')"
    if kind == "int8" and not (isinstance(value, int) and -(2**63) <= value < 2**63):
        kind = "numeric"
    return f"{setting}::{kind}"
