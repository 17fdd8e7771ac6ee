"""A small shop: a SQLite database and a folder of files, an inventory, and a home of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dag_factory.cli import main

INVENTORY = """\
version: 1
domain: shop
defaults: {owner: ann}
sources:
  - name: db
    kind: sql
    conn_id: shop_db
    tables:
      - "*"
      - {match: orders, read: {mode: watermark, cursor: changed_at}, write: {mode: merge, keys: [id]}}
    exclude: ["*_tmp"]
  - name: lists
    kind: files
    options: {path: lists}
    dead_letters: {max_share: 0.5}
    target: {database: shop_lists, partition_by: [{name: dt, from: period_start}]}
  - name: down
    kind: sql
    conn_id: down_db
  - name: typo
    kind: sqll
"""


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document; fails when stdout holds anything else."""
        return json.loads(self.out)  # type: ignore[no-any-return]


Dataops = Callable[..., Answer]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home with the shop's inventory, database and files."""
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "shop.yaml").write_text(INVENTORY)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "codes.csv").write_text("id,code\n1,0042\n2,0043\n3,0044\n4\n")
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.executescript(
            """
            create table customers (id integer primary key, name text, limit_eur decimal(10, 2));
            insert into customers values (1, 'Ann', 1.50), (2, 'Bob', 20);
            create table orders (id integer primary key, customer integer, changed_at timestamp);
            insert into orders values (1, 1, '2024-01-01 00:00:00'), (2, 2, '2024-01-02 00:00:00');
            create table scratch_tmp (x integer);
            """
        )
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(tmp_path / "inventory"))
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setenv("AIRFLOW_CONN_DOWN_DB", "postgres://me:XYZZY12345@127.0.0.1:1/x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dataops(home: Path, capsys: pytest.CaptureFixture[str]) -> Dataops:
    """Runs a command in this process."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run
