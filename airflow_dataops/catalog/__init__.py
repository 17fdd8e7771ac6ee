"""Catalogs: what shows tables and partitions to readers, behind one Protocol (`base.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_dataops.core.errors import InventoryError

if TYPE_CHECKING:
    from airflow_dataops.catalog.base import Catalog
    from airflow_dataops.core.connection import Connection



def open_catalog(kind: str, *, connection: Connection | None = None, ledger_url: str | None = None) -> Catalog:
    """The catalog of that kind. `embedded` lives in the ledger's database, so it needs `ledger_url`.

    InventoryError for an unknown kind or a missing address, UnavailableError when the catalog does not answer.
    """
    opener = _KINDS.get(kind)
    if opener is not None:
        return opener(connection, ledger_url)
    known = ", ".join(sorted(_KINDS))
    raise InventoryError(f"Cannot open catalog: kind {kind!r} -> one of {known}. Set `catalog` in [dataops] or in platform.yaml.")


def _open_embedded(connection: Connection | None, ledger_url: str | None) -> Catalog:
    from airflow_dataops.catalog.embedded import EmbeddedCatalog

    if ledger_url is None:
        raise InventoryError(
            "Cannot open catalog embedded: no ledger -> the ledger's URL. It lives in its database. Set `ledger` in [dataops]."
        )
    return EmbeddedCatalog(ledger_url)


def _open_hive(connection: Connection | None, ledger_url: str | None) -> Catalog:
    if connection is None:
        raise InventoryError(
            "Cannot open catalog hive: no connection -> an Airflow connection of type `hive_metastore`. It says where the "
            "metastore is. Set `conn_id` of the catalog in platform.yaml, or `catalog_conn_id` in [dataops]."
        )
    try:
        from airflow_dataops.catalog.hive import HiveCatalog
        from airflow_dataops.catalog.hive_calls import MetastoreCalls
        from airflow_dataops.catalog.hive_connection import MetastoreAddress
    except ImportError as error:
        raise InventoryError(
            f"Cannot open catalog hive: package {error.name} is missing -> installed. A metastore speaks Thrift. Install the "
            "extra: pip install 'airflow-dataops[hive]'."
        ) from error
    return HiveCatalog(MetastoreCalls(MetastoreAddress.of_connection(connection)))


def _open_glue(connection: Connection | None, ledger_url: str | None) -> Catalog:
    try:
        import boto3  # noqa: F401 - asked for here, used by the calls

        from airflow_dataops.catalog.glue import GlueCatalog
        from airflow_dataops.catalog.glue_calls import GlueAddress, GlueCalls
    except ImportError as error:
        raise InventoryError(
            f"Cannot open catalog glue: package {error.name} is missing -> installed. Install the extra: "
            "pip install 'airflow-dataops[glue]'."
        ) from error
    return GlueCatalog(GlueCalls(GlueAddress.of_connection(connection)))


def _open_memory(connection: Connection | None, ledger_url: str | None) -> Catalog:
    from airflow_dataops.catalog.memory import MemoryCatalog

    return MemoryCatalog()


_KINDS: dict[str, Callable[[Connection | None, str | None], Catalog]] = {
    "embedded": _open_embedded,
    "glue": _open_glue,
    "hive": _open_hive,
    "memory": _open_memory,
}
