"""The catalog's current partitions as DuckDB views: `database.table`, each reading exactly the published directories.

DuckDB gets Arrow datasets and nothing else: no file, no network, no extension, no other statement than SELECT. Partition
values come from the catalog, not from paths; a column a file does not have yet is NULL, a narrower one is lifted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from airflow_dataops.catalog.base import Catalog, CatalogPartition, CatalogTable
from airflow_dataops.core.errors import ForeignChangeError, InventoryError
from airflow_dataops.core.partition import values_from
from airflow_dataops.storage import Storage, split_uri

Name = tuple[str, str]
_CLOSED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_PAGE = 1000


class QueryError(Exception):
    """The text is no single SELECT, names no table of the catalog, or DuckDB refuses it. The message says which."""


def open_database() -> duckdb.DuckDBPyConnection:
    """An empty DuckDB in memory that reaches nothing outside of itself."""
    database = duckdb.connect(":memory:", config=_CLOSED)  # type: ignore[arg-type]
    database.execute("SET python_enable_replacements = false")
    return database


def tables_of(database: duckdb.DuckDBPyConnection, query: str) -> set[Name]:
    """(database, table) of everything the one SELECT names, common table expressions and DuckDB's own aside. QueryError
    when it is not exactly one SELECT."""
    if any("\ud800" <= c <= "\udfff" for c in query):
        raise QueryError("Cannot read the query: text that is not UTF-8 -> UTF-8. Correct its encoding.")
    try:
        statements = database.extract_statements(query)
    except duckdb.Error as error:
        raise QueryError(_told(error)) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError("Cannot run the query: not exactly one SELECT -> one. Tables are only ever read here.")
    (answer,) = database.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree = json.loads(answer[0])
    if tree.get("error"):
        raise QueryError(f"Cannot read the query: {tree.get('error_message', 'no syntax tree')} -> a plain SELECT.")
    return {name for name in _named(tree) if name[0]}


def _named(tree: Any) -> Iterator[Name]:
    if isinstance(tree, dict):
        if tree.get("type") == "BASE_TABLE":
            yield str(tree["schema_name"]), str(tree["table_name"])
        for child in tree.values():
            yield from _named(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _named(child)


def add_view(database: duckdb.DuckDBPyConnection, catalog: Catalog, table: CatalogTable, lakes: list[Storage]) -> None:
    """`database.table` as a view over its current partitions."""
    dataset = _dataset(table, partitions_of(catalog, table), lakes)
    inner = f"__{table.database}__{table.name}"
    database.register(inner, dataset)
    database.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(table.database)}")
    database.execute(f"CREATE VIEW {_quoted(table.database)}.{_quoted(table.name)} AS SELECT * FROM {_quoted(inner)}")


def partitions_of(catalog: Catalog, table: CatalogTable) -> Iterator[CatalogPartition]:
    """Every partition the catalog shows, page by page."""
    after = None
    while page := catalog.page_partitions(table.database, table.name, after, _PAGE):
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].values


def _dataset(table: CatalogTable, partitions: Iterator[CatalogPartition], lakes: list[Storage]) -> Any:
    schema = pa.schema([(c.name, c.type) for c in (*table.columns, *table.partition_columns)])
    kind = ds.ParquetFileFormat()
    fragments: list[Any] = []
    lake: Storage | None = None
    for partition in partitions:
        store, directory = _place(partition.location, lakes, table)
        if lake not in (None, store):
            raise InventoryError(
                f"Cannot query {table.database}.{table.name}: its partitions lie in two lakes -> one. Move them into one lake."
            )
        lake = store
        constant = _constant(table, partition)
        for path, _ in store.list(directory):
            name = path.rsplit("/", 1)[-1]
            if not name.startswith(("_", ".")):
                fragments.append(kind.make_fragment(store.address(path), store.filesystem, partition_expression=constant))
    if lake is None or not fragments:
        return schema.empty_table()
    return ds.FileSystemDataset(fragments, schema, kind, lake.filesystem)


def _constant(table: CatalogTable, partition: CatalogPartition) -> Any:
    """What holds for every row of the partition: its partition columns' values."""
    constant = ds.scalar(True)
    for column, text in zip(table.partition_columns, partition.values, strict=True):
        field = ds.field(column.name)
        if text is None:
            constant = constant & field.is_null()
        else:
            constant = constant & (field == values_from(pa.array([text]), column.type)[0])
    return constant


def _place(location: str, lakes: list[Storage], table: CatalogTable) -> tuple[Storage, str]:
    scheme, place = split_uri(location)
    for store in lakes:
        below = f"{place}/".startswith(f"{store.root.rstrip('/')}/")
        if below and store.is_local == (scheme == "file"):
            return store, place.removeprefix(store.root.rstrip("/")).strip("/")
    raise ForeignChangeError(
        f"Cannot query {table.database}.{table.name}: a partition lies at {location} -> below a lake of the inventory. "
        "Only known lakes are read. Declare that lake in platform.yaml, or repair the catalog."
    )


def fetch(database: duckdb.DuckDBPyConnection, query: str, max_rows: int) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
    """((name, type) of each column, rows); one row more than `max_rows` when there are more. QueryError as DuckDB says it."""
    database.execute("SET lock_configuration = true")
    try:
        answer = database.execute(query)
        columns = [(str(c[0]), str(c[1])) for c in answer.description or ()]
        return columns, answer.fetchmany(max_rows + 1)
    except duckdb.Error as error:
        raise QueryError(_told(error)) from None


def _told(error: duckdb.Error) -> str:
    first = str(error).split("\n\n", 1)[0].replace("\n", " ")
    return f"Cannot run the query: {first} -> a SELECT over tables of the catalog. Correct it."


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
