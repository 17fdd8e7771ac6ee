"""From a row and the settings to the opened outside systems that the steps work with.

The one place that knows both: names in a row (lake, catalog, connections) and the edges that open them. Edges are
imported when they are opened, never before: Airflow parses DAG files that import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

from airflow_dataops.connections import resolve as resolve_connection
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import LakeSpec, PlatformSpec
from airflow_dataops.core.spec import PipelineSpec, TableEntry, TargetSpec
from airflow_dataops.settings import Settings

if TYPE_CHECKING:
    from airflow_dataops.catalog.base import Catalog
    from airflow_dataops.lake.base import Lake
    from airflow_dataops.ledger.base import Ledger
    from airflow_dataops.sources.base import Source
    from airflow_dataops.steps.run import Edges, Progress

KEY_BYTES = range(16, 65)
"""Lengths of a privacy key. Shorter ones can be guessed; BLAKE2b takes no longer ones."""

Resolve = Callable[[str], Connection]


@contextmanager
def open_edges(
    spec: PipelineSpec | None,
    settings: Settings,
    *,
    writer: str,
    platform: PlatformSpec | None = None,
    resolve: Resolve = resolve_connection,
    progress: Callable[[Progress], None] | None = None,
    base_path: str | None = None,
    with_source: bool = True,
) -> Iterator[Edges]:
    """The edges of one source, open for the length of the block.

    `writer` must be unique per process attempt. `platform` is what `platform.yaml` says; without it only the `default`
    lake and catalog exist. `base_path` is where relative paths of files begin (default: the folder that holds the
    inventory). Sweeping and verifying need no source: `with_source=False` leaves it closed, so that they work while the
    source is down; without a row there is none either, and lake and catalog are the `default` ones. InventoryError for a
    name nobody declared, a missing connection, or an unusable one.
    """
    import pyarrow as pa

    from airflow_dataops.ledger import open_ledger
    from airflow_dataops.sources import open_source
    from airflow_dataops.steps.run import Edges

    # Drivers give memory back to the system's allocator; Arrow's own pool would not reuse it (60 MB at 1 M rows × 20).
    pa.set_memory_pool(pa.system_memory_pool())
    if spec is not None:
        _one_lake_and_catalog(spec)
    target = spec.target if spec else TargetSpec()
    with ExitStack() as stack:
        ledger: Ledger = open_ledger(settings.ledger)
        stack.callback(ledger.close)
        state_id = state_id_of(spec, ledger) if spec is not None else None
        lake = open_named_lake(target.lake, settings, platform, resolve)
        stack.callback(lake.close)
        dead_letters = open_dead_letters(spec.dead_letters.conn_id if spec else None, settings, resolve)
        stack.callback(dead_letters.close)
        catalog = open_named_catalog(target.catalog, settings, platform, resolve)
        stack.callback(catalog.close)
        source: Source = cast("Source", _NoSource())
        if spec is not None and with_source:
            connection = resolve(spec.conn_id) if spec.conn_id else None
            source = open_source(spec, connection, base_path=base_path or settings.inventory_base)
            stack.callback(source.close)
        yield Edges(
            source=source,
            lake=lake,
            catalog=catalog,
            ledger=ledger,
            dead_letters=dead_letters,
            writer=writer,
            privacy_key=_privacy_key(spec, resolve) if spec and with_source else None,
            lease_seconds=settings.lease_seconds,
            dead_after_seconds=settings.dead_after_seconds,
            grace_seconds=settings.grace_seconds,
            progress=progress or _unwatched,
            state_id=state_id,
        )


def state_id_of(spec: PipelineSpec, ledger: Ledger) -> str:
    """The id that the row's state hangs on. A rename that nobody has recorded yet is recorded here, before anything is claimed."""
    if spec.renamed_from is not None:
        return ledger.sources.carry(spec.id, f"{spec.domain}.{spec.renamed_from}")
    return ledger.sources.state_id(spec.id)


class _NoSource:
    """Stands where no source was opened; using it is a defect of the caller, and says so."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"Cannot use the source ({name}): it was left closed -> a step that needs no source.")


def _unwatched(_: Progress) -> None:
    """Nobody asked for progress."""


def open_named_lake(
    name: str, settings: Settings, platform: PlatformSpec | None = None, resolve: Resolve = resolve_connection
) -> Lake:
    """The lake of that name: from `platform.yaml`, else `default` from the settings."""
    from airflow_dataops.lake import open_lake

    known = dict(platform.lakes) if platform else {}
    known.setdefault("default", LakeSpec(uri=settings.lake, conn_id=settings.lake_conn_id))
    if name not in known:
        raise _undeclared("lake", name, sorted(known))
    lake = known[name]
    return open_lake(lake.uri, resolve(lake.conn_id) if lake.conn_id else None)


def open_named_catalog(
    name: str, settings: Settings, platform: PlatformSpec | None = None, resolve: Resolve = resolve_connection
) -> Catalog:
    """The catalog of that name: from `platform.yaml`, else `default` from the settings."""
    from airflow_dataops.catalog import open_catalog

    known: dict[str, tuple[str, str | None]] = {"default": (settings.catalog, settings.catalog_conn_id)}
    known |= {n: (c.kind, c.conn_id) for n, c in platform.catalogs.items()} if platform else {}
    if name not in known:
        raise _undeclared("catalog", name, sorted(known))
    kind, conn_id = known[name]
    return open_catalog(kind, connection=resolve(conn_id) if conn_id else None, ledger_url=settings.ledger)


def open_dead_letters(conn_id: str | None, settings: Settings, resolve: Resolve = resolve_connection) -> Lake:
    """The restricted place of the dead letters; a row's own connection goes before the one of the settings."""
    from airflow_dataops.lake import open_lake

    conn_id = conn_id or settings.dead_letters_conn_id
    return open_lake(settings.dead_letters, resolve(conn_id) if conn_id else None)


def _undeclared(kind: str, name: str, known: list[str]) -> InventoryError:
    return InventoryError(
        f"Cannot open {kind} {name!r}: not declared -> one of {', '.join(known)}. Rows name the {kind}s of "
        "platform.yaml. Declare it there, or correct the row."
    )


def _one_lake_and_catalog(spec: PipelineSpec) -> None:
    for entry in spec.tables:
        target = (entry.target or {}) if isinstance(entry, TableEntry) else {}
        for field in ("lake", "catalog"):
            other = target.get(field) or getattr(spec.target, field)
            if other != getattr(spec.target, field):
                raise InventoryError(
                    f"Cannot run {spec.id}: its tables name more than one {field} ({getattr(spec.target, field)!r}, "
                    f"{other!r}) -> one for all tables of a row. They share the steps of one DAG. Make two rows of it."
                )


def _privacy_key(spec: PipelineSpec, resolve: Resolve) -> bytes | None:
    conn_id = spec.privacy.key_conn_id
    if not conn_id:
        return None
    key = (resolve(conn_id).password or "").encode()
    if len(key) not in KEY_BYTES:
        raise InventoryError(
            f"Cannot use connection {conn_id!r} as privacy key: {len(key)} bytes -> {KEY_BYTES.start} to "
            f"{KEY_BYTES.stop - 1} as its password. A short key can be found by trying. Set a random password of that length."
        )
    return key
