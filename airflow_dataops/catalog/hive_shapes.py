"""Tables and partitions of the product ↔ the metastore's objects. Pure: nothing is asked here.

Locations: we write addresses (`file:` percent-encoded, `s3:`), Hadoop writes paths as they stand (`file:/a b`, `s3a:`).
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from airflow_dataops.catalog.base import CatalogPartition, CatalogTable, PartitionValues
from airflow_dataops.catalog.hive_columns import (
    OWN,
    details_of,
    from_parameters,
    to_columns,
    to_fields,
    to_parameters,
)
from airflow_dataops.catalog.hive_wire import WIRE
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.partition_name import DEFAULT_PARTITION

DDL_TIME = "transient_lastDdlTime"
"""The parameter that every metastore gives every table and changes with every alter: what compare-and-swap compares."""

_PARQUET = {
    "inputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "outputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
}
_SERDES = ("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe", "parquet.hive.serde.ParquetHiveSerDe")

# Kept by metastores and engines about an object, not said by whoever made it.
_SERVERS_OWN = frozenset((
    DDL_TIME, "EXTERNAL", "COLUMN_STATS_ACCURATE", "numFiles", "totalSize", "numRows", "rawDataSize", "numPartitions",
    "numFilesErasureCoded", "bucketing_version", "last_modified_by", "last_modified_time", "TRANSLATED_TO_EXTERNAL",
    "STATS_GENERATED_VIA_STATS_TASK", "comment",
))  # fmt: skip

_ROOT = OWN + "root"
_PARTITION = OWN + "partition"
"""An unpartitioned table's one partition: {"epoch", "parameters"}. Its location is the table's."""

_EPOCH = "dataops.epoch"


def new_table(table: CatalogTable, s3_scheme: str) -> Any:
    """The metastore's object of a table that is not there yet: external Parquet."""
    name = f"{table.database}.{table.name}"
    fields = to_fields(name, table.columns)
    keys = to_fields(name, table.partition_columns)
    details = details_of((*table.columns, *table.partition_columns), (*fields, *keys))
    own = to_parameters(details) | ({} if keys else {_ROOT: table.location})
    return WIRE["Table"](
        tableName=table.name,
        owner=table.owner or None,
        sd=_storage(fields, to_hadoop(table.location, s3_scheme)),
        partitionKeys=keys,
        parameters={**table.parameters, **own, **_comment(table.comment), "EXTERNAL": "TRUE"},
        tableType="EXTERNAL_TABLE",
    )


def to_table(database: str, raw: Any) -> CatalogTable:
    """InventoryError for what rows cannot be loaded into: a view, another format, buckets, transactions."""
    name = f"{database}.{raw.tableName}"
    refuse_unfit(name, raw)
    parameters = raw.parameters or {}
    details = from_parameters(name, parameters)
    return CatalogTable(
        database=database,
        name=raw.tableName,
        columns=to_columns(name, raw.sd.cols or (), details),
        partition_columns=to_columns(name, raw.partitionKeys or (), details),
        location=parameters.get(_ROOT) or from_hadoop(raw.sd.location or ""),
        format="parquet",
        comment=parameters.get("comment", ""),
        owner=raw.owner or "",
        parameters=_callers(parameters),
        version=version_of(raw),
    )


def altered_table(raw: Any, after: CatalogTable, s3_scheme: str) -> Any:
    """A copy of the metastore's object with the definition of `after`; whatever else it holds stays as it is."""
    name = f"{after.database}.{after.name}"
    before = to_table(after.database, raw)
    new = copy.deepcopy(raw)
    new.sd.cols = to_fields(name, after.columns, raw.sd.cols or (), before.columns)
    columns, fields = (*after.columns, *after.partition_columns), (*new.sd.cols, *(raw.partitionKeys or ()))
    stays = {key: value for key, value in raw.parameters.items() if key in _SERVERS_OWN - {"comment"} or key in (_PARTITION, _ROOT)}
    new.parameters = {**after.parameters, **stays, **_comment(after.comment), **to_parameters(details_of(columns, fields))}
    new.owner = after.owner or None
    if after.location != before.location:
        if _ROOT in raw.parameters:
            new.parameters[_ROOT] = after.location
        if _PARTITION not in raw.parameters:
            new.sd.location = to_hadoop(after.location, s3_scheme)
    return new


def new_partition(raw_table: Any, partition: CatalogPartition, s3_scheme: str, stands: Any = None) -> Any:
    """The metastore's object of a partition, whole; on the one that stands, if there is one."""
    name = f"{raw_table.tableName} {partition.values}"
    new = copy.deepcopy(stands) if stands is not None else WIRE["Partition"](values=to_values(partition.values), sd=None)
    if new.sd is None:
        new.sd = copy.deepcopy(raw_table.sd)
    new.sd.location = to_hadoop(partition.location, s3_scheme)
    new.sd.cols = to_fields(name, partition.columns)
    kept = {k: v for k, v in (new.parameters or {}).items() if k in _SERVERS_OWN - {DDL_TIME, "COLUMN_STATS_ACCURATE"}}
    new.parameters = {**kept, **partition.parameters, _EPOCH: str(partition.epoch)}
    return new


def to_partition(database: str, raw_table: Any, raw: Any) -> CatalogPartition:
    """What finer details a partition's columns have are the table's."""
    name = f"{database}.{raw_table.tableName}"
    parameters = _callers(raw.parameters or {})
    return CatalogPartition(
        values=from_values(raw.values or ()),
        location=from_hadoop(raw.sd.location or ""),
        columns=to_columns(name, raw.sd.cols or (), from_parameters(name, raw_table.parameters or {})),
        epoch=epoch_of(parameters),
        parameters=parameters,
    )


