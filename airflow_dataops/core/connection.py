"""A connection as plain data: what an Airflow connection says, without Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Connection:
    """One Airflow connection. `repr` never shows password or extra, because both may hold secrets.

    `schema` is Airflow's word for the database name; `extra` is the decoded JSON of the connection's extra field.
    """

    conn_id: str
    conn_type: str
    host: str | None = None
    port: int | None = None
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
