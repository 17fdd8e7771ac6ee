"""The part of the metastore's Thrift interface that the catalog speaks, by field number: structs, exceptions and calls.

Thrift reads by number and skips what it does not know, so one list serves metastores from 2.3 on. Generated bindings for
the whole interface are 3.6 MB of source and 150 MB of memory in every task; this is a thousandth of it.

What a struct does not list is lost when the object is read, changed and written back. So those that are altered (Table,
Partition and what they hold) list all that a metastore keeps, but what belongs to views and to transactional or skewed tables,
which `hive_shapes.py` refuses to alter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from thrift.protocol.TBase import TBase, TExceptionBase
from thrift.Thrift import TType

_STRUCTS = """
FieldSchema: 1 name string, 2 type string, 3 comment string
SerDeInfo: 1 name string, 2 serializationLib string, 3 parameters map<string,string>, 4 description string,
  5 serializerClass string, 6 deserializerClass string, 7 serdeType i32
Order: 1 col string, 2 order i32
SkewedInfo: 1 skewedColNames list<string>
StorageDescriptor: 1 cols list<FieldSchema>, 2 location string, 3 inputFormat string, 4 outputFormat string,
  5 compressed bool, 6 numBuckets i32, 7 serdeInfo SerDeInfo, 8 bucketCols list<string>, 9 sortCols list<Order>,
  10 parameters map<string,string>, 11 skewedInfo SkewedInfo, 12 storedAsSubDirectories bool
Table: 1 tableName string, 2 dbName string, 3 owner string, 4 createTime i32, 5 lastAccessTime i32, 6 retention i32,
  7 sd StorageDescriptor, 8 partitionKeys list<FieldSchema>, 9 parameters map<string,string>, 10 viewOriginalText string,
  11 viewExpandedText string, 12 tableType string, 14 temporary bool, 17 catName string, 18 ownerType i32, 19 writeId i64
Partition: 1 values list<string>, 2 dbName string, 3 tableName string, 4 createTime i32, 5 lastAccessTime i32,
  6 sd StorageDescriptor, 7 parameters map<string,string>, 9 catName string, 10 writeId i64
Database: 1 name string, 2 description string, 3 locationUri string, 4 parameters map<string,string>,
  8 catalogName string
EnvironmentContext: 1 properties map<string,string>
GetTableRequest: 1 dbName string, 2 tblName string, 4 catName string
GetTableResult: 1 table Table
AddPartitionsRequest: 1 dbName string, 2 tblName string, 3 parts list<Partition>, 4 ifNotExists bool, 5 needResult bool,
  6 catName string
AddPartitionsResult: 1 partitions list<Partition>
RequestPartsSpec: 1 names list<string>
DropPartitionsRequest: 1 dbName string, 2 tblName string, 3 parts RequestPartsSpec, 4 deleteData bool, 5 ifExists bool,
  8 needResult bool, 9 catName string
DropPartitionsResult: 1 partitions list<Partition>
LockComponent: 1 type i32, 2 level i32, 3 dbname string, 4 tablename string, 6 operationType i32
LockRequest: 1 component list<LockComponent>, 3 user string, 4 hostname string, 5 agentInfo string
LockResponse: 1 lockid i64, 2 state i32
CheckLockRequest: 1 lockid i64
UnlockRequest: 1 lockid i64
"""

_EXCEPTIONS = (
    "MetaException", "NoSuchObjectException", "AlreadyExistsException", "InvalidOperationException",
    "InvalidObjectException", "NoSuchTxnException", "TxnAbortedException", "TxnOpenException", "NoSuchLockException",
)  # fmt: skip

_CALLS = """
getVersion() string
set_ugi(1 user_name string, 2 group_names list<string>) list<string> MetaException
get_databases(1 pattern string) list<string> MetaException
get_database(1 name string) Database NoSuchObjectException MetaException
create_database(1 database Database) void AlreadyExistsException InvalidObjectException MetaException
get_all_tables(1 db_name string) list<string> MetaException
get_table_req(1 req GetTableRequest) GetTableResult MetaException NoSuchObjectException
create_table(1 tbl Table) void AlreadyExistsException InvalidObjectException MetaException NoSuchObjectException
alter_table_with_environment_context(1 dbname string, 2 tbl_name string, 3 new_tbl Table,
  4 environment_context EnvironmentContext) void InvalidOperationException MetaException
