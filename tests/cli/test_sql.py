"""`dataops sql`: what the catalog shows now, and nothing else of this machine."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Dataops
from tests.servers.s3 import S3Server


def rows(dataops: Dataops, query: str) -> list[dict[str, Any]]:
    answer = dataops("sql", query, "--json")
    assert answer.code == 0, answer.out
    return answer.document["rows"]  # type: ignore[no-any-return]


def test_types_survive(dataops: Dataops) -> None:
    dataops("run", "shop.db")
    answer = dataops("sql", "SELECT id, name, limit_eur FROM shop.customers ORDER BY id", "--json")
    assert answer.document["columns"] == [
        {"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}, {"name": "limit_eur", "type": "DECIMAL(10,2)"},
    ]  # fmt: skip
    assert answer.document["rows"] == [
        {"id": 1, "name": "Ann", "limit_eur": "1.50"}, {"id": 2, "name": "Bob", "limit_eur": "20.00"},
    ]  # fmt: skip


def test_only_the_current_version_is_seen(dataops: Dataops, home: Path) -> None:
    dataops("run", "shop.db")
    with sqlite3.connect(home / "shop.db") as database:
        database.executescript("delete from customers where id = 1; update customers set name = 'Bea'")
    dataops("run", "shop.db")
    assert rows(dataops, "select name from shop.customers") == [{"name": "Bea"}]


def test_a_later_column_is_null_before_and_partitions_are_columns(dataops: Dataops, home: Path) -> None:
    text = (home / "inventory" / "shop.yaml").read_text()
    row = "    read: {backfill: snapshot}\n    target: {database: shop_lists"
    (home / "inventory" / "shop.yaml").write_text(text.replace("    target: {database: shop_lists", row))
    (home / "lists" / "codes.csv").write_text("id,code\n1,0042\n")
    assert dataops("run", "shop.lists", "--partition", "2024-05-01").code == 0
    (home / "lists" / "codes.csv").write_text("id,code,extra\n1,0042,7\n9999999999,x,\n")
    assert dataops("run", "shop.lists", "--partition", "2024-05-02").code == 0
    found = rows(dataops, "select dt, id, code, extra from shop_lists.codes order by dt, id")
    assert found == [
        {"dt": "2024-05-01", "id": 1, "code": "0042", "extra": None},
        {"dt": "2024-05-02", "id": 1, "code": "0042", "extra": 7},
        {"dt": "2024-05-02", "id": 9999999999, "code": "x", "extra": None},
    ]
    assert rows(dataops, "select count(*) n from shop_lists.codes where dt > '2024-05-01'") == [{"n": 2}]


def test_joins_subqueries_and_common_tables(dataops: Dataops) -> None:
    dataops("run", "shop.db")
    query = (
        "with c as (select * from SHOP.Customers) select name from c where id in (select customer from shop.orders where id = 2)"
    )
    assert rows(dataops, query) == [{"name": "Bob"}]


def test_names_of_the_answer_are_unique(dataops: Dataops) -> None:
    assert rows(dataops, "select 1 as a, 2 as a, NULL as b") == [{"a": 1, "a_2": 2, "b": None}]


def test_values_json_has_no_word_for(dataops: Dataops) -> None:
    query = "select 'nan'::double a, date '2024-05-01' b, 'x'::blob c, [1, NULL] d, {'k': 1.5} e, 12345678901234567890::hugeint f"
    assert rows(dataops, query) == [
        {"a": "nan", "b": "2024-05-01", "c": "78", "d": [1, None], "e": {"k": "1.5"}, "f": 12345678901234567890}
    ]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('/etc/hostname')", "select * from read_text('/etc/hostname')", "select * from '/etc/hostname'",
        "select * from glob('/*')", "copy (select 1) to 'out.csv'", "attach 'x.db'", "install httpfs", "load httpfs",
        "set enable_external_access = true", "create table t as select 1", "pragma version", "select * from duckdb_secrets()",
        "select * from os", "select * from database", "select 1; drop table x", "",
    ],
)  # fmt: skip
def test_nothing_else_is_reached(query: str, dataops: Dataops, home: Path) -> None:
    before = sorted(home.iterdir())
    answer = dataops("sql", query, "--json")
    assert answer.code == 2
    assert sorted(home.iterdir()) == before


def test_an_unknown_table_lists_the_known_ones(dataops: Dataops) -> None:
    dataops("run", "shop.db")
    answer = dataops("sql", "select * from shop.customer", "--json")
    assert answer.code == 2
    assert "shop.customers" in answer.document["problems"][0]["message"]


def test_too_many_rows_is_a_limit(dataops: Dataops) -> None:
    assert dataops("sql", "select * from range(10)", "--max-rows", "9").code == 4
    assert dataops("sql", "select * from range(10)", "--max-rows", "10").code == 0


def test_a_person_sees_a_table(dataops: Dataops) -> None:
    answer = dataops("sql", "select 1 as one, 'x' as two, NULL as three")
    assert answer.out.splitlines()[0].split() == ["one", "two", "three"]
    assert answer.out.splitlines()[1].split() == ["1", "x", "NULL"]


def test_a_lake_on_s3(dataops: Dataops, s3_server: S3Server, s3_bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = f'{{"endpoint_url": "{s3_server.endpoint}", "region_name": "{s3_server.region}"}}'
    connection = (
        f'{{"conn_type": "aws", "login": "{s3_server.access_key}", "password": "{s3_server.secret_key}", "extra": {extra}}}'
    )
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", connection)
    (home / "inventory" / "platform.yaml").write_text(f"lakes: {{default: {{uri: 's3://{s3_bucket}/raw', conn_id: lake}}}}\n")
    assert dataops("run", "shop.lists").code == 0
    assert rows(dataops, "select count(*) n, min(code) c from shop_lists.codes") == [{"n": 3, "c": "0042"}]
    assert dataops("verify", "shop.lists").code == 0
