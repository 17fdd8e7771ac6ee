"""The onboarding of an inventory without Airflow: checked like any row, proposed as `dataops discover` does, written once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.open_edges import open_edges
from airflow_dataops.settings import load_settings
from airflow_dataops.sources.base import SourceTable
from dag_factory.bundle.places import FolderPlace
from dag_factory.cli import main
from dag_factory.inventory import read_inventory
from dag_factory.inventory.yaml_text import list_item
from dag_factory.onboard.desk import InventoryDesk

FORM = {"domain": "sales", "name": "shop", "owner": "ann", "conn_id": "shop_db", "review": False}
NASTY = "a|b`c](http://x) <img src=x>\x1b[31m\n# no"


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at TIMESTAMP)")
        database.execute("CREATE TABLE lines (id INTEGER)")
        quoted = NASTY.replace('"', '""')
        database.execute(f'CREATE TABLE "{quoted}" (id INTEGER)')
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "shop.db")}))
    folder = tmp_path / "inventory"
    folder.mkdir()
    crm = "  - {name: a, kind: sql, conn_id: x, owner: o, target: {database: sales}, tables: [t]}\n"
    (folder / "crm.yaml").write_text(f"sources:\n{crm}")
    return folder


@pytest.fixture
def desk(inventory: Path) -> Iterator[InventoryDesk]:
    opened = InventoryDesk(lambda _: FolderPlace(inventory))
    yield opened
    opened.close()


@pytest.fixture
def tables(desk: InventoryDesk) -> Callable[..., list[SourceTable]]:
    def found(**typed: Any) -> list[SourceTable]:
        spec, platform = desk.check({**FORM, **typed})
        with open_edges(spec, load_settings({"ledger": "sqlite://"}), writer="w", platform=platform) as edges:
            return list(edges.source.discover())

    return found


def test_what_is_built_is_a_good_row_and_what_discover_proposes(
    desk: InventoryDesk, tables: Any, inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = {**FORM, "tables": ["o*", "lines"], "exclude": ["o_*"], "schedule": "@hourly", "description": "{{ ds }}"}
    proposal = desk.propose(typed, tables(**typed))
    assert json.loads(json.dumps(proposal)) == proposal  # it travels through the ledger
    assert desk.build(proposal, "by ann") == "inventory/sales.yaml"
    assert not read_inventory(inventory).errors
    row = read_inventory(inventory).get("sales.shop")
    assert row is not None and (row.fingerprint, row.schedule, row.description) == (proposal["fingerprint"], "@hourly", "{{ ds }}")
    capsys.readouterr()
    assert main(["discover", "sales.shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proposed"] == proposal["row"]
    assert "\n".join(list_item(proposal["row"])) in (inventory / "sales.yaml").read_text()


def test_built_again_it_is_found_there(desk: InventoryDesk, tables: Any, inventory: Path) -> None:
    """The task was killed between the write and its record."""
    proposal = desk.propose(FORM, tables())
    for _ in range(2):
        desk.build(proposal, "by ann")
    text = (inventory / "sales.yaml").read_text()
    assert text.count("name: shop") == 1
    (inventory / "sales.yaml").write_text(text.replace("owner: ann", "owner: eve"))  # then somebody made it theirs
    with pytest.raises(InventoryError, match="it stands in line"):
        desk.build(proposal, "by ann")


def test_lint_is_what_decides(desk: InventoryDesk) -> None:
    for typed, told in (
        ({"schedule": "cron", "cron": "61 * * * *"}, "schedule: "),
        ({"conn_id": "a b"}, "conn_id: "),
        ({"conn_id": ""}, "conn_id: is missing"),
        ({"kind": "files", "conn_id": ""}, "options.path: is required"),
        ({"kind": "files", "path": "../../etc"}, "options.path: "),
        ({"domain": "crm", "name": "a"}, "it stands in line 2 -> a new name"),
        ({"owner": ""}, "owner: is required"),
    ):
        with pytest.raises(InventoryError) as caught:
            desk.check({**FORM, **typed})
        assert told in str(caught.value)


def test_what_it_would_break_for_others_counts_and_what_is_broken_anyway_does_not(
    desk: InventoryDesk, inventory: Path
) -> None:
    (inventory / "old.yaml").write_text("sources:\n  - {name: bad, kind: nonsense, owner: o}\n")
    desk.check(FORM)
    with pytest.raises(InventoryError, match=r"sales\.t"):
        desk.check({**FORM, "domain": "aaa", "tables": ["t"], "database": "sales"})  # another row's table
    (inventory / "defaults.yaml").write_text("schedul: x\n")
    with pytest.raises(InventoryError, match="schedul"):
        desk.check(FORM)


def test_defaults_that_changed_since_it_was_shown_stop_the_build(desk: InventoryDesk, tables: Any, inventory: Path) -> None:
    proposal = desk.propose(FORM, tables())
    (inventory / "defaults.yaml").write_text("approvers: [bob]\n")
    with pytest.raises(InventoryError, match="have changed since it was shown"):
        desk.build(proposal, "by ann")
    assert not (inventory / "sales.yaml").exists()
    assert desk.propose(FORM, tables())["approvers"] == ["bob"]


def test_a_source_without_a_table_of_it_is_refused(desk: InventoryDesk, tables: Any) -> None:
    with pytest.raises(InventoryError, match="takes none of the 3 tables"):
        desk.propose({**FORM, "tables": ["nothing"]}, tables())


def test_no_name_becomes_markup(desk: InventoryDesk, tables: Any) -> None:
    report = desk.propose({**FORM, "description": "``` <script>"}, tables())["report"]
    (line,) = [line for line in report.splitlines() if "img" in line and line.startswith("|")]
    assert line.count("|") == 7 and line.count("`") == 8 and "\x1b" not in report.partition("#### Row")[0]
    fence = report.partition("#### Row\n\n")[2].partition("yaml\n")[0]
    assert fence == "````" and report.count(fence) == 2
