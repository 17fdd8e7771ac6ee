"""`dataops doctor` against real servers: what it sees of a good installation and of a broken one, and what it never shows."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dag_factory.cli import main
from dag_factory.deployment.local import new_secrets
from dag_factory.deployment.settings import Site, fixed_settings, place_settings, variable
from dag_factory.doctor.facts import Place
from dag_factory.doctor.probes import asked, connects, database_of, place_of, same_database
from dag_factory.inventory import read_inventory
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server

ROWS = """\
version: 1
domain: shop
sources:
  - {name: a, kind: sql, conn_id: shop_db, owner: o, limits: {pool: shop, timeout_seconds: 600}}
  - {name: b, kind: sql, conn_id: shop_db, owner: o, target: {database: b}}
"""

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command with these options of Airflow in the environment; exit code and document."""
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    (inventory / "shop.yaml").write_text(ROWS)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", str(inventory))

    def run(*arguments: str, options: dict[tuple[str, str], str] | None = None, **connections: Any) -> tuple[int, dict[str, Any]]:
        with monkeypatch.context() as patch:
            for option, value in (options or {}).items():
                patch.setenv(variable(*option), value)
            for name, connection in connections.items():
                patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
            code = main(["doctor", "--json", *arguments])
        text = capsys.readouterr().out
        for secret in SECRETS:
            assert secret not in text
        return code, json.loads(text)

    return run


SECRETS = [secrets.token_hex(12) for _ in range(2)]


def rules(document: dict[str, Any], *severities: str) -> set[str]:
    return {problem["code"] for problem in document["problems"] if problem["severity"] in (severities or ("error", "down"))}


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_installation_as_it_comes_is_judged_by_the_number_of_rows(doctor: Doctor) -> None:
    few, document = doctor()
    assert (few, document["rows"], document["inventory_rows"], document["ok"]) == (1, 2, 2, False)
    many, big = doctor("--rows", "10000")
    assert (many, big["rows"], big["inventory_rows"]) == (1, 10_000, 2)
    assert rules(big) >= rules(document) | {"core.executor", "dag_processor.min_file_process_interval", "dataops.ledger"}
    (interval,) = [p for p in big["problems"] if p["code"] == "dag_processor.min_file_process_interval"]
    assert (interval["subject"], interval["found"]) == ("[dag_processor] min_file_process_interval", "30")
    assert "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL=" in interval["fix"]


def test_wrong_use(doctor: Doctor) -> None:
    assert doctor("--rows", "0")[0] == 2
    code, document = doctor("--inventory", "no/such/folder")
    assert code == 2 and "--rows" in document["problems"][0]["message"]


def test_an_inventory_that_is_elsewhere_needs_the_number_of_rows_only(doctor: Doctor) -> None:
    code, document = doctor("--inventory", "no/such/folder", "--rows", "10000")
    assert (code, document["rows"], document["inventory_rows"]) == (1, 10_000, 0)


@pytest.fixture
def shipped(
    tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer, s3_server: S3Server, s3_bucket: str
) -> tuple[dict[tuple[str, str], str], dict[str, Any]]:
    """The shipped settings over real servers: options and the connection of the store."""
    site = Site(
        database=postgres_server.new_database(), broker=redis_server.url(), ledger=postgres_server.new_database(),
        api=f"http://127.0.0.1:{closed_port()}", inventory=str(tmp_path / "inventory"), snapshots=f"s3://{s3_bucket}/snapshots",
        lake=f"s3://{s3_bucket}/lake", dead_letters=f"s3://{s3_bucket}/dead", store_conn_id="store",
    )  # fmt: skip
    made = new_secrets()
    options = fixed_settings() | place_settings(site) | {
        ("core", "fernet_key"): made["FERNET_KEY"], ("api", "secret_key"): SECRETS[0], ("api_auth", "jwt_secret"): SECRETS[1],
    }  # fmt: skip
    store = {
        "conn_type": "aws", "login": s3_server.access_key, "password": s3_server.secret_key,
        "extra": {"endpoint_url": s3_server.endpoint, "region_name": s3_server.region},
    }  # fmt: skip
    SECRETS.extend([postgres_server.password, redis_server.password, s3_server.secret_key, made["FERNET_KEY"]])
    return options, store


