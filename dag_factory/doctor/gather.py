"""From a running installation to `Facts`: the inventory, the settings, Airflow's configuration, and what the systems answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from airflow_dataops.connections import resolve
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.core.platform import LakeSpec, PlatformSpec
from airflow_dataops.open_edges import open_dead_letters, open_named_lake
from airflow_dataops.settings import Settings
from dag_factory.bundle.stores import open_store
from dag_factory.doctor.airflow_facts import AirflowFacts, airflow_facts
from dag_factory.doctor.facts import Bundle, Facts, Place
from dag_factory.doctor.fleet_rules import CLASSPATH
from dag_factory.doctor.probes import Probe, asked, connects, database_of, place_of, same_database

if TYPE_CHECKING:
    from dag_factory.inventory import Inventory

PACKAGES = ("apache-airflow-core", "apache-airflow-providers-celery", "celery", "airflow-dataops")
LOADER = b"dag_factory.loader"
_MOST_LOADER_FILES, _MOST_FILE_BYTES = 2000, 1_000_000
_NOT_VERIFIED = {
    "GIT_SSL_NO_VERIFY": ("1", "true"), "PYTHONHTTPSVERIFY": ("0",), "NODE_TLS_REJECT_UNAUTHORIZED": ("0",),
}  # fmt: skip


def gather(settings: Settings, inventory: Inventory, rows: int, ask_pools: Callable[[], Mapping[str, int]]) -> Facts:
    """What the rules need to know. Takes the import of Airflow, and then as long as the slowest system, at most 12 s.
    `ask_pools` asks Airflow's API server for name and slots of its pools."""
    airflow = airflow_facts()
    platform = inventory.platform
    bundles, bundle_error = _bundles(airflow, settings)
    lakes = {"default": LakeSpec(uri=settings.lake, conn_id=settings.lake_conn_id)} | dict(platform.lakes)
    ledger_state: dict[str, str] = {}
    pools: dict[str, int] = {}
    server: dict[str, int] = {}
    places: dict[str, tuple[Place, Probe]] = {
        "database": (database_of(airflow.database), lambda: server.update(_server_limits(airflow.database))),
        "ledger": (database_of(settings.ledger), lambda: ledger_state.update(revision=_ledger_revision(settings.ledger))),
        "dead_letters": (
            _stored(settings.dead_letters, settings.dead_letters_conn_id), lambda: _list_lake(open_dead_letters(None, settings)),
        ),
        "api": (place_of(settings.airflow_url), lambda: pools.update(_pools(settings.airflow_url, ask_pools))),
    }  # fmt: skip
    for name, lake in lakes.items():
        places[f"lake.{name}"] = (_stored(lake.uri, lake.conn_id), _lake_probe(name, settings, platform))
    if "Celery" in airflow.options.get("core.executor", ""):
        places["broker"] = (place_of(airflow.broker.split(";")[0]), lambda: connects(airflow.broker))
    for bundle, kwargs in bundles:
        if bundle.snapshots.kind:
            places[f"snapshots.{bundle.name}"] = (bundle.snapshots, _snapshots_probe(kwargs))
    answers = asked(places)
    good = inventory.rows
    return Facts(
        rows=rows, options=airflow.options, given=airflow.given, cores=os.cpu_count() or 1,
        bundles=tuple(replace(b, snapshots=answers.get(f"snapshots.{b.name}", b.snapshots)) for b, _ in bundles),
        bundle_error=bundle_error, loader_files=_loader_files(airflow),
        database=answers["database"], max_connections=server.get("max_connections"), broker=answers.get("broker", Place()),
        api=answers["api"], ledger=answers["ledger"], ledger_revision=ledger_state.get("revision", ""),
        ledger_is_airflows=same_database(settings.ledger, airflow.database),
        lakes={name: answers[f"lake.{name}"] for name in lakes},
        dead_letters=answers["dead_letters"], pools=pools or None, pools_named=_pools_named(inventory),
        most_packs=max((row.limits.max_packs for row in good), default=1),
        longest_timeout_seconds=max((row.limits.timeout_seconds for row in good), default=0),
        dead_after_seconds=settings.dead_after_seconds, unverified=_unverified(airflow, settings, inventory),
        provider="airflow-dataops" in _distributions("apache_airflow_provider"),
        plugin="airflow-dataops" in _distributions("airflow.plugins"), timetable=airflow.timetable,
        airflow_error=airflow.airflow_error, versions=_versions(),
    )  # fmt: skip


def _bundles(airflow: AirflowFacts, settings: Settings) -> tuple[list[tuple[Bundle, Mapping[str, Any]]], str]:
    made = []
    for entry in airflow.bundles:
        kwargs = entry.get("kwargs") or {}
        name, classpath = str(entry.get("name", "")), str(entry.get("classpath", ""))
        ours = classpath.startswith("dag_factory.bundle") and classpath.endswith(CLASSPATH.rpartition(".")[2])
        bundle = Bundle(name, classpath, ours)
        if ours:
            snapshots, refresh = kwargs.get("snapshots"), kwargs.get("refresh_interval")
            shards = kwargs.get("shards", 256)
            bundle = replace(
                bundle, inventory=_inventory_of(kwargs, settings),
                shards=shards if isinstance(shards, int) and shards > 0 else 256,
                refresh_seconds=refresh if isinstance(refresh, int) else None,
                snapshots=_stored(str(snapshots), kwargs.get("snapshots_conn_id")) if snapshots else Place(),
            )  # fmt: skip
        made.append((bundle, kwargs))
    return made, airflow.bundle_error


def _inventory_of(kwargs: Mapping[str, Any], settings: Settings) -> str:
    """What tells one inventory from another; its address may hold a login, so it is never shown."""
    return "\n".join(str(kwargs.get(name) or "") for name in ("inventory", "git_ref", "git_folder")).strip() or settings.inventory


