"""The processes of the sample's Airflow (`python -m dag_factory.sample_components HOME COMPONENTS PORT`).

Importing Airflow costs three seconds of a core, and each of its processes would pay them, and each task those of the data
libraries. So one process imports what they need and forks into them. It ends when it is asked to, and as soon as one of them
ends by itself: the last line of its output tells which. A component called `migrate` is the exception: the others are started
once it has ended well.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from dag_factory import sample_database

YOUNG_OBJECTS = 100_000
"""How many new objects Python waits for before it looks for cycles among them. Almost all that a start makes stays: looking as
often as Python does by itself costs a quarter of the start (measured: 6.0 s of a core for the API server, 4.3 s with this)."""
FOR_ALL = ("airflow.cli.cli_parser",)
FOR_TASKS = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.amazon.aws.assets.s3",  # Airflow asks every provider what an address of an asset looks like
    "airflow_dataops.lake.filesystem",
    "airflow_dataops.ledger.sql_ledger",
    "airflow_dataops.open_edges",
    "airflow_dataops.sources.files",
    "airflow_dataops.sources.sql",
    "airflow_dataops.steps.load",
    "airflow_dataops.steps.verify",
    "dag_factory.bundle.airflow_bundle",
    "dag_factory.render",
    "pyarrow.parquet",
)
FOR_THE_REST = ("airflow.jobs.scheduler_job_runner", "airflow.dag_processing.manager", *FOR_TASKS)
"""Imported while the one that is forked first imports what is its own."""
MIGRATE, SERVER, SCHEDULER = "migrate", "api-server", "scheduler"
ENDED = " ended with "
ASKED = (signal.SIGTERM,)


class Components:
    """The forked processes: name → words of `airflow`; each in a session of its own, with a log of its own in `logs`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[int, str] = {}
        self._asked = False
        self._migrated = False
        signal.signal(signal.SIGTERM, self._stop)

    def start(self, name: str, words: Sequence[str]) -> None:
        """Nothing when they have been asked to end."""
        gc.collect()
        gc.freeze()  # what is shared stays shared: the collector would write into every page
        # Whoever asks between the fork and the next line is heard after it: by a parent that knows the new process, and by a
        # new process that ends. With the parent's handler it would go on for ever.
        signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
        pid = None if self._asked else os.fork()
        if pid != 0:
            if pid is not None:
                self._running[pid] = name
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
        os.setsid()
        with open(self._logs / f"{name}.log", "wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        sys.argv = ["airflow", *words]
        from airflow.__main__ import main

        sys.exit(main())

    def migrated(self) -> bool:
        """Waits until the migration has ended; whether it did so well."""
        while not (self._migrated or self._asked):
            self._look(0)
        return self._migrated

    def wait_for(self, port: int) -> None:
        """Until somebody listens there, or one of the processes has ended."""
        while not self._asked:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            self._look(os.WNOHANG)
            time.sleep(0.1)

    def wait(self) -> None:
        """Until all have ended."""
        while self._running:
            self._look(0)

    def _look(self, options: int) -> None:
        pid, status = os.waitpid(-1, options)
        name, code = self._running.pop(pid, None), os.waitstatus_to_exitcode(status)
        if name == MIGRATE and code == 0:
            self._migrated = True
        elif name is not None and not self._asked:
            print(f"{name}{ENDED}{code}", flush=True)  # noqa: T201 - the starter reads it
            self._stop(signal.SIGTERM, None)

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._asked = True
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):  # its end was seen, and it is about to be taken off the list
                os.kill(pid, signal.SIGTERM)


def run(home: Path, components: Mapping[str, Sequence[str]], port: int) -> None:
    """Starts them and waits for their end."""
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
    processes, waiting = Components(home / "logs"), dict(components)
    for module in FOR_ALL:
        importlib.import_module(module)
    first = MIGRATE if MIGRATE in waiting else SERVER  # the API server takes longest, but needs a database
    if first in waiting:
        processes.start(first, waiting.pop(first))
    for module in FOR_THE_REST:
        importlib.import_module(module)
    if first == MIGRATE and processes.migrated():
        sample_database.note_current(home)
    for name in sorted(waiting, key=lambda name: (name != SERVER, name == SCHEDULER)):
        if name == SCHEDULER and SERVER in components:
            processes.wait_for(port)  # a task that starts before the API answers has failed
        processes.start(name, waiting[name])
    processes.wait()


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
