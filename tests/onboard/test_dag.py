"""The DAG of onboarding as Airflow gets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from dag_factory.bundle import InventoryBundle
from dag_factory.bundle.git_place import GitPlace
from dag_factory.bundle.places import FolderPlace, S3Place
from dag_factory.onboard.form import FIELDS
from dag_factory.onboard.loader import load_onboard, place_of
from dag_factory.plan import ONBOARD_DAG_ID

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(tmp_path / "nothing there"))  # not read while it is parsed
    found: dict[str, Any] = {"__file__": "/dags/dataops_onboard.py"}
    load_onboard(found)
    return found[ONBOARD_DAG_ID]


def test_five_tasks_in_a_row_and_nothing_is_templated(dag: Any) -> None:
    assert [t.task_id for t in dag.topological_sort()] == ["check", "propose", "approve", "build", "first_run"]
    assert all(tuple(t.template_fields) == () for t in dag.tasks)
    assert (dag.schedule, dag.is_paused_upon_creation, dag.disable_bundle_versioning) == (None, False, True)


def test_the_form_has_sections_and_choices_and_no_json(dag: Any) -> None:
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    assert DagSerialization.from_dict(stored).dag_id == ONBOARD_DAG_ID
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert list(schemas) == [f.name for f in FIELDS]
    for schema in schemas.values():
        kinds = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
        # What Airflow has a field for; anything else it would ask for as JSON.
        assert kinds - {"null"} in ({"string"}, {"boolean"}, {"array"}) and schema["section"] and schema["title"]
        assert "array" not in kinds or schema["items"] == {"type": "string"}
    assert schemas["kind"]["enum"] == ["sql", "files"]
    assert list(schemas["schedule"]["values_display"]) == schemas["schedule"]["enum"]


def test_only_its_own_task_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ingest__sales__orders")
    found: dict[str, Any] = {"__file__": "/dags/dataops_onboard.py"}
    load_onboard(found)
    assert list(found) == ["__file__"]


def test_rows_go_where_the_bundle_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(tmp_path / "setting"))
    folder = place_of(None, tmp_path)
    assert isinstance(folder, FolderPlace) and folder.folder == tmp_path / "setting"
    of_bundle = place_of(InventoryBundle(name="a", inventory=str(tmp_path / "own")), tmp_path)
    assert isinstance(of_bundle, FolderPlace) and of_bundle.folder == tmp_path / "own"
    store = place_of(InventoryBundle(name="a", inventory="s3://bucket/x", conn_id="c"), tmp_path)
    assert isinstance(store, S3Place) and store.conn_id == "c"
    git = place_of(InventoryBundle(name="a", inventory="/repo.git", git_ref="main", git_folder="inv"), tmp_path / "scratch")
    assert isinstance(git, GitPlace) and (git.ref, git.folder, git.repository) == ("main", "inv", tmp_path / "scratch")


def test_a_dags_folder_has_it_by_three_lines() -> None:
    lines = (ROOT / "dags/dataops_onboard.py").read_text().splitlines()
    assert len(lines) == 3 and "airflow" in lines[2].lower() and "dag" in lines[2]
