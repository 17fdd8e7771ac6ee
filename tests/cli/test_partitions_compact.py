"""`dataops partitions compact`: what would be done, and that it is done."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from airflow_dataops.steps import compact
from tests.cli.conftest import Dataops

TABLE = "shop.log"
ROWS = """\
version: 1
domain: shop
defaults: {owner: ann}
sources:
  - {name: db, kind: sql, conn_id: shop_db, tables: [log], read: {mode: watermark, cursor: id}, write: {mode: append}}
"""


@pytest.fixture
def appended(home: Path, dataops: Dataops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three loads of a row each: three files."""
    monkeypatch.setattr(compact, "FEWEST_FILES", 3)
    (home / "inventory" / "shop.yaml").write_text(ROWS)
    for n in range(1, 4):
        with sqlite3.connect(home / "shop.db") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER, v TEXT)")
            connection.execute("INSERT INTO log VALUES (?, 'x')", (n,))
        connection.close()
        assert dataops("run", "shop.db").code == 0


@pytest.mark.usefixtures("appended")
def test_a_dry_run_names_and_the_command_does(dataops: Dataops) -> None:
    planned = dataops("partitions", "compact", TABLE, "--dry-run", "--json").document
    assert [(p["outcome"], p["why"], p["files_before"]) for p in planned["partitions"]] == [("planned", "small_files", 3)]
    done = dataops("partitions", "compact", TABLE, "--json")
    assert done.code == 0
    assert [(p["outcome"], p["files_before"], p["files_after"], p["rows"]) for p in done.document["partitions"]] == [
        ("compacted", 3, 1, 3)
    ]
    assert dataops("partitions", "compact", TABLE, "--json").document["partitions"] == []
    assert "0 partitions" in dataops("partitions", "compact", TABLE).out
    assert dataops("verify", "shop.db").code == 0
    rows = dataops("sql", "SELECT count(*) AS n FROM shop.log", "--json").document["rows"]
    assert "3" in str(rows)


@pytest.mark.usefixtures("appended")
def test_what_is_not_there_is_told(dataops: Dataops) -> None:
    assert dataops("partitions", "compact", "shop.none").code == 2
    assert dataops("partitions", "compact", TABLE, "--partition", "dt=1").code == 2
    assert dataops("partitions", "compact", TABLE, "--partition", "", "--dry-run").code == 0
