"""Start, watch and stop one server process."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

INSTALL = "tests/servers/install.sh"
RUN_FOLDER = "DATAOPS_TEST_RUN"  # environment variable: the folder of this test run, see `shared`
CARD = "process.json"


class MissingServerError(RuntimeError):
    """A server program is not on this machine. Never a reason to skip a test."""


class ServerStartError(RuntimeError):
    """A server did not become ready; the message ends with its log."""


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A running server: the leader of its own process group, and the folder with all it wrote."""

    pid: int
    started_ticks: int  # with the pid it names one process for ever; a pid alone is used again
    stop_signal: int
    folder: str

    @property
    def log(self) -> Path:
        return Path(self.folder) / "server.log"

    def alive(self) -> bool:
        return start_ticks(self.pid) == self.started_ticks

    def stop(self, patience_seconds: float = 5.0) -> None:
        """Ask, wait, kill the group, remove the folder. Safe to call twice and from another process."""
        if self.alive():
            os.killpg(self.pid, self.stop_signal)
            deadline = time.monotonic() + patience_seconds
            while self.alive() and time.monotonic() < deadline:
                _reap(self.pid)
                time.sleep(0.02)
            if self.alive():
                os.killpg(self.pid, signal.SIGKILL)
                _reap(self.pid, block_seconds=2.0)
        shutil.rmtree(self.folder, ignore_errors=True)


def start_ticks(pid: int) -> int | None:
    """Kernel start time of a living process, None when it is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def _reap(pid: int, block_seconds: float = 0.0) -> None:
    deadline = time.monotonic() + block_seconds
    while True:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # started by another process, which reaps it
            return
        if done or time.monotonic() >= deadline:
            return
        time.sleep(0.02)


def cache_folder() -> Path:
    """Where tests/servers/install.sh keeps what it downloads and builds."""
    home_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-dataops"
    return Path(os.environ.get("DATAOPS_TEST_CACHE") or home_cache)


def find_program(name: str) -> str:
    """Path of a server program on the PATH, where Debian hides it, or in the tests' cache."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [str(cache_folder() / "bin"), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *map(str, debian)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise MissingServerError(
            f"Cannot start server {name}: not found -> a program on the PATH. The tests run against real servers "
            f"and are never skipped. Run {INSTALL} (apt as root), or install it yourself."
        )
    return found


def jars(name: str, version: str) -> Path:
    """The folder with a Java server's jars, in the tests' cache."""
    folder = cache_folder() / f"{name}-{version}"
    if not folder.is_dir():
        raise MissingServerError(
            f"Cannot start server {name}: {folder} is not there -> the server's jars. The tests run against real servers "
            f"and are never skipped. Run {INSTALL}."
        )
    return folder


def unprivileged() -> dict[str, object]:
    """Arguments of `subprocess` that drop root: the database servers refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def new_folder(prefix: str) -> Path:
    """A private folder, owned by whoever will run the server, inside the test run's folder when there is one.

    Not pytest's tmp_path: its parents are closed to the unprivileged user.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"dataops-{prefix}-", dir=os.environ.get(RUN_FOLDER)))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(command: Sequence[str], folder: Path, *, drop_root: bool = True) -> None:
    """Run one set-up program to its end, as the server's user; its output is shown when it fails."""
    user = unprivileged() if drop_root else {}
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **user  # type: ignore[call-overload]
    )
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise ServerStartError(
            f"Cannot prepare server with {command[0]}: exit code {done.returncode} -> 0.\n{done.stdout}\n{done.stderr}"
        )


def launch(
    command: Sequence[str],
    folder: Path,
    ready: Callable[[], bool],
    *,
    drop_root: bool = True,
    stop_signal: signal.Signals = signal.SIGTERM,
    environment: dict[str, str] | None = None,
    patience_seconds: float = 60.0,
) -> ServerProcess:
    """Start `command` as the leader of a new process group and return once `ready()` says so.

    `ready` returns False while the server does not answer yet. Raises ServerStartError with the log's end when the
    process ends early or the patience is over; nothing is left behind then.
    """
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
            **(unprivileged() if drop_root else {}),  # type: ignore[call-overload]
        )
    ticks = start_ticks(child.pid)
    server = ServerProcess(child.pid, -1 if ticks is None else ticks, int(stop_signal), str(folder))
    # Before it is ready: whoever is killed while waiting leaves a card by which the keeper finds the server.
    (folder / CARD).write_text(json.dumps(dataclasses.asdict(server)))
    deadline = time.monotonic() + patience_seconds
    try:
        while not ready():
            if child.poll() is not None:
                raise ServerStartError(_start_failure(command, f"ended with exit code {child.returncode}", server.log))
            if time.monotonic() > deadline:
                raise ServerStartError(_start_failure(command, f"no answer in {patience_seconds:.0f} s", server.log))
            time.sleep(0.05)
    except BaseException:
        server.stop()
        raise
    # From here on the pid is watched through /proc; a Popen object that is collected would only warn about it.
    child.returncode = 0
    return server


def _start_failure(command: Sequence[str], found: str, log: Path) -> str:
    end = log.read_text(errors="replace")[-4000:]
    return f"Cannot start server {command[0]}: {found} -> a server that answers. The end of its log:\n{end}"
