"""docker-compose.yaml, from the list of processes and the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dag_factory.deployment.processes import API_PORT, COMPONENTS, HEALTH_PATH, SERVERS, Component, Server
from dag_factory.deployment.settings import Site, fixed_settings, place_settings, variable
from dag_factory.deployment.yaml_text import yaml_text

IMAGE = "airflow-dataops:local"
STORE = "store"
BUCKET = "s3://dataops"
LEDGER_USER = "dataops"
LOGIN_FILE = "/opt/airflow/login.json"
_LOGIN_START = f"umask 077; cp /run/login.json {LOGIN_FILE}; exec airflow \"$$@\""
"""Airflow writes to the file of its logins, and what compose mounts cannot be written."""
_COMPOSE_SITE = Site(
    database="postgresql://airflow:${POSTGRES_PASSWORD}@postgres:5432/airflow",
    broker="redis://:${REDIS_PASSWORD}@redis:6379/0",
    ledger=f"postgresql://{LEDGER_USER}:${{LEDGER_PASSWORD}}@postgres:5432/dataops",
    api=f"http://api-server:{API_PORT}",
    inventory="/opt/dataops/inventory",
    snapshots=f"{BUCKET}/snapshots",
    lake=f"{BUCKET}/lake",
    dead_letters=f"{BUCKET}/dead-letters",
    store_conn_id=STORE,
)

_HEADER = """\
# A production-like installation on one machine. Made by `python -m dag_factory.deployment` from the list of processes in
# dag_factory/deployment; do not edit. Checked against the compose schema; it was never run, because no container engine
# was at hand. How to start it, and what each setting is for: docs/deploy.md. Without an engine: `make fleet`.
#
# Every ${NAME} is a secret; `python -m dag_factory.deployment secrets > .env` makes them. Ports are open to this machine only.
"""


def compose_text() -> str:
    """The whole file."""
    airflow = yaml_text({"x-airflow": _airflow()}).replace("x-airflow:", "x-airflow: &airflow", 1)
    services = {server.name: _server(server) for server in SERVERS}
    services["postgres"]["configs"] = [{"source": "ledger", "target": "/docker-entrypoint-initdb.d/ledger.sh"}]
    services["postgres"]["environment"] |= {"LEDGER_PASSWORD": "${LEDGER_PASSWORD:?}"}  # for that script
    services["buckets"] = {  # a bucket of this server is a folder
        "image": "busybox:1.37", "command": ["mkdir", "-p", f"/data/{BUCKET.removeprefix('s3://')}"],
        "volumes": ["s3-data:/data"],
    }  # fmt: skip
    services["migrate"] = _step(["db", "migrate"], {"postgres": "service_healthy"})
    services |= {component.name: _component(component) for component in COMPONENTS}
    # YAML's merge key cannot be written from Python's data: the line is put in.
    text = yaml_text({"services": services}).replace("    merge: airflow\n", "    <<: *airflow\n")
    volumes = yaml_text({
        "volumes": {f"{server.name}-data": {} for server in SERVERS if server.volume} | {"logs": {}},
        "configs": {
            "ledger": {"content": _ledger_script()},
            "login": {"content": '{"admin": "${ADMIN_PASSWORD:?}"}\n'},
        },
    })  # fmt: skip
    return f"{_HEADER}\nname: airflow-dataops\n\n{airflow}\n{text}\n{volumes}"


def _ledger_script() -> str:
    return (
        "psql --username \"$$POSTGRES_USER\" --set password=\"$$LEDGER_PASSWORD\" <<'SQL'\n"
        "CREATE ROLE dataops LOGIN PASSWORD :'password';\nCREATE DATABASE dataops OWNER dataops;\nSQL\n"
    )


def _airflow() -> dict[str, Any]:
    options = fixed_settings() | place_settings(_COMPOSE_SITE) | {
        ("core", "fernet_key"): "${FERNET_KEY}",
        ("api", "secret_key"): "${API_SECRET_KEY}",
        ("api_auth", "jwt_secret"): "${JWT_SECRET}",
        ("core", "simple_auth_manager_users"): "admin:admin",
        ("core", "simple_auth_manager_passwords_file"): LOGIN_FILE,
        ("logging", "base_log_folder"): "/opt/airflow/logs",
    }  # fmt: skip
    store = {
        "conn_type": "aws", "login": "${S3_ACCESS_KEY}", "password": "${S3_SECRET_KEY}",
        "extra": {"endpoint_url": "http://s3:7070", "region_name": "us-east-1"},
    }  # fmt: skip
    environment = {variable(*option): _required(value) for option, value in options.items()}
    environment |= {f"AIRFLOW_CONN_{STORE.upper()}": _required(json.dumps(store))}
    return {
        "image": IMAGE,
        "build": {"context": "."},
        "environment": environment,
        "volumes": ["./inventory:/opt/dataops/inventory:ro", "logs:/opt/airflow/logs"],
        "restart": "unless-stopped",
        "init": True,
    }


def _required(value: str) -> str:
    """`${NAME}` as compose's `${NAME:?}`: a secret that is not set stops the start instead of being empty."""
    parts = value.split("${")
    return parts[0] + "".join("${" + part.replace("}", ":?}", 1) for part in parts[1:])


def _server(server: Server) -> dict[str, Any]:
    made: dict[str, Any] = {"image": server.image, "restart": "unless-stopped"}
    if server.environment:
        made["environment"] = {name: _required(value) for name, value in server.environment.items()}
    if server.command:
        made["command"] = [_required(word) for word in server.command]
    if server.ports:
        made["ports"] = [f"127.0.0.1:{port}:{port}" for port in server.ports]
    if server.volume:
        made["volumes"] = [f"{server.name}-data:{server.volume}"]
    if server.health:
        made["healthcheck"] = {"test": ["CMD", *server.health], "interval": "5s", "retries": 30}
    return made


def _component(component: Component) -> dict[str, Any]:
    made = _step(list(component.command), {"migrate": "service_completed_successfully", "redis": "service_healthy",
                                           "buckets": "service_completed_successfully",
                                           **dict.fromkeys(component.after, "service_healthy")})  # fmt: skip
    made.pop("restart")
    made["hostname"] = component.name
    made["stop_grace_period"] = f"{component.stop_seconds}s"
    if component.port:
        made["entrypoint"] = ["sh", "-c", _LOGIN_START, "airflow"]
        made["configs"] = [{"source": "login", "target": "/run/login.json"}]
        made["ports"] = [f"127.0.0.1:{component.port}:{component.port}"]
        look = f"import urllib.request; urllib.request.urlopen('http://localhost:{component.port}{HEALTH_PATH}', timeout=5)"
        made["healthcheck"] = {
            "test": ["CMD", "python", "-c", look], "interval": "5s", "timeout": "10s", "start_period": "60s", "retries": 12,
        }  # fmt: skip
    return made


def _step(command: list[str], needs: Mapping[str, str]) -> dict[str, Any]:
    return {
        "merge": "airflow", "command": command, "restart": "no",
        "depends_on": {name: {"condition": condition} for name, condition in needs.items()},
    }  # fmt: skip
