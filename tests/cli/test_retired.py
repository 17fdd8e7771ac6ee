"""What the command says of sources that are renamed or gone."""

from __future__ import annotations

from pathlib import Path

from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.sources_base import Retirement
from tests.cli.conftest import Dataops


def test_status_tells_what_is_retired_and_verify_still_proves_it(home: Path, dataops: Dataops) -> None:
    assert dataops("run", "shop.db", "--json").code == 0
    (home / "home").mkdir(exist_ok=True)
    ledger = open_ledger(f"sqlite:///{home}/home/dataops/ledger.db", clock=lambda: 1_700_000_000.0)
    try:
        ledger.sources.apply("inv", {"shop.db": "{}"}, [])
        ledger.sources.apply("inv", {}, [Retirement("shop.db", 1_700_086_400.0)])
    finally:
        ledger.close()
    shown = dataops("status", "--json").document
    assert shown["retired"] == [
        {
            "source": "shop.db", "state": "retired", "renamed_to": None, "since": "2023-11-14T22:13:20+00:00",
            "forgotten_at": "2023-11-15T22:13:20+00:00",
        }
    ]  # fmt: skip
    assert {table["retired"] for table in shown["tables"]} == {True}
    assert "retired sources" in dataops("status").out
    assert dataops("verify", "shop.db", "--json").code == 0


def test_a_renamed_source_is_loaded_shown_and_proved_under_its_new_name(home: Path, dataops: Dataops) -> None:
    file = home / "inventory" / "shop.yaml"
    assert dataops("run", "shop.db", "--json").code == 0
    file.write_text(file.read_text().replace("- name: db", "- name: store\n    renamed_from: db"))
    again = dataops("run", "shop.store", "--json")
    assert (again.code, {table["outcome"] for table in again.document["periods"][0]["tables"]}) == (0, {"unchanged", "nothing_new"})
    tables = dataops("status", "--json").document["tables"]
    assert {table["table"] for table in tables} == {"shop.store:customers", "shop.store:orders"}
    assert len(dataops("status", "shop.store", "--json").document["batches"]) >= 3
    assert dataops("verify", "shop.store", "--json").code == 0
    assert dataops("status", "shop.db", "--json").code == 2  # nothing is called so any more
