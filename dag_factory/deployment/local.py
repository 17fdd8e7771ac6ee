"""The list of processes on one machine, without containers: what `make fleet` and its test start.

Each process is the leader of its own group and has a folder for bundles of its own, as if it ran on its own machine; what
machines share is given by a `Site`. Airflow's tasks leave the group, so they are found again by a mark in their environment.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from airflow_dataops.core.errors import UnavailableError
from dag_factory.deployment.processes import COMPONENTS, HEALTH_PATH, Component
from dag_factory.deployment.restarts import MOST_RESTARTS, WITHIN_SECONDS, code_text, plan_restart
from dag_factory.deployment.settings import Site, fixed_settings, place_settings, variable
from dag_factory.sample_airflow import HOST, LOGIN, MARK, PASSWORD, USER, marked_processes

START_SECONDS = 180
STOP_SECONDS = 15
KILL_SECONDS = 5
_AIRFLOW = (sys.executable, "-P", "-m", "dag_factory.deployment.component")
_LOCAL = {("api", "workers"): "1", ("api", "host"): HOST}
log = logging.getLogger(__name__)
_FOREIGN = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW_CONN_", "PYTHONPATH", "PYTHONHOME", "_AIRFLOW")


class LocalFleet:
    """The components in one folder. `prepare`, then `start`; `check` again and again; `stop` in any case.

    `own` are options (section, option) of this installation that go before the shipped ones; `connections` are variables
    `AIRFLOW_CONN_…`. `site.api` must name this machine. `restarts` counts how often each was started again because it had
    ended by itself; `tell` hears of each time.
    """

    def __init__(
        self, home: Path, site: Site, *, port: int, connections: Mapping[str, str] | None = None,
        own: Mapping[tuple[str, str], str] | None = None, components: tuple[Component, ...] = COMPONENTS,
        most_restarts: int = MOST_RESTARTS, tell: Callable[[str], None] = log.warning,
    ) -> None:  # fmt: skip
        self.home, self.site, self.port = home.absolute(), site, port
        self.connections = LOGIN | dict(connections or {})
        self.own = dict(own or {})
        self.components = {component.name: component for component in components}
        self.most_restarts, self.tell = most_restarts, tell
        self.restarts: Counter[str] = Counter()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ends: dict[str, list[float]] = {}
        self._due: dict[str, float] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def bundles(self, name: str) -> Path:
        """Where this component keeps the versions of the bundle that it has seen."""
        return self.home / "machines" / name / "bundles"

    def options(self) -> dict[tuple[str, str], str]:
        """(section, option) → value of every setting, secrets included."""
        return fixed_settings() | place_settings(self.site) | _LOCAL | {
            ("api", "port"): str(self.port),
            ("api", "base_url"): self.url,
            ("core", "simple_auth_manager_users"): f"{USER}:admin",
            ("core", "simple_auth_manager_passwords_file"): str(self.home / "passwords.json"),
            ("core", "dags_folder"): str(self.home / "dags"),
            ("logging", "base_log_folder"): str(self.logs / "tasks"),
        } | self._secrets() | self.own  # fmt: skip

    def environment(self, name: str = "person") -> dict[str, str]:
        """For a process of this installation: nothing of another Airflow in it, no proxy before our own server."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        here = ",".join(filter(None, (env.get("no_proxy") or env.get("NO_PROXY"), HOST, "localhost")))
        return env | self.connections | {variable(*option): value for option, value in self.options().items()} | {
            variable("dag_processor", "dag_bundle_storage_path"): str(self.bundles(name)),
            "AIRFLOW_HOME": str(self.home),
            "PATH": str(Path(sys.executable).parent) + os.pathsep + env.get("PATH", os.defpath),
            "no_proxy": here, "NO_PROXY": here, "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1",
            "SPT_NOENV": "1",  # process titles must not be written over the environment: the mark is in it
            MARK: str(self.home),
        }  # fmt: skip

    def prepare(self) -> None:
        """Makes the folders and the login, and brings Airflow's database up to date. Half a minute for a new one."""
        for folder in (self.logs, self.home / "dags"):
            folder.mkdir(parents=True, exist_ok=True)
        self.private("passwords.json", json.dumps({USER: PASSWORD}) + "\n")
        log = self.logs / "migrate.log"
        with open(log, "wb") as output:
            ended = subprocess.run(
                (*_AIRFLOW, "db", "migrate"), env=self.environment(), cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if ended.returncode:
            raise UnavailableError(
                f"Cannot set up Airflow's database: `airflow db migrate` ended with {ended.returncode} -> 0. Look at {log}."
            )

    def start(self, *names: str) -> None:
        """Starts these components (all without names), each after those it needs; their output goes to `logs/`, added to what is
        there. UnavailableError when one that is needed does not come up."""
        for name in sorted(names or self.components, key=lambda name: bool(self.components[name].after)):
            component = self.components[name]
            for needed in component.after:
                self._wait_for(needed)
            self._launch(component)

    def _launch(self, component: Component) -> None:
        with open(self.logs / f"{component.name}.log", "ab") as output:
            self._running[component.name] = subprocess.Popen(
                (*_AIRFLOW, *component.command, *self._here(component)),
                env=self.environment(component.name), cwd=self.home, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if self._serves():
                return
            time.sleep(0.3)
        raise UnavailableError(
            f"Cannot start what needs the {name}: no answer at {self.url} in {START_SECONDS} seconds -> it serves. "
            f"Look at {self.logs}."
        )

    def _serves(self) -> bool:
        """Whether the API server answers."""
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url + HEALTH_PATH, timeout=5).close()
        except OSError:
            return False
        return True

    def check(self) -> None:
        """Starts again what has ended by itself, once its pause is over. UnavailableError when a component ended too often."""
        for name, process in tuple(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                with contextlib.suppress(ProcessLookupError):  # as in a container: with its first process all of it ends
                    os.killpg(process.pid, signal.SIGKILL)
                self._ended(name, process.returncode)
        for name, due in tuple(self._due.items()):
            component = self.components[name]
            if time.monotonic() >= due and (not component.after or self._serves()):
                del self._due[name]
                self.restarts[name] += 1
                self._launch(component)

    def _ended(self, name: str, code: int) -> None:
        ends = self._ends.setdefault(name, [])
        ends.append(time.monotonic())
        pause, output = plan_restart(ends, self.most_restarts), self.logs / f"{name}.log"
        if pause is None:
            words = output.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise UnavailableError(
                f"Cannot keep the fleet running: its {name} ended with {code_text(code)} -> it should not end. It has been started "
                f"{self.most_restarts} times again within {WITHIN_SECONDS / 60:.0f} minutes. Look at {output}. Its last words:\n  "
                + "\n  ".join(words)
            )
        self._due[name] = time.monotonic() + pause
        self.tell(
            f"Cannot keep the {name} running: it ended with {code_text(code)} -> it should not end. It is started again in "
            f"{pause:.0f} s, as engines of containers do (restart {self.restarts[name] + 1}). Look at {output}."
        )

    def stop(self, *names: str, kill: bool = False) -> None:
        """Ends these components; a worker finishes its tasks, as long as the list of processes gives it. Without names: all
        of them and every task, after `STOP_SECONDS` by force. `kill`: by force, at once. Idempotent."""
        for name in names or tuple(self._due):
            self._due.pop(name, None)
        ended = {name: self._running.pop(name) for name in names or tuple(self._running) if name in self._running}
        patience = max((self.components[name].stop_seconds for name in names), default=STOP_SECONDS)
        deadline = time.monotonic() + (0 if kill else patience)
        for process in ended.values():
            # Not the group: a worker's children are to go on until they are done.
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        for process in ended.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):  # all of the group have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not names:
            self.end_earlier(self.home)

    @staticmethod
    def end_earlier(home: Path) -> None:
        """Ends what an installation in this folder left running when it was killed."""
        _end(list(marked_processes(home)))

    def _here(self, component: Component) -> tuple[str, ...]:
        """What a component needs to be told when several share a machine: logs are read from the folder they share."""
        if component.command[0] in ("scheduler", "triggerer"):
            return ("--skip-serve-logs",)
        if component.command[:2] == ("celery", "worker"):
            return ("--skip-serve-logs", "--pid", str(self.home / f"{component.name}.pid"))
        return ()

    def _secrets(self) -> dict[tuple[str, str], str]:
        """Made once and kept: a component that starts later must know the ones of before."""
        path = self.home / "secrets.json"
        if not path.is_file():
            self.private("secrets.json", json.dumps(new_secrets()))
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return {("core", "fernet_key"): kept["FERNET_KEY"], ("api", "secret_key"): kept["API_SECRET_KEY"],
                ("api_auth", "jwt_secret"): kept["JWT_SECRET"]}  # fmt: skip

    def private(self, name: str, text: str) -> None:
        """A file for its owner only."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(os.open(self.home / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)


SECRETS = (
    "FERNET_KEY", "API_SECRET_KEY", "JWT_SECRET", "POSTGRES_PASSWORD", "LEDGER_PASSWORD", "REDIS_PASSWORD", "S3_ACCESS_KEY",
    "S3_SECRET_KEY", "ADMIN_PASSWORD",
)  # fmt: skip
"""What an installation keeps secret. None has a default anywhere."""


def new_secrets() -> dict[str, str]:
    """Fresh ones, safe in a URL as they are."""
    made = {name: secrets.token_hex(32 if name in ("API_SECRET_KEY", "JWT_SECRET") else 16) for name in SECRETS}
    return made | {"FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode()}


def _end(found: list[psutil.Process]) -> None:
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=KILL_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_SECONDS)
