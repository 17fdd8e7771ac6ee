"""`dataops partitions`, as a person and a script call it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_dataops.open_edges import open_named_catalog
from airflow_dataops.settings import load_settings
from tests.cli.conftest import Dataops

OLD, NEW = "2024-05-01", (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
TABLE = "shop.orders"
ROWS = """\
version: 1
domain: shop
defaults: {owner: ann}
sources:
  - name: db
    kind: sql
    conn_id: shop_db
    tables: [orders]
    read: {mode: window, cursor: changed_at}
    target: {partition_by: [{name: dt, from: period_start}]RETENTION}
"""


@pytest.fixture
def loaded(home: Path, dataops: Dataops) -> Path:
    """`orders` with an old and a new period."""
    write(home)
    for key in (OLD, NEW):
        assert dataops("run", "shop.db", "--partition", key).code == 0
    return home


def write(home: Path, retention_days: int | None = None) -> None:
    text = "" if retention_days is None else f", retention_days: {retention_days}"
    (home / "inventory" / "shop.yaml").write_text(ROWS.replace("RETENTION", text))


def forget(name: str) -> None:
    catalog = open_named_catalog("default", load_settings())
    catalog.drop_partitions("shop", "orders", [(name,)])
    catalog.close()


def test_list_shows_pages_of_what_is_decided(loaded: Path, dataops: Dataops) -> None:
    first, second = dataops("partitions", "list", TABLE, "--json").document["partitions"]
    assert (first["partition"], first["state"], first["epoch"], first["rows"]) == (f"dt={OLD}", "shown", 1, 0)
    assert second["partition"] == f"dt={NEW}" and second["schema"].startswith("s1:") and second["batch"].endswith("-g1")
    assert second["place"].startswith("file://") and second["decided_at"].endswith("+00:00")
    page = dataops("partitions", "list", TABLE, "--limit", "1")
    assert page.code == 0 and f"dt={OLD}" in page.out and f"--after 'dt={OLD}'" in page.out
    rest = dataops("partitions", "list", TABLE, "--after", f"dt={OLD}", "--json").document["partitions"]
    assert [p["partition"] for p in rest] == [f"dt={NEW}"]
    assert dataops("partitions", "list", "shop.none").code == 2 and dataops("partitions", "list", TABLE, "--limit", "0").code == 2


def test_repair_shows_anew_and_drops_on_a_word_within_limits(loaded: Path, dataops: Dataops) -> None:
    assert dataops("partitions", "repair", TABLE).code == 0
    forget(OLD)
    dry = dataops("partitions", "repair", TABLE, "--dry-run", "--json")
    assert dry.code == 1 and [p["code"] for p in dry.document["problems"]] == ["missing"] and dry.document["shown"] == []
    done = dataops("partitions", "repair", TABLE, "--json")
    assert done.code == 0 and done.document["shown"] == [f"dt={OLD}"]
    with_rows(loaded, dataops)
    for place in (loaded / "home" / "dataops" / "lake").rglob(f"dt={NEW}"):
        shutil.rmtree(place)
    gone = dataops("partitions", "repair", TABLE)
    assert gone.code == 1 and "Its files are gone: `--yes` drops it" in gone.out
    assert dataops("partitions", "repair", TABLE, "--yes", "--most-partitions", "0").code == 2
    dropped = dataops("partitions", "repair", TABLE, "--yes", "--json")
    assert dropped.code == 0 and dropped.document["dropped"] == [f"dt={NEW}"]
    assert dataops("sql", f"select count(*) as n from {TABLE}", "--json").document["rows"] == [{"n": 0}]


def with_rows(home: Path, dataops: Dataops) -> None:
    import sqlite3

    with sqlite3.connect(home / "shop.db") as database:
        database.execute(f"insert into orders values (9, 1, '{NEW} 10:00:00')")
    assert dataops("run", "shop.db", "--partition", NEW).code == 0


def test_expire_drops_what_the_row_does_not_keep(loaded: Path, dataops: Dataops) -> None:
    unset = dataops("partitions", "expire", TABLE, "--json")
    assert unset.code == 1 and "`target.retention_days` is unset" in unset.document["problems"][0]["message"]
    write(loaded, 30)
    dry = dataops("partitions", "expire", TABLE, "--dry-run", "--json")
    assert dry.code == 0 and dry.document["dropped"] == [f"dt={OLD}"] and dry.document["standing"] == 2
    done = dataops("partitions", "expire", TABLE)
    assert done.code == 0 and "1 of 2 partitions with 0 rows dropped; their files go after the grace." in done.out
    after = dataops("partitions", "list", TABLE, "--json").document["partitions"]
    assert [(p["state"], p["dropped"]) for p in after] == [("dropped", "retention"), ("shown", None)]
    assert dataops("partitions", "repair", TABLE).code == 0 and dataops("verify", "shop.db").code == 0
    dropped = dataops("drift", "audit", TABLE, "--limit", "1", "--json").document["statements"][0]
    assert (dropped["statement"], dropped["why"], [p["partition"] for p in dropped["before"]]) == (
        "drop_partitions", "retention", [f"dt={OLD}"],
    )  # fmt: skip
    assert "1 partitions" in dataops("drift", "audit", TABLE).out
    again = dataops("run", "shop.db", "--partition", OLD, "--json")
    assert again.code == 1 and "`target.retention_days`" in again.out
    assert dataops("partitions", "expire", TABLE, "--limit", "1", "--json").document["dropped"] == []


def test_a_first_expiry_of_an_old_table_needs_a_number(
    loaded: Path, dataops: Dataops, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    write(loaded, 1)
    monkeypatch.setenv("AIRFLOW__DATAOPS__DROP_MOST_PARTITIONS", "1")
    stopped = dataops("partitions", "expire", TABLE)
    assert stopped.code == 4 and "2 of 2 would be dropped -> at most 1" in stopped.err
    assert dataops("partitions", "expire", TABLE, "--limit", "2", "--json").document["dropped"] == [f"dt={OLD}", f"dt={NEW}"]
