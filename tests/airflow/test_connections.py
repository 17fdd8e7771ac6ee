"""Connections read as Airflow reads them: the same texts through its parser and ours."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dataops.connections import parse_connection, resolve, variable_of
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError

TEXTS = [
    "postgres://user:pass@host:5432/db",
    "postgresql://user:p%40ss%2Fw%3Aord%25@Host.Example.COM:5432/my%20db?sslmode=require&connect_timeout=10",
    "mysql://host",
    "mysql://:onlypassword@host/",
    "mysql://user@/",
    "sqlite:////srv/data/flights.db",
    "sqlite://%2Fsrv%2Fdata%2Fflights.db",
    "google-cloud-platform://?extra__key=value&empty=",
    "aws://AKIA:s3cr%2Bt@/?region_name=eu-west-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A9000",
    "aws://?__extra__=%7B%22verify%22%3A+false%2C+%22nested%22%3A+%7B%22a%22%3A+%5B1%2C+2%5D%7D%7D",
    "http://https://api.example.com:8443/path",
    "http://https://user:pw@api.example.com",
    "my-own-type://host/schema",
    "mysql+pymysql://u:p@h/d",
    "fs:///?path=%2Fsrv%2Flanding",
    "generic://u:p@[::1]:9000/x",
    "generic://h/a/b/c?x=1&x=2#frag",
    "generic://h?x=%ff",
    "POSTGRES://u:p@h/d",
    '{"conn_type": "postgresql", "host": "h", "port": "5432", "login": "u", "password": "p", "schema": "d"}',
    '  {"conn_type": "my-type", "extra": {"a": [1, {"b": null}]}}  ',
    '{"conn_type": "x", "extra": "{\\"a\\": true}", "description": "d"}',
    '{"host": "only"}',
    '{"conn_type": "x", "extra": {}, "port": 0}',
    "{}",
]
REFUSED = [
    "postgres://u:geheim@h:port/db",
    "a://b://c://geheim",
    "http://u:geheim@h://x",
    "http://user:geheim@https://api.example.com",
    '{"conn_type": "x", "pasword": "geheim"}',
    '{"conn_type": "x", "password": "geheim"',
    '{"conn_type": "x", "port": "geheim"}',
    '{"conn_type": "x", "extra": "geheim"}',
    '{"conn_type": "x", "extra": "[1, \\"geheim\\"]"}',
    "postgres://u:p@h/d?__extra__=geheim",
    "geheim",
    "//u:geheim@h",
]


def _of_airflow(text: str) -> dict[str, Any]:
    from airflow.sdk import Connection as AirflowConnection

    text = text.strip()
    make = AirflowConnection.from_json if text.startswith("{") else AirflowConnection.from_uri
    found = make(text, conn_id="c")
    plain = {name: getattr(found, name) or None for name in ("host", "port", "login", "password", "schema")}
    return {**plain, "conn_type": found.conn_type or "", "extra": found.extra_dejson}


def _ours(connection: Connection) -> dict[str, Any]:
    names = ("host", "port", "login", "password", "schema", "conn_type")
    return {**{name: getattr(connection, name) for name in names}, "extra": dict(connection.extra)}


@pytest.mark.parametrize("text", TEXTS)
def test_equal_to_airflow(text: str) -> None:
    assert _ours(parse_connection("c", text)) == _of_airflow(text)


part = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@given(login=part, password=part, schema=part, extra=st.dictionaries(part, part, max_size=3), port=st.integers(1, 65535))
@settings(max_examples=150)
def test_any_uri_airflow_writes_comes_back(login: str, password: str, schema: str, extra: dict[str, str], port: int) -> None:
    from airflow.sdk import Connection as AirflowConnection

    written = AirflowConnection(
        conn_id="c", conn_type="postgres", host="db.example.com", login=login, password=password, schema=schema,
        port=port, extra=json.dumps(extra) if extra else None,
    ).get_uri()  # fmt: skip
    ours = parse_connection("c", written)
    assert _ours(ours) == _of_airflow(written)
    assert (ours.login, ours.password, ours.schema, dict(ours.extra)) == (login, password, schema, extra)


@pytest.mark.parametrize("text", REFUSED)
def test_refused_without_quoting(text: str) -> None:
    with pytest.raises(InventoryError, match="Cannot read connection 'c'") as caught:
        parse_connection("c", text)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_from_the_environment() -> None:
    environ = {"AIRFLOW_CONN_SALES.PG": "postgres://u:" + quote("p/w", safe="") + "@h/d"}
    assert variable_of("sales.pg") == "AIRFLOW_CONN_SALES.PG"
    found = resolve("sales.pg", environ)
    assert (found.conn_id, found.password) == ("sales.pg", "p/w")
    assert "p/w" not in repr(found)


def test_fast() -> None:
    environ = {"AIRFLOW_CONN_C": TEXTS[1]}
    started = time.process_time()
    for _ in range(1000):
        resolve("c", environ)
    assert time.process_time() - started < 1, "a thousand connections take longer than a second: over 1 ms each"
