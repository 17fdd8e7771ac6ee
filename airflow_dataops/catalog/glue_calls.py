"""The calls of a Hive Metastore, put to the AWS Glue Data Catalog.

Glue does in one call what a metastore does in one only for single tables; lists of partitions go in parts of its own size, and
each partition fares by itself.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from airflow_dataops.catalog.glue_objects import partition_input, table_input, to_hive_partition, to_hive_table
from airflow_dataops.catalog.hive_wire import WIRE, ServerError
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.core.partition_name import DEFAULT_PARTITION, parse_partition_name, partition_name
from airflow_dataops.storage.s3 import S3Options

log = logging.getLogger(__name__)

GET, CREATE, UPDATE, DELETE = 1000, 100, 100, 25
"""Partitions in one call of Glue, by what is done with them."""

UNPROCESSED_TRIES = 8
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 10, 60, 6

_KINDS = {
    "EntityNotFoundException": "NoSuchObjectException",
    "AlreadyExistsException": "AlreadyExistsException",
    "InvalidInputException": "InvalidObjectException",
    "ValidationException": "InvalidObjectException",
}
_MOVED = frozenset(("ConcurrentModificationException", "VersionMismatchException"))
_LASTING = frozenset((
    "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId",
    "MissingAuthenticationTokenException", "IncompleteSignature", "GlueEncryptionException", "ResourceNumberLimitExceededException",
    "FederationSourceException", "PermissionTypeMismatchException",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class GlueAddress:
    """Where Glue is, from an Airflow connection of type `aws` (None: the SDK's own chain). `options` are those of a metastore's
    address that the catalog reads."""

    conn_id: str
    aws: S3Options
    glue_catalog_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: {"s3_scheme": "s3", "catalog_name": ""})

    def __str__(self) -> str:
        return self.aws.endpoint or f"Glue in {self.aws.region or 'the region of the environment'}"

    @classmethod
    def of_connection(cls, connection: Connection | None) -> GlueAddress:
        """InventoryError for extras that would be ignored."""
        if connection is None:
            return cls("", S3Options())
        extra = dict(connection.extra)
        catalog_id = extra.pop("glue_catalog_id", None)
        aws = S3Options.of(replace(connection, extra=extra), service="glue")
        return cls(connection.conn_id, aws, str(catalog_id) if catalog_id else None)


class GlueCalls:
    """Thread-safe. `counted` is Glue's calls by name: what Amazon bills."""

    def __init__(self, address: GlueAddress) -> None:
        self.address = address
        self.counted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._calls = {
            name: getattr(self, f"_{name}")
            for name in (
                "get_databases", "get_database", "create_database", "get_all_tables", "get_table_req", "create_table",
                "alter_table_with_environment_context", "drop_table", "get_partition_names", "get_partitions_by_names",
                "add_partitions_req", "alter_partitions_with_environment_context", "drop_partitions_req",
            )
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"GlueCalls({self.address})"

    def close(self) -> None:
        client = self.__dict__.get("client")
        if client is not None:
            client.close()

    def call(self, name: str, doing: str, /, *, repeat: bool = True, **arguments: Any) -> Any:
        """As `MetastoreCalls.call`. What Glue throttles, or fails at, the SDK repeats; altering a table twice is refused by its
        version."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._calls[name](**arguments)
        except ClientError as error:
            told = error.response.get("Error", {})
            raise self._translated(doing, str(told.get("Code", "")), str(told.get("Message", ""))[:300]) from None
        except BotoCoreError as error:
            kind = type(error).__name__
            if kind in ("ParamValidationError", "NoRegionError", "NoCredentialsError", "PartialCredentialsError"):
                raise InventoryError(
                    f"Cannot {doing}: {str(error)[:300]} -> a request that Glue takes. Correct the row, or the connection "
                    f"{self.address.conn_id!r}."
                ) from None
            raise UnavailableError(f"Cannot {doing}: {kind} -> an answer of {self.address}. Try again.") from None

    @cached_property
    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        aws = self.address.aws
        return boto3.session.Session().client(
            "glue",
            aws_access_key_id=aws.access_key,
            aws_secret_access_key=aws.secret_key,
            aws_session_token=aws.session_token,
            region_name=aws.region or ("us-east-1" if aws.endpoint else None),
            endpoint_url=aws.endpoint,
            verify=aws.ca_file or True,
            config=Config(
                connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"max_attempts": ATTEMPTS, "mode": "standard"},
                max_pool_connections=16,
            ),
        )  # fmt: skip

    def _translated(self, doing: str, code: str, message: str) -> Exception:
        if code in _KINDS:
            error: ServerError = WIRE[_KINDS[code]](message)
            return error
        if code in _MOVED:
            moved: ServerError = WIRE["MetaException"]("The table has been modified")
            return moved
        if code in _LASTING:
            return InventoryError(
                f"Cannot {doing}: Glue says {code}: {message} -> allowed. Check rights, region and limits of connection "
                f"{self.address.conn_id!r}."
            )
        return UnavailableError(f"Cannot {doing}: Glue says {code}: {message} -> done. Try again later.")

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        with self._lock:
            client = self.client
            self.counted[operation] += 1
        if self.address.glue_catalog_id:
            arguments["CatalogId"] = self.address.glue_catalog_id
        answer: dict[str, Any] = getattr(client, operation)(**arguments)
        return answer

    def _pages(self, operation: str, key: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        while True:
            answer = self._ask(operation, **arguments)
            yield from answer.get(key) or ()
            if not answer.get("NextToken"):
                return
            arguments["NextToken"] = answer["NextToken"]

    def _get_databases(self, pattern: str) -> list[str]:
        return [one["Name"] for one in self._pages("get_databases", "DatabaseList")]

    def _get_database(self, name: str) -> Any:
        found = self._ask("get_database", Name=name)["Database"]
        return WIRE["Database"](name=found["Name"], locationUri=found.get("LocationUri"))

    def _create_database(self, database: Any) -> None:
        self._ask("create_database", DatabaseInput={"Name": database.name, "LocationUri": database.locationUri})

    def _get_all_tables(self, db_name: str) -> list[str]:
        from botocore.exceptions import ClientError

        try:
            return [one["Name"] for one in self._pages("get_tables", "TableList", DatabaseName=db_name)]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "EntityNotFoundException":
                raise
            return []

    def _get_table_req(self, req: Any) -> Any:
        found = self._ask("get_table", DatabaseName=req.dbName, Name=req.tblName)["Table"]
        return WIRE["GetTableResult"](table=to_hive_table(found))

    def _create_table(self, tbl: Any) -> None:
        self._ask("create_table", DatabaseName=tbl.dbName, TableInput=table_input(tbl))

    def _alter_table_with_environment_context(self, dbname: str, tbl_name: str, new_tbl: Any, environment_context: Any) -> None:
        """Glue itself compares the version. What of the table the metastore's object has no place for is read again, and belongs
        to that version or the alter is refused."""
        expected = (environment_context.properties or {}).get("expected_parameter_value")
        stands = self._ask("get_table", DatabaseName=dbname, Name=tbl_name)["Table"]
        version = expected if expected is not None else stands.get("VersionId")
        self._ask(
            "update_table", DatabaseName=dbname, TableInput=table_input(new_tbl, stands), VersionId=version, SkipArchive=True
        )

    def _drop_table(self, dbname: str, name: str, deleteData: bool) -> None:
        self._ask("delete_table", DatabaseName=dbname, Name=name)

    def _get_partition_names(self, db_name: str, tbl_name: str, max_parts: int) -> list[str]:
        keys = self._keys(db_name, tbl_name)
        found = self._pages(
            "get_partitions", "Partitions", DatabaseName=db_name, TableName=tbl_name, ExcludeColumnSchema=True, MaxResults=GET
        )
        return [partition_name(keys, [None if v in ("", DEFAULT_PARTITION) else v for v in one["Values"]]) for one in found]

    def _keys(self, database: str, table: str) -> list[str]:
        found = self._ask("get_table", DatabaseName=database, Name=table)["Table"]
        return [one["Name"] for one in found.get("PartitionKeys") or ()]

    def _get_partitions_by_names(self, db_name: str, tbl_name: str, names: Sequence[str]) -> list[Any]:
        found: list[Any] = []
        asked = [{"Values": _values(name)} for name in names]
        for _ in range(UNPROCESSED_TRIES):
            left: list[Any] = []
            for part in _parts(asked, GET):
                answer = self._ask("batch_get_partition", DatabaseName=db_name, TableName=tbl_name, PartitionsToGet=part)
                found += [to_hive_partition(one) for one in answer.get("Partitions") or ()]
                left += answer.get("UnprocessedKeys") or ()
            if not left:
                return found
            asked = left
        raise UnavailableError(
            f"Cannot read partitions of {db_name}.{tbl_name}: Glue left {len(asked)} out {UNPROCESSED_TRIES} times -> all. "
            "Try again later."
        )

    def _add_partitions_req(self, request: Any) -> None:
        for part in _parts(request.parts, CREATE):
            answer = self._ask(
                "batch_create_partition", DatabaseName=request.dbName, TableName=request.tblName,
                PartitionInputList=[partition_input(one) for one in part],
            )  # fmt: skip
            self._raise_first(answer, but="AlreadyExistsException" if request.ifNotExists else "")

    def _alter_partitions_with_environment_context(
        self, db_name: str, tbl_name: str, new_parts: Sequence[Any], environment_context: Any
    ) -> None:
        for part in _parts(new_parts, UPDATE):
            entries = [{"PartitionValueList": list(one.values), "PartitionInput": partition_input(one)} for one in part]
            answer = self._ask("batch_update_partition", DatabaseName=db_name, TableName=tbl_name, Entries=entries)
            self._raise_first(answer)

    def _drop_partitions_req(self, req: Any) -> None:
        for part in _parts([{"Values": _values(name)} for name in req.parts.names], DELETE):
            answer = self._ask("batch_delete_partition", DatabaseName=req.dbName, TableName=req.tblName, PartitionsToDelete=part)
            self._raise_first(answer, but="EntityNotFoundException")

    def _raise_first(self, answer: Mapping[str, Any], but: str = "") -> None:
        """The first partition's failure that is none of the expected kind, as that of the call."""
        for one in answer.get("Errors") or ():
            told = one.get("ErrorDetail") or {}
            if told.get("ErrorCode") != but:
                raise self._translated("change a partition", str(told.get("ErrorCode")), str(told.get("ErrorMessage"))[:300])


def _values(name: str) -> list[str]:
    return [DEFAULT_PARTITION if value is None else value for _, value in parse_partition_name(name)]


def _parts(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[at : at + size]) for at in range(0, len(items), size))