drop_table(1 dbname string, 2 name string, 3 deleteData bool) void NoSuchObjectException MetaException
get_partition_names(1 db_name string, 2 tbl_name string, 3 max_parts i16) list<string> NoSuchObjectException MetaException
get_partitions_by_names(1 db_name string, 2 tbl_name string, 3 names list<string>) list<Partition>
  MetaException NoSuchObjectException
add_partitions_req(1 request AddPartitionsRequest) AddPartitionsResult
  InvalidObjectException AlreadyExistsException MetaException
alter_partitions_with_environment_context(1 db_name string, 2 tbl_name string, 3 new_parts list<Partition>,
  4 environment_context EnvironmentContext) void InvalidOperationException MetaException
drop_partitions_req(1 req DropPartitionsRequest) DropPartitionsResult NoSuchObjectException MetaException
lock(1 rqst LockRequest) LockResponse NoSuchTxnException TxnAbortedException
check_lock(1 rqst CheckLockRequest) LockResponse NoSuchTxnException TxnAbortedException NoSuchLockException
unlock(1 rqst UnlockRequest) void NoSuchLockException TxnOpenException
"""

_PLAIN = {"bool": TType.BOOL, "i16": TType.I16, "i32": TType.I32, "i64": TType.I64}


class Struct(TBase):
    """A struct of the interface; fields that were not given are None, which is not sent."""

    __slots__ = ()
    thrift_spec: tuple[Any, ...] = ()

    def __init__(self, **fields: Any) -> None:
        for entry in self.thrift_spec:
            if entry is not None:
                setattr(self, entry[2], fields.pop(entry[2], None))
        if fields:
            raise TypeError(f"Cannot make {type(self).__name__}: field {sorted(fields)[0]!r} -> one of the interface.")


class ServerError(TExceptionBase):
    """An exception that a call of the metastore answers with; `message` is the metastore's own text."""

    thrift_spec: tuple[Any, ...] = (None, (1, TType.STRING, "message", "UTF8", None))

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.message = message or ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the structs of its arguments and of its answer (field 0; the others are its exceptions)."""

    arguments: type[Struct]
    answer: type[Struct]


def _statements(text: str) -> list[str]:
    return re.sub(r"\n +", " ", text).strip().splitlines()


def _type(text: str) -> tuple[int, Any]:
    """Thrift's (type, type arguments) of `list<Order>` and the like."""
    if text in _PLAIN:
        return _PLAIN[text], None
    if text == "string":
        return TType.STRING, "UTF8"
    outer, _, inner = text.partition("<")
    if outer == "list":
        return TType.LIST, (*_type(inner[:-1]), False)
    if outer == "map":
        key, _, value = inner[:-1].partition(",")
        return TType.MAP, (*_type(key), *_type(value), False)
    return TType.STRUCT, [WIRE[text], WIRE[text].thrift_spec]


def _struct(name: str, fields: str, base: type = Struct) -> type[Any]:
    given = [re.fullmatch(r"(\d+) (\w+) (\S+)", part) for part in re.split(r", (?=\d)", fields) if part]
    entries = {int(m[1]): (int(m[1]), *_type(m[3])[:1], m[2], *_type(m[3])[1:], None) for m in given if m}
    spec = tuple(entries.get(number) for number in range(max(entries, default=-1) + 1))
    return type(name, (base,), {"thrift_spec": spec, "__slots__": tuple(e[2] for e in entries.values())})


def _call(statement: str) -> tuple[str, Call]:
    match = re.fullmatch(r"(\w+)\((.*)\) (\S+)(.*)", statement)
    if match is None:
        raise TypeError(f"Cannot read the interface: {statement!r} -> name(fields) answer exceptions.")
    name, fields, answer, raised = match[1], match[2], match[3], match[4].split()
    results = [f"0 success {answer}"] if answer != "void" else []
    results += [f"{number} o{number} {exception}" for number, exception in enumerate(raised, 1)]
    return name, Call(_struct(f"{name}_args", fields), _struct(f"{name}_result", ", ".join(results)))


WIRE: dict[str, Any] = {name: type(name, (ServerError,), {}) for name in _EXCEPTIONS}
"""Struct or exception by its name in the interface."""

CALLS: dict[str, Call] = {}
"""Call by its name in the interface."""


def declare(structs: str, calls: str) -> None:
    """Adds structs and calls, written as those below; a struct after those that it holds."""
    for name, _, fields in (statement.partition(": ") for statement in _statements(structs)):
        WIRE[name] = _struct(name, fields)
    CALLS.update(_call(statement) for statement in _statements(calls))


declare(_STRUCTS, _CALLS)
