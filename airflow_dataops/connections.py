"""Airflow connections without Airflow: `AIRFLOW_CONN_<ID>`, as a URI or as JSON, read by Airflow's rules.

The standard library alone, well under a millisecond; the `dataops` command lives on that. A connection that is not in
the environment is asked of Airflow itself (secrets backend, metadata database; in a task the execution API), at the cost
of its import, some seconds. Of Airflow's two readers of URIs these are the rules of the one that tasks use:
values of a query string stay text; typed extras go into `__extra__` or JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError

ENV_PREFIX = "AIRFLOW_CONN_"
EXTRA_KEY = "__extra__"
_FIELDS = ("conn_type", "description", "host", "login", "password", "schema", "port", "extra")


def resolve(conn_id: str, environ: Mapping[str, str] | None = None) -> Connection:
    """The connection of that id: from the environment, else from Airflow. InventoryError when there is none, or when it
    cannot be read; no message ever quotes it."""
    environ = os.environ if environ is None else environ
    text = environ.get(variable_of(conn_id), "").strip()
    if text:
        return parse_connection(conn_id, text)
    from airflow_dataops.hooks.stored import stored_connection  # imports Airflow

    return stored_connection(conn_id, variable_of(conn_id))


def variable_of(conn_id: str) -> str:
    """The environment variable Airflow reads for this id."""
    return ENV_PREFIX + conn_id.upper()


def parse_connection(conn_id: str, text: str) -> Connection:
    """A connection written as JSON object or as URI. InventoryError when it is neither."""
    text = text.strip()
    try:
        return _of_json(conn_id, text) if text.startswith("{") else _of_uri(conn_id, text)
    except ValueError as error:
        # Only messages made here get through: those of the parsers quote the text, and the text holds the password.
        why = str(error) if isinstance(error, _Unreadable) else "neither a JSON object nor a URI that can be split"
        raise InventoryError(
            f"Cannot read connection {conn_id!r}: {why} -> a URI such as postgres://user:password@host:5432/database, "
            "with special characters percent-encoded, or a JSON object. Nothing can be opened without it. "
            f"Correct the environment variable {variable_of(conn_id)}."
        ) from None


class _Unreadable(ValueError):
    """Says what is wrong without quoting anything."""


def _of_json(conn_id: str, text: str) -> Connection:
    data = json.loads(text)
    unknown = sorted(data.keys() - set(_FIELDS))
    if unknown:
        raise _Unreadable(f"unknown field {unknown[0]!r} (known: {', '.join(_FIELDS)})")
    plain = {name: str(data[name]) for name in _FIELDS if data.get(name) not in (None, "")}
    return Connection(
        conn_id=conn_id,
        conn_type=_normalised(plain.get("conn_type", "")),
        host=plain.get("host"),
        port=_port(data.get("port")),
        login=plain.get("login"),
        password=plain.get("password"),
        schema=plain.get("schema"),
        extra=_extra(data.get("extra")),
    )


def _of_uri(conn_id: str, uri: str) -> Connection:
    schemes = uri.count("://")
    if schemes > 2:
        raise _Unreadable("more than two times '://'")
    conn_type = urlsplit(uri).scheme
    if not conn_type:
        raise _Unreadable("no connection type before '://'")
    # `http://https://host` carries the host's own protocol.
    rest = uri.replace(f"{conn_type}://", "" if schemes == 2 else "//")
    if schemes == 2 and any(c in rest.split("://", 1)[0] for c in "@:"):
        raise _Unreadable("credentials before the second '://'")
    parts = urlsplit(rest)
    host = _host(parts)
    if host and schemes == 2 and parts.scheme:
        host = f"{parts.scheme}://{host}"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Connection(
        conn_id=conn_id,
        conn_type=_normalised(conn_type),
        host=host or None,
        port=_port(parts.port),
        login=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        schema=unquote(parts.path[1:]) or None,
        extra=_extra(query.get(EXTRA_KEY, query)),
    )


def _host(parts: SplitResult) -> str:
    """`urlsplit` lower-cases host names; a host that is a path keeps its spelling."""
    host = unquote(parts.hostname or "")
    if "/" in host:
        host = unquote(parts.netloc.rsplit("@", 1)[-1].split(":", 1)[0])
    return host


def _normalised(conn_type: str) -> str:
    return "postgres" if conn_type == "postgresql" else conn_type.replace("-", "_")


def _port(value: Any) -> int | None:
    if value in (None, "", 0):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise _Unreadable("a port that is no number") from None


def _extra(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError:
            raise _Unreadable("an extra that is not JSON") from None
    if value and not isinstance(value, dict):
        raise _Unreadable("an extra that is not a JSON object")
    return MappingProxyType(value or {})
