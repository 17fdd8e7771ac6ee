"""Glue's objects (as its API spells them) ↔ the metastore's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_dataops.catalog.hive_shapes import DDL_TIME
from airflow_dataops.catalog.hive_wire import WIRE

MAX_COMMENT_BYTES = 255

_COMMENT = "dataops.comment"
"""Parameter of a column whose comment Glue cannot hold as it is: more than 255 bytes, or more than one line."""

_STORAGE = {
    "Location": "location", "InputFormat": "inputFormat", "OutputFormat": "outputFormat", "Compressed": "compressed",
    "NumberOfBuckets": "numBuckets", "BucketColumns": "bucketCols", "Parameters": "parameters",
    "StoredAsSubDirectories": "storedAsSubDirectories",
}  # fmt: skip
_SERDE = {"Name": "name", "SerializationLibrary": "serializationLib", "Parameters": "parameters"}
_KEPT = ("Description", "Retention", "ViewOriginalText", "ViewExpandedText", "TargetTable", "LastAccessTime", "LastAnalyzedTime")
"""What a TableInput may hold and the metastore's table has no place for: taken over from the table that stands."""


def to_hive_table(found: Mapping[str, Any]) -> Any:
    """What a table's version is to Glue stands where a metastore keeps the time of the last DDL: that is what is compared."""
    return WIRE["Table"](
        tableName=found["Name"],
        dbName=found.get("DatabaseName"),
        owner=found.get("Owner"),
        sd=_to_storage(found.get("StorageDescriptor")),
        partitionKeys=[_to_field(one) for one in found.get("PartitionKeys") or ()],
        parameters={**(found.get("Parameters") or {}), DDL_TIME: str(found.get("VersionId") or 0)},
        tableType=found.get("TableType") or "EXTERNAL_TABLE",
    )


def table_input(table: Any, stands: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A `TableInput`. `stands`: the table as it is, when it is altered."""
    kept = {name: stands[name] for name in _KEPT if stands and stands.get(name) is not None}
    own = {"Owner": table.owner} if table.owner else {}
    return kept | own | {
        "Name": table.tableName,
        "StorageDescriptor": _from_storage(table.sd, (stands or {}).get("StorageDescriptor")),
        "PartitionKeys": [_from_field(one) for one in table.partitionKeys or ()],
        "Parameters": dict(table.parameters or {}),
        "TableType": table.tableType,
    }  # fmt: skip


def to_hive_partition(found: Mapping[str, Any]) -> Any:
    return WIRE["Partition"](
        values=list(found.get("Values") or ()),
        sd=_to_storage(found.get("StorageDescriptor")),
        parameters=dict(found.get("Parameters") or {}),
    )


def partition_input(partition: Any) -> dict[str, Any]:
    return {
        "Values": list(partition.values),
        "StorageDescriptor": _from_storage(partition.sd),
        "Parameters": dict(partition.parameters or {}),
    }


def _to_storage(found: Mapping[str, Any] | None) -> Any:
    if found is None:
        return None
    serde, skewed = found.get("SerdeInfo"), (found.get("SkewedInfo") or {}).get("SkewedColumnNames")
    plain = {ours: found[theirs] for theirs, ours in _STORAGE.items() if found.get(theirs) is not None}
    return WIRE["StorageDescriptor"](
        **plain,
        cols=[_to_field(one) for one in found.get("Columns") or ()],
        serdeInfo=WIRE["SerDeInfo"](**{ours: serde.get(theirs) for theirs, ours in _SERDE.items()}) if serde else None,
        sortCols=[WIRE["Order"](col=one["Column"], order=one["SortOrder"]) for one in found.get("SortColumns") or ()],
        skewedInfo=WIRE["SkewedInfo"](skewedColNames=skewed) if skewed else None,
    )


def _from_storage(storage: Any, stands: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Sorted and skewed tables are refused before, so there is nothing of them to write."""
    made = {theirs: getattr(storage, ours) for theirs, ours in _STORAGE.items() if getattr(storage, ours) is not None}
    if stands and stands.get("SchemaReference"):
        made["SchemaReference"] = stands["SchemaReference"]
    serde = storage.serdeInfo
    if serde is not None:
        made["SerdeInfo"] = {theirs: getattr(serde, ours) for theirs, ours in _SERDE.items() if getattr(serde, ours) is not None}
    return made | {"Columns": [_from_field(one) for one in storage.cols or ()]}


def _to_field(found: Mapping[str, Any]) -> Any:
    comment = found.get("Comment")
    whole = (found.get("Parameters") or {}).get(_COMMENT)
    if whole is not None and _one_line(whole) == comment:
        comment = whole
    return WIRE["FieldSchema"](name=found["Name"], type=found.get("Type"), comment=comment)


def _from_field(field: Any) -> dict[str, Any]:
    made = {"Name": field.name, "Type": field.type}
    if field.comment:
        made["Comment"] = _one_line(field.comment)
        if made["Comment"] != field.comment:
            made["Parameters"] = {_COMMENT: field.comment}
    return made


def _one_line(comment: str) -> str:
    return " ".join(comment.split()).encode()[:MAX_COMMENT_BYTES].decode(errors="ignore")
