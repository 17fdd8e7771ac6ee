"""As somebody who has only the README: its commands, in its order, in a copy of the project, under a real Airflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dag_factory.sample_airflow import marked_processes

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^(<!-- retried:.*-->\n)?```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAMPLE = {
    "nyc.airlines": 16, "nyc.airports": 1_458, "nyc.planes": 3_322, "nyc.flights": 336_776, "nyc.weather": 2_228,
    "files.destinations": 105, "files.timetable": 776, "files.long_delays": 1_000, "files.routes": 224,
    "files.departures": 2_632,
}  # fmt: skip
"""Target to the rows that lie in the lake after `make run`, counted by hand from the package."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What git would clone, with the environment of this run instead of a set-up of minutes."""
    project = tmp_path_factory.mktemp("clone") / "airflow-dataops"
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():  # a file deleted and not yet committed is still listed
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, project / name)
            os.utime(project / name, (0, 0))  # older than the set-up: make has nothing to do
    (project / ".venv").symlink_to(ROOT / ".venv")
    yield project
    for process in marked_processes(project / ".airflow"):  # only when a test failed half-way
        process.kill()


@pytest.fixture(scope="module")
def shell() -> dict[str, str]:
    """The environment of a newcomer: nothing of Airflow in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "VIRTUAL_ENV", "PYTHON"))}


def test_once_ends_when_every_table_can_be_queried_and_leaves_no_process(project: Path, shell: dict[str, str]) -> None:
    ended = subprocess.run(["make", "run"], cwd=project, env=shell | {"ONCE": "1"}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    table = re.compile(r"^(\w+\.\w+) +\w+\.\w+ +loaded +([\d,]+) +\d+ +(\d+) +f1:(\d+):[0-9a-f]{32} *$", re.MULTILINE)
    shown = {name: int(rows.replace(",", "")) for name, rows, _, _ in table.findall(ended.stdout)}
    assert shown == SAMPLE == {name: int(rows) for name, _, _, rows in table.findall(ended.stdout)}, ended.stdout
    assert {name: int(n) for name, _, n, _ in table.findall(ended.stdout) if n != "0"} == {"files.long_delays": 3}
    for line in readme_output("make run"):
        if not line.startswith(("Loaded ", "Airflow ")):  # times and ports differ
            assert line in " ".join(ended.stdout.replace(f"{project}/", "").split()), f"{line}\n{ended.stdout}"
    assert "United Air Lines Inc." in ended.stdout, "the answer of the example query"
    assert not list(marked_processes(project / ".airflow"))


def test_a_dag_comes_from_one_file_and_has_one_version(project: Path) -> None:
    """Nobody edited a row: a second version would mean that parsing alone changes DAGs, every few seconds, for ever."""
    query = "SELECT dag_id, bundle_name, max(version_number) FROM dag JOIN dag_version USING (dag_id, bundle_name) GROUP BY 1, 2"
    with closing(sqlite3.connect(project / ".airflow" / "airflow.db")) as database:
        found = database.execute(query).fetchall()
    rows = ("files__departures", "files__partners", "nyc__flights", "nyc__reference", "nyc__weather")
    dags = ["dataops_approvals", "dataops_maintenance", "dataops_onboard", *(f"ingest__{row}" for row in rows)]
    assert found == [(dag_id, "inventory", 1) for dag_id in dags]


def test_the_readme_from_make_run_to_ctrl_c(project: Path, shell: dict[str, str]) -> None:
    output = project / "make-run.txt"
    with open(output, "wb") as file:
        make = subprocess.Popen(["make", "run"], cwd=project, env=shell, stdout=file, stderr=file, start_new_session=True)
    try:
        until(lambda: "Airflow serves at" in output.read_text("utf-8"), 240, lambda: (make.poll(), output.read_text("utf-8")))
        assert "every DAG has succeeded before" in output.read_text("utf-8"), "the second start goes on where the first was"
        for retried, commands in BLOCK.findall((project / "README.md").read_text("utf-8")):
            ended = in_shell(project, shell, commands)
            deadline = time.monotonic() + 180
            while ended.returncode and retried and time.monotonic() < deadline:
                another_run_ends(project)
                ended = in_shell(project, shell, commands)
            assert ended.returncode == 0, f"{commands}\n{ended.stdout}\n{ended.stderr}"
            if "dataops run nyc.reference" in commands:
                unchanged = [line.split(" 0 ")[0] for line in readme_output("dataops run nyc.reference") if "nyc." in line]
                assert len(unchanged) == 3 and all(line in " ".join(ended.stdout.split()) for line in unchanged), ended.stdout
            if "shop.orders" in commands:
                assert readme_output("dataops sql shop.orders") == [" ".join(line.split()) for line in ended.stdout.splitlines()]

        orders = ask(project, shell, "SELECT id, customer, amount::VARCHAR AS amount, ordered_on FROM shop.orders ORDER BY id")
        assert [(o["id"], o["customer"], float(o["amount"]), o["ordered_on"]) for o in orders] == [
            ("0001", "Ada", 19.9, "2024-05-01"), ("0002", "Grace", 5.0, "2024-05-02"),
        ]  # fmt: skip

        until(lambda: runs(project, "run_type = 'backfill' AND state = 'success'") == 3, 240, lambda: output.read_text("utf-8"))
        wanted = rows_by_month(project, "2013-07-01", "2013-10-01")
        until(lambda: weather(project, shell) == wanted, 240, lambda: (weather(project, shell), wanted))
    finally:
        os.killpg(make.pid, signal.SIGINT)
        make.wait(60)
    assert not list(marked_processes(project / ".airflow"))
    assert "Stopped." in output.read_text("utf-8")


@pytest.mark.soak
def test_once_fails_and_names_what_failed(project: Path, shell: dict[str, str]) -> None:
    """One source is not there and one row is wrong: the others are loaded, both are named, and no process stays."""
    row = "version: 1\ndomain: broken\nsources:\n  - {name: gone, kind: files, options: {path: data/nothing-here.csv}}\n"
    (project / "inventory" / "broken.yaml").write_text(row + "  - {name: wrong, kind: files, option: {}}\n")
    ended = subprocess.run(["make", "run"], cwd=project, env=shell | {"ONCE": "1"}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "Error 1" in ended.stderr, ended.stdout + ended.stderr
    assert re.search(r"inventory/broken\.yaml:5 broken\.wrong\.option: ", ended.stdout)
    assert re.search(r"Failed: ingest__broken__gone: task discover: .*nothing-here\.csv", " ".join(ended.stdout.split()))
    assert "United Air Lines Inc." in ended.stdout
    assert not list(marked_processes(project / ".airflow"))


def readme_output(mark: str) -> list[str]:
    """The lines that the README shows as the output of something, each with single spaces."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"<!-- output of {re.escape(mark)} -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found, mark
    lines = [" ".join(line.split()) for line in found[1].splitlines()]
    return [line for line in lines if line]


