"""The plain loader: the DAGs of good rows, the problems of bad ones, and one row only for a task."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.sdk import DAG

from airflow_dataops.core.errors import InventoryError
from dag_factory.loader import load_dags, report_problems, source_id_of

ROOT = Path(__file__).parents[2]
GOOD = """
sources:
  - {name: one, kind: sql, conn_id: pg, owner: o}
  - {name: two, kind: sql, conn_id: pg, owner: o, target: {database: b}}
  - {name: three, kind: sql, conn_id: pg, owner: o, target: {database: c}, enabled: false}
"""
BAD = "  - {name: bad, kind: sql, conn_id: pg, owner: o, schedule: every day, target: {database: d}}\n"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "sales.yaml").write_text(GOOD)
    return folder


def _loaded(inventory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    load_dags(found, str(inventory))
    assert all(isinstance(dag, DAG) and dag.dag_id == name for name, dag in found.items())
    return found


def test_a_dag_per_enabled_row(inventory: Path) -> None:
    assert set(_loaded(inventory)) == {"ingest__sales__one", "ingest__sales__two"}


def test_a_bad_row_does_not_harm_its_neighbours(inventory: Path) -> None:
    (inventory / "sales.yaml").write_text(GOOD + BAD)
    assert set(_loaded(inventory)) == {"ingest__sales__one", "ingest__sales__two"}
    with pytest.raises(InventoryError, match=r"sales\.yaml:6 sales\.bad\.schedule: .*every day"):
        report_problems(str(inventory))


def test_a_row_that_only_airflow_would_refuse_is_reported_too(inventory: Path) -> None:
    (inventory / "sales.yaml").write_text(GOOD + BAD.replace("schedule: every day", f"tags: [{'x' * 300}]"))
    assert set(_loaded(inventory)) == {"ingest__sales__one", "ingest__sales__two"}
    with pytest.raises(InventoryError, match=r"sales\.bad"):
        report_problems(str(inventory))


def test_a_row_that_airflow_stumbles_over_costs_no_neighbour_its_dag(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is: here Airflow's calendar library does not know a zone that Python's own does."""
    (inventory / "sales.yaml").write_text(GOOD + BAD.replace("schedule: every day", "timezone: Asia/Tokyo"))
    known = pendulum.timezone

    def forgetful(name: str) -> Any:
        if name == "Asia/Tokyo":
            raise LookupError(name)
        return known(name)

    monkeypatch.setattr(pendulum, "timezone", forgetful)
    assert set(_loaded(inventory)) == {"ingest__sales__one", "ingest__sales__two"}
    with pytest.raises(InventoryError, match=r"sales\.yaml:6 sales\.bad: Cannot build its DAG: LookupError"):
        report_problems(str(inventory))


def test_no_problem_no_report(inventory: Path) -> None:
    report_problems(str(inventory))


def test_only_bad_rows_is_an_error(inventory: Path) -> None:
    (inventory / "sales.yaml").write_text("sources:\n" + BAD)
    with pytest.raises(InventoryError, match="every day"):
        _loaded(inventory)


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="Cannot read inventory"):
        _loaded(tmp_path / "nothing")


def test_a_task_builds_its_own_dag_only(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ingest__sales__two")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "load")
    assert set(_loaded(inventory)) == {"ingest__sales__two"}
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "somebody_elses")
    assert _loaded(inventory) == {}


@pytest.mark.parametrize(("dag_id", "source_id"), [("ingest__sales__orders", "sales.orders"), ("ingest__a_b__c_", "a_b.c_")])
def test_ids(dag_id: str, source_id: str) -> None:
    assert source_id_of(dag_id) == source_id


def test_the_loader_files_are_what_the_docs_say(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of `dags/` runs as it is, and Airflow's safe mode would not skip it."""
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(inventory))
    files = sorted((ROOT / "dags").glob("*.py"))
    assert {f.name for f in files} >= {"ingest.py", "inventory_problems.py"}
    for file in files:
        text = file.read_text().lower()
        assert "airflow" in text and "dag" in text
        runpy.run_path(str(file))
    found = runpy.run_path(str(ROOT / "dags/ingest.py"))
    assert "ingest__sales__one" in found
