"""A Hive Metastore as the catalog: external Parquet tables, altered by compare-and-swap, partitions swapped by location.

Tables: a metastore that knows compare-and-swap (4.0, and 2.3.10) refuses an alter when the time of the last DDL is no longer the
one that was read. One that ignores it silently (3.1.3) is recognised before the first alter, by one that both kinds refuse; then a
lock and a second look stand for it.

Partitions have no compare-and-swap in any Hive. A later epoch that can be seen is left as it is, but a writer that stalls between
looking and writing may show an older complete version until the next verify or sweep (docs/order-of-effects.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from airflow_dataops.catalog import hive_shapes as shapes
from airflow_dataops.catalog import rules
from airflow_dataops.catalog.base import Catalog, CatalogPartition, CatalogTable, PartitionValues
from airflow_dataops.catalog.hive_calls import Calls, translated
from airflow_dataops.catalog.hive_lock import table_lock
from airflow_dataops.catalog.hive_wire import WIRE, ServerError
from airflow_dataops.core.errors import ConflictError, DataOpsError, InventoryError
from airflow_dataops.core.partition_name import parse_partition_name, partition_name

log = logging.getLogger(__name__)
T = TypeVar("T")

NAMES_PER_CALL = 5000
COLUMNS_PER_CALL = 200_000
"""Each partition comes with its columns: 10,000 partitions of 20 in one answer, 1,000 at least."""
POINTING_TRIES = 8
ADDED_PER_CALL = 1000
"""New partitions. A metastore adds them one after the other in one transaction: 5,000 at once took longer than it answers in."""

_NO_STATS = {"DO_NOT_UPDATE_STATS": "true"}
"""Else every alter lists the table's directory."""

_IMPOSSIBLE = "no table was ever altered at this time"


