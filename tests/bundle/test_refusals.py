"""Rows that only Airflow refuses: left out of their file at once, then an error of their own, and tried again when edited.
What Airflow makes of it stands in test_processor.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.sdk import DAG

import dag_factory.acceptance
from dag_factory.bundle import InventoryBundle
from tests.bundle.fleet import Site, domain, loaded, row

A, B, BAD, MAINTENANCE = "ingest__sales__a", "ingest__sales__b", "ingest__sales__bad", "dataops_maintenance"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Of an Airflow whose cluster policy refuses the tag `forbidden`, installed as Airflow installs them."""
    from airflow.policies import hookimpl
    from airflow.settings import get_policy_plugin_manager

    class Policy:
        @staticmethod
        @hookimpl
        def dag_policy(dag: DAG) -> None:
            if "forbidden" in dag.tags:
                raise AirflowClusterPolicyViolation(f"{dag.dag_id} is not welcome, {{{{ ds }}}}")
            dag.tags |= {"checked"}

    manager = get_policy_plugin_manager()
    manager.register(Policy)
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "main"))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    made = Site(tmp_path)
    made.write(sales=domain(row("a"), row("bad", "tags: [forbidden]"), row("b")))
    yield made  # type: ignore[misc]
    manager.unregister(Policy)


def started(site: Site) -> InventoryBundle:
    bundle = site.bundle(shards=1)
    bundle.initialize()
    return bundle


def told(bundle: InventoryBundle) -> dict[str, str]:
    return {file.stem: json.loads(file.read_text())["message"] for file in (bundle.path / "errors").glob("*.json")}


def test_a_refused_row_is_left_out_and_becomes_its_own_error(site: Site) -> None:
    bundle = started(site)
    dags = loaded(bundle.path)
    assert set(dags) == {A, B, MAINTENANCE} and told(bundle) == {}
    assert "checked" not in dags[A].tags  # Airflow applies its policies itself, once
    for _ in range(3):
        bundle.refresh()
        assert list(told(bundle)) == ["sales__bad"] and set(loaded(bundle.path)) == {A, B, MAINTENANCE}
    assert (
        "inventory/sales.yaml:3 sales.bad: Airflow does not take its DAG: AirflowClusterPolicyViolation: "
        in told(bundle)["sales__bad"]
    )
    (shard,) = bundle.path.glob("shard_*.json")
    assert BAD not in shard.read_text()


def test_an_edited_row_is_tried_again(site: Site) -> None:
    bundle = started(site)
    loaded(bundle.path)
    bundle.refresh()
    site.write(sales=domain(row("a"), row("bad", "tags: [fine]"), row("b")))
    bundle.refresh()
    assert told(bundle) == {} and set(loaded(bundle.path)) == {A, B, BAD, MAINTENANCE}
    site.write(sales=domain(row("a"), row("bad", "tags: [forbidden]"), row("b")))
    bundle.refresh()
    loaded(bundle.path)
    bundle.refresh()
    assert list(told(bundle)) == ["sales__bad"]
    site.write(sales=domain(row("a"), row("b")))  # it never was a DAG; nothing is left of it, and nobody is told
    bundle.refresh()
    loaded(bundle.path)
    bundle.refresh()
    assert told(bundle) == {} and set(loaded(bundle.path)) >= {A, B, MAINTENANCE}
    assert BAD not in loaded(bundle.path)


def test_everything_is_tried_again_after_a_restart(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = started(site)
    loaded(bundle.path)
    bundle.refresh()
    monkeypatch.setattr(dag_factory.acceptance, "_policies", lambda dag: False)  # the policy is gone
    bundle.refresh()
    assert list(told(bundle)) == ["sales__bad"]
    restarted = started(site)
    restarted.refresh()
    assert told(restarted) == {} and set(loaded(restarted.path)) == {A, B, BAD, MAINTENANCE}


def test_a_note_of_nobody_and_a_damaged_one_do_no_harm(site: Site) -> None:
    bundle = started(site)
    loaded(bundle.path)
    notes = bundle.base_dir / "refused"
    (notes / "ingest__no__body").write_text(json.dumps({"content": "x", "message": "m"}))
    (notes / A).write_text("{")
    bundle.refresh()
    assert list(told(bundle)) == ["sales__bad"] and set(loaded(bundle.path)) == {A, B, MAINTENANCE}


def test_a_task_and_a_pinned_version_note_nothing(site: Site) -> None:
    bundle = started(site)
    assert set(loaded(bundle.path, BAD)) == {BAD}  # Airflow decides what becomes of a run that it has created
    version = bundle.get_current_version()
    pinned = site.bundle(shards=1, version=getattr(version, "version", None))
    pinned.initialize()
    assert set(loaded(pinned.path)) == {A, B, MAINTENANCE}
    assert not (bundle.base_dir / "refused").exists() and not os.path.exists(pinned.path.parent / "refused")