def in_shell(project: Path, shell: dict[str, str], commands: str) -> subprocess.CompletedProcess[str]:
    """A block of the README as in a second terminal, where the sample was activated before."""
    script = f"set -euo pipefail\n. .airflow/activate\n{commands}"
    return subprocess.run(["bash", "-c", script], cwd=project, env=shell, capture_output=True, text=True, timeout=180, check=False)


def ask(project: Path, shell: dict[str, str], query: str) -> list[dict[str, Any]]:
    ended = subprocess.run(
        ["bash", "-c", '. .airflow/activate; exec dataops sql --json "$1"', "-", query],
        cwd=project, env=shell, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return list(json.loads(ended.stdout)["rows"])


def runs(project: Path, where: str) -> int:
    """How many there are. Asked of Airflow's database, as every `dataops` would cost a second of a core."""
    with closing(sqlite3.connect(project / ".airflow" / "airflow.db")) as database:
        return int(database.execute(f"SELECT count(*) FROM dag_run WHERE {where}").fetchone()[0])


def another_run_ends(project: Path, seconds: float = 20) -> None:
    """Waits for it; not for ever, as it may have ended just before."""
    before, deadline = runs(project, "end_date IS NOT NULL"), time.monotonic() + seconds
    while runs(project, "end_date IS NOT NULL") == before and time.monotonic() < deadline:
        time.sleep(0.5)


def weather(project: Path, shell: dict[str, str]) -> dict[str, int]:
    """Rows by partition, as a reader of the lake counts them."""
    return {r["dt"]: r["rows"] for r in ask(project, shell, "SELECT dt, count(*) AS rows FROM nyc.weather GROUP BY dt")}


def rows_by_month(project: Path, first: str, last: str) -> dict[str, int]:
    """The same, as the source counts them."""
    month = "substr(time_hour, 1, 7) || '-01'"
    query = f"SELECT {month}, count(*) FROM weather WHERE {month} BETWEEN ? AND ? GROUP BY 1"
    with closing(sqlite3.connect(project / ".airflow" / "sample" / "flights.db")) as source:
        return dict(source.execute(query, (first, last)))


def until(true: Callable[[], bool], seconds: float, otherwise: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(1)