class HiveCatalog(Catalog):
    """Thread-safe; any number of processes. `calls.counted` tells how often the metastore was asked."""

    kind = "hive"
    asked_blindly = 20

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self._s3_scheme: str = calls.address.options["s3_scheme"]
        self._hive_catalog: str = calls.address.options["catalog_name"]
        self._compares: bool | None = None
        # Of tables read before, what their partitions' names are made of. Hive never changes a table's partition columns.
        self._tables: dict[tuple[str, str], Any] = {}

    def __repr__(self) -> str:
        return f"HiveCatalog({self.calls.address})"

    @property
    def compares_and_swaps(self) -> bool:  # type: ignore[override]
        """Of tables. What the version promises, until the first alter has shown it."""
        if self._compares is None:
            major = str(self.calls.call("getVersion", "ask the metastore's version")).partition(".")[0]
            return major.isdecimal() and int(major) >= 4
        return self._compares

    def close(self) -> None:
        counted = self.calls.counted
        if counted:
            told = ", ".join(f"{name} {times}" for name, times in counted.most_common())
            log.info("metastore %s: %d calls (%s)", self.calls.address, counted.total(), told)
        self.calls.close()

    def ensure_database(self, database: str, location: str) -> None:
        rules.check_database(database, location)
        doing = f"create database {database}"
        try:
            self.calls.call("get_database", doing, name=self._database(database))
            return
        except ServerError as error:
            if not isinstance(error, WIRE["NoSuchObjectException"]):
                raise translated(doing, error) from None
        new = WIRE["Database"](
            name=database, locationUri=shapes.to_hadoop(location, self._s3_scheme), parameters={}, catalogName=self._catalog_name()
        )
        try:
            self.calls.call("create_database", doing, database=new)
        except ServerError as error:
            if not isinstance(error, WIRE["AlreadyExistsException"]):
                raise translated(doing, error) from None

    def databases(self) -> tuple[str, ...]:
        doing = "list databases"
        return tuple(sorted(self._answer("get_databases", doing, pattern=self._database("*"))))

    def table_names(self, database: str) -> tuple[str, ...]:
        return tuple(sorted(self._answer("get_all_tables", f"list tables of {database}", db_name=self._database(database)) or ()))

    def get_table(self, database: str, name: str) -> CatalogTable | None:
        raw = self._raw(database, name)
        return None if raw is None else shapes.to_table(database, raw)

    def create_table(self, table: CatalogTable) -> CatalogTable:
        rules.check_table(table)
        name, doing = f"{table.database}.{table.name}", f"create table {table.database}.{table.name}"
        raw = shapes.new_table(table, self._s3_scheme)
        raw.dbName, raw.catName, raw.createTime = table.database, self._catalog_name(), int(time.time())
        raw.parameters[shapes.DDL_TIME] = str(raw.createTime)
        try:
            self.calls.call("create_table", doing, repeat=False, tbl=raw)
        except ServerError as error:
            if isinstance(error, WIRE["AlreadyExistsException"]):
                raise ConflictError(f"Cannot create table {name}: it is there already -> absent. Read it and alter it.") from None
            if isinstance(error, WIRE["NoSuchObjectException"] | WIRE["InvalidObjectException"]) and not self._has(table.database):
                raise InventoryError(
                    f"Cannot create table {name}: there is no database {table.database} -> created before."
                ) from None
            raise translated(doing, error) from None
        return self._there(table.database, table.name, "create")

    def alter_table(self, before: CatalogTable, after: CatalogTable) -> CatalogTable:
        rules.check_alter(before, after)
        database, name = before.database, before.name
        raw = self._raw(database, name)
        found = shapes.version_of(raw) if raw is not None else "none"
        if raw is None or found != before.version:
            raise _moved(before, found)
        self._swap(database, raw, lambda stands: shapes.altered_table(stands, after, self._s3_scheme))
        return self._there(database, name, "alter")

    def drop_table(self, database: str, name: str) -> None:
        self._tables.pop((database, name), None)
        doing = f"drop table {database}.{name}"
        try:
            self.calls.call("drop_table", doing, dbname=self._database(database), name=name, deleteData=False)
        except ServerError as error:
            if not isinstance(error, WIRE["NoSuchObjectException"]):
                raise translated(doing, error) from None

    def get_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> tuple[CatalogPartition, ...]:
        if not values:
            return ()
        raw = self._tables.get((database, table))
        if raw is None or not raw.partitionKeys:  # an unpartitioned one's location is in the table itself
            raw = self._raw(database, table)
        if raw is None:
            return ()
        if not raw.partitionKeys:
            only = shapes.only_partition(database, raw)
            return (only,) if only is not None and () in values else ()
        found = self._of_names(database, raw, [self._name(raw, one) for one in dict.fromkeys(values)])
        shown = [shapes.to_partition(database, raw, one) for one in found]
        return tuple(sorted(shown, key=lambda one: rules.order_key(one.values)))

    def page_partitions(
        self, database: str, table: str, after: PartitionValues | None = None, limit: int = 1000
    ) -> tuple[CatalogPartition, ...]:
        """Names are listed in one call (text; a metastore pages by nothing), objects for this page only."""
        raw = self._raw(database, table)
        if raw is None:
            return ()
        if not raw.partitionKeys:
            return self.get_partitions(database, table, [()])[:limit] if after is None else ()
        values = {tuple(value for _, value in parse_partition_name(name)) for name in self._names(database, table)}
        later = sorted(one for one in map(rules.order_key, values) if after is None or one > rules.order_key(after))
        wanted = set(later[:limit])
        return self.get_partitions(database, table, [one for one in values if rules.order_key(one) in wanted])

    def put_partitions(self, database: str, table: str, partitions: Sequence[CatalogPartition]) -> None:
        """New partitions are added, a thousand in a call, then all that were there already are swapped in one. Each call is all or
        nothing; a reader between them sees new partitions beside old ones, never half a partition."""
        raw = self._raw(database, table)
        if raw is None:
            raise rules.missing_table("put partitions of", database, table)
        shown = shapes.to_table(database, raw)
        rules.check_partitions(shown, partitions)
        rules.check_metastore_values(shown, [p.values for p in partitions])
        if not partitions:
            return
        if not raw.partitionKeys:
            self._point(database, raw, partitions[0])
            return
        stand = {tuple(one.values): one for one in self._of_names(database, raw, [self._name(raw, p.values) for p in partitions])}
        new: list[Any] = []
        changed: list[Any] = []
        for partition in partitions:
            there = stand.get(tuple(shapes.to_values(partition.values)))
            if there is not None and shapes.epoch_of(there.parameters or {}) > partition.epoch:
                continue
            made = shapes.new_partition(raw, partition, self._s3_scheme, there)
            made.dbName, made.tableName, made.catName = database, table, self._catalog_name()
            (new if there is None else changed).append(made)
        doing = f"put partitions of {database}.{table}"
        for part in _chunks(new, ADDED_PER_CALL):
            request = WIRE["AddPartitionsRequest"](
                dbName=database, tblName=table, parts=part, ifNotExists=True, needResult=False, catName=self._catalog_name()
            )
            self._answer("add_partitions_req", doing, request=request)
        if changed:
            self._answer(
                "alter_partitions_with_environment_context", doing, db_name=self._database(database), tbl_name=table,
                new_parts=changed, environment_context=WIRE["EnvironmentContext"](properties=dict(_NO_STATS)),
            )  # fmt: skip

    def drop_partitions(self, database: str, table: str, values: Sequence[PartitionValues]) -> None:
        raw = self._raw(database, table)
        if raw is None or not values:
            return
        if not raw.partitionKeys:
            if shapes.only_partition(database, raw) is not None:
                self._point(database, raw, None)
            return
        doing = f"drop partitions of {database}.{table}"
        for names in _chunks([self._name(raw, one) for one in dict.fromkeys(values)], NAMES_PER_CALL):
            request = WIRE["DropPartitionsRequest"](
                dbName=database, tblName=table, parts=WIRE["RequestPartsSpec"](names=names), deleteData=False, ifExists=True,
                needResult=False, catName=self._catalog_name(),
            )  # fmt: skip
            self._answer("drop_partitions_req", doing, req=request)

    def _answer(self, call: str, doing: str, **arguments: Any) -> Any:
        try:
            return self.calls.call(call, doing, **arguments)
        except ServerError as error:
            raise translated(doing, error) from None

    def _raw(self, database: str, name: str) -> Any:
        """The metastore's own object, None when there is no such table."""
        doing = f"read table {database}.{name}"
        request = WIRE["GetTableRequest"](dbName=database, tblName=name, catName=self._catalog_name())
        try:
            raw = self.calls.call("get_table_req", doing, req=request).table
        except ServerError as error:
            if not isinstance(error, WIRE["NoSuchObjectException"]):
                raise translated(doing, error) from None
            self._tables.pop((database, name), None)
            return None
        raw.parameters = raw.parameters or {}
        self._tables[database, name] = raw
        return raw

    def _there(self, database: str, name: str, doing: str) -> CatalogTable:
        table = self.get_table(database, name)
        if table is None:
            raise rules.missing_table(doing, database, name)
        return table

    def _has(self, database: str) -> bool:
        doing = f"read database {database}"
        try:
            self.calls.call("get_database", doing, name=self._database(database))
        except ServerError as error:
            if isinstance(error, WIRE["NoSuchObjectException"]):
                return False
            raise translated(doing, error) from None
        return True

    def _names(self, database: str, table: str) -> list[str]:
        """The names of all partitions: text, in one call; a metastore has no pages of them."""
        doing = f"list partitions of {database}.{table}"
        answer = self._answer("get_partition_names", doing, db_name=self._database(database), tbl_name=table, max_parts=-1)
        return list(answer)

    def _of_names(self, database: str, raw: Any, names: Sequence[str]) -> list[Any]:
        """Those that exist. Many are first looked for among all names: asked for a list of partitions none of which is there,
        Hive 4.0 takes a way whose time grows with the square of the list, and whose depth can overflow its stack."""
        doing = f"read partitions of {database}.{raw.tableName}"
        if len(names) > self.asked_blindly:
            known = set(self._names(database, raw.tableName))
            names = [name for name in names if name in known]
        found: list[Any] = []
        for chunk in _chunks(names, max(1000, COLUMNS_PER_CALL // (len(raw.sd.cols or ()) or 1))):
            found += self._answer(
                "get_partitions_by_names", doing, db_name=self._database(database), tbl_name=raw.tableName, names=chunk
            )
        return found

    def _name(self, raw: Any, values: PartitionValues) -> str:
        keys = [key.name for key in raw.partitionKeys]
        if len(keys) != len(values):
            raise InventoryError(
                f"Cannot find partition {values} of {raw.tableName}: {len(values)} values -> {len(keys)}, one for each of "
                f"{', '.join(keys)}."
            )
        return partition_name(keys, values)

    def _point(self, database: str, raw: Any, partition: CatalogPartition | None) -> None:
        """Makes an unpartitioned table show this partition, unless it shows a later one already."""
        for _ in range(POINTING_TRIES):
            stands = shapes.only_partition(database, raw)
            if partition is not None and stands is not None and stands.epoch > partition.epoch:
                return
            try:
                self._swap(database, raw, lambda stands: shapes.pointed(stands, partition, self._s3_scheme))
                return
            except ConflictError:
                raw = self._raw(database, raw.tableName)
                if raw is None:
                    break
        raise ConflictError(f"Cannot show data in {database}.{raw.tableName if raw else 'a dropped table'}: changed all the time.")

    def _swap(self, database: str, raw: Any, change: Callable[[Any], Any]) -> None:
        """Alters the table if it is still `raw`; ConflictError otherwise."""
        if self._compares is None:
            self._compares = self._is_comparing(database, raw)
        compared = shapes.ddl_time(raw) if self._compares else None
        if compared is not None:
            self._alter(database, change(raw), compared)
            return
        with table_lock(self.calls, database, raw.tableName):
            again = self._raw(database, raw.tableName)
            if again is None or shapes.version_of(again) != shapes.version_of(raw):
                raise _altered(database, raw.tableName)
            new = change(again)
            self._alter(database, new, None, since=shapes.ddl_time(again))
            now = self._raw(database, raw.tableName)
            if now is None or shapes.version_of(now) != shapes.version_of(new):
                raise _altered(database, raw.tableName)

    def _alter(self, database: str, new: Any, compared: str | None, since: str | None = None) -> None:
        last = compared or since
        new.parameters[shapes.DDL_TIME] = str(max(int(time.time()), int(last) + 1 if last else 0))
        expected = {"expected_parameter_key": shapes.DDL_TIME, "expected_parameter_value": compared} if compared else {}
        doing = f"alter table {database}.{new.tableName}"
        try:
            self._alter_call(database, new, _NO_STATS | expected)
        except ServerError as error:
            raise self._of_alter(doing, database, new, error) from None

    def _alter_call(self, database: str, new: Any, properties: dict[str, str]) -> None:
        self.calls.call(
            "alter_table_with_environment_context", f"alter table {database}.{new.tableName}", repeat=False,
            dbname=self._database(database), tbl_name=new.tableName, new_tbl=new,
            environment_context=WIRE["EnvironmentContext"](properties=properties),
        )  # fmt: skip

    def _of_alter(self, doing: str, database: str, new: Any, error: ServerError) -> DataOpsError:
        if "doesn't exist" in error.message or "does not exist" in error.message:
            return _altered(database, new.tableName)
        return translated(doing, error)

    def _is_comparing(self, database: str, raw: Any) -> bool:
        """Asks for what no metastore does, new partition columns, of a table that is at no time: one that compares says that the
        table has been modified, any other that partition columns never change. Nothing is altered."""
        if shapes.ddl_time(raw) is None:
            return False
        asked = shapes.pointed(raw, None, self._s3_scheme)
        asked.partitionKeys = [*(raw.partitionKeys or ()), WIRE["FieldSchema"](name="dataops_probe", type="string")]
        expected = {"expected_parameter_key": shapes.DDL_TIME, "expected_parameter_value": _IMPOSSIBLE}
        try:
            self._alter_call(database, asked, _NO_STATS | expected)
        except ServerError as error:
            comparing = "has been modified" in error.message
            if not comparing:
                log.warning("metastore %s does not compare and swap; tables are altered under a lock", self.calls.address)
            return comparing
        raise InventoryError(
            f"Cannot use metastore {self.calls.address}: it lets the partition columns of a table change -> refused, as Hive does. "
            "It is no Hive Metastore that this product knows. Use another catalog."
        )

    def _database(self, database: str) -> str:
        """A database's name as calls take it that know catalogs only by a prefix."""
        return f"@{self._hive_catalog}#{database}" if self._hive_catalog else database

    def _catalog_name(self) -> str | None:
        return self._hive_catalog or None


def _chunks(items: Sequence[T], size: int) -> Iterable[list[T]]:
    return (list(items[at : at + size]) for at in range(0, len(items), size))


def _moved(before: CatalogTable, found: str) -> ConflictError:
    return ConflictError(
        f"Cannot alter table {before.database}.{before.name}: its version is {found} -> {before.version or 'none'}. "
        "Another writer changed it. Read it again and plan again."
    )


def _altered(database: str, name: str) -> ConflictError:
    return ConflictError(
        f"Cannot alter table {database}.{name}: it is another by now -> unchanged. Another writer changed it. Read it again and "
        "plan again."
    )
