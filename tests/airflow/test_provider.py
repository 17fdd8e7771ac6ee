"""What Airflow sees of the provider: valid, found by its entry points, light, and the generated reference fresh."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jsonschema

from airflow_dataops.get_provider_info import get_provider_info
from airflow_dataops.operators.reference import pages
from airflow_dataops.settings import OPTIONS

ROOT = Path(__file__).parents[2]


def test_valid_by_airflows_own_schema() -> None:
    import airflow

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_found_by_entry_points() -> None:
    groups = {"apache_airflow_provider": "provider_info", "airflow.plugins": "dataops"}
    for group, name in groups.items():
        mine = [e for e in metadata.entry_points(group=group) if e.dist and e.dist.name == "airflow-dataops"]
        assert [e.name for e in mine] == [name]
        mine[0].load()


def test_airflow_knows_connection_types_settings_and_timetable() -> None:
    from airflow import plugins_manager
    from airflow.providers_manager import ProvidersManager
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    manager = ProvidersManager()
    assert "airflow-dataops" in manager.providers
    hook = ProvidersManagerTaskRuntime().hooks["dataops_key"]
    assert hook is not None and hook.hook_name == "DataOps: privacy key"
    assert set(dict(manager.provider_configs)["airflow-dataops"]["dataops"]["options"]) == {o.name for o in OPTIONS}
    assert "airflow_dataops.plugins.timetable.PeriodTimetable" in plugins_manager.get_timetables_plugins()


def test_every_named_module_and_class_exists() -> None:
    info = get_provider_info()
    for entry in (*info["operators"], *info["hooks"]):
        for module in entry["python-modules"]:
            importlib.import_module(module)
    classes = [*info["notifications"], *(c["hook-class-name"] for c in info["connection-types"])]
    for name in [*classes, *(p["plugin-class"] for p in info["plugins"])]:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


HEAVY = ("pyarrow", "numpy", "duckdb", "boto3", "fastavro", "alembic.command", "xxhash", "adbc_driver_manager", "pandas")


def test_parse_time_imports_stay_light() -> None:
    """The plugin and the provider info are imported by every process of Airflow, the factory by every parse and task."""
    statements = (
        "import airflow_dataops.plugins.dataops, airflow_dataops.get_provider_info",
        "import dag_factory.render, dag_factory.loader, dag_factory.plan",
    )
    # What Airflow itself has loaded by then is not ours to answer for.
    code = (
        "import sys, airflow.sdk, airflow.timetables.trigger, airflow.serialization.serialized_objects\n"
        f"before = set(sys.modules)\n{'; '.join(statements)}\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_reference_pages_are_fresh() -> None:
    for name, text in pages().items():
        written = (ROOT / "docs/reference" / name).read_text()
        assert written == text, f"{name} is old: python -m airflow_dataops.operators.reference docs/reference"
