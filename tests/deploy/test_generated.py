"""docker-compose.yaml, the Helm values and the tables of docs/deploy.md are made from one list, and hold together."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dag_factory.deployment import __main__ as deployment
from dag_factory.deployment.helm import AIRFLOW
from dag_factory.deployment.local import SECRETS, new_secrets
from dag_factory.deployment.processes import COMPONENTS, SERVERS, WORKERS
from dag_factory.deployment.settings import SETTINGS, Site, bundle_entry, place_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_KEYS = {
    "image", "build", "environment", "volumes", "configs", "restart", "init", "command", "entrypoint", "depends_on", "hostname",
    "stop_grace_period", "ports", "healthcheck",
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def helm() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docs" / "helm-values.yaml").read_text())  # type: ignore[no-any-return]


def test_what_is_made_is_fresh() -> None:
    stale = [file.name for file, text in deployment.made(ROOT).items() if file.read_text("utf-8") != text]
    assert not stale, f"run: python -m dag_factory.deployment ({stale})"


def test_an_installation_is_complete() -> None:
    commands = [component.command[0] for component in COMPONENTS]
    assert sorted(commands) == ["api-server", "celery", "celery", "dag-processor", "scheduler", "triggerer"]
    assert {server.name for server in SERVERS} == {"postgres", "redis", "s3", "kafka", "hive-metastore"}


def test_compose_runs_the_list_and_nothing_else(compose: dict[str, Any]) -> None:
    services = compose["services"]
    listed = {component.name: list(component.command) for component in COMPONENTS}
    assert set(services) == {*listed, *(server.name for server in SERVERS), "migrate", "buckets"}
    assert {name: services[name]["command"] for name in listed} == listed
    environments = {json.dumps(services[name]["environment"], sort_keys=True) for name in (*listed, "migrate")}
    assert len(environments) == 1, "one configuration for all components"
    hosts = [services[worker]["hostname"] for worker in WORKERS]
    assert len(set(hosts)) == len(WORKERS)


def test_compose_holds_together(compose: dict[str, Any]) -> None:
    """What its schema says of the keys in use, and what it cannot say: every name leads somewhere."""
    services = compose["services"]
    for name, service in services.items():
        assert set(service) <= COMPOSE_KEYS, name
        for needed, how in service.get("depends_on", {}).items():
            ends = {"service_healthy": "healthcheck" in services[needed], "service_completed_successfully": True}
            assert ends[how["condition"]], (name, needed)
            assert how["condition"] != "service_completed_successfully" or services[needed].get("restart", "no") == "no"
        assert {entry["source"] for entry in service.get("configs", [])} <= set(compose["configs"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), volume
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", service["image"]), service["image"]


def test_no_worker_starts_before_the_api_server_answers(compose: dict[str, Any]) -> None:
    assert all(component.after == ("api-server",) for component in COMPONENTS if component.name in WORKERS)
    for worker in WORKERS:
        assert compose["services"][worker]["depends_on"]["api-server"] == {"condition": "service_healthy"}


def test_compose_holds_no_secret_and_starts_without_none(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("$$", "")
    named = re.findall(r"\$\{(\w+)(:\?)?\}", body)
    assert {name for name, _ in named} == set(SECRETS)
    assert all(needed for _, needed in named), "an empty secret must stop the start"
    assert re.findall(r"\$\w+", body) == []
    for url in re.findall(r"\w+://[^\s\"']*@", body):
        assert "${" in url.rpartition(":")[2] or re.search(r"\$\{\w+:\?\}@$", url), url


def test_fresh_secrets_are_whole_and_differ(capsys: pytest.CaptureFixture[str]) -> None:
    from cryptography.fernet import Fernet

    assert deployment.main(["secrets"]) == 0
    printed = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert set(printed) == set(SECRETS)
    again = new_secrets()
    assert all(printed[name] != again[name] and len(printed[name]) >= 32 for name in SECRETS)
    Fernet(printed["FERNET_KEY"])
    # They stand in URLs and in a file of compose's as they are.
    assert all(re.fullmatch(r"[\w=-]+", value) for value in printed.values())


def test_airflow_knows_every_setting() -> None:
    from airflow.configuration import conf

    known = {(section, option) for section, options in conf.configuration_description.items() for option in options["options"]}
    from airflow.providers.celery.get_provider_info import get_provider_info

    for section, options in get_provider_info()["config"].items():
        known |= {(section, option) for option in options["options"]}
    from airflow_dataops.settings import OPTIONS

    known |= {("dataops", option.name) for option in OPTIONS}
    site = Site("postgresql://h/a", "redis://h", "postgresql://h/l", "http://h", "/i", "/s", "/l", "/d", "store")
    used = {(setting.section, setting.option) for setting in SETTINGS} | set(place_settings(site))
    assert used - known == set()


def test_the_bundle_is_one_that_can_be_made() -> None:
    from dag_factory.bundle import InventoryBundle

    site = Site("postgresql://h/a", "redis://h", "postgresql://h/l", "http://h", "/i", "/s", "/l", "/d", "store")
    entry = bundle_entry(site)
    assert entry["classpath"] == f"dag_factory.bundle.{InventoryBundle.__name__}"
    bundle = InventoryBundle(name=str(entry["name"]), **entry["kwargs"])  # type: ignore[arg-type]
    assert (bundle.inventory, bundle.snapshots_uri, bundle.snapshots_conn_id) == ("/i", "/s", "store")
    assert bundle._ignored == []


def test_helm_values_hold_the_settings_and_no_secret(helm: dict[str, Any]) -> None:
    for setting in SETTINGS:
        if setting.option != "executor":
            assert helm["config"][setting.section][setting.option] == setting.value
    assert helm["executor"] == "CeleryExecutor" and helm["workers"]["replicas"] == len(WORKERS)
    assert helm["dagProcessor"]["enabled"] is True and "--bundle-name inventory" in helm["dagProcessor"]["args"][-1]
    (entry,) = json.loads(helm["config"]["dag_processor"]["dag_bundle_config_list"])
    assert entry["kwargs"]["snapshots"].startswith("s3://")
    text = (ROOT / "docs" / "helm-values.yaml").read_text()
    assert re.findall(r"(?i)(password|secret_key|fernet_key|jwt_secret): *\S", text) == []
    assert helm["createUserJob"]["defaultUser"]["enabled"] is False, "the chart's own would be admin with a known password"


def test_the_image_takes_every_version_from_the_lock() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (script,) = re.findall(r"^RUN (sed .*?) requirements\.lock > constraints", text, re.MULTILINE)
    done = subprocess.run(["sh", "-c", f"{script} requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=True)
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^[A-Za-z0-9._-]+==[^\s;]+", lock, re.MULTILINE)
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == pinned and len(pinned) > 100
    assert "--hash" not in done.stdout and "\\" not in done.stdout
    extras = re.search(r"\[([\w,]+)\]\"", text)
    assert extras is not None
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(known) and "celery" in extras[1]
    airflow = re.search(r"^apache-airflow-core==(\S+)", lock, re.MULTILINE)
    assert airflow is not None and airflow[1] == AIRFLOW
    assert set(re.findall(r"^FROM apache/airflow:slim-([\d.]+)-python3\.\d+", text, re.MULTILINE)) == {AIRFLOW}
    copied = re.findall(r"^COPY --chown=\S+ (.*) ", text, re.MULTILINE)
    allowed = (ROOT / ".dockerignore").read_text()
    assert all(f"!{name}" in allowed for names in copied for name in names.split())
