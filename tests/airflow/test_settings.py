"""The settings are the same for Airflow and for us, from every source of a value: one process of Airflow tells its view."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.settings import OPTIONS, Settings, load_settings

ASK_BOTH = """
import json
from airflow_dataops.settings import OPTIONS, load_settings
ours = load_settings()
from airflow.configuration import conf
conf.load_providers_configuration()
told = {o.name: (getattr(ours, o.name), conf.get("dataops", o.name)) for o in OPTIONS}
print("\\n" + json.dumps({n: ("" if a is None else str(a), b) for n, (a, b) in told.items()}))
"""
SOURCES: dict[str, dict[str, Any]] = {
    "defaults": {},
    # The environment goes before the file; variables and ~ in both are replaced; names in the file keep their case.
    "environment and airflow.cfg": {
        "env": {
            "AIRFLOW__DATAOPS__LAKE": "s3://company-lake/raw",
            "AIRFLOW__DATAOPS__LEASE_SECONDS": "77",
            "AIRFLOW__DATAOPS__LAKE_CONN_ID": "",
            "AIRFLOW__DATAOPS__LEDGER_CMD": "printf postgresql://u:secret@h/db",
            "AIRFLOW__DATAOPS__TRANSPORT_CMD": "printf never",
            "PLACE": "$DEEPER/x",
            "DEEPER": "/srv",
            "AIRFLOW__DATAOPS__INVENTORY": "${PLACE}/$UNKNOWN_NAME/~",
            "HOME": "/srv/people/ann",
        },
        "cfg": "[dataops]\nlake = file:///from/cfg\nLEASE_seconds = 3\nGrace_Seconds = 4\ncatalog=hive\n"
        "dead_letters = ~/letters%%20one/${PLACE}\nledger = sqlite:///never\nlease_seconds = 8\n",
    },
    # Another file, its default section, and a command in it.
    "another file": {
        "cfg_elsewhere": "[DEFAULT]\nlake = file:///from/default\n[dataops]\nledger_cmd = printf postgresql://u:s@h/cfg\n"
        "catalog_secret = never\ndead_after_seconds = 99\nlake_conn_id = lake\n",
        "cfg": "[dataops]\ndead_after_seconds = 11\n",
    },
}


@pytest.fixture
def clean(tmp_path: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    return {**env, "AIRFLOW_HOME": str(tmp_path / "home dir"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_equal_to_airflow(source: dict[str, Any], clean: dict[str, str], tmp_path: Path) -> None:
    home = Path(clean["AIRFLOW_HOME"])
    home.mkdir()
    if "cfg" in source:
        (home / "airflow.cfg").write_text(source["cfg"])
    if "cfg_elsewhere" in source:
        (tmp_path / "other.cfg").write_text(source["cfg_elsewhere"])
        clean["AIRFLOW_CONFIG"] = str(tmp_path / "other.cfg")
    # A process of its own: Airflow reads its settings once, when it is imported.
    told = subprocess.run(
        [sys.executable, "-c", ASK_BOTH],
        env=clean | source.get("env", {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    both = json.loads(told.stdout.strip().splitlines()[-1])
    assert {name: ours for name, (ours, _) in both.items()} == {name: theirs for name, (_, theirs) in both.items()}
    assert len(both) == len(OPTIONS)


def test_airflow_is_not_imported() -> None:
    code = "import sys; from airflow_dataops.settings import *; load_settings(); sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flags_come_first(tmp_path: Path) -> None:
    environ = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATAOPS__LAKE": "file:///env"}
    assert load_settings({"lake": "file:///flag", "catalog": None}, environ).lake == "file:///flag"
    assert load_settings({"lake": None}, environ).lake == "file:///env"
    with pytest.raises(InventoryError, match="'lakes': unknown -> one of inventory, lake"):
        load_settings({"lakes": "x"}, environ)


def test_defaults_live_under_the_home() -> None:
    settings = load_settings(environ={"AIRFLOW_HOME": "/srv/airflow"})
    assert settings.lake == "file:///srv/airflow/dataops/lake"
    assert settings.ledger == "sqlite:////srv/airflow/dataops/ledger.db"
    assert settings.inventory_base == "/srv/airflow"
    assert settings.lake_conn_id is None


@pytest.mark.parametrize("value", ["", "0", "-1", "ten", "1e3", "1.5", "٣"])
def test_a_wrong_number_is_named(value: str) -> None:
    with pytest.raises(InventoryError, match=r"\[dataops\] grace_seconds"):
        load_settings(environ={"AIRFLOW_HOME": "/x", "AIRFLOW__DATAOPS__GRACE_SECONDS": value})


def test_an_empty_value_is_refused_where_one_is_needed() -> None:
    with pytest.raises(InventoryError, match=r"\[dataops\] lake: empty"):
        load_settings(environ={"AIRFLOW_HOME": "/x", "AIRFLOW__DATAOPS__LAKE": ""})


def test_a_variable_that_contains_itself_ends() -> None:
    with pytest.raises(InventoryError, match="contains itself"):
        load_settings(environ={"AIRFLOW_HOME": "/x", "LOOP": "a$LOOP", "AIRFLOW__DATAOPS__LAKE": "$LOOP"})


def test_a_broken_configuration_never_shows_its_lines(tmp_path: Path) -> None:
    for text in ("[dataops]\nledger = postgresql://u:geheim%@h/db\n", "ledger = postgresql://u:geheim@h/db\n"):
        (tmp_path / "airflow.cfg").write_text(text)
        with pytest.raises(InventoryError) as caught:
            load_settings(environ={"AIRFLOW_HOME": str(tmp_path)})
        assert "geheim" not in f"{caught.value}{caught.value.__cause__}"
        assert str(tmp_path / "airflow.cfg") in str(caught.value)


def test_repr_hides_the_ledger() -> None:
    settings = load_settings({"ledger": "postgresql://u:geheim@h/db"}, {"AIRFLOW_HOME": "/x"})
    assert "geheim" not in repr(settings)


def test_every_option_is_a_field() -> None:
    assert {o.name for o in OPTIONS} | {"home"} == set(Settings.__dataclass_fields__)
