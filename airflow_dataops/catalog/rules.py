"""What every catalog refuses: Hive's limits and its append-only columns, checked before anything is written.

Facts: the metastore compares columns by position when a table is altered, keeps names up to 128, comments up to 256 and
parameters up to 4,000 characters, and knows no case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from airflow_dataops.catalog.base import CatalogPartition, CatalogTable, PartitionValues
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.partition_name import DEFAULT_PARTITION, partition_name
from airflow_dataops.core.promotion import is_widening
from airflow_dataops.core.schema import Column
from airflow_dataops.core.types_text import type_to_text

MAX_NAME_CHARACTERS = 128
MAX_COMMENT_CHARACTERS = 256
MAX_PARAMETER_KEY_CHARACTERS = 256
MAX_PARAMETER_CHARACTERS = 4000
MAX_LOCATION_CHARACTERS = 4000
MAX_VALUE_CHARACTERS = 256
MAX_PARTITION_NAME_CHARACTERS = 767
MAX_VALUES_BYTES = 2000
"""Together: a key of PostgreSQL's index holds 2,704 bytes."""


def check_database(database: str, location: str) -> None:
    """InventoryError when the name or location is over a limit."""
    _check_name("database", database)
    _check_location(f"database {database}", location)


def check_table(table: CatalogTable) -> None:
    """InventoryError when a name, comment, parameter or type of the table cannot be kept."""
    name = f"{table.database}.{table.name}"
    _check_name("database", table.database)
    _check_name("table", table.name)
    _check_location(f"table {name}", table.location)
    _check_comment(f"table {name}", table.comment)
    _check_parameters(f"table {name}", table.parameters)
    _check_columns(name, (*table.columns, *table.partition_columns))


def check_alter(before: CatalogTable, after: CatalogTable) -> None:
    """InventoryError unless `after` keeps all columns of `before` where they are, and only widens or adds (last)."""
    check_table(after)
    name = f"{before.database}.{before.name}"
    if (before.database, before.name) != (after.database, after.name):
        raise InventoryError(
            f"Cannot alter table {name}: its name becomes {after.database}.{after.name} -> the same. Tables are never renamed."
        )
    if [(c.name, type_to_text(c.type)) for c in before.partition_columns] != [
        (c.name, type_to_text(c.type)) for c in after.partition_columns
    ]:
        raise InventoryError(
            f"Cannot alter table {name}: other partition columns -> the same. Every partition's directory is named after them. "
            "Load into a new table."
        )
    for position, old in enumerate(before.columns):
        new = after.columns[position] if position < len(after.columns) else None
        if new is None or new.name != old.name:
            found = "nothing" if new is None else repr(new.name)
            raise InventoryError(
                f"Cannot alter table {name}: column {position + 1} is {found} -> {old.name!r}. Columns are compared by position: "
                "none is dropped, renamed or moved, new ones go last."
            )
        if not is_widening(old.type, new.type):
            raise InventoryError(
                f"Cannot alter column {old.name!r} of {name}: {type_to_text(old.type)} -> {type_to_text(new.type)} is no widening. "
                "Old files could not be read any more. Keep the type, or load into a new column."
            )


def check_partitions(table: CatalogTable, partitions: Sequence[CatalogPartition]) -> None:
    """InventoryError when a partition does not fit the table, or comes twice in one call."""
    name = f"{table.database}.{table.name}"
    check_values(table, [p.values for p in partitions])
    if len({p.values for p in partitions}) != len(partitions):
        raise InventoryError(
            f"Cannot put partitions of {name}: one of them comes twice -> once. Which one is meant cannot be told."
        )
    for partition in partitions:
        where = f"partition {partition.values} of {name}"
        _check_location(where, partition.location)
        _check_parameters(where, partition.parameters)
        _check_columns(name, partition.columns)


def check_values(table: CatalogTable, values: Iterable[PartitionValues]) -> None:
    """InventoryError unless each has one value per partition column."""
    for one in values:
        if len(one) != len(table.partition_columns):
            names = ", ".join(c.name for c in table.partition_columns) or "no column"
            raise InventoryError(
                f"Cannot find partition {one} of {table.database}.{table.name}: {len(one)} values -> "
                f"{len(table.partition_columns)}, one for each of {names}."
            )
        if len(order_key(one)) > MAX_VALUES_BYTES:
            raise InventoryError(
                f"Cannot keep a partition of {table.database}.{table.name}: its values take {len(order_key(one))} bytes -> "
                f"{MAX_VALUES_BYTES} at most. Partition by a shorter column."
            )


