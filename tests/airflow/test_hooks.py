"""The hook behind our own connection type, as Airflow's *Test* button uses it, and connections in tasks."""

from __future__ import annotations

import json

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.hooks.key import KeyHook
from airflow_dataops.hooks.task_connection import resolve_in_task


def _connection(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps(fields))


@pytest.mark.parametrize(("key", "usable"), [("", False), ("short", False), ("x" * 16, True), ("ä" * 32, True), ("x" * 65, False)])
def test_key(key: str, usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _connection(monkeypatch, conn_type="dataops_key", password=key)
    found, message = KeyHook("mine").test_connection()
    assert found is usable
    assert not key or key not in message


def test_a_missing_connection_says_how_to_add_it() -> None:
    with pytest.raises(InventoryError, match=r"airflow connections add 'nowhere'.*AIRFLOW_CONN_NOWHERE"):
        resolve_in_task("nowhere")


def test_secrets_are_masked_in_the_task_log(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.log import redact

    extra = {"aws_secret_access_key": "extra-geheim-4711"}
    _connection(monkeypatch, conn_type="aws", password="geheim-4711-lang", extra=extra)
    resolve_in_task("mine")
    shown = str(redact("said geheim-4711-lang and extra-geheim-4711"))
    assert "geheim" not in shown
