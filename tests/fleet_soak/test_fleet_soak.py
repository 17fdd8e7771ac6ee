"""People edit an inventory while a real DAG processor watches: in the end Airflow has exactly what the inventory says, and no
DAG of a row that nobody touched was ever missing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dag_factory.bundle import InventoryBundle
from tests.fleet_soak.edits import BROKEN, Inventory
from tests.fleet_soak.live import BUNDLE, LiveProcessor
from tests.servers.postgres import PostgresServer
from tests.soak import seed

MAINTENANCE = "dataops_maintenance"
LOAD_SECONDS = 5400
"""For the first load. What is judged is exactness, not speed: alone on the machine 10,000 rows take 3 minutes, beside seven
others more than half an hour."""


@contextmanager
def processor(folder: Path, server: PostgresServer) -> Iterator[LiveProcessor]:
    made = LiveProcessor(folder, server.new_database())
    try:
        yield made
    finally:
        made.stop()


class Watched:
    """The DAGs that Airflow has shown for the row as it is now: from then on none of them may go stale."""

    def __init__(self, inventory: Inventory, airflow: LiveProcessor) -> None:
        self.inventory, self.airflow = inventory, airflow
        self.shown: set[str] = set()
        self.samples = 0

    def edit(self) -> None:
        self.shown -= self.inventory.edit()

    def look(self) -> None:
        active, tags = self.airflow.active(), self.airflow.tags()
        assert sorted(self.shown - active) == [], f"stale after {self.inventory.edits} edits"
        # A row's own tag in Airflow says that the processor has read the file at or after the edit that made it good.
        self.shown |= {dag for dag, tag in self.inventory.good().items() if tag in tags.get(dag, ())} & active
        self.samples += 1

    def exact(self) -> bool:
        good, tags = self.inventory.good(), self.airflow.tags()
        return (
            self.airflow.active() == {*good, MAINTENANCE}
            and self.told() == self.inventory.bad()
            and all(tag in tags.get(dag, ()) for dag, tag in good.items())
        )

    def told(self) -> set[str]:
        """The import errors; more than fit files of their own are listed in one more."""
        return set(self.airflow.import_errors())


def soaked(folder: Path, server: PostgresServer, *, domains: int, rows_each: int, edits: int, seconds: float, used: int) -> Watched:
    """Loads the fleet, then edits and looks until both `edits` and `seconds` are over; then everything must be exact."""
    with processor(folder, server) as airflow:
        inventory = Inventory.of(airflow.inventory, used, domains, rows_each)
        began = time.monotonic()
        airflow.start()
        watched = Watched(inventory, airflow)
        airflow.until(watched.exact, LOAD_SECONDS, pause=0.2 if seconds < 60 else 5)
        print(f"{domains * rows_each} rows loaded in {time.monotonic() - began:.1f} s")  # noqa: T201
        watched.look()
        began, killed = time.monotonic(), False
        while inventory.edits < edits or time.monotonic() < began + seconds:
            watched.edit()
            if not killed and (inventory.edits > edits // 2 and time.monotonic() > began + seconds / 2):
                killed = True
                airflow.kill()
                watched.edit()
                airflow.start()
            if inventory.edits % 20 == 7:  # somebody else compiles at the same moment, to the same snapshots
                other = InventoryBundle(
                    name=BUNDLE, inventory=str(airflow.inventory), snapshots=str(airflow.snapshots), onboard_dag_id=None,
                    approvals_dag_id=None,
                )  # fmt: skip
                other.refresh()
            time.sleep(inventory.rng.choice((0.0, 0.1, 0.5)) if seconds < 60 else inventory.rng.choice((0.1, 0.5, 2.0)))
            watched.look()
        inventory.repair()
        took = airflow.until(watched.exact, 900)
        print(f"{inventory.edits} edits, {watched.samples} looks; exact {took:.1f} s after the last")  # noqa: T201
        last_good_stays(watched)
        return watched


def last_good_stays(watched: Watched) -> None:
    """A broken file, and a snapshot store that is down: nothing goes, the file's error is told; then edits go on."""
    inventory, airflow = watched.inventory, watched.airflow
    before, errors = airflow.active(), airflow.import_errors().keys()
    domain = next(name for name, rows in inventory.rows.items() if rows)
    file = airflow.inventory / f"{domain}.yaml"
    text = file.read_text()
    file.write_text(text + BROKEN)
    airflow.until(lambda: len(airflow.import_errors().keys() - errors) == 1)
    (told,) = airflow.import_errors().keys() - errors
    assert f"Cannot use file inventory/{domain}.yaml" in airflow.import_errors()[told]
    assert airflow.active() == before
    away = airflow.snapshots.rename(airflow.folder / "away")
    airflow.snapshots.write_text("no folder")
    file.write_text("sources: []\n")
    time.sleep(3)
    assert airflow.active() == before
    airflow.snapshots.unlink()
    away.rename(airflow.snapshots)
    file.write_text(text)
    airflow.until(watched.exact)


def for_the_other_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who compiles beside the processor: a folder of its own, and the same ledger."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(folder / "other"))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{folder}/home/dataops/ledger.db")


@pytest.mark.timeout(900)
def test_a_small_fleet_is_exactly_its_inventory(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for_the_other_one(tmp_path, monkeypatch)
    soaked(tmp_path, postgres_server, domains=6, rows_each=10, edits=40, seconds=10, used=seed())


@pytest.mark.soak
@pytest.mark.timeout(9000)
def test_ten_thousand_rows_are_exactly_their_inventory(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, record_property: pytest.RecordProperty
) -> None:
    for_the_other_one(tmp_path, monkeypatch)
    seconds = float(os.environ.get("DATAOPS_FLEET_SOAK_SECONDS", "600"))
    domains = int(os.environ.get("DATAOPS_FLEET_SOAK_ROWS", "10000")) // 100
    watched = soaked(tmp_path, postgres_server, domains=domains, rows_each=100, edits=100, seconds=seconds, used=seed())
    record_property("rounds", watched.inventory.edits)
    shutil.rmtree(tmp_path / "bundles")  # 10,000 rows in several hundred versions