def check_metastore_values(table: CatalogTable, values: Iterable[PartitionValues]) -> None:
    """InventoryError for a value that a Hive Metastore keeps as another one, or not at all."""
    names = [c.name for c in table.partition_columns]
    for one in values:
        if DEFAULT_PARTITION in one:
            raise InventoryError(
                f"Cannot keep a partition of {table.database}.{table.name}: the text {DEFAULT_PARTITION} as a value -> another. "
                "To Hive it is NULL. Partition by another column, or change the value in `read.query`."
            )
        longest, name = max((len(value or "") for value in one), default=0), partition_name(names, one)
        if longest > MAX_VALUE_CHARACTERS or len(name) > MAX_PARTITION_NAME_CHARACTERS:
            raise InventoryError(
                f"Cannot keep a partition of {table.database}.{table.name}: a value of {longest} characters, a name of "
                f"{len(name)} -> {MAX_VALUE_CHARACTERS} and {MAX_PARTITION_NAME_CHARACTERS} at most. Partition by a shorter column."
            )


def order_key(values: PartitionValues) -> bytes:
    """Sorts as the values do: by column, NULL first, then by code point. Also unique, so it serves as a key."""
    return b"".join(
        b"\x01" if value is None else b"\x02" + value.encode("utf-8", "surrogatepass").replace(b"\0", b"\0\xff") + b"\0"
        for value in values
    )


def missing_table(doing: str, database: str, table: str) -> InventoryError:
    return InventoryError(
        f"Cannot {doing} table {database}.{table}: the catalog does not have it -> present. It was dropped, or never created. "
        "Run the source again: it creates the table and publishes what is decided."
    )


def _check_name(what: str, name: str) -> None:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or "\0" in name:
        raise InventoryError(
            f"Cannot keep {what} {name[:40]!r}…: {len(name)} characters -> 1 to {MAX_NAME_CHARACTERS}. Hive keeps no more. "
            "Give it a shorter name in the row."
        )


def _check_location(what: str, location: str) -> None:
    if len(location) > MAX_LOCATION_CHARACTERS:
        raise InventoryError(
            f"Cannot keep {what}: its location has {len(location)} characters -> {MAX_LOCATION_CHARACTERS} at most. Shorten names."
        )


def _check_comment(what: str, comment: str) -> None:
    if len(comment) > MAX_COMMENT_CHARACTERS:
        raise InventoryError(
            f"Cannot keep {what}: its comment has {len(comment)} characters -> {MAX_COMMENT_CHARACTERS} at most. Hive cuts or "
            "refuses longer ones. Report this as a defect: the step should have cut it."
        )


def _check_parameters(what: str, parameters: Mapping[str, str]) -> None:
    for key, value in parameters.items():
        if len(key) > MAX_PARAMETER_KEY_CHARACTERS or len(value) > MAX_PARAMETER_CHARACTERS:
            raise InventoryError(
                f"Cannot keep {what}: parameter {key[:80]!r} has {len(value)} characters -> {MAX_PARAMETER_CHARACTERS} at most "
                f"(its name {MAX_PARAMETER_KEY_CHARACTERS}). Keep large things in the lake."
            )


def _check_columns(table: str, columns: Sequence[Column]) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        _check_name(f"a column of {table},", column.name)
        _check_comment(f"column {column.name!r} of {table}", column.comment)
        if pa.types.is_null(column.type):
            raise InventoryError(
                f"Cannot keep column {column.name!r} of {table}: no type -> one. A column of NULLs waits for its first value."
            )
        other = seen.get(column.name.casefold())
        seen[column.name.casefold()] = column.name
        if other is not None:
            raise InventoryError(
                f"Cannot keep columns {other!r} and {column.name!r} of {table}: one name -> two. Hive knows no case. Rename one "
                "with `read.query`, or drop it with `privacy.columns`."
            )
