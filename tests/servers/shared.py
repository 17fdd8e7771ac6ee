"""One server of each kind per test run, shared by all pytest workers, stopped at the end in any case.

The controller opens a run: a folder, named in the environment, and a keeper process that waits on a pipe. The worker
that needs a server first starts it, under a file lock, and leaves a card with its address; later ones read the card.
When the controller ends, by whatever signal, the pipe closes and the keeper stops every process started in the folder.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from tests.servers.airflow import AirflowServer
from tests.servers.hive import HiveServer
from tests.servers.kafka import KafkaServer
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import CARD, RUN_FOLDER, ServerProcess
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server
from tests.servers.trino import TrinoServer

Server = TypeVar(
    "Server", AirflowServer, HiveServer, KafkaServer, PostgresServer, MariaDBServer, RedisServer, S3Server, TrinoServer
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TestRun:
    """What the controller holds: the shared folder and the keeper that cleans it up."""

    __test__ = False
    folder: Path
    keeper: subprocess.Popen[bytes]

    @classmethod
    def open(cls) -> TestRun:
        folder = Path(tempfile.mkdtemp(prefix="dataops-tests-"))
        folder.chmod(0o711)  # the servers' user passes through to its own folders and sees nothing else
        root = Path(__file__).parents[2]
        keeper = subprocess.Popen(
            [sys.executable, "-c", "from tests.servers.shared import keep; keep()", str(folder)],
            cwd=root,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C on the terminal must not end the keeper before its work is done
        )
        os.environ[RUN_FOLDER] = str(folder)
        return cls(folder, keeper)

    def close(self) -> None:
        """Stop the servers, remove the folder, and wait until both are done."""
        os.environ.pop(RUN_FOLDER, None)
        self.keeper.communicate(timeout=60)
        if self.keeper.returncode:
            code = self.keeper.returncode
            raise RuntimeError(f"Cannot stop the test servers of {self.folder}: keeper ended with {code} -> 0.")


def shared_server(kind: type[Server]) -> Server:
    """The run's server of this kind; started now if nobody has needed it yet."""
    folder = Path(os.environ[RUN_FOLDER])
    card = folder / f"{kind.__name__}.json"
    with (folder / f"{kind.__name__}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not card.exists():
            server = kind.start()
            draft = card.with_suffix(".draft")
            draft.touch(mode=0o600)  # it holds the server's password
            draft.write_text(json.dumps(dataclasses.asdict(server)))
            draft.rename(card)  # whole or not at all: a worker killed while writing leaves no card
        known: dict[str, Any] = json.loads(card.read_text())
    server = kind(**{**known, "process": ServerProcess(**known["process"])})
    if not server.process.alive():
        raise RuntimeError(f"Cannot use test server {kind.__name__}: it has died -> it runs. See {server.process.log}.")
    return server


def keep() -> None:
    """The keeper's whole life: wait for the controller's end, then stop what the cards name."""
    folder = Path(sys.argv[1])
    sys.stdin.buffer.read()
    for card in sorted(folder.glob(f"*/{CARD}")):
        ServerProcess(**json.loads(card.read_text())).stop()
    shutil.rmtree(folder, ignore_errors=True)
