"""The values of Airflow's Helm chart, from the list of processes and the settings."""

from __future__ import annotations

import json

from dag_factory.deployment.processes import COMPONENTS, WORKER_SLOTS, WORKERS
from dag_factory.deployment.settings import SETTINGS, Site, bundle_entry, variable
from dag_factory.deployment.yaml_text import yaml_text

AIRFLOW = "3.3.2"
"""As locked (a test compares): what the image begins with."""
STORE = "store"
METADATA = "airflow-metadata"

_HEADER = """\
# Values for Airflow's own Helm chart (apache-airflow/airflow, written for 1.20 and later). Made by
# `python -m dag_factory.deployment` from dag_factory/deployment; do not edit. Never run: no cluster was at hand. What has
# to be there first, and what each setting is for: docs/deploy.md. Replace every example.com and every company-...
"""


def helm_text() -> str:
    """The whole values file."""
    site = Site(
        database="", broker="", ledger="", api="https://airflow.example.com", inventory="s3://company-inventory/inventory",
        snapshots="s3://company-inventory/snapshots", lake="s3://company-lake/raw",
        dead_letters="s3://company-restricted/dead-letters", store_conn_id=STORE,
    )  # fmt: skip
    config: dict[str, dict[str, str]] = {}
    for setting in SETTINGS:
        if (setting.section, setting.option) != ("core", "executor"):
            config.setdefault(setting.section, {})[setting.option] = setting.value
    config["logging"] = {
        "remote_logging": "True", "remote_base_log_folder": "s3://company-airflow-logs", "remote_log_conn_id": STORE,
    }  # fmt: skip
    config["dataops"] = {
        "lake": site.lake, "dead_letters": site.dead_letters, "lake_conn_id": STORE,
        "dead_letters_conn_id": STORE, "airflow_url": site.api,
    }  # fmt: skip
    config["dag_processor"]["dag_bundle_config_list"] = json.dumps([bundle_entry(site)])
    (processor,) = (component for component in COMPONENTS if component.command[0] == "dag-processor")
    values = {
        "airflowVersion": AIRFLOW,
        "executor": "CeleryExecutor",
        "images": {"airflow": {"repository": "registry.example.com/airflow-dataops", "tag": "0.1.0"}},
        "fernetKeySecretName": "airflow-fernet-key",
        "apiSecretKeySecretName": "airflow-api-secret-key",
        "jwtSecretName": "airflow-jwt-secret",
        "data": {"metadataSecretName": METADATA, "brokerUrlSecretName": "airflow-broker"},
        "postgresql": {"enabled": False},
        "redis": {"enabled": False},
        "secret": [
            {"envName": variable("database", "sql_alchemy_conn_async"), "secretName": METADATA, "secretKey": "connection"},
            {"envName": variable("dataops", "ledger"), "secretName": "dataops-ledger", "secretKey": "url"},
            {"envName": f"AIRFLOW_CONN_{STORE.upper()}", "secretName": "dataops-store", "secretKey": "connection"},
        ],
        "config": config,
        "apiServer": {"replicas": 2},
        "createUserJob": {"defaultUser": {"enabled": False}},
        "scheduler": {"replicas": 2},
        "dagProcessor": {
            "enabled": True,
            "replicas": 1,
            "args": ["bash", "-c", f"exec airflow {' '.join(processor.command)}"],
            "resources": {"requests": {"cpu": "2", "memory": "2Gi"}},
        },
        "triggerer": {"replicas": 1},
        "workers": {
            "replicas": len(WORKERS),
            "terminationGracePeriodSeconds": 600,
            "resources": {"requests": {"cpu": "4", "memory": f"{WORKER_SLOTS * 3 // 10 + 2}Gi"}},
        },
        "dags": {"persistence": {"enabled": False}, "gitSync": {"enabled": False}},
    }
    return f"{_HEADER}\n{yaml_text(values)}"
