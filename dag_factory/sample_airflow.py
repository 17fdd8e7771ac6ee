"""The sample's own Airflow: a home with its configuration, and the processes that `airflow standalone` would start.

The processes are not started through `airflow standalone`, because ending that one leaves its children behind, because each
keeps a log of its own, and because they are up sooner (`sample_components`). They are found again by a mark in their
environment: also the ones that left the process group (every Airflow task does), and those of an earlier sample that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from configparser import RawConfigParser
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from airflow_dataops.core.errors import BusyError, InventoryError, UnavailableError
from dag_factory import sample_database
from dag_factory.sample_components import ENDED, MIGRATE

HOST = "127.0.0.1"
"""Nobody but this machine can log in: the login is a fixed one."""
USER, PASSWORD = "admin", "admin"
LOGIN = {"AIRFLOW_CONN_DATAOPS_AIRFLOW": json.dumps({"conn_type": "http", "login": USER, "password": PASSWORD})}
"""For `dataops fleet`, as a connection in the environment."""
COMPONENTS = {
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "api-server": ("api-server",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
MARK = "DATAOPS_SAMPLE_HOME"
BUNDLE = "inventory"
LOOK_SECONDS = 1
"""How often Airflow looks for an edit of the inventory; a look costs a millisecond."""
STOP_SECONDS = 15
LOCK_SECONDS = 60


@contextlib.contextmanager
def alone(lock: Path, busy: str) -> Iterator[None]:
    """Nobody else has this lock file meanwhile; BusyError with the text `busy` when somebody does."""
    with open(lock, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(busy) from None
        yield


class SampleAirflow:
    """One Airflow in one folder. `start` after `prepare`; `stop` in any case."""

    def __init__(self, home: Path, project: Path, port: int = 8080) -> None:
        self.home, self.project, self.first_port, self.port = home.absolute(), project.absolute(), port, port
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def database(self) -> Path:
        return sample_database.path(self.home)

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def connections(self) -> dict[str, str]:
        """The connections of the sample inventory, as Airflow reads them from the environment."""
        sample = self.home / "sample"
        return {
            "AIRFLOW_CONN_NYC_DB": json.dumps({"conn_type": "sqlite", "host": str(sample / "flights.db")}),
            "AIRFLOW_CONN_LANDING": json.dumps({"conn_type": "fs", "extra": {"path": str(sample / "landing")}}),
        }

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` for a process of this Airflow: nothing of another Airflow in it, no proxy before our own server."""
        foreign = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "PYTHONPATH", "PYTHONHOME", "_AIRFLOW")
        env = {name: value for name, value in base.items() if not name.startswith(foreign)}
        local = ",".join(filter(None, (env.get("no_proxy") or env.get("NO_PROXY"), HOST, "localhost")))
        programs = str(Path(sys.executable).parent)
        return env | self.connections() | LOGIN | {
            "AIRFLOW_HOME": str(self.home),
            "PATH": programs + os.pathsep + env.get("PATH", os.defpath),
            "no_proxy": local,
            "NO_PROXY": local,
            "PYTHONUNBUFFERED": "1",
            "DO_NOT_TRACK": "1",
            "SPT_NOENV": "1",  # process titles must not be written over the environment: the mark is in it
            MARK: str(self.home),
        }  # fmt: skip

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Nobody else uses this home meanwhile; BusyError when somebody does."""
        self.home.mkdir(parents=True, exist_ok=True)
        busy = (
            f"Cannot start the sample in {self.home}: another `make run` uses it -> one at a time. Two would "
            "share one database. Stop the other one with ctrl-C."
        )
        with alone(self.home / "sample.lock", busy):
            yield

    def prepare(self) -> None:
        """Writes configuration, login and `activate`. Ends what an earlier, killed sample left running."""
        self._end_marked()
        self.port = free_port(self.first_port)
        self.logs.mkdir(exist_ok=True)
        _write_private(self.home / "passwords.json", json.dumps({USER: PASSWORD}) + "\n")
        _write_private(self.home / "airflow.cfg", self._configuration())
        _write_private(self.home / "activate", self._activation())

    def start(self, components: Mapping[str, Sequence[str]] = COMPONENTS) -> None:
        """Starts the processes (name → words of `airflow`); their output goes to `logs/`, a file for each. They bring Airflow's
        own database up to date first."""
        if not sample_database.is_current(self.home):
            sample_database.create(self.home)
            components = {MIGRATE: sample_database.COMMAND, **components}
        command = (sys.executable, "-P", "-m", "dag_factory.sample_components")
        told = (str(self.home), json.dumps(components), str(self.port))
        with open(self._log, "wb") as output:
            self._running = subprocess.Popen(
                command + told, env=self.environment(os.environ), cwd=self.home, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def _log(self) -> Path:
        return self.logs / "components.log"

    def check(self) -> None:
        """UnavailableError when one of the processes has ended by itself, with its last words."""
        if self._running is None or self._running.poll() is None:
            return
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        name, ended, code = (lines[-1] if lines else "").partition(ENDED)
        log = self.logs / f"{name}.log" if ended else self._log
        if name == MIGRATE and ended:
            raise UnavailableError(
                f"Cannot set up Airflow's database in {self.home}: `airflow db migrate` ended with {code} -> 0. {_last_lines(log)}"
            )
        what = f"its {name} ended with {code}" if ended else f"its processes ended with {self._running.returncode}"
        raise UnavailableError(f"Cannot keep Airflow running: {what} -> it should not end. Look at {log}. {_last_lines(log)}")

    def stop(self) -> int:
        """Ends every process of this home, tasks included; returns how many had to be killed. Idempotent."""
        if self._running is None:
            return self._end_marked()
        self._running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running.wait(STOP_SECONDS)
        killed = self._end_marked()
        self._running.wait()
        self._running = None
        return killed

    def _end_marked(self) -> int:
        """SIGTERM, then SIGKILL, to the processes that carry the mark of this home. How many needed the second."""
        found = list(marked_processes(self.home))
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(found, timeout=5)
        rest = {process.pid: process for process in (*alive, *marked_processes(self.home))}
        for process in rest.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(rest.values()), timeout=5)
        return len(rest)

    def _configuration(self) -> str:
        """Everything the sample sets stands in this one file, so that `AIRFLOW_HOME` alone is enough to use it."""
        path = self.home / "airflow.cfg"
        before = RawConfigParser()
        before.read(path, encoding="utf-8")

        def kept(section: str, option: str) -> str:
            return before.get(section, option, fallback="") or secrets.token_urlsafe(48)

        bundle = {
            "name": BUNDLE,
            "classpath": "dag_factory.bundle.InventoryBundle",
            "kwargs": {"refresh_interval": LOOK_SECONDS},
        }
        sections: dict[str, dict[str, object]] = {
            "core": {
                "executor": "LocalExecutor",
                "parallelism": max(2, min(8, os.cpu_count() or 2)),
                "load_examples": False,
                "simple_auth_manager_users": f"{USER}:admin",
                "simple_auth_manager_passwords_file": self.home / "passwords.json",
                "min_serialized_dag_update_interval": 0,
                "execution_api_server_url": f"{self.url}/execution/",
            },
            # Patience, because on a small machine the components wait for each other's transactions.
            "database": {"sql_alchemy_conn": f"sqlite:///{self.database}?timeout={LOCK_SECONDS}"},
            # A supervisor that looks at its task in the moment between its last word and its end looks again after this time.
            "workers": {"execution_api_timeout": LOCK_SECONDS, "min_heartbeat_interval": 1},
            # docs/reference/bundle.md says why: an edit of the inventory is seen at once, and nothing is parsed by the clock.
            "dag_processor": {
                "dag_bundle_config_list": json.dumps([bundle]),
                "dag_bundle_storage_path": self.home / "bundles",
                "bundle_refresh_check_interval": LOOK_SECONDS,
                "min_file_process_interval": 3600,
                "stale_dag_threshold": 0,
                "parsing_processes": 1,
            },
            "scheduler": {"parsing_cleanup_interval": 5, "scheduler_idle_sleep_time": 0.5},
            "api": {
                "host": HOST,
                "port": self.port,
                "base_url": self.url,
                "workers": 1,
                "expose_config": "non-sensitive-only",
                "secret_key": kept("api", "secret_key"),
            },
            "api_auth": {"jwt_secret": kept("api_auth", "jwt_secret")},
            "logging": {"base_log_folder": self.logs / "tasks"},
            "usage_data_collection": {"enabled": False},
            "dataops": {"inventory": self.project / "inventory", "airflow_url": self.url},
        }
        lines = ["# Written by `make run` at each start. The place for your own settings is your own Airflow."]
        for section, options in sections.items():
            lines += ["", f"[{section}]"]
            lines += [f"{name} = {str(value).replace('%', '%%')}" for name, value in options.items()]
        if not all("\n" not in str(value) for options in sections.values() for value in options.values()):
            raise InventoryError(
                f"Cannot use folder {str(self.home)!r}: a line break in its name -> none. It cannot be written into "
                "airflow.cfg. Move the project."
            )
        return "\n".join(lines) + "\n"

    def _activation(self) -> str:
        """For a person's own shell: `. .airflow/activate`, and `dataops` and `airflow` mean the sample."""
        own = {"AIRFLOW_HOME": str(self.home)} | self.connections() | LOGIN
        lines = [f"export {name}={shlex.quote(value)}" for name, value in own.items()]
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
        return "\n".join(lines) + "\n"


def free_port(first: int, tries: int = 100) -> int:
    """The first port from `first` on that nobody listens on. UnavailableError when all of them are taken."""
    for port in range(first, min(first + tries, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UnavailableError(
        f"Cannot find a port from {first} on: {tries} are taken -> one free. Name another start: make run PORT=..."
    )


def marked_processes(home: Path) -> Iterator[psutil.Process]:
    """The processes of this user that were started for this home, whoever their parent is now."""
    mark = str(home.absolute())
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
            continue  # another user's, or gone


def _write_private(path: Path, text: str) -> None:
    """A file for its owner only, whole at any moment."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(fresh, path)


def _last_lines(log: Path, lines: int = 15) -> str:
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "Its last words:\n  " + "\n  ".join(tail)