def _snapshots_probe(kwargs: Mapping[str, Any]) -> Probe:
    def look() -> None:
        conn_id = kwargs.get("snapshots_conn_id")
        open_store(str(kwargs["snapshots"]), resolve(conn_id) if conn_id else None).age_seconds("latest/doctor")

    return look


def _stored(uri: str, conn_id: str | None) -> Place:
    """The place of a lake, dead letters or snapshots; its host and TLS are those of the connection's endpoint."""
    place = place_of(uri)
    if place.is_file or not conn_id:
        return place
    try:
        endpoint = str(_extra(resolve(conn_id), "endpoint_url") or "")
    except DataOpsError:
        return place  # opening it says so
    at = place_of(endpoint) if endpoint else place
    return replace(place, host=at.host, encrypted=at.encrypted if endpoint else True)


def _extra(connection: Connection, name: str) -> Any:
    service = connection.extra.get("service_config")
    inner = service.get("s3") if isinstance(service, Mapping) else None
    return (inner or {}).get(name) or connection.extra.get(name)


def _lake_probe(name: str, settings: Settings, platform: PlatformSpec) -> Probe:
    return lambda: _list_lake(open_named_lake(name, settings, platform))


def _list_lake(lake: Any) -> None:
    try:
        lake.list("_doctor")
    finally:
        lake.close()


def _ledger_revision(url: str) -> str:
    """Reads the ledger's version without making or changing anything; a SQLite file that is not there is `absent`."""
    from airflow_dataops.ledger.tables import MIGRATIONS
    from airflow_dataops.storage.sql_database import SqlDatabase

    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite" and not Path(parts.database or "-").is_file():
        return "absent"
    database = SqlDatabase(url, "ledger")
    try:
        with database.read() as connection:
            table = sa.table(MIGRATIONS.version_table, sa.column("version_num"))
            there = sa.inspect(connection).has_table(MIGRATIONS.version_table)
            found = connection.execute(sa.select(table.c.version_num)).scalar() if there else None
    finally:
        database.close()
    return "absent" if found is None else "current" if found == MIGRATIONS.head else "other"


def _server_limits(url: str) -> dict[str, int]:
    """Airflow's database answers; PostgreSQL also tells how many connections it takes."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if Path(parsed.database or "-").is_file():
            return {}
        raise InventoryError("no such file yet. Run `airflow db migrate`.")
    arguments = {"connect_timeout": 5} if parsed.get_backend_name() in ("postgresql", "mysql") else {}
    engine = sa.create_engine(parsed, poolclass=sa.NullPool, connect_args=arguments)
    with engine.connect() as connection:
        if parsed.get_backend_name() != "postgresql":
            connection.execute(sa.text("SELECT 1"))
            return {}
        return {"max_connections": int(connection.execute(sa.text("SHOW max_connections")).scalar_one())}


def _pools(url: str, ask_pools: Callable[[], Mapping[str, int]]) -> Mapping[str, int]:
    connects(url)  # fails at once, where the client would try again and again
    return ask_pools()


def _pools_named(inventory: Inventory) -> frozenset[str]:
    known = inventory.platform.pools
    named = {row.limits.pool for row in inventory.rows if row.limits.pool}
    return frozenset(named | {row.conn_id for row in inventory.rows if row.conn_id in known and not row.limits.pool})


def _loader_files(airflow: AirflowFacts) -> tuple[str, ...]:
    """Files that load an inventory, by name, of the folders that Airflow parses."""
    found = []
    for entry in airflow.bundles:
        if not str(entry.get("classpath", "")).endswith(".LocalDagBundle"):
            continue
        folder = (entry.get("kwargs") or {}).get("path") or airflow.options.get("core.dags_folder", "")
        for file in islice(Path(folder).rglob("*.py") if folder else (), _MOST_LOADER_FILES):
            try:
                with open(file, "rb") as opened:
                    text = opened.read(_MOST_FILE_BYTES)
            except OSError:
                continue  # Airflow cannot read it either
            if LOADER in text and b"load_dags" in text:
                found.append(file.name)
    return tuple(sorted(found))


def _unverified(airflow: AirflowFacts, settings: Settings, inventory: Inventory) -> tuple[str, ...]:
    """Where checking of certificates is switched off: environment, Airflow's options, connections of lake and sources."""
    found = [f"environment variable {name}" for name, off in _NOT_VERIFIED.items() if os.environ.get(name, "").lower() in off]
    if airflow.options.get("kubernetes_executor.verify_ssl", "").lower() == "false" and "Kubernetes" in airflow.options.get(
        "core.executor", ""
    ):
        found.append("[kubernetes_executor] verify_ssl")
    if "CERT_NONE" in urlsplit(airflow.broker).query.upper():
        found.append("Celery's broker")
    named = {settings.lake_conn_id, settings.dead_letters_conn_id, *(row.conn_id for row in inventory.rows)}
    for conn_id in sorted(name for name in named if name):
        # Only those of the environment: asking Airflow for each connection of a fleet would take minutes.
        if f"AIRFLOW_CONN_{conn_id.upper()}" not in os.environ:
            continue
        try:
            connection = resolve(conn_id)
        except DataOpsError:
            continue  # a row's connection is looked at when the row is
        if any(str(connection.extra.get(key)).lower() in off for key, off in _OFF.items()):
            found.append(f"connection {conn_id}")
    return tuple(found)


_OFF = {"verify": ("false",), "verify_ssl": ("false",), "sslmode": ("disable",), "tls_verify": ("false",), "no_check": ("true",)}


def _distributions(group: str) -> set[str]:
    return {point.dist.name for point in entry_points(group=group) if point.dist is not None}


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