def pointed(raw: Any, partition: CatalogPartition | None, s3_scheme: str) -> Any:
    """A copy of an unpartitioned table that shows this partition, or (None) none."""
    new = copy.deepcopy(raw)
    new.parameters.setdefault(_ROOT, from_hadoop(raw.sd.location or ""))
    new.parameters.pop(_PARTITION, None)
    if partition is not None:
        new.parameters[_PARTITION] = json.dumps({"epoch": partition.epoch, "parameters": dict(partition.parameters)})
    new.sd.location = to_hadoop(partition.location if partition else new.parameters[_ROOT], s3_scheme)
    return new


def only_partition(database: str, raw: Any) -> CatalogPartition | None:
    """The one partition of an unpartitioned table. None while a table of ours shows nothing yet; a table of others shows what
    lies at its place, with epoch 0."""
    table, parameters = to_table(database, raw), raw.parameters or {}
    if _PARTITION not in parameters:
        return None if _ROOT in parameters else CatalogPartition((), table.location, table.columns, 0, {})
    try:
        kept = json.loads(parameters[_PARTITION])
        epoch, own = int(kept["epoch"]), {str(k): str(v) for k, v in kept["parameters"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        epoch, own = 0, {}  # somebody else's hand: not a decision of ours
    return CatalogPartition((), from_hadoop(raw.sd.location or ""), table.columns, epoch, own)


def refuse_unfit(name: str, raw: Any) -> None:
    """InventoryError unless files of ours can stand in this table and every engine reads them."""
    found = ""
    parameters = {key.lower(): str(value).lower() for key, value in (raw.parameters or {}).items()}
    if raw.tableType not in ("EXTERNAL_TABLE", "MANAGED_TABLE", None) or raw.sd is None:
        found = f"a {str(raw.tableType).lower().replace('_', ' ')}"
    elif parameters.get("table_type") in ("iceberg", "delta") or parameters.get("spark.sql.sources.provider") == "delta":
        found = "a table with a log of its own"
    elif parameters.get("transactional") == "true":
        found = "a transactional table"
    elif raw.sd.serdeInfo is None or raw.sd.serdeInfo.serializationLib not in _SERDES:
        found = f"kept by {raw.sd.serdeInfo.serializationLib if raw.sd.serdeInfo else 'no serde'}"
    elif raw.sd.bucketCols or raw.sd.sortCols:
        found = "bucketed or sorted"
    elif (raw.sd.skewedInfo and raw.sd.skewedInfo.skewedColNames) or raw.sd.storedAsSubDirectories:
        found = "skewed"
    if found:
        raise InventoryError(
            f"Cannot use table {name}: it is {found} -> a plain table of Parquet files. Readers would not understand our files "
            "there. Give the row another `target.table` or `target.database`."
        )


def version_of(raw: Any) -> str:
    """`<time of the last DDL>.<digest of the definition>`. The time is what the metastore compares; the digest tells two changes of
    one second apart."""
    keys = raw.partitionKeys or ()
    parts = [raw.sd.location, raw.tableType, raw.owner or ""]
    parts += [f"{f.name}\t{f.type}\t{f.comment or ''}" for f in (*(raw.sd.cols or ()), *keys)]
    parts += [f"{k}\t{v}" for k, v in sorted((raw.parameters or {}).items()) if k not in _SERVERS_OWN or k == "comment"]
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{ddl_time(raw) or ''}.{digest}"


def ddl_time(raw: Any) -> str | None:
    """None when the metastore keeps none: then nothing can be compared."""
    text = (raw.parameters or {}).get(DDL_TIME)
    return text if text and text.isdecimal() else None


def epoch_of(parameters: Mapping[str, str]) -> int:
    text = parameters.get(_EPOCH, "")
    return int(text) if text.isdecimal() else 0


def to_values(values: PartitionValues) -> list[str]:
    return [DEFAULT_PARTITION if value is None else value for value in values]


def from_values(values: Any) -> PartitionValues:
    return tuple(None if value in ("", DEFAULT_PARTITION) else value for value in values)


def to_hadoop(location: str, s3_scheme: str) -> str:
    """An address of ours as Hadoop writes it."""
    if location.startswith("file://"):
        return "file:" + unquote(location.removeprefix("file://"))
    if location.startswith("s3://"):
        return s3_scheme + location.removeprefix("s3")
    return location


def from_hadoop(location: str) -> str:
    """The inverse of `to_hadoop`, for every spelling that metastores give."""
    scheme, colon, rest = location.partition(":")
    if colon and scheme == "file":
        return "file://" + quote("/" + rest.lstrip("/"))
    if colon and scheme in ("s3a", "s3n"):
        return "s3:" + rest
    return location


def _storage(fields: list[Any], location: str) -> Any:
    serde = WIRE["SerDeInfo"](serializationLib=_SERDES[0], parameters={"serialization.format": "1"})
    return WIRE["StorageDescriptor"](
        cols=fields, location=location, **_PARQUET, compressed=False, numBuckets=-1, serdeInfo=serde, bucketCols=[], sortCols=[],
        parameters={}, storedAsSubDirectories=False,
    )  # fmt: skip


def _callers(parameters: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in parameters.items() if key not in _SERVERS_OWN and not key.startswith(OWN)}


def _comment(text: str) -> dict[str, str]:
    return {"comment": text} if text else {}
