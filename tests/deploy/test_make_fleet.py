"""What `make fleet` promises before it starts anything. That it serves is seen by `test_celery_fleet.py`, over the same classes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.connections import resolve
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import BusyError, UnavailableError
from dag_factory.deployment.local import LocalFleet, new_secrets
from dag_factory.deployment.processes import Component
from dag_factory.deployment.restarts import code_text, plan_restart
from dag_factory.deployment.settings import Site
from dag_factory.sample_airflow import MARK, marked_processes
from tests.deploy.__main__ import alone_in, as_variable


def fleet(home: Path, *components: Component, **more: Any) -> LocalFleet:
    site = Site("postgresql://h/a", "redis://h", "postgresql://h/l", "http://127.0.0.1:1", "/i", "/s", "/l", "/d")
    return LocalFleet(home, site, port=1, components=components, **more)


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with alone_in(tmp_path / "fleet"), pytest.raises(BusyError, match="one at a time"), alone_in(tmp_path / "fleet"):
        pytest.fail("two")
    with alone_in(tmp_path / "fleet"):
        assert (tmp_path / "fleet").stat().st_mode & 0o077 == 0


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    first, again = fleet(tmp_path).options(), fleet(tmp_path).options()
    for option in (("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret")):
        assert first[option] == again[option] and len(first[option]) >= 32
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0
    assert first["core", "fernet_key"] != new_secrets()["FERNET_KEY"]


def test_nothing_of_another_airflow_gets_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_FOREIGN", "x")
    one, other = fleet(tmp_path).environment("worker-1"), fleet(tmp_path).environment("worker-2")
    assert one["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor" and "AIRFLOW_CONN_FOREIGN" not in one
    path = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"
    assert one[path] != other[path], "each component is a machine of its own"
    assert {name for name in one if one[name] != other[name]} == {path}


def test_the_pause_before_a_restart_grows_and_there_is_an_end_of_it() -> None:
    assert [plan_restart([float(end) for end in range(ends)]) for ends in range(1, 8)] == [1, 2, 4, 8, 16, None, None]
    assert plan_restart([0, 1, 2, 3, 4, 600, 601]) == 16, "two are longer ago than ten minutes"
    assert plan_restart([0, 700]) == 1


def test_how_a_process_ended() -> None:
    assert [code_text(code) for code in (2, -11, -9, -40)] == ["2", "-11 (SIGSEGV)", "-9 (SIGKILL)", "-40"]


def test_a_component_that_ends_by_itself_is_started_again_and_in_the_end_told_with_its_last_words(tmp_path: Path) -> None:
    told: list[str] = []
    made = fleet(tmp_path, Component("broken", "ends at once", ("no-such-command",)), most_restarts=1, tell=told.append)
    made.logs.mkdir(parents=True)
    made.start()
    try:
        with pytest.raises(UnavailableError, match=r"(?s)broken ended with 2 .*1 times again.*invalid choice"):
            for _ in range(3000):
                made.check()
                time.sleep(0.1)
    finally:
        made.stop()
    assert made.restarts == {"broken": 1}
    assert [line.partition(" Look at ")[0] for line in told] == [
        "Cannot keep the broken running: it ended with 2 -> it should not end. It is started again in 1 s, as engines of "
        "containers do (restart 1)."
    ]


def test_a_component_that_is_stopped_is_not_started_again(tmp_path: Path) -> None:
    made = fleet(tmp_path, Component("broken", "ends at once", ("no-such-command",)), tell=lambda _: None)
    made.logs.mkdir(parents=True)
    made.start()
    while not made._due:
        made.check()
        time.sleep(0.1)
    made.stop()
    time.sleep(1.1)
    made.check()
    assert made.restarts == {} and list(marked_processes(tmp_path)) == []


@pytest.mark.parametrize(
    "given",
    [
        Connection("server", "hive_metastore", host="127.0.0.1", port=9083, login="ann", extra={"retries": 0}),
        Connection("server", "kafka", extra={"bootstrap.servers": "127.0.0.1:9092"}),
    ],
    ids=["metastore", "kafka"],
)
def test_servers_are_connections_of_the_fleet(given: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SERVER", as_variable(given))
    assert resolve("server") == given


def test_what_a_killed_one_left_is_ended_by_its_mark(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.Popen(('sleep', '600'), start_new_session=True)"
    subprocess.run((sys.executable, "-c", code), env={MARK: str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    assert len(list(marked_processes(tmp_path))) == 1
    LocalFleet.end_earlier(tmp_path)
    assert list(marked_processes(tmp_path)) == []
