"""What Airflow's own configuration says: the only file of the doctor that imports Airflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from dag_factory.doctor.finding import words_of

_DEFAULTS = ("default", "provider-metadata-fallback-defaults", "provider-cfg-fallback-defaults")


@dataclass(frozen=True, slots=True)
class AirflowFacts:
    """`options` holds nothing sensitive; the two addresses do, so `repr` leaves them out."""

    options: Mapping[str, str]
    given: frozenset[str]
    bundles: tuple[Mapping[str, Any], ...]
    bundle_error: str
    timetable: bool
    airflow_error: str
    database: str = field(repr=False)
    broker: str = field(repr=False)


def airflow_facts() -> AirflowFacts:
    """The configuration of this process, with where its values come from; nothing outside is asked."""
    options: dict[str, str] = {}
    given: set[str] = set()
    secret = conf.sensitive_config_values
    # Commands and secrets backends are not called: that one is named tells enough. What is sensitive is dropped right here.
    shown = conf.as_dict(display_source=True, display_sensitive=True, include_cmds=False, include_secret=False)
    for section, values in shown.items():
        for name, (value, source) in values.items():
            option = f"{section}.{name}".lower()
            base, _, how = name.lower().rpartition("_")
            if how in ("cmd", "secret") and (section, base) in secret:
                given.add(f"{section}.{base}")
                continue
            if (section, name.lower()) not in secret:
                options[option] = str(value)
            if source not in _DEFAULTS and str(value).strip():
                given.add(option)
    bundles, error = _bundles(options.get("dag_processor.dag_bundle_config_list", "[]"))
    timetable, airflow_error = _timetable()
    return AirflowFacts(
        options=options, given=frozenset(given), bundles=bundles, bundle_error=error, timetable=timetable,
        airflow_error=airflow_error,
        database=_address("database", "sql_alchemy_conn"), broker=_address("celery", "broker_url"),
    )  # fmt: skip


def _bundles(text: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    try:
        entries = json.loads(text or "[]")
    except ValueError:
        return (), "no JSON"
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return (), "no list of bundles"
    return tuple(entries), ""


def _address(section: str, name: str) -> str:
    try:
        return str(conf.get(section, name, fallback="") or "")
    except AirflowConfigException:  # a command or a secrets backend that does not answer
        return ""


def _timetable() -> tuple[bool, str]:
    """Whether our timetable is registered, and what keeps Airflow's plugins from being loaded."""
    try:
        from airflow.plugins_manager import get_timetables_plugins

        return any(name.endswith(".PeriodTimetable") for name in get_timetables_plugins()), ""
    except Exception as error:  # noqa: BLE001 - of whatever a plugin imports
        return True, words_of(error)
