"""Rules about how the inventory becomes DAGs and how their tasks run: bundles, executor, pools, versions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dag_factory.doctor.facts import Facts
from dag_factory.doctor.finding import Finding, Severity, about, named

BUNDLES = "dag_processor.dag_bundle_config_list"
CLASSPATH = "dag_factory.bundle.InventoryBundle"
ROWS_OF_A_FOLDER = 300
"""From so many rows on a file of the dags folder that loads all of them is the wrong way."""
ROWS_OF_A_SHARD, MOST_OF_A_SHARD = 50, 200
ROWS_OF_ONE_MACHINE = 500
BAD_CELERY = (5, 7)
OLDEST = {"python": (3, 11), "apache-airflow-core": (3, 3), "apache-airflow-providers-celery": (3, 13)}
FIRST_UNKNOWN_AIRFLOW = (4,)


def bundles(facts: Facts) -> Iterator[Finding]:
    """Whether an InventoryBundle makes the DAGs, once."""
    entry = f'an entry {{"name": "inventory", "classpath": "{CLASSPATH}", "kwargs": {{...}}}}'
    if facts.bundle_error:
        yield about(BUNDLES, "error", facts.bundle_error, "a JSON list of bundles", "Without it no DAG is shown.")
    elif not facts.ours and not facts.loader_files:
        yield about(BUNDLES, "error", "no InventoryBundle, and no file of the dags folder that loads the inventory", entry,
                    "No row of the inventory becomes a DAG.")  # fmt: skip
    elif not facts.ours and facts.rows > ROWS_OF_A_FOLDER:
        severity: Severity = "error" if facts.rows > 3 * ROWS_OF_A_FOLDER else "warning"
        yield about(
            BUNDLES, severity, f"{facts.loader_files[0]} loads all {facts.rows:,} rows", entry,
            "A file of the dags folder is parsed as a whole for each edit, and runs do not keep the version they began with.",
        )
    if facts.ours and facts.loader_files:
        yield about(
            BUNDLES, "error", f"an InventoryBundle, and {facts.loader_files[0]} loads the inventory too", "one of the two",
            "The same DAG in two bundles changes hands at every parse.",
        )
    names = [bundle.name for bundle in facts.bundles]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield about(BUNDLES, "error", f"two bundles called {twice!r}", "a name of its own each", "One replaces the other.")
    of: dict[str, list[str]] = {}
    for bundle in facts.ours:
        of.setdefault(bundle.inventory, []).append(bundle.name)
    for same in (sharing for sharing in of.values() if len(sharing) > 1):
        yield about(BUNDLES, "error", f"bundles {' and '.join(same)} of one inventory", "one per inventory",
                    "Each of its DAGs would be in both.")  # fmt: skip


def bundle_options(facts: Facts) -> Iterator[Finding]:
    """Shards, refresh, versions of each InventoryBundle."""
    for bundle in facts.ours:
        per_file = math.ceil(facts.rows / len(facts.ours) / bundle.shards)
        if per_file > ROWS_OF_A_SHARD:
            yield Finding(
                "bundle.shards", "error" if per_file > MOST_OF_A_SHARD else "warning", f"shards of bundle {bundle.name}",
                f"{bundle.shards}, {per_file} rows in a file", f"25 to {ROWS_OF_A_SHARD} rows in a file",
                "An edited row is parsed with all others of its file.",
                f"A new fleet: set shards to {2 ** math.ceil(math.log2(facts.rows / len(facts.ours) / ROWS_OF_A_SHARD))}. One that "
                "has run keeps its number for ever: spread its domains over more bundles instead.",
            )
        if "/" in bundle.name:
            yield about(BUNDLES, "error", f"bundle name {bundle.name!r}", "no slash in it", "Its lock file is named after it.")
        refresh = bundle.refresh_seconds if bundle.refresh_seconds is not None else facts.number("dag_processor.refresh_interval")
        if refresh is not None and refresh > 60:
            yield Finding(
                "bundle.refresh_interval", "warning", f"refresh_interval of bundle {bundle.name}", f"{refresh:g} seconds",
                "5 to 60", "An edit of the inventory is not seen before.", 'Set "refresh_interval": 5 in the kwargs of the bundle.',
            )  # fmt: skip
    if facts.ours and facts.true("dag_processor.disable_bundle_versioning"):
        yield about("dag_processor.disable_bundle_versioning", "error", "true", "false",
                    "A run would change its rows in the middle when the inventory is edited.", value="False")  # fmt: skip
    sort = facts.options.get("dag_processor.file_parsing_sort_mode", "modified_time")
    if facts.ours and sort != "modified_time":
        yield about(
            "dag_processor.file_parsing_sort_mode", "warning", sort, "modified_time",
            "An edited row waits until all files had their turn.", value="modified_time", where="the DAG processor",
        )  # fmt: skip
    if facts.ours and facts.rows > 5000 and facts.true("core.dag_discovery_safe_mode"):
        yield about("core.dag_discovery_safe_mode", "note", "true", "false for the bundle's own DAG processor",
                    "Every file is searched for words first; the bundle holds nothing but DAG files.", value="False")  # fmt: skip


def executor(facts: Facts) -> Iterator[Finding]:
    """Whether the tasks of so many rows run on one machine, and how workers reach the API server."""
    if "LocalExecutor" in facts.executor and facts.rows > ROWS_OF_ONE_MACHINE:
        severity: Severity = "error" if facts.rows > 10 * ROWS_OF_ONE_MACHINE else "warning"
        yield about("core.executor", severity, facts.executor, f"CeleryExecutor or KubernetesExecutor for {facts.rows:,} rows",
                    "All tasks share one machine with the scheduler, and end with it.", value="CeleryExecutor")  # fmt: skip
    if not facts.distributed:
        return
    url = facts.options.get("core.execution_api_server_url") or facts.options.get("api.base_url", "")
    if not url or "://localhost" in url or "://127." in url:
        yield about(
            "core.execution_api_server_url", "warning", url, "the API server's address as workers reach it",
            "A worker on another machine would look for the API server on itself, and no task could start.",
            value="http://<api-server>:8080/execution/",
        )
    if not facts.true("logging.remote_logging") and "Kubernetes" in facts.executor:
        yield about("logging.remote_logging", "warning", "false", "true", "A task's log ends with its pod.", value="True")


def celery(facts: Facts) -> Iterator[Finding]:
    """What only CeleryExecutor needs."""
    if not facts.celery:
        return
    if "celery.broker_url" not in facts.given:
        yield about("celery.broker_url", "error", "", "the address of Redis or RabbitMQ", "Workers get their tasks from it.")
    version = _version(facts.versions.get("celery", ""))
    if not version:
        yield Finding("celery", "error", "package celery", "not installed", "celery below 5.7", "CeleryExecutor needs it.",
                      "Install airflow-dataops[celery] in every component.")  # fmt: skip
    elif version >= BAD_CELERY:
        yield Finding("celery", "error", "package celery", facts.versions["celery"], "below 5.7",
                      "5.7 breaks Airflow's celery provider with a misleading message.", "Install celery<5.7.")  # fmt: skip


def pools(facts: Facts) -> Iterator[Finding]:
    """A task in a pool that does not exist waits for ever."""
    parallelism = facts.number("core.parallelism") or 32
    if facts.pools is None:
        if facts.pools_named:
            yield Finding(
                "pools", "note", "pools", "Airflow was not asked", f"{len(facts.pools_named)} pools that rows name",
                "A task in a pool that does not exist waits for ever.",
                "Start the API server, and give the connection of [dataops] airflow_conn_id, for `dataops doctor` to look.",
            )
        return
    missing = sorted(facts.pools_named - facts.pools.keys())
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        # The bundle makes them, before its DAGs are shown; it has not got there yet, or somebody has just deleted them.
        yield Finding(
            "pools", "warning" if facts.ours else "error", "pools", f"{shown}: not in Airflow", "every pool that rows name",
            "A task in a pool that does not exist waits for ever.",
            "The DAG processor makes them: start it, or look into its log." if facts.ours
            else "Create each: airflow pools set NAME SLOTS DESCRIPTION.",
        )  # fmt: skip
    default = facts.pools.get("default_pool")
    if default is not None and 0 <= default < parallelism and facts.rows > 100:
        yield Finding(
            "default_pool", "warning", "pool default_pool", f"{default} slots", f"{parallelism:g} or more",
            "Rows without a pool of their own run in it, and some of [core] parallelism could never be used.",
            f"airflow pools set default_pool {parallelism:g} default",
        )  # fmt: skip


def installation(facts: Facts) -> Iterator[Finding]:
    """Entry points, plugin, timetable, versions."""
    again = "Install the wheel of airflow-dataops in every component, and start them again."
    if facts.airflow_error:
        yield cannot_start(facts.airflow_error)
    if not facts.provider:
        yield Finding("provider", "error", "entry point apache_airflow_provider", "not there", "airflow-dataops",
                      "Airflow does not know connection types, settings and commands of the product.", again)  # fmt: skip
    if not facts.plugin:
        yield Finding("plugin", "error", "entry point airflow.plugins", "not there", "dataops",
                      "The scheduler cannot read the timetable of the DAGs.", again)  # fmt: skip
    if not facts.timetable:
        yield Finding("timetable", "error", "timetable PeriodTimetable", "not registered by a plugin", "registered",
                      "The scheduler cannot read the timetable of the DAGs.",
                      "Look at `airflow plugins` and its import errors; a plugin may be broken.")  # fmt: skip
    for package, oldest in OLDEST.items():
        text = facts.versions.get(package, "")
        if text and _version(text) < oldest:
            needed = ".".join(map(str, oldest))
            yield Finding("versions", "error", package, text, f"{needed} or later", "Older ones lack what the product uses.",
                          f"Install {package} {needed} or later in every component.")  # fmt: skip
    airflow = facts.versions.get("apache-airflow-core", "")
    if airflow and _version(airflow) >= FIRST_UNKNOWN_AIRFLOW:
        yield Finding("versions", "error", "apache-airflow-core", airflow, "below 4", "It was never tried.",
                      "Use Airflow 3, from 3.3 on.")  # fmt: skip
    if facts.true("core.load_examples"):
        yield about("core.load_examples", "warning", "true", "false", "Airflow's example DAGs stand among yours.", value="False")
    if facts.dead_after_seconds <= facts.longest_timeout_seconds:
        yield Finding(
            "dataops.dead_after_seconds", "error", named("dataops.dead_after_seconds"), str(facts.dead_after_seconds),
            f"more than {facts.longest_timeout_seconds}, the longest limits.timeout_seconds",
            "A writer that is still at work would be taken for dead.", "Set AIRFLOW__DATAOPS__DEAD_AFTER_SECONDS higher.",
        )  # fmt: skip


def cannot_start(said: str) -> Finding:
    """About an Airflow whose own start fails: nothing else can be looked at before."""
    fix = "See what `airflow version` says."
    if "asyncpg" in said:
        fix = "Set AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC to the address of the database as postgresql+psycopg://..., not bare."
    return Finding("airflow", "error", "Airflow", said, "it starts", "No component of it can run.", fix)


def _version(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split("."):
        digits = part[: next((n for n, c in enumerate(part) if not c.isdigit()), len(part))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
