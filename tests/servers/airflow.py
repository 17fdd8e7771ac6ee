"""A real Airflow: one per test run, shared by all pytest workers (the fixture `real_airflow`), as other servers are.

Starting one costs 20 seconds of two cores, so a test does not start its own. Instead each story has a **bundle of its own**,
and nothing of it meets another story's:

    BUNDLES          add a name here; domains, target databases and DAG ids of the story begin with it too
    airflow.bundle("edits")
      .inventory     its folder of YAML files; `.write(shop="sources: …")` replaces `shop.yaml`, seen within two seconds
      .source        an empty SQLite file, and the Airflow connection `<name>_db` to it
      .active() .import_errors() .tags(dag_id) .version(dag_id)     as Airflow's database has them, of this bundle only
      .dataops("fleet", "status", …)                                the command over this inventory: its JSON document
    airflow.rest()   the REST API, logged in;  .command("backfill", …)  `airflow` itself;  .task_logs(dag_id)
    airflow.until(condition, seconds)                               waits, and shows the components' logs when in vain

`PLAIN` is no inventory bundle: it is a `dags` folder with the project's own loader files, over the inventory that the setting
names. The ledger, lake and catalog are the embedded defaults, shared by all: `airflow.settings()`.
Never touch another bundle's rows, pause all DAGs, or count what belongs to everybody.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from airflow_dataops.core.errors import UnavailableError
from airflow_dataops.settings import Settings, load_settings
from dag_factory.cli import main as dataops
from dag_factory.fleet.rest import ENDED, AirflowRest
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow, marked_processes
from tests.servers.process import RUN_FOLDER, ServerProcess, free_port, launch

ROOT = Path(__file__).parents[2]
PLAIN = "plain"
BUNDLES = ("edits", "fleet", "retire", "onboard", "spread", "soak")
START_SECONDS = 300
"""On a machine that does something else too."""


class StoriesAirflow(SampleAirflow):
    """The sample's Airflow with a bundle per story, quick to see edits. Everything lies below one folder."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder / "home", folder / PLAIN, port)
        self.folder = folder

    def connections(self) -> dict[str, str]:
        bundles: list[dict[str, Any]] = [
            {
                "name": PLAIN,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(self.folder / PLAIN / "dags"), "refresh_interval": 1},
            },
        ]
        bundles += [
            {
                "name": name,
                "classpath": "dag_factory.bundle.InventoryBundle",
                "kwargs": {
                    "inventory": str(self.folder / name / "inventory"),
                    "snapshots": str(self.folder / name / "snapshots"),
                    "maintenance_dag_id": f"maintenance_of_{name}",
                    "onboard_dag_id": "onboard_here" if name == "onboard" else None,
                    "approvals_dag_id": "approvals_here" if name == "onboard" else None,
                    "refresh_interval": 1,
                },
            }
            for name in BUNDLES
        ]
        sources = {
            f"AIRFLOW_CONN_{name.upper()}_DB": json.dumps({"conn_type": "sqlite", "host": str(self.folder / name / "source.db")})
            for name in (PLAIN, *BUNDLES)
        }
        return sources | {
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.folder / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # only a change makes a file parsed again
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "2",
            "AIRFLOW__DATAOPS__MAINTENANCE_SCHEDULE": "none",
            "AIRFLOW__DATAOPS__RETIRE_MOST_PERCENT": "100",  # the inventories are small, and stories take all of theirs away
        }

    def lay_out(self) -> None:
        """Empty inventories and sources, and the project's own loader files."""
        for name in (PLAIN, *BUNDLES):
            (self.folder / name / "inventory").mkdir(parents=True)
            sqlite3.connect(self.folder / name / "source.db").close()
        shutil.copytree(ROOT / "dags", self.folder / PLAIN / "dags", ignore=shutil.ignore_patterns("__pycache__"))

    def kill(self) -> None:
        """Nothing of it is kept, so nothing has to end well."""
        for process in marked_processes(self.home):
            process.kill()


