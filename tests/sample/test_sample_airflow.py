"""The sample's Airflow as processes and files: alone on its home, nothing of another Airflow in it, nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import pytest

from airflow_dataops.connections import resolve
from airflow_dataops.core.errors import BusyError, UnavailableError
from airflow_dataops.settings import load_settings
from dag_factory.sample_airflow import HOST, MARK, SampleAirflow, free_port, marked_processes
from dag_factory.sample_database import note_current

PROJECT = Path(__file__).resolve().parents[2]

# Leaves its session and group, ignores polite requests: as bad as a task can behave.
STUBBORN = """
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def airflow(tmp_path: Path) -> SampleAirflow:
    return SampleAirflow(tmp_path / "home with 100% spaces", PROJECT)


def prepared(airflow: SampleAirflow) -> SampleAirflow:
    """Without Airflow's migrations: it is noted that they are done."""
    airflow.home.mkdir(parents=True)
    note_current(airflow.home)
    airflow.prepare()
    return airflow


def test_the_environment_holds_this_airflow_and_no_other(airflow: SampleAirflow) -> None:
    mine = {"AIRFLOW_HOME": "/elsewhere", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://prod", "PYTHONPATH": "/x",
            "AIRFLOW_CONN_CRM": "postgres://crm", "no_proxy": "intranet", "PATH": "/bin", "HOME": "/h"}  # fmt: skip
    env = airflow.environment(mine)
    assert env["AIRFLOW_HOME"] == str(airflow.home)
    assert not [name for name in env if name.startswith("AIRFLOW__") or name == "PYTHONPATH"]
    assert env["AIRFLOW_CONN_CRM"] == "postgres://crm", "a row may name a connection of the person's own"
    assert env["no_proxy"] == f"intranet,{HOST},localhost"
    assert env["PATH"].endswith(os.pathsep + "/bin") and env["HOME"] == "/h"


def test_the_connections_are_what_the_sample_inventory_names(airflow: SampleAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in airflow.connections().items():
        monkeypatch.setenv(name, value)
    assert resolve("nyc_db").conn_type == "sqlite"
    assert resolve("nyc_db").host == str(airflow.home / "sample" / "flights.db")
    assert resolve("landing").extra["path"] == str(airflow.home / "sample" / "landing")


def test_home_alone_is_enough_to_use_it(airflow: SampleAirflow) -> None:
    prepared(airflow)
    settings = load_settings(environ={"AIRFLOW_HOME": str(airflow.home), "HOME": "/nowhere"})
    assert settings.inventory == str(PROJECT / "inventory")
    assert settings.ledger == f"sqlite:///{airflow.home}/dataops/ledger.db"
    config = ConfigParser()
    config.read(airflow.home / "airflow.cfg")
    (bundle,) = json.loads(config["dag_processor"]["dag_bundle_config_list"])
    assert bundle["classpath"] == "dag_factory.bundle.InventoryBundle"
    assert config["api"]["host"] == HOST and config["api"]["port"] == str(airflow.port)
    assert config["core"]["load_examples"] == "False" and config["usage_data_collection"]["enabled"] == "False"


def test_secrets_are_random_private_and_outlive_a_restart(airflow: SampleAirflow, tmp_path: Path) -> None:
    def secrets_of(home: Path) -> tuple[str, str]:
        config = ConfigParser()
        config.read(home / "airflow.cfg")
        return config["api"]["secret_key"], config["api_auth"]["jwt_secret"]

    prepared(airflow)
    first = secrets_of(airflow.home)
    airflow.prepare()
    assert secrets_of(airflow.home) == first
    other = prepared(SampleAirflow(tmp_path / "other", PROJECT))
    assert not set(first) & set(secrets_of(other.home)) and len(set(first)) == 2
    for name in ("airflow.cfg", "passwords.json", "activate"):
        assert stat.S_IMODE((airflow.home / name).stat().st_mode) == 0o600


def test_activate_gives_a_shell_the_same_airflow(airflow: SampleAirflow) -> None:
    prepared(airflow)
    line = f'. {shlex.quote(str(airflow.home / "activate"))}; printf "%s\\n%s\\n%s" "$AIRFLOW_HOME" "$AIRFLOW_CONN_NYC_DB" "$PATH"'
    shown = subprocess.run(["sh", "-c", line], env={"PATH": "/bin:/usr/bin"}, capture_output=True, text=True, check=True).stdout
    home, connection, path = shown.split("\n")
    assert home == str(airflow.home)
    assert connection == airflow.connections()["AIRFLOW_CONN_NYC_DB"]
    assert path == f"{Path(sys.executable).parent}:/bin:/usr/bin"


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert number < free_port(number) <= number + 100
        with pytest.raises(UnavailableError, match=f"from {number} on: 1 are taken"):
            free_port(number, tries=1)


def test_two_samples_never_share_a_home(airflow: SampleAirflow) -> None:
    with airflow.lock(), pytest.raises(BusyError, match="another `make run`"), airflow.lock():
        pytest.fail("the second one got in")
    with airflow.lock():
        pass


def stray(airflow: SampleAirflow, note: Path) -> int:
    """A process of this sample that has left its group; its id."""
    subprocess.run([sys.executable, "-c", STUBBORN, str(note)], env=airflow.environment(os.environ), check=True)
    while not (note.exists() and note.read_text()):
        time.sleep(0.02)
    return int(note.read_text())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def test_stop_finds_what_left_the_group_and_kills_what_does_not_listen(airflow: SampleAirflow, tmp_path: Path) -> None:
    other = SampleAirflow(tmp_path / "other", PROJECT)
    mine, foreign = stray(airflow, tmp_path / "mine"), stray(other, tmp_path / "foreign")
    try:
        assert [p.pid for p in marked_processes(airflow.home)] == [mine]
        assert airflow.stop() == 1
        assert not alive(mine) and alive(foreign), "another sample's processes are not ours to end"
    finally:
        other.stop()
    assert not alive(foreign)


def test_prepare_ends_what_a_killed_sample_left_behind(airflow: SampleAirflow, tmp_path: Path) -> None:
    left = stray(airflow, tmp_path / "left")
    prepared(airflow)
    assert not alive(left)


def test_the_mark_is_never_inherited_from_another_sample(airflow: SampleAirflow) -> None:
    assert airflow.environment({MARK: "/elsewhere"})[MARK] == str(airflow.home)


def test_a_component_that_ends_is_reported_with_its_last_words(airflow: SampleAirflow) -> None:
    prepared(airflow)
    airflow.start({"scheduler": ("no-such-command",)})
    try:
        with pytest.raises(UnavailableError, match=r"(?s)its scheduler ended with 2.*no-such-command"):
            for _ in range(600):
                airflow.check()
                time.sleep(0.1)
    finally:
        airflow.stop()
