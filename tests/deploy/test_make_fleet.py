"""What `make fleet` promises before it starts anything. That it serves is seen by `test_celery_fleet.py`, over the same classes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_dataops.core.errors import BusyError, UnavailableError
from dag_factory.deployment.local import LocalFleet, new_secrets
from dag_factory.deployment.processes import Component
from dag_factory.deployment.settings import Site
from dag_factory.sample_airflow import MARK, marked_processes
from tests.deploy.__main__ import alone_in


def fleet(home: Path, *components: Component) -> LocalFleet:
    site = Site("postgresql://h/a", "redis://h", "postgresql://h/l", "http://127.0.0.1:1", "/i", "/s", "/l", "/d")
    return LocalFleet(home, site, port=1, components=components)


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


def test_a_component_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    made = fleet(tmp_path, Component("broken", "ends at once", ("no-such-command",)))
    made.logs.mkdir(parents=True)
    made.start()
    try:
        with pytest.raises(UnavailableError, match=r"(?s)broken ended with 2.*invalid choice"):
            for _ in range(600):
                made.check()
                time.sleep(0.1)
    finally:
        made.stop()


def test_what_a_killed_one_left_is_ended_by_its_mark(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.Popen(('sleep', '600'), start_new_session=True)"
    subprocess.run((sys.executable, "-c", code), env={MARK: str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    assert len(list(marked_processes(tmp_path))) == 1
    LocalFleet.end_earlier(tmp_path)
    assert list(marked_processes(tmp_path)) == []
