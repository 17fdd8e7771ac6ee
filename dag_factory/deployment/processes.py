"""The one list of what runs in a production-like installation: Airflow's components and the servers they stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Component:
    """One process of Airflow. `command` is what follows `airflow`; `port` is where it listens for people (0: nowhere).
    `after` names components that must answer before it starts; `stop_seconds` is how long it may take to end by itself."""

    name: str
    does: str
    command: tuple[str, ...]
    port: int = 0
    after: tuple[str, ...] = ()
    stop_seconds: int = 20


@dataclass(frozen=True, slots=True)
class Server:
    """One server as a container. `ports` are published to this machine only; `health` is a command that succeeds once it serves.
    `volume` is the folder in it that must outlive it."""

    name: str
    does: str
    image: str
    environment: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    health: tuple[str, ...] = ()
    volume: str = ""


BUNDLE = "inventory"
WORKERS = ("worker-1", "worker-2")
API_PORT = 8080
HEALTH_PATH = "/api/v2/version"
"""Where the API server answers as soon as it serves, without a login."""
WORKER_SLOTS = 16
"""Tasks at once per worker. A task of ours streams: about 0.3 GB of memory each, and it mostly waits."""


def _worker(name: str) -> Component:
    # A worker that comes up before the API server takes what waits in the queue and cannot begin it: those tasks are lost until the
    # scheduler misses them (seen). One that is told to stop finishes its tasks: a load that is cut short is safe, but done twice.
    return Component(
        name, "runs tasks", ("celery", "worker", "--celery-hostname", f"{name}@%h"), after=("api-server",), stop_seconds=120
    )


COMPONENTS: tuple[Component, ...] = (
    Component("api-server", "user interface, REST, and what tasks report to", ("api-server",), port=API_PORT),
    Component("scheduler", "starts runs and hands tasks to the workers", ("scheduler",)),
    Component(
        "dag-processor", "compiles the inventory and is the only one to do so; restricted to its bundle, with settings of its own",
        ("dag-processor", "--bundle-name", BUNDLE),
    ),
    Component("triggerer", "waits for deferred tasks", ("triggerer",)),
    *map(_worker, WORKERS),
)  # fmt: skip

SERVERS: tuple[Server, ...] = (
    Server(
        "postgres", "Airflow's database and, in a database of its own, the ledger", "postgres:15",
        environment={"POSTGRES_USER": "airflow", "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD}", "POSTGRES_DB": "airflow"},
        command=("postgres", "-c", "max_connections=300"),
        health=("pg_isready", "--username", "airflow"), volume="/var/lib/postgresql/data",
    ),
    Server(
        "redis", "the queue between scheduler and workers", "redis:7",
        # What is queued survives a restart of the queue; the scheduler would notice anyway, after minutes.
        command=("redis-server", "--appendonly", "yes", "--requirepass", "${REDIS_PASSWORD}"),
        environment={"REDISCLI_AUTH": "${REDIS_PASSWORD}"},
        health=("redis-cli", "ping"), volume="/data",
    ),
    Server(
        "s3", "lake, dead letters and snapshots of the inventory", "versity/versitygw:v1.8.0",
        environment={"ROOT_ACCESS_KEY": "${S3_ACCESS_KEY}", "ROOT_SECRET_KEY": "${S3_SECRET_KEY}"},
        command=("--port", ":7070", "posix", "/data"), ports=(7070,), volume="/data",
    ),
    Server(
        "kafka", "between acquisition and ingestion, for rows with `transport: kafka`", "apache/kafka:4.3.1",
        environment={
            "KAFKA_NODE_ID": "1", "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093", "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:9092",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:9093", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1", "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false", "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
        },
        health=("/opt/kafka/bin/kafka-broker-api-versions.sh", "--bootstrap-server", "localhost:9092"),
        volume="/var/lib/kafka/data",
    ),
    Server(
        "hive-metastore", "tables and partitions for catalogs of kind `hive`", "apache/hive:4.0.1",
        environment={"SERVICE_NAME": "metastore"}, volume="/opt/hive/data",
    ),
)  # fmt: skip
