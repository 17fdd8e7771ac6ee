"""What Airflow asks a provider: its name, connection types, settings and classes. Imported on every `airflow` call."""

from __future__ import annotations

from typing import Any

from airflow_dataops.settings import OPTIONS, SECTION

VERSION_ADDED = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """The provider's description in Airflow's form (`provider_info.schema.json`)."""
    return {
        "package-name": "airflow-dataops",
        "name": "DataOps",
        "description": "An inventory of data sources becomes a fleet of DAGs; every row read is accounted for.",
        "operators": [
            {
                "integration-name": "DataOps",
                "python-modules": [
                    "airflow_dataops.operators.compact",
                    "airflow_dataops.operators.discover",
                    "airflow_dataops.operators.drift_sync",
                    "airflow_dataops.operators.expire",
                    "airflow_dataops.operators.freshness",
                    "airflow_dataops.operators.load",
                    "airflow_dataops.operators.onboard",
                    "airflow_dataops.operators.partition_sync",
                    "airflow_dataops.operators.sweep",
                    "airflow_dataops.operators.verify",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": "DataOps",
                "python-modules": ["airflow_dataops.hooks.edges", "airflow_dataops.hooks.key"],
            }
        ],
        "cli": ["dag_factory.cli.under_airflow.get_cli_commands"],
        "notifications": ["airflow_dataops.operators.notify.DataOpsNotifier"],
        "plugins": [{"name": "dataops", "plugin-class": "airflow_dataops.plugins.dataops.DataOpsPlugin"}],
        "connection-types": [
            {
                "connection-type": "dataops_key",
                "hook-class-name": "airflow_dataops.hooks.key.KeyHook",
                "hook-name": "DataOps: privacy key",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "port", "login", "schema", "extra"],
                    "relabeling": {"password": "Key (16 to 64 bytes)"},
                    "placeholders": {},
                },
            },
        ],
        "config": {
            SECTION: {
                "description": "Where the inventory, the lake, the catalog and the ledger are.",
                "options": {option.name: _config_option(option) for option in OPTIONS},
            }
        },
    }


def _config_option(option: Any) -> dict[str, Any]:
    described = {
        "description": option.description,
        "version_added": VERSION_ADDED,
        "type": option.kind,
        "example": option.example,
        "default": option.default,
    }
    return {**described, "sensitive": True} if option.sensitive else described
