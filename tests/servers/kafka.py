"""Apache Kafka 4.3.1, one node that is broker and controller (KRaft), its log in a temporary folder."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from airflow_dataops.core.connection import Connection
from tests.servers.process import ServerProcess, find_program, free_port, jars, launch, new_folder, prepare

VERSION = "4.3.1"
_LOGGING = Path(__file__).parent / "log4j2.properties"
_JAVA = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")


@dataclass(frozen=True)
class KafkaServer:
    """A running broker; topics are made by those who want them. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    port: int

    @classmethod
    def start(cls, folder: Path | None = None, port: int | None = None) -> KafkaServer:
        """`folder` and `port` of one that was killed: it goes on with the same topics."""
        java = (find_program("java"), *_JAVA, f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", f"{jars('kafka', VERSION)}/*")
        new = folder is None
        folder, port = folder or new_folder("kafka"), port or free_port()
        settings = folder / "server.properties"
        if new:
            settings.write_text(_settings(folder, port, free_port()))
            cluster = secrets.token_urlsafe(16)
            prepare([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings)], folder, drop_root=False)
        # The jars may lie in a home folder that an unprivileged user cannot enter.
        process = launch([*java, "kafka.Kafka", str(settings)], folder, lambda: _answers(port), drop_root=False)
        return cls(process, port)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> KafkaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """As `bootstrap.servers` wants it."""
        return f"127.0.0.1:{self.port}"

    def connection(self) -> Connection:
        """As Airflow would give it."""
        return Connection("kafka", "kafka", extra={"bootstrap.servers": self.address})


def _answers(port: int) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
    try:
        return bool(client.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def _settings(folder: Path, port: int, controller: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": folder / "data",
        # One node keeps what three would.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
        "log.cleaner.dedupe.buffer.size": 8388608,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