def test_the_shipped_settings_over_real_servers(
    doctor: Doctor, shipped: tuple[dict[tuple[str, str], str], dict[str, Any]], postgres_server: PostgresServer
) -> None:
    options, store = shipped
    code, document = doctor("--rows", "10000", options=options, store=store)
    assert rules(document) == set() and code == 0, document["problems"]
    assert rules(document, "warning", "note") == {
        "api", "pools", "ledger.revision", "core.auth_manager", "core.execution_api_server_url",
    }, document["problems"]  # fmt: skip
    import psycopg

    with psycopg.connect(options["dataops", "ledger"]) as ledger:
        assert ledger.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,), "only looked at"


def test_an_airflow_that_cannot_start(tmp_path: Path) -> None:
    """A bare `postgresql://` makes Airflow look for a second driver. In a process of its own: here it has started already."""
    (tmp_path / "shop.yaml").write_text(ROWS)
    address = f"postgresql://u:{SECRETS[0]}@127.0.0.1:1/x"
    options = {variable("database", "sql_alchemy_conn"): address, "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        (sys.executable, "-m", "dag_factory.cli", "doctor", "--json", "--inventory", str(tmp_path)), capture_output=True, text=True,
        env=os.environ | options, timeout=120, check=False,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert done.returncode == 1 and SECRETS[0] not in done.stdout + done.stderr
    (found,) = document["problems"]
    assert found["code"] == "airflow"
    assert found["found"] == "package asyncpg is not installed" and "SQL_ALCHEMY_CONN_ASYNC" in found["fix"]


def test_systems_that_do_not_answer_or_refuse(
    doctor: Doctor, shipped: tuple[dict[tuple[str, str], str], dict[str, Any]], s3_bucket: str
) -> None:
    options, store = shipped
    down = f"127.0.0.1:{closed_port()}"
    code, document = doctor(
        options=options | {
            ("dataops", "ledger"): f"postgresql://u:{SECRETS[0]}@{down}/ledger",
            ("celery", "broker_url"): f"redis://:{SECRETS[1]}@{down}/0",
            ("database", "sql_alchemy_conn"): f"postgresql+psycopg://u:{SECRETS[0]}@{down}/airflow",
            ("dataops", "lake"): "s3://no-such-bucket-of-ours/lake",
        },
        store=store,
    )  # fmt: skip
    assert code == 3
    assert rules(document, "down") == {"database", "broker", "ledger"}, document["problems"]
    assert rules(document, "error") == {"lake"}, document["problems"]


def test_a_key_that_a_command_tells_is_given_and_the_command_is_not_run(doctor: Doctor, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    _, document = doctor(options={
        ("core", "fernet_key_cmd"): f"sh -c 'touch {mark}; echo {SECRETS[0]}'", ("api", "secret_key_secret"): "a-name",
    })  # fmt: skip
    found = rules(document, "error", "warning")
    assert "core.fernet_key" not in found and "api.secret_key" not in found and "api_auth.jwt_secret" in found
    assert not mark.exists()


def test_a_bundle_that_is_no_json_and_a_list_with_a_secret(doctor: Doctor) -> None:
    option = ("dag_processor", "dag_bundle_config_list")
    for value in (f"[{SECRETS[0]}", f'{{"a": "{SECRETS[0]}"}}', f'[["{SECRETS[0]}"]]'):
        code, document = doctor(options={option: value})
        assert code == 1 and "dag_processor.dag_bundle_config_list" in rules(document)


def test_verification_that_is_switched_off(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSL_NO_VERIFY", "true")
    _, document = doctor(shop_db={"conn_type": "postgres", "host": "h", "extra": {"sslmode": "disable"}})
    subjects = {problem["subject"] for problem in document["problems"] if problem["code"] == "tls.verify"}
    assert subjects == {"environment variable GIT_SSL_NO_VERIFY", "connection shop_db"}


@pytest.mark.parametrize(
    ("url", "kind", "address", "encrypted"),
    [
        ("redis://:p@[::1]:6379/0", "redis", "redis://[::1]:6379/0", False),
        ("rediss://:p@queue/0", "rediss", "rediss://queue/0", True),
        ("s3://bucket/key", "s3", "s3://bucket/key", None),
        ("/srv/lake", "file", "/srv/lake", None),
        ("redis://:12/34@queue/0", "unknown", "an address that cannot be read", None),
        ("redis://:p#4@queue/0", "unknown", "an address that cannot be read", None),
        ("redis://:p?4@queue/0", "unknown", "an address that cannot be read", None),
        ("http://[half/x", "unknown", "an address that cannot be read", None),
        ("http://host:99999/x", "unknown", "an address that cannot be read", None),
    ],
)  # fmt: skip
def test_what_an_address_says(url: str, kind: str, address: str, encrypted: bool | None) -> None:
    place = place_of(url)
    assert (place.kind, place.address, place.encrypted) == (kind, address, encrypted)


@pytest.mark.parametrize(
    ("url", "kind", "address", "encrypted"),
    [
        ("postgresql://u:p@db.org:5432/air?sslmode=verify-full", "postgresql", "postgresql://db.org:5432/air", True),
        ("postgres://u:p@db/airflow", "postgresql", "postgresql://db/airflow", False),
        ("postgresql+psycopg2://u:p@db/airflow?sslmode=disable", "postgresql", "postgresql://db/airflow", False),
        ("postgresql://u:12/34#5?6@db/airflow", "postgresql", "postgresql://db/airflow", False),
        ("mysql+pymysql://u:p@db/airflow", "mysql", "mysql://db/airflow", None),
        ("sqlite:////var/x.db?timeout=60", "sqlite", "sqlite:////var/x.db", None),
        ("not a url", "unknown", "an address that cannot be read", None),
        ("", "", "", None),
    ],
)  # fmt: skip
def test_what_the_address_of_a_database_says(url: str, kind: str, address: str, encrypted: bool | None) -> None:
    place = database_of(url)
    assert (place.kind, place.address, place.encrypted) == (kind, address, encrypted)


def test_one_database_by_two_names() -> None:
    assert same_database("postgresql://a:b@db/x", "postgresql+psycopg2://c@db:5432/x?sslmode=require")
    assert not same_database("postgresql://a:b@db/x", "postgresql://a:b@db/y")
    assert not same_database("", "")


def test_a_probe_that_never_ends_does_not_hold_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("dag_factory.doctor.probes.ANSWER_SECONDS", 0.3)
    never = threading.Event()
    answers = asked({"slow": (Place("x"), never.wait), "quick": (Place("y"), lambda: None)})
    never.set()
    assert (answers["slow"].state, answers["quick"].state) == ("down", "good")
    assert "no answer in" in answers["slow"].said


def test_a_driver_that_is_missing_and_an_address_that_is_none_are_wrong_not_down() -> None:
    def absent() -> None:
        raise ModuleNotFoundError("no", name="psycopg2")

    answers = asked({"driver": (Place("x"), absent), "address": (place_of("http://[half"), lambda: None)})
    assert [answers[name].state for name in ("driver", "address")] == ["wrong", "wrong"]
    assert "psycopg2 is not installed" in answers["driver"].said


def test_queues_are_asked_at_their_first_host() -> None:
    connects("sqs://key:secret@")
    with socket.socket() as server, pytest.raises(ConnectionRefusedError):
        server.bind(("127.0.0.1", 0))
        connects(f"sentinel://127.0.0.1:{server.getsockname()[1]};sentinel://127.0.0.2:1")


def test_the_rows_of_the_test_are_good(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(ROWS)
    assert read_inventory(tmp_path).errors == ()