@dataclass(frozen=True)
class AirflowServer:
    """The running Airflow, as any worker sees it."""

    process: ServerProcess
    port: int

    @classmethod
    def start(cls) -> AirflowServer:
        folder, port = Path(os.environ[RUN_FOLDER]) / "airflow", free_port()
        folder.mkdir()
        command = [sys.executable, "-m", "tests.servers.airflow", str(folder), str(port)]
        api = AirflowRest(f"http://127.0.0.1:{port}", USER, PASSWORD)
        # The programs find the project where this process found it.
        process = launch(
            command, folder, api.healthy, drop_root=False, environment={"PYTHONPATH": str(ROOT)}, patience_seconds=START_SECONDS
        )
        return cls(process, port)

    def stop(self) -> None:
        self.process.stop()

    @property
    def folder(self) -> Path:
        return Path(self.process.folder)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rest(self) -> AirflowRest:
        return AirflowRest(self.url, USER, PASSWORD)

    def settings(self) -> Settings:
        """What its components and `dataops` use."""
        return load_settings(environ={"AIRFLOW_HOME": str(self.home)})

    def bundle(self, name: str) -> Bundle:
        return Bundle(self, name)

    def environment(self) -> dict[str, str]:
        """For a process of a person who works with this Airflow."""
        return StoriesAirflow(self.folder, self.port).environment(os.environ)

    def python(self, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A Python process beside this Airflow: `-m module …` or `-c code`."""
        return subprocess.run(
            [sys.executable, "-P", *words], env=environment or self.environment(), cwd=self.home, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def command(self, *words: str) -> str:
        """What `airflow …` prints; it has to end well."""
        done = self.python("-m", "dag_factory.deployment.component", *words)
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return done.stdout

    def task_logs(self, dag_id: str) -> str:
        folder = self.home / "logs" / "tasks" / f"dag_id={dag_id}"
        return "\n".join(f"== {log.relative_to(folder)}\n{log.read_text()}" for log in sorted(folder.rglob("*.log")))

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Of a query to Airflow's database, which takes much less than a call of its API."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(statement, values).fetchall()

    def ended(self, dag_id: str, count: int = 1, seconds: float = 240) -> list[dict[str, Any]]:
        """The runs of a DAG, newest first, once there are that many and all have ended."""
        query = "SELECT state FROM dag_run WHERE dag_id = ?"
        self.until(lambda: len(r := self.rows(query, dag_id)) >= count and all(state in ENDED for (state,) in r), seconds)
        return self.rest().runs(dag_id)

    def until(
        self, condition: Callable[[], Any], seconds: float = 120, meanwhile: Callable[[], None] | None = None
    ) -> float:
        """Waits for the condition and returns how long it took; `meanwhile` is called between looks and may fail."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if meanwhile is not None:
                meanwhile()
            if condition():
                return time.monotonic() - began
            if not self.process.alive():
                break
            time.sleep(0.2)
        logs = "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in self._logs())
        raise AssertionError(f"not after {time.monotonic() - began:.0f} seconds\n{logs}")

    def _logs(self) -> list[Path]:
        return [self.process.log, *sorted((self.home / "logs").glob("*.log"))]


@dataclass(frozen=True)
class Bundle:
    """One story's part of the Airflow."""

    airflow: AirflowServer
    name: str

    @property
    def folder(self) -> Path:
        return self.airflow.folder / self.name

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory"

    @property
    def source(self) -> Path:
        return self.folder / "source.db"

    @property
    def maintenance(self) -> str:
        """The id of the DAG that maintains this bundle's rows."""
        return f"maintenance_of_{self.name}"

    @property
    def versions(self) -> Path:
        """Where workers build the versions that runs are pinned to."""
        return self.airflow.folder / "bundles" / self.name / "versions"

    def write(self, **domains: str) -> None:
        """Replaces domain files, as an editor does: the old one or the new one, whole."""
        for name, text in domains.items():
            draft = self.folder / f"{name}.draft"
            draft.write_text(text)
            draft.replace(self.inventory / f"{name}.yaml")
        if self.name == PLAIN:  # Airflow looks again at a file of a plain folder by the clock, or when the file is newer
            for file in (self.folder / "dags").glob("*.py"):
                file.touch()

    def active(self) -> set[str]:
        """The DAGs that Airflow shows and runs; not the retired ones."""
        shown = self.airflow.rows("SELECT dag_id FROM dag WHERE NOT is_stale AND bundle_name = ?", self.name)
        return {dag for (dag,) in shown} - self.retired()

    def retired(self) -> set[str]:
        """The DAGs of removed rows, which Airflow still shows."""
        query = "SELECT dag_id FROM dag JOIN dag_tag USING (dag_id) WHERE NOT is_stale AND name = 'retired' AND bundle_name = ?"
        return {dag for (dag,) in self.airflow.rows(query, self.name)}

    def import_errors(self) -> dict[str, str]:
        """File → what Airflow shows of its error."""
        return dict(self.airflow.rows("SELECT filename, stacktrace FROM import_error WHERE bundle_name = ?", self.name))

    def tags(self, dag_id: str) -> set[str]:
        return {tag for (tag,) in self.airflow.rows("SELECT name FROM dag_tag WHERE dag_id = ?", dag_id)}

    def version(self, dag_id: str) -> str:
        """The bundle version that a run started now would be pinned to."""
        return str(self.airflow.rows("SELECT bundle_version FROM dag WHERE dag_id = ?", dag_id)[0][0])

    def environment(self) -> dict[str, str]:
        """For a person who works with this inventory."""
        return self.airflow.environment() | {"AIRFLOW__DATAOPS__INVENTORY": str(self.inventory)}

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A Python process of that person."""
        return self.airflow.python(*words, environment=self.environment())

    def dataops(self, *words: str, code: int | None = 0) -> dict[str, Any]:
        """The document of a `dataops` command that ended with this exit code; None: 0, or 1 for what failed in another story.
        In this process, as that person: a process of its own would spend a second on starting."""
        out, err = io.StringIO(), io.StringIO()
        person = mock.patch.dict(os.environ, self.environment(), clear=True)
        with person, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = dataops([*words, "--json"])
        said = out.getvalue() + err.getvalue()
        if ended not in ((0, 1) if code is None else (code,)) or PASSWORD in said:
            raise AssertionError(f"ended with {ended}\n{said}")
        document: dict[str, Any] = json.loads(out.getvalue())
        return document


def main(folder: Path, port: int) -> None:
    """The process that holds the Airflow: its life is the Airflow's life."""
    server = StoriesAirflow(folder, port)

    def stop(_: int, __: FrameType | None) -> None:
        server.kill()
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    server.lay_out()
    server.home.mkdir()
    server.prepare()
    if server.port != port:
        raise UnavailableError(f"Cannot start Airflow at port {port}: taken meanwhile -> free. Run the tests again.")
    server.start()
    try:
        while True:
            server.check()
            time.sleep(0.5)
    finally:
        server.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
