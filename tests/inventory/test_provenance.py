"""`explain`: the value and the place of every field; and agreement with what a run does."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.spec import SourceSpec
from airflow_dataops.core.table_spec import table_spec
from dag_factory.inventory import Inventory, read_inventory
from dag_factory.inventory.lint_target import STANDARD_NAMES
from dag_factory.inventory.provenance import Explained, explained

FILES = {
    "defaults.yaml": "owner: platform\nlimits:\n  retries: 5\n  priority: 2\n",
    "platform.yaml": "standards:\n  origin: false\n",
    "sales.yaml": """\
defaults:
  timezone: Europe/Berlin
  limits: {priority: 3}
sources:
  - name: orders_db
    kind: sql
    conn_id: pg
    schedule: null
    tables:
      - "*"
      - match: "public.*"
        read: {batch_rows: 10}
      - match: public.orders
        read: {mode: watermark, cursor: changed_at}
        write:
          mode: merge
          keys: [id]
""",
}


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory").mkdir()
    for name, text in FILES.items():
        (tmp_path / "inventory" / name).write_text(text)
    found = read_inventory("inventory")
    assert found.problems == ()
    return found


def by_field(fields: tuple[Explained, ...]) -> dict[str, tuple[object, str]]:
    return {f.field: (f.value, str(f.origin)) for f in fields}


def test_every_layer_is_named(inventory: Inventory) -> None:
    told = by_field(explained(inventory.all_rows["sales.orders_db"]))
    assert told["limits.retries"] == (5, "defaults.yaml (inventory/defaults.yaml:3)")
    assert told["limits.priority"] == (3, "defaults (inventory/sales.yaml:3)")
    assert told["limits.max_packs"] == (64, "built-in")
    assert told["standards.origin"] == (False, "platform.yaml (inventory/platform.yaml:2)")
    assert told["conn_id"] == ("pg", "row (inventory/sales.yaml:7)")
    assert told["schedule"] == ("@daily", "built-in, unset by row (inventory/sales.yaml:8)")
    assert told["read.mode"] == ("full", "built-in")
    assert told["options.driver"] == ("auto", "built-in")


def test_a_table_gets_its_entries(inventory: Inventory) -> None:
    row = inventory.all_rows["sales.orders_db"]
    told = by_field(explained(row, "public.orders"))
    assert told["read.batch_rows"] == (10, "tables[public.*] (inventory/sales.yaml:12)")
    assert told["read.mode"] == ("watermark", "tables[public.orders] (inventory/sales.yaml:14)")
    assert told["write.keys"] == (["id"], "tables[public.orders] (inventory/sales.yaml:17)")
    assert by_field(explained(row, "public.items"))["read.mode"] == ("full", "built-in")


@pytest.mark.parametrize("table", ["public.orders", "public.items", "hr.staff"])
def test_what_is_explained_is_what_a_run_uses(inventory: Inventory, table: str) -> None:
    spec = inventory.get("sales.orders_db")
    assert spec is not None
    used = table_spec(spec, table)
    told = by_field(explained(inventory.all_rows["sales.orders_db"], table))
    for part in ("read", "write", "contract", "standards"):
        for name, value in getattr(used, part).model_dump(mode="json").items():
            assert told[f"{part}.{name}"][0] == value, f"{part}.{name}"


def test_every_field_of_the_contract_is_there_once(inventory: Inventory) -> None:
    fields = [f.field for f in explained(inventory.all_rows["sales.orders_db"])]
    assert len(fields) == len(set(fields))
    tops = [f.partition(".")[0] for f in fields]
    assert list(dict.fromkeys(tops)) == list(SourceSpec.model_fields)


def test_a_bad_row_is_explained_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "sales.yaml").write_text(
        "sources: [{name: a, kind: files, owner: me, options: {password: XYZZY12345, path: 's3://u:XYZZY12345@b/x'}}]"
    )
    found = read_inventory(tmp_path)
    told = by_field(explained(found.all_rows["sales.a"]))
    assert found.rows == ()
    assert told["options.password"][0] == told["options.path"][0] == "***"


def test_only_one_row_is_read_for_a_task(inventory: Inventory) -> None:
    Path("inventory/broken.yaml").write_text("sources: [")
    alone = read_inventory("inventory", only="sales.orders_db")
    assert alone.rows == inventory.rows
    assert alone.problems == ()
    assert read_inventory("inventory", only="sales.nobody").rows == ()


def test_the_names_of_standard_columns_are_the_steps_own() -> None:
    assert STANDARD_NAMES == STANDARD_COLUMNS


def test_no_credential_is_explained_however_deep_it_stands(tmp_path: Path) -> None:
    (tmp_path / "sales.yaml").write_text(
        """\
sources:
  - name: a
    kind: sql
    owner: me
    options: {password: {old: [XYZZY1], new: {value: XYZZY2}}, authToken: XYZZY3, "password=XYZZY4": 1}
    tables: [{match: x, secret: {a: XYZZY5}}]
    privacy: {columns: {password: drop}}
"""
    )
    told = explained(read_inventory(tmp_path).all_rows["sales.a"])
    assert "XYZZY" not in str([f.to_json() for f in told])
    assert by_field(told)["privacy.columns.password"][0] == "drop"
