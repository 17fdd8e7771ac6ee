"""The forked processes end together, whenever they are asked to. Airflow is played by a module of its name: what is tried here
is who starts, who ends, and who is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dag_factory.sample_database import is_current

PLAYED = """
import sys, time
def main():
    if sys.argv[1] == "ends":
        return 3
    if sys.argv[1] == "succeeds":
        time.sleep(0.5)
        return 0
    time.sleep(60)
"""
STARTER = """
import json, sys
from pathlib import Path
from dag_factory import sample_components
sample_components.FOR_ALL = sample_components.FOR_THE_REST = ()
sample_components.run(Path(sys.argv[1]), json.loads(sys.argv[2]), 1)
"""


@pytest.fixture
def start(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").touch()
    (tmp_path / "airflow" / "__main__.py").write_text(textwrap.dedent(PLAYED))
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))}
    running = []

    def run(**components: str) -> subprocess.Popen[str]:
        told = json.dumps({name.replace("_", "-"): [word] for name, word in components.items()})
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", STARTER, str(tmp_path), told], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, start_new_session=True,
            )
        )  # fmt: skip
        return running[-1]

    yield run
    for process in running:
        process.kill()


def test_nothing_is_started_after_one_has_ended(start, tmp_path: Path) -> None:
    process = start(api_server="ends", triggerer="stays", scheduler="stays")
    assert process.communicate(timeout=20)[0] == "api-server ended with 3\n"
    assert not (tmp_path / "logs/scheduler.log").exists()


def test_the_others_are_started_once_the_database_is_migrated(start, tmp_path: Path) -> None:
    process = start(migrate="succeeds", api_server="stays")
    while not (tmp_path / "logs/api-server.log").exists():
        assert process.poll() is None
        time.sleep(0.005)
    assert is_current(tmp_path) and (tmp_path / "logs/migrate.log").exists()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == ""


def test_nothing_is_started_over_a_database_that_could_not_be_migrated(start, tmp_path: Path) -> None:
    process = start(migrate="ends", api_server="stays")
    assert process.communicate(timeout=20)[0] == "migrate ended with 3\n"
    assert not (tmp_path / "logs/api-server.log").exists() and not is_current(tmp_path)


@pytest.mark.parametrize("delay_seconds", [0.0, 0.02, 0.1])
def test_all_end_when_they_are_asked_to_at_any_moment(start, tmp_path: Path, delay_seconds: float) -> None:
    """Also between the fork and the moment in which the new process can be asked."""
    process = start(**{f"part{n}": "stays" for n in range(20)})
    while not (tmp_path / "logs/part0.log").exists():
        time.sleep(0.005)
    time.sleep(delay_seconds)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 0
