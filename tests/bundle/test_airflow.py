"""A real Airflow on an inventory bundle: its DAG processor sees every edit, its scheduler runs a pinned version."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import UnavailableError
from dag_factory.bundle.files import shard_of
from dag_factory.fleet.rest import ENDED, AirflowRest
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow

pytestmark = pytest.mark.timeout(900)

BUNDLE = "inv"
SALES = """
sources:
  - {name: orders, kind: sql, conn_id: shop_db, owner: o, schedule: none, tables: [orders], tags: [first],
     target: {database: before}}
  - {name: lines, kind: sql, conn_id: shop_db, owner: o, schedule: none, target: {database: lines}}
"""
CRM = """
sources:
  - {name: people, kind: sql, conn_id: shop_db, owner: o, schedule: none}
"""
ORDERS, LINES, PEOPLE, MAINTENANCE = "ingest__sales__orders", "ingest__sales__lines", "ingest__crm__people", "dataops_maintenance"
EVERYTHING = {ORDERS, LINES, PEOPLE, MAINTENANCE}


class BundleAirflow(SampleAirflow):
    """An Airflow that knows nothing but the bundle's entry in its configuration."""

    def connections(self) -> dict[str, str]:
        bundle = {
            "name": BUNDLE,
            "classpath": "dag_factory.bundle.InventoryBundle",
            "kwargs": {"inventory": str(self.inventory), "snapshots": str(self.project / "snapshots"), "refresh_interval": 1},
        }
        return {
            "AIRFLOW_CONN_SHOP_DB": json.dumps({"conn_type": "sqlite", "host": str(self.project / "shop.db")}),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.project / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # only a change makes a file parsed again
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "2",
            "AIRFLOW__DATAOPS__MAINTENANCE_SCHEDULE": "none",
        }

    @property
    def inventory(self) -> Path:
        return self.project / "inventory"

    def write(self, **domains: str) -> None:
        for name, text in domains.items():
            (self.inventory / f"{name}.yaml").write_text(text)

    def rows(self, statement: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=60) as database:
            return database.execute(statement).fetchall()

    def active(self) -> set[str]:
        return {dag for (dag,) in self.rows("SELECT dag_id FROM dag WHERE NOT is_stale")}

    def import_errors(self) -> dict[str, str]:
        return dict(self.rows("SELECT filename, stacktrace FROM import_error"))

    def tags(self, dag_id: str) -> set[str]:
        return {tag for (tag,) in self.rows(f"SELECT name FROM dag_tag WHERE dag_id = '{dag_id}'")}

    @property
    def versions(self) -> Path:
        return self.project / "bundles" / BUNDLE / "versions"

    def bundle_version(self, dag_id: str) -> str:
        return str(self.rows(f"SELECT bundle_version FROM dag WHERE dag_id = '{dag_id}'")[0][0])

    def task_logs(self) -> str:
        return "\n".join(log.read_text() for log in (self.logs / "tasks" / f"dag_id={ORDERS}").rglob("*.log"))

    def ended(self, api: AirflowRest, run_id: str) -> dict[str, Any]:
        self.until(lambda: (api.run(ORDERS, run_id) or {"state": None})["state"] in ENDED, 240)
        return api.run(ORDERS, run_id) or {}

    def until(self, condition: Callable[[], Any], seconds: float = 60, always: set[str] | None = None) -> float:
        """Waits for the condition and returns how long it took; `always` are DAGs that may never be stale meanwhile."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self.check()
            if always is not None:
                assert always <= self.active()
            try:
                if condition():
                    return time.monotonic() - began
            except UnavailableError as error:
                print(error)  # noqa: T201 - the API server starts last
            time.sleep(0.2)
        logs = "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in self.logs.glob("*.log"))
        raise AssertionError(f"not in {seconds} seconds; active {self.active()}, errors {self.import_errors()}\n{logs}")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundleAirflow]:
    project = tmp_path_factory.mktemp("fleet")
    (project / "dags").mkdir()
    (project / "inventory").mkdir()
    server = BundleAirflow(project / "home", project, port=18180)
    server.write(sales=SALES, crm=CRM)
    with server.lock():
        server.prepare()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def every_row_is_a_dag_in_its_shard(airflow: BundleAirflow) -> None:
    airflow.until(lambda: airflow.active() == EVERYTHING, 180)
    assert airflow.import_errors() == {}
    files = dict(airflow.rows("SELECT dag_id, relative_fileloc FROM dag"))
    assert files == {
        ORDERS: f"shard_{shard_of('sales.orders', 256):04}.py",
        LINES: f"shard_{shard_of('sales.lines', 256):04}.py",
        PEOPLE: f"shard_{shard_of('crm.people', 256):04}.py",
        MAINTENANCE: "dataops_maintenance.py",
    }
    versions = {version for (version,) in airflow.rows("SELECT bundle_version FROM dag")}
    assert all(len(version) == 40 for version in versions)


def an_edit_is_seen_and_nothing_else_moves(airflow: BundleAirflow) -> None:
    before = dict(airflow.rows("SELECT dag_id, bundle_version FROM dag"))
    airflow.write(sales=SALES.replace("first", "second"))
    airflow.until(lambda: "second" in airflow.tags(ORDERS), always=EVERYTHING)
    after = dict(airflow.rows("SELECT dag_id, bundle_version FROM dag"))
    assert {dag for dag in EVERYTHING if before[dag] != after[dag]} == {ORDERS}


def a_row_comes_and_goes(airflow: BundleAirflow) -> None:
    airflow.write(crm=CRM + "  - {name: visits, kind: sql, conn_id: shop_db, owner: o, schedule: none, target: {database: v}}\n")
    airflow.until(lambda: airflow.active() == EVERYTHING | {"ingest__crm__visits"}, always=EVERYTHING)
    airflow.write(crm=CRM)
    airflow.until(lambda: airflow.active() == EVERYTHING, always=EVERYTHING)


def a_bad_row_is_alone(airflow: BundleAirflow) -> None:
    rest = EVERYTHING - {LINES}
    airflow.write(sales=SALES.replace("name: lines,", "name: lines, scheduel: '@daily',"))
    airflow.until(lambda: len(airflow.import_errors()) == 1 and airflow.active() == rest, always=rest)
    ((file, text),) = airflow.import_errors().items()
    assert file == "errors/sales__lines.py"
    assert "InventoryError" in text and "inventory/sales.yaml:5" in text and "scheduel" in text and "schedule" in text
    twice = SALES + "  - {name: orders, kind: files, conn_id: other, owner: o, target: {database: t}}\n"
    airflow.write(sales=twice)
    airflow.until(lambda: list(airflow.import_errors()) == ["errors/sales__orders.py"], always=rest)
    airflow.until(lambda: airflow.active() == EVERYTHING, always=rest)
    assert "inventory/sales.yaml:6" in airflow.import_errors()["errors/sales__orders.py"]
    airflow.write(sales=SALES)
    airflow.until(lambda: not airflow.import_errors(), always=EVERYTHING)


def a_broken_file_keeps_its_rows(airflow: BundleAirflow) -> None:
    airflow.write(sales=SALES + "  - {name: [\n", crm=CRM.replace("owner: o", "owner: o, tags: [edited]"))
    airflow.until(lambda: "edited" in airflow.tags(PEOPLE), always=EVERYTHING)
    airflow.until(lambda: len(airflow.import_errors()) == 1, always=EVERYTHING)
    ((_, text),) = airflow.import_errors().items()
    assert "Cannot use file inventory/sales.yaml" in text and "inventory/sales.yaml:" in text
    airflow.write(sales=SALES, crm=CRM)
    airflow.until(lambda: not airflow.import_errors() and "edited" not in airflow.tags(PEOPLE), always=EVERYTHING)


def a_storm_of_edits_ends_exactly_as_the_inventory_says(airflow: BundleAirflow) -> None:
    """Edits in the middle of parses, faster than Airflow looks; three rows in the same files and shards never move."""
    rng = random.Random(7)
    rows: dict[str, dict[str, str]] = {f"storm{n}": {"still": "still"} for n in range(3)}
    always = EVERYTHING | {f"ingest__storm{n}__still" for n in range(3)}

    def text(domain: str, broken: bool = False) -> str:
        lines = [
            f"  - {{name: {name}, kind: sql, conn_id: shop_db, owner: o, schedule: {'oops' if tag == 'bad' else 'none'}, "
            f"tags: [{tag}], target: {{database: {domain}_{name}}}}}\n"
            for name, tag in rows[domain].items()
        ]
        return "sources:\n" + "".join(lines) + ("  - {name: [" if broken else "")

    airflow.write(**{domain: text(domain) for domain in rows})
    airflow.until(lambda: always <= airflow.active())
    for step in range(100):
        domain, name = f"storm{rng.randrange(3)}", f"r{rng.randrange(8)}"
        if rng.random() < 0.3:
            rows[domain].pop(name, None)
        else:
            rows[domain][name] = "bad" if rng.random() < 0.2 else f"t{step}"
        airflow.write(**{domain: text(domain, broken=rng.random() < 0.15)})
        time.sleep(rng.choice((0.02, 0.1, 0.4)))
        assert always <= airflow.active()
    airflow.write(**{domain: text(domain) for domain in rows})
    good = {f"ingest__{d}__{name}": tag for d in rows for name, tag in rows[d].items() if tag != "bad"}
    bad = {f"errors/{d}__{name}.py" for d in rows for name, tag in rows[d].items() if tag == "bad"}

    def exact() -> bool:
        return (
            airflow.active() == EVERYTHING | good.keys()
            and airflow.import_errors().keys() == bad
            and all(tag in airflow.tags(dag) for dag, tag in good.items())
        )

    print(f"exact after {airflow.until(exact, 60, always):.1f} s: {len(good)} DAGs, {len(bad)} errors")  # noqa: T201
    for domain in rows:
        (airflow.inventory / f"{domain}.yaml").unlink()
    airflow.until(lambda: airflow.active() == EVERYTHING and not airflow.import_errors(), always=EVERYTHING)


def a_pinned_run_is_retried_on_its_own_version(airflow: BundleAirflow) -> None:
    """The first try finds the source locked. By the second the row writes elsewhere, and this worker has lost the folder."""
    api = AirflowRest(airflow.url, USER, PASSWORD)
    airflow.until(lambda: ORDERS in api.dag_ids(), 120)
    pinned = airflow.bundle_version(ORDERS)
    with contextlib.closing(sqlite3.connect(airflow.project / "shop.db", isolation_level=None)) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
        shop.execute("INSERT INTO orders (item) VALUES ('pen')")
        shop.execute("BEGIN EXCLUSIVE")
        run_id = api.trigger(ORDERS)
        airflow.until(lambda: any(task["state"] == "up_for_retry" for task in api.tasks(ORDERS, run_id)), 180)
        airflow.write(sales=SALES.replace("before", "after"))
        airflow.until(lambda: airflow.bundle_version(ORDERS) != pinned)
        shutil.rmtree(airflow.versions)
    run = airflow.ended(api, run_id)
    assert (run["state"], run["bundle_version"]) == ("success", pinned), airflow.task_logs()
    assert "-> before.orders" in airflow.task_logs() and "after.orders" not in airflow.task_logs()
    assert [folder.name for folder in airflow.versions.iterdir()] == [pinned]
    assert any(task["try_number"] == 2 for task in api.tasks(ORDERS, run_id))
    again = airflow.ended(api, api.trigger(ORDERS))
    assert again["bundle_version"] == airflow.bundle_version(ORDERS) != pinned
    assert "-> after.orders" in airflow.task_logs()


STORY = (
    every_row_is_a_dag_in_its_shard,
    an_edit_is_seen_and_nothing_else_moves,
    a_row_comes_and_goes,
    a_bad_row_is_alone,
    a_broken_file_keeps_its_rows,
    a_storm_of_edits_ends_exactly_as_the_inventory_says,
    a_pinned_run_is_retried_on_its_own_version,
)


def test_a_real_airflow_on_a_bundle(airflow: BundleAirflow, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the Airflow nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            began = time.monotonic()
            step(airflow)
            print(f"{step.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201
