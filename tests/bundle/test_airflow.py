"""A real Airflow on an inventory bundle: its DAG processor sees every edit, its scheduler runs a pinned version."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest

from dag_factory.bundle.files import shard_of
from tests.servers.airflow import AirflowServer, Bundle
from tests.servers.process import free_port

pytestmark = pytest.mark.timeout(900)

SALES = """
sources:
  - {name: orders, kind: sql, conn_id: edits_db, owner: o, schedule: none, tables: [orders], tags: [first],
     target: {database: edits_before}}
  - {name: lines, kind: sql, conn_id: edits_db, owner: o, schedule: none, target: {database: edits_lines}}
"""
CRM = """
sources:
  - {name: people, kind: sql, conn_id: edits_db, owner: o, schedule: none, target: {database: edits_crm}}
"""
ORDERS, LINES, PEOPLE = "ingest__edits_sales__orders", "ingest__edits_sales__lines", "ingest__edits_crm__people"
EVERYTHING = {ORDERS, LINES, PEOPLE, "maintenance_of_edits"}


@pytest.fixture(scope="module")
def bundle(real_airflow: AirflowServer) -> Bundle:
    bundle = real_airflow.bundle("edits")
    bundle.write(edits_sales=SALES, edits_crm=CRM)
    return bundle


def until(bundle: Bundle, condition: Callable[[], Any], always: set[str] | None = None) -> float:
    """Waits for the condition; `always` are DAGs that may never be stale meanwhile."""

    def nothing_stale() -> None:
        assert always is None or always <= bundle.active()

    return bundle.airflow.until(condition, meanwhile=nothing_stale)


def every_row_is_a_dag_in_its_shard(bundle: Bundle) -> None:
    until(bundle, lambda: bundle.active() == EVERYTHING)
    assert bundle.import_errors() == {}
    found = bundle.airflow.rows("SELECT dag_id, relative_fileloc, bundle_version FROM dag WHERE bundle_name = ?", bundle.name)
    assert {dag: file for dag, file, _ in found} == {
        ORDERS: f"shard_{shard_of('edits_sales.orders', 256):04}.py",
        LINES: f"shard_{shard_of('edits_sales.lines', 256):04}.py",
        PEOPLE: f"shard_{shard_of('edits_crm.people', 256):04}.py",
        bundle.maintenance: f"{bundle.maintenance}.py",
    }
    assert all(len(version) == 40 for _, _, version in found)


def an_edit_is_seen_and_nothing_else_moves(bundle: Bundle) -> None:
    before = {dag: bundle.version(dag) for dag in EVERYTHING}
    bundle.write(edits_sales=SALES.replace("first", "second"))
    until(bundle, lambda: "second" in bundle.tags(ORDERS), always=EVERYTHING)
    assert {dag for dag in EVERYTHING if before[dag] != bundle.version(dag)} == {ORDERS}


def a_row_comes_and_goes(bundle: Bundle) -> None:
    visits = "  - {name: visits, kind: sql, conn_id: edits_db, owner: o, schedule: none, target: {database: edits_v}}\n"
    bundle.write(edits_crm=CRM + visits)
    until(bundle, lambda: bundle.active() == EVERYTHING | {"ingest__edits_crm__visits"}, always=EVERYTHING)
    bundle.write(edits_crm=CRM)
    until(bundle, lambda: bundle.active() == EVERYTHING, always=EVERYTHING)


def a_bad_row_is_alone(bundle: Bundle) -> None:
    rest = EVERYTHING - {LINES}
    bundle.write(edits_sales=SALES.replace("name: lines,", "name: lines, scheduel: '@daily',"))
    until(bundle, lambda: len(bundle.import_errors()) == 1 and bundle.active() == rest, always=rest)
    ((file, text),) = bundle.import_errors().items()
    assert file == "errors/edits_sales__lines.py"
    assert "InventoryError" in text and "inventory/edits_sales.yaml:5" in text and "scheduel" in text and "schedule" in text
    twice = SALES + "  - {name: orders, kind: files, conn_id: other, owner: o, target: {database: edits_t}}\n"
    bundle.write(edits_sales=twice)
    until(bundle, lambda: list(bundle.import_errors()) == ["errors/edits_sales__orders.py"], always=rest)
    until(bundle, lambda: bundle.active() == EVERYTHING, always=rest)
    assert "inventory/edits_sales.yaml:6" in bundle.import_errors()["errors/edits_sales__orders.py"]
    bundle.write(edits_sales=SALES)
    until(bundle, lambda: not bundle.import_errors(), always=EVERYTHING)


def a_broken_file_keeps_its_rows(bundle: Bundle) -> None:
    bundle.write(edits_sales=SALES + "  - {name: [\n", edits_crm=CRM.replace("owner: o", "owner: o, tags: [edited]"))
    until(bundle, lambda: "edited" in bundle.tags(PEOPLE), always=EVERYTHING)
    until(bundle, lambda: len(bundle.import_errors()) == 1, always=EVERYTHING)
    ((_, text),) = bundle.import_errors().items()
    assert "Cannot use file inventory/edits_sales.yaml" in text and "inventory/edits_sales.yaml:" in text
    bundle.write(edits_sales=SALES, edits_crm=CRM)
    until(bundle, lambda: not bundle.import_errors() and "edited" not in bundle.tags(PEOPLE), always=EVERYTHING)


def a_storm_of_edits_ends_exactly_as_the_inventory_says(bundle: Bundle) -> None:
    """Edits in the middle of parses, faster than Airflow looks; three rows in the same files and shards never move."""
    rng = random.Random(7)
    rows: dict[str, dict[str, str]] = {f"edits_storm{n}": {"still": "still"} for n in range(3)}
    always = EVERYTHING | {f"ingest__edits_storm{n}__still" for n in range(3)}

    def text(domain: str, broken: bool = False) -> str:
        lines = [
            f"  - {{name: {name}, kind: sql, conn_id: edits_db, owner: o, schedule: {'oops' if tag == 'bad' else 'none'}, "
            f"tags: [{tag}], target: {{database: {domain}_{name}}}}}\n"
            for name, tag in rows[domain].items()
        ]
        return "sources:\n" + "".join(lines) + ("  - {name: [" if broken else "")

    bundle.write(**{domain: text(domain) for domain in rows})
    until(bundle, lambda: always <= bundle.active())
    for step in range(100):
        domain, name = f"edits_storm{rng.randrange(3)}", f"r{rng.randrange(8)}"
        if rng.random() < 0.3:
            rows[domain].pop(name, None)
        else:
            rows[domain][name] = "bad" if rng.random() < 0.2 else f"t{step}"
        bundle.write(**{domain: text(domain, broken=rng.random() < 0.15)})
        time.sleep(rng.choice((0.02, 0.1, 0.4)))
        assert always <= bundle.active()
    bundle.write(**{domain: text(domain) for domain in rows})
    good = {f"ingest__{d}__{name}": tag for d in rows for name, tag in rows[d].items() if tag != "bad"}
    bad = {f"errors/{d}__{name}.py" for d in rows for name, tag in rows[d].items() if tag == "bad"}

    def exact() -> bool:
        return (
            bundle.active() == EVERYTHING | good.keys()
            and bundle.import_errors().keys() == bad
            and all(tag in bundle.tags(dag) for dag, tag in good.items())
        )

    print(f"exact after {until(bundle, exact, always):.1f} s: {len(good)} DAGs, {len(bad)} errors")  # noqa: T201
    for domain in rows:
        (bundle.inventory / f"{domain}.yaml").unlink()
    until(bundle, lambda: bundle.active() == EVERYTHING and not bundle.import_errors(), always=EVERYTHING)


def a_pinned_run_is_retried_on_its_own_version(bundle: Bundle) -> None:
    """The first try finds nobody at the source's address. By the second somebody has corrected the address, the row writes
    elsewhere, and this worker has lost its folder of versions."""
    airflow, api = bundle.airflow, bundle.airflow.rest()
    states = "SELECT state, try_number FROM task_instance WHERE dag_id = ? AND run_id = ?"
    nobody = {"conn_type": "postgres", "host": "127.0.0.1", "port": free_port(), "login": "u", "password": "p"}
    api._call("POST", "/connections", {"connection_id": "edits_moved", **nobody})
    moved = SALES.replace("name: orders, kind: sql, conn_id: edits_db", "name: orders, kind: sql, conn_id: edits_moved")
    bundle.write(edits_sales=moved.replace("first", "moved"))
    until(bundle, lambda: "moved" in bundle.tags(ORDERS), always=EVERYTHING)
    pinned, run_id = bundle.version(ORDERS), api.trigger(ORDERS)
    until(bundle, lambda: any(state == "up_for_retry" for state, _ in airflow.rows(states, ORDERS, run_id)))
    bundle.write(edits_sales=moved.replace("edits_before", "edits_after"))
    until(bundle, lambda: bundle.version(ORDERS) != pinned)
    shutil.rmtree(bundle.versions)
    with contextlib.closing(sqlite3.connect(bundle.source)) as shop:
        shop.execute("CREATE TABLE orders AS SELECT 1 AS id, 'pen' AS item")
        shop.commit()
    here = {"connection_id": "edits_moved", "conn_type": "sqlite", "host": str(bundle.source)}
    api._call("PATCH", "/connections/edits_moved?update_mask=conn_type&update_mask=host", here)
    (run,) = airflow.ended(ORDERS)
    logs = airflow.task_logs(ORDERS)
    assert (run["state"], run["bundle_version"]) == ("success", pinned), logs
    assert "-> edits_before.orders" in logs and "edits_after.orders" not in logs
    assert [folder.name for folder in bundle.versions.iterdir()] == [pinned]
    assert any(tried == 2 for _, tried in airflow.rows(states, ORDERS, run_id))
    again = api.trigger(ORDERS)
    new = next(run for run in airflow.ended(ORDERS, 2) if run["dag_run_id"] == again)
    assert new["bundle_version"] == bundle.version(ORDERS) != pinned
    assert "-> edits_after.orders" in airflow.task_logs(ORDERS)


STORY = (
    every_row_is_a_dag_in_its_shard,
    an_edit_is_seen_and_nothing_else_moves,
    a_row_comes_and_goes,
    a_bad_row_is_alone,
    a_broken_file_keeps_its_rows,
    a_storm_of_edits_ends_exactly_as_the_inventory_says,
    a_pinned_run_is_retried_on_its_own_version,
)


def test_a_real_airflow_on_a_bundle(bundle: Bundle, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the Airflow nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            began = time.monotonic()
            step(bundle)
            print(f"{step.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201
