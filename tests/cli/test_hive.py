"""The command over a Hive Metastore: one entry in platform.yaml, and everything else as ever."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Dataops
from tests.servers.hive import HiveServer


@pytest.fixture
def on_hive(home: Path, hive_server: HiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"catalog_name": hive_server.new_catalog(), "retries": 0}
    connection = {"conn_type": "hive_metastore", "host": "127.0.0.1", "port": hive_server.port, "login": "ann", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_HMS", json.dumps(connection))
    (home / "inventory" / "platform.yaml").write_text("catalogs: {default: {kind: hive, conn_id: hms}}\n")


def rows(dataops: Dataops, query: str) -> list[dict[str, Any]]:
    answer = dataops("sql", query, "--json")
    assert answer.code == 0, answer.out
    return answer.document["rows"]  # type: ignore[no-any-return]


@pytest.mark.usefixtures("on_hive")
def test_a_source_is_loaded_queried_and_proved_over_hive(dataops: Dataops, home: Path) -> None:
    assert not [p for p in dataops("lint", "--json").document["problems"] if "catalog" in p.get("message", "")]
    assert dataops("run", "shop.db").code == 0
    assert rows(dataops, "select name, limit_eur from shop.customers order by id") == [
        {"name": "Ann", "limit_eur": "1.50"}, {"name": "Bob", "limit_eur": "20.00"},
    ]  # fmt: skip
    with sqlite3.connect(home / "shop.db") as database:
        database.executescript("alter table customers add column town text; insert into customers values (3, 'Cy', 1, 'Rome')")
    assert dataops("run", "shop.db").code == 0
    assert rows(dataops, "select name, town from shop.customers order by id")[1:] == [
        {"name": "Bob", "town": None}, {"name": "Cy", "town": "Rome"},
    ]  # fmt: skip
    assert dataops("run", "shop.lists", "--json").code in (0, 1)
    assert len(rows(dataops, "select dt from shop_lists.codes")) == 3
    assert dataops("verify", "shop.db").code == 0


@pytest.mark.usefixtures("on_hive")
def test_a_metastore_that_is_down_is_could_not_be_done(dataops: Dataops, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "hive_metastore", "host": "127.0.0.1", "port": 1, "extra": {"retries": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_HMS", json.dumps(connection))
    answer = dataops("run", "shop.db", "--json")
    assert answer.code == 3 and "Cannot reach metastore 'hms': 127.0.0.1:1 Connection refused" in answer.out
