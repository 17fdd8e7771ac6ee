"""Airflow's settings for a big fleet, each with its reason: what every installation of ours gets.

`dataops doctor` finds nothing to say about them at 10,000 rows (a test holds that).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from dag_factory.deployment.processes import BUNDLE, WORKER_SLOTS, WORKERS

REFRESH_SECONDS = 5
VISIBILITY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of Airflow's configuration and why it has this value."""

    section: str
    option: str
    value: str
    why: str

    @property
    def variable(self) -> str:
        return variable(self.section, self.option)


def variable(section: str, option: str) -> str:
    """The environment variable that Airflow reads for an option."""
    return f"AIRFLOW__{section.upper()}__{option.upper()}"


SETTINGS: tuple[Setting, ...] = (
    Setting("core", "executor", "CeleryExecutor", "tasks run on other machines than the scheduler, on as many as are needed"),
    Setting(
        "core", "parallelism", str(WORKER_SLOTS * len(WORKERS)),
        "slots of all workers together: more would wait in the queue, where neither pools nor priorities reach them",
    ),
    Setting("core", "load_examples", "False", "only the inventory's DAGs"),
    Setting(
        "core", "min_serialized_dag_update_interval", "0",
        "a second edit within 30 s would be dropped, and as files are parsed when they change, nobody would look again",
    ),
    Setting("core", "dag_discovery_safe_mode", "False", "the bundle holds nothing but our files: none needs to be searched"),
    Setting(
        "dag_processor", "min_file_process_interval", "3600",
        "writing an unchanged DAG costs 10 ms in one thread: 10,000 of them take 100 s, and every 30 s is the default. A changed "
        "file is parsed at once in any case",
    ),
    Setting("dag_processor", "file_parsing_sort_mode", "modified_time", "what was edited is parsed first"),
    Setting("dag_processor", "bundle_refresh_check_interval", "2", "how often `refresh_interval` of the bundle is looked at"),
    Setting("dag_processor", "stale_dag_threshold", "0", "a removed row's DAG goes with the next parse of its file"),
    Setting(
        "dag_processor", "dag_file_processor_timeout", "120",
        "a file that takes longer is killed, with an entry in the log only: no import error is shown for it",
    ),
    Setting("dag_processor", "parsing_processes", "2", "as many as cores. They build DAGs; writing them stays one thread"),
    Setting("scheduler", "parsing_cleanup_interval", "15", "how often removed DAGs are looked for"),
    Setting(
        "scheduler", "max_dagruns_to_create_per_loop", "100",
        "10 is the default: 10,000 daily rows would be a thousand loops of the scheduler, and start long after their jitter",
    ),
    Setting("scheduler", "max_dagruns_per_loop_to_schedule", "200", "a run is looked at several times before it has ended"),
    Setting("scheduler", "max_tis_per_query", "32", "tasks handed over per query; not above `[core] parallelism`"),
    Setting(
        "scheduler", "orphaned_tasks_check_interval", "60",
        "how often what a dead scheduler left is looked for; by default its tasks wait five minutes",
    ),
    Setting(
        "celery", "worker_concurrency", str(WORKER_SLOTS),
        "tasks at once per worker; each takes about 0.3 GB of memory and mostly waits for a source",
    ),
    Setting("celery", "worker_prefetch_multiplier", "1", "a worker takes no task that another one could start now"),
    Setting(
        "celery_broker_transport_options", "visibility_timeout", str(VISIBILITY_SECONDS),
        "Redis hands a task to a second worker after this time; must be longer than the longest `limits.timeout_seconds`",
    ),
    Setting("database", "sql_alchemy_pool_size", "10", "connections each component keeps"),
    Setting("database", "sql_alchemy_max_overflow", "20", "and may open beside them"),
    Setting("workers", "execution_api_timeout", "30", "a busy API server may take longer than 5 s to answer a task"),
    Setting("api", "expose_config", "False", "the configuration holds addresses, and some plugins put secrets into it"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """Where one installation's outside systems are. URLs may hold passwords, or `${NAME}` of the one who starts it."""

    database: str = field(repr=False)
    broker: str = field(repr=False)
    ledger: str = field(repr=False)
    api: str
    inventory: str
    snapshots: str
    lake: str
    dead_letters: str
    store_conn_id: str | None = None
    """Airflow connection of snapshots, lake and dead letters; None: folders that all components see."""


def place_settings(site: Site) -> dict[tuple[str, str], str]:
    """(section, option) → value: what depends on where things are."""
    url = urlsplit(site.database)
    # Both drivers by name: SQLAlchemy's and Airflow's ideas of a bare `postgresql://` differ from each other.
    database = urlunsplit(url._replace(scheme="postgresql+psycopg"))
    made = {
        ("database", "sql_alchemy_conn"): database,
        ("database", "sql_alchemy_conn_async"): database,
        ("celery", "broker_url"): site.broker,
        ("celery", "result_backend"): f"db+{database}",
        ("core", "execution_api_server_url"): f"{site.api}/execution/",
        ("dag_processor", "dag_bundle_config_list"): json.dumps([bundle_entry(site)]),
        ("dataops", "inventory"): site.inventory,
        ("dataops", "lake"): site.lake,
        ("dataops", "dead_letters"): site.dead_letters,
        ("dataops", "ledger"): site.ledger,
        ("dataops", "airflow_url"): site.api,
    }
    if site.store_conn_id:
        made |= {("dataops", "lake_conn_id"): site.store_conn_id, ("dataops", "dead_letters_conn_id"): site.store_conn_id}
    return made


def bundle_entry(site: Site) -> Mapping[str, object]:
    """The one entry of `dag_bundle_config_list`."""
    kwargs: dict[str, object] = {
        "inventory": site.inventory, "snapshots": site.snapshots, "refresh_interval": REFRESH_SECONDS,
    }  # fmt: skip
    if site.store_conn_id:
        kwargs["snapshots_conn_id"] = site.store_conn_id
    return {"name": BUNDLE, "classpath": "dag_factory.bundle.InventoryBundle", "kwargs": kwargs}


def fixed_settings() -> dict[tuple[str, str], str]:
    """(section, option) → value: what is the same everywhere."""
    return {(setting.section, setting.option): setting.value for setting in SETTINGS}


def url_with_password(scheme: str, user: str, password: str, rest: str) -> str:
    """An address with its login percent-encoded."""
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
