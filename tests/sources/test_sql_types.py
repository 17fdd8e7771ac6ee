"""Every type of each database with its edge values: read exactly, or a dead letter with the reason; never in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_dataops.core.types_text import type_to_text
from tests.sources.sql_databases import as_text, connection_of, execute, letters_of, mysql_client, read_batches, source_of

CASES = Path(__file__).parents[1] / "cases" / "sql"


def cases(name: str) -> list[Any]:
    found = yaml.safe_load((CASES / name).read_text())
    return [pytest.param(kind, case, id=kind or "no-type") for kind, case in found.items()]


def check(source: Any, table: str, case: dict[str, Any]) -> None:
    """The table has `n` (1, 2, …) and `v`: first the values that are read, in order, then those that are refused."""
    described = source.describe(table)
    assert type_to_text(described.schema.column("v").type) == case["becomes"]
    batches = read_batches(source, table)
    got = {row["n"]: as_text(row["v"]) for batch in batches for row in batch.records.to_pylist()}
    expected = {n: _listed(value) for n, value in enumerate(case.get("reads", {}).values(), 1)}
    assert got == expected
    refused = {int(json.loads(letter.raw)["n"]): letter.reason for letter in letters_of(batches)}
    assert refused == dict(enumerate(case.get("refuses", {}).values(), len(expected) + 1))
    for letter in letters_of(batches):
        assert letter.column == "v"
        assert letter.rows == 1


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return [_listed(v) for v in value]
    return None if value is None else {float("inf"): "inf"}.get(value, str(value)) if isinstance(value, float) else str(value)


def literals(case: dict[str, Any]) -> list[str]:
    return [*case.get("reads", {}), *case.get("refuses", {})]


@pytest.fixture(scope="module")
def postgres(postgres_server: Any) -> str:
    url: str = postgres_server.new_database()
    execute(
        url,
        "CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"')",
        "CREATE DOMAIN amount AS numeric(12,2)",
        "CREATE DOMAIN price AS amount CHECK (VALUE > 0)",
        "CREATE TYPE pair AS (a int, b text)",
        f"ALTER DATABASE {url.rpartition('/')[2]} SET datestyle = 'German'",
        f"ALTER DATABASE {url.rpartition('/')[2]} SET timezone = 'Asia/Kolkata'",
        f"ALTER DATABASE {url.rpartition('/')[2]} SET extra_float_digits = -3",
    )
    return url


@pytest.mark.parametrize("driver", ["adbc", "dbapi"])
@pytest.mark.parametrize(("kind", "case"), cases("postgres_types.yaml"))
def test_postgres(postgres: str, kind: str, case: dict[str, Any], driver: str) -> None:
    execute(
        postgres,
        "DROP TABLE IF EXISTS typed",
        f"CREATE TABLE typed (n int, v {kind})",
        "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; "
        + "; ".join(f"INSERT INTO typed VALUES ({n}, {value})" for n, value in enumerate(literals(case), 1)),
    )
    source = source_of(connection_of(postgres), driver=driver)
    try:
        check(source, "public.typed", case)
    finally:
        source.close()


@pytest.mark.parametrize(("kind", "case"), cases("mariadb_types.yaml"))
def test_mariadb(mariadb_url: str, kind: str, case: dict[str, Any]) -> None:
    client = mysql_client(mariadb_url)
    with client.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', time_zone = '+00:00'")
        cursor.execute("DROP TABLE IF EXISTS typed")
        cursor.execute(f"CREATE TABLE typed (n int, v {kind})")
        for n, value in enumerate(literals(case), 1):
            cursor.execute(f"INSERT INTO typed VALUES ({n}, {value})")
    client.close()
    source = source_of(connection_of(mariadb_url))
    try:
        check(source, "typed", case)
    finally:
        source.close()


@pytest.mark.parametrize(("kind", "case"), cases("sqlite_types.yaml"))
def test_sqlite(tmp_path: Path, kind: str, case: dict[str, Any]) -> None:
    url = f"sqlite://{tmp_path / 'shop.db'}"
    execute(
        url,
        f"CREATE TABLE typed (n integer, v {kind})",
        *(f"INSERT INTO typed VALUES ({n}, {value})" for n, value in enumerate(literals(case), 1)),
    )
    source = source_of(connection_of(url))
    try:
        check(source, "typed", case)
    finally:
        source.close()
