"""What every test stands on: an environment of its own, and real servers on demand.

Servers are real and never skipped: a missing one is an error that says what to install (tests/servers/install.sh).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.once import compile_once, migrate_once
from tests.servers.airflow import AirflowServer
from tests.servers.glue import GlueServer
from tests.servers.hive import HiveServer
from tests.servers.kafka import KafkaServer
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import RUN_FOLDER
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server
from tests.servers.shared import TestRun, shared_server
from tests.servers.trino import TrinoServer
from tests.soak import SEED

_RUN = pytest.StashKey[TestRun]()
# A developer's own Airflow, lake or cloud account must neither be touched nor change a result. And a process that may not keep
# what it compiles spends seven seconds on importing Airflow instead of two and a half: the tests start more than a hundred.
_FOREIGN = ("AIRFLOW", "AWS_", "PG", "MYSQL_", "MARIADB_", "PYTHONDONTWRITEBYTECODE")

# Two shared cores make single examples slow without a reason; CI must fail for a change, not for a seed. What fifty examples of
# a law do not find, the thousand of `make soak` look for.
settings.register_profile("local", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.register_profile("soak", settings.get_profile("local"), max_examples=1000)
settings.load_profile("soak" if SEED in os.environ else "ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the controller; its workers inherit what it sets here
        for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
            del os.environ[name]
        config.stash[_RUN] = TestRun.open()
    # Set before the first import of Airflow, which reads and writes this folder while it is imported.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    home = Path(os.environ[RUN_FOLDER]) / f"airflow-{worker}"
    home.mkdir(exist_ok=True)
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # a missing credential fails at once instead of asking the network
    compile_once()
    migrate_once()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with the tests that are given more time than others: none of these is left alone at the end."""

    def seconds(item: pytest.Item) -> float:
        limit = item.get_closest_marker("timeout")
        return float(limit.args[0]) if limit else 0.0

    if hasattr(config, "workerinput"):
        items.sort(key=seconds, reverse=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is not None:
        run.close()


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """A running PostgreSQL; `.new_database()` gives the URL of an empty database."""
    return shared_server(PostgresServer)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """`postgresql://user:password@127.0.0.1:port/db`, one database per worker and session."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def mariadb_server() -> MariaDBServer:
    """A running MariaDB; `.new_database()` gives the URL of an empty database."""
    return shared_server(MariaDBServer)


@pytest.fixture(scope="session")
def mariadb_url(mariadb_server: MariaDBServer) -> str:
    """`mysql://user:password@127.0.0.1:port/db`, one database per worker and session."""
    return mariadb_server.new_database()


@pytest.fixture(scope="session")
def redis_server() -> RedisServer:
    """A running Redis; `.url()` names its first database."""
    return shared_server(RedisServer)


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """A running S3 endpoint: `.endpoint .access_key .secret_key .region`, `.new_bucket()`, `.client()`."""
    return shared_server(S3Server)


@pytest.fixture(scope="session")
def hive_server() -> HiveServer:
    """A running Hive Metastore: `.connection(**extra)`, `.new_catalog()` for tables of one's own, `.lake()`."""
    return shared_server(HiveServer)


@pytest.fixture(scope="session")
def kafka_server() -> KafkaServer:
    """A running Kafka broker: `.address`, `.connection()`."""
    return shared_server(KafkaServer)


@pytest.fixture(scope="session")
def trino_server() -> TrinoServer:
    """A running Trino: `.new_catalog(name, hive_server, inside)` lets it read a metastore's tables, `.query(sql)` reads them."""
    return shared_server(TrinoServer)


@pytest.fixture(scope="session")
def glue_server() -> Iterator[GlueServer]:
    """A running Glue, in a thread of this process: `.connection()`, `.empty()`."""
    server = GlueServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def real_airflow() -> AirflowServer:
    """A running Airflow with a bundle of its own for each story; tests/servers/airflow.py says how to use it."""
    return shared_server(AirflowServer)


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[str]:
    """The name of an empty bucket, one per test; what is in it dies with the server."""
    yield s3_server.new_bucket()
