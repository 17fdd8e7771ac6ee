"""The servers are what the other tests rely on: real, private, shared by the workers, and gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from botocore.exceptions import ClientError

from tests.servers.kafka import KafkaServer
from tests.servers.mariadb import MariaDBServer, connect
from tests.servers.postgres import PostgresServer
from tests.servers.process import (
    RUN_FOLDER,
    MissingServerError,
    ServerStartError,
    find_program,
    launch,
    new_folder,
    start_ticks,
)
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def test_postgres_databases_are_separate(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.new_database(), postgres_server.new_database()
    with psycopg.connect(first, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS id")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('orders')").fetchone() == (None,)
        assert connection.info.server_version >= 150000


def test_postgres_refuses_a_wrong_password(postgres_server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.url().replace(postgres_server.password, "wrong"))


def test_mariadb_databases_are_separate(mariadb_server: MariaDBServer) -> None:
    first, second = (mariadb_server.new_database().rpartition("/")[2] for _ in range(2))
    with connect(mariadb_server.host, mariadb_server.port, mariadb_server.password) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE `{first}`.orders (name VARCHAR(9)) AS SELECT 'zoë' AS name")
        cursor.execute(f"SELECT name FROM `{first}`.orders")
        assert cursor.fetchall() == (("zoë",),)
        with pytest.raises(pymysql.err.ProgrammingError, match="doesn't exist"):
            cursor.execute(f"SELECT name FROM `{second}`.orders")


def test_mariadb_refuses_a_wrong_password(mariadb_server: MariaDBServer) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        connect(mariadb_server.host, mariadb_server.port, "wrong")


def test_redis_needs_its_password(redis_server: RedisServer) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url()) as client:
        assert client.set("orders", 1) and client.get("orders") == b"1"
    with redis.Redis.from_url(f"redis://127.0.0.1:{redis_server.port}") as thief, pytest.raises(redis.AuthenticationError):
        thief.get("orders")


def test_kafka_gives_back_what_it_was_given_and_makes_no_topic_by_itself(kafka_server: KafkaServer) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    address: dict[str, Any] = {"bootstrap.servers": kafka_server.address}
    admin = AdminClient(address)
    admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result(30)
    producer = Producer(address)
    producer.produce("orders", b"pen", headers={"rows": b"1"})
    assert producer.flush(30) == 0
    consumer = Consumer(address | {"group.id": "t", "enable.auto.commit": False})
    consumer.assign([TopicPartition("orders", 0, 0)])
    message = consumer.poll(30)
    assert message is not None and message.value() == b"pen" and message.headers() == [("rows", b"1")]
    consumer.close()
    assert not admin.list_topics("nobody_made_it", timeout=30).topics["nobody_made_it"].partitions
    assert "nobody_made_it" not in admin.list_topics(timeout=30).topics


def test_urls_name_a_database_of_their_server(
    postgres_url: str, mariadb_url: str, postgres_server: PostgresServer, mariadb_server: MariaDBServer
) -> None:
    assert postgres_url.startswith(f"postgresql://dataops:{postgres_server.password}@127.0.0.1:{postgres_server.port}/t_")
    assert mariadb_url.startswith(f"mysql://dataops:{mariadb_server.password}@127.0.0.1:{mariadb_server.port}/t_")


def test_s3_has_one_winner_of_a_conditional_write(s3_server: S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="part", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=s3_bucket, Key="part", Body=b"second", IfNoneMatch="*")
    assert client.get_object(Bucket=s3_bucket, Key="part")["Body"].read() == b"first"


def test_s3_refuses_a_wrong_secret(s3_server: S3Server, s3_bucket: str) -> None:
    import dataclasses

    thief = dataclasses.replace(s3_server, secret_key="wrong").client()
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        thief.list_objects_v2(Bucket=s3_bucket)


def test_s3_keeps_versions_when_asked(s3_server: S3Server) -> None:
    bucket, client = s3_server.new_bucket(versioned=True), s3_server.client()
    ids = {client.put_object(Bucket=bucket, Key="part", Body=body)["VersionId"] for body in (b"1", b"2")}
    assert len(ids) == 2


def test_a_missing_program_is_an_error_that_says_how_to_install_it() -> None:
    with pytest.raises(MissingServerError, match=r"no-such-server.*tests/servers/install\.sh"):
        find_program("no-such-server")


def test_a_server_that_ends_at_once_shows_its_log_and_leaves_nothing() -> None:
    folder = new_folder("broken")
    with pytest.raises(ServerStartError, match=r"exit code 3.*\n.*the port is on fire"):
        launch(["sh", "-c", "echo the port is on fire; exit 3"], folder, lambda: False, drop_root=False)
    assert not folder.exists()


def test_a_server_that_never_answers_is_stopped() -> None:
    folder = new_folder("silent")
    pidfile = folder / "pid"
    command = ["sh", "-c", f"echo $$ >{pidfile}; sleep 600 & wait"]
    pid = 0

    def ready() -> bool:
        nonlocal pid
        pid = int(pidfile.read_text() or 0) if pidfile.exists() else 0
        return False

    with pytest.raises(ServerStartError, match=r"no answer in 1 s"):
        launch(command, folder, ready, drop_root=False, patience_seconds=1)
    assert pid and start_ticks(pid) is None
    assert not folder.exists()


def test_stop_kills_a_server_that_ignores_the_request() -> None:
    folder = new_folder("stubborn")
    mark = folder / "up"
    server = launch(
        ["sh", "-c", f"trap '' TERM; touch {mark}; while :; do sleep 0.1; done"], folder, mark.exists, drop_root=False
    )
    assert server.alive()
    server.stop(patience_seconds=0.3)
    assert not server.alive() and not folder.exists()
    server.stop()


@pytest.mark.parametrize("end", ["run.close()", KILL])
def test_servers_end_with_the_run_even_when_it_is_killed(end: str) -> None:
    gone(
        "import os, signal\n"
        "from tests.servers.s3 import S3Server\n"
        "from tests.servers.shared import TestRun, shared_server\n"
        "run = TestRun.open()\n"
        "server = shared_server(S3Server)\n"
        "assert shared_server(S3Server) == server, 'one server per run'\n"
        "print(server.process.pid, server.process.folder, run.folder, flush=True)\n"
        f"{end}\n"
    )


def test_a_server_ends_even_when_its_starter_is_killed_before_it_is_ready() -> None:
    gone(
        "import json, os, signal\n"
        "from tests.servers.process import launch, new_folder\n"
        "from tests.servers.shared import TestRun\n"
        "run, folder = TestRun.open(), new_folder('slow')\n"
        "def ready():\n"
        "    print(json.loads((folder / 'process.json').read_text())['pid'], folder, run.folder, flush=True)\n"
        f"    {KILL}\n"
        "launch(['sleep', '600'], folder, ready, drop_root=False)\n"
    )


def gone(script: str) -> None:
    """Run a script that prints a pid and folders; prove that a moment after its end none of them is there."""
    environment = {name: value for name, value in os.environ.items() if name != RUN_FOLDER}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    pid, *folders = done.stdout.split()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (start_ticks(int(pid)) or any(map(os.path.exists, folders))):
        time.sleep(0.05)
    assert start_ticks(int(pid)) is None, "the server is still running"
    assert [folder for folder in folders if os.path.exists(folder)] == []
