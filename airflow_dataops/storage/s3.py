"""S3 and what speaks its language (MinIO, versitygw, …) as a store.

pyarrow reads and writes; boto3 does what pyarrow cannot: list with ETags, read by ETag, put only if absent.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError
from airflow_dataops.storage.base import StoredFile
from airflow_dataops.storage.failures import error_code, storage_errors
from airflow_dataops.storage.paths import below_root, safe_join

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem

_EXTRAS = (
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region_name", "endpoint_url", "verify",
    "service_config", "path",
)  # fmt: skip
_ONE_PUT_BYTES = 8 * 1024 * 1024
_PART_BYTES = 512 * 1024 * 1024
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 10, 60, 4


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the store, from an Airflow connection of type `aws`. TLS certificates are always verified (against
    `ca_file` when given); only an endpoint that itself says `http://` is spoken to in the clear."""

    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint: str | None = None
    ca_file: str | None = None

    @classmethod
    def of(cls, connection: Connection | None, service: str = "s3") -> S3Options:
        """None: the SDKs' own chain (environment, profile, instance). Extras that would be ignored are refused. `service`: whose
        endpoint in `service_config` goes before the general one."""
        if connection is None:
            return cls()
        extra = connection.extra
        unknown = sorted(set(extra) - set(_EXTRAS))
        if unknown:
            raise InventoryError(
                f"Cannot use connection {connection.conn_id}: extra {', '.join(unknown)} -> only {', '.join(_EXTRAS)}. "
                "An ignored setting would mean other rights than you think. For roles and profiles, leave login and "
                "password empty and set AWS_PROFILE on the workers."
            )
        verify = extra.get("verify", True)
        if verify in (False, "false", "False"):
            raise InventoryError(
                f"Cannot use connection {connection.conn_id}: verify false -> true or the path of a CA file. "
                "Unverified TLS protects nothing. Name the CA file, or an http:// endpoint if that is what you mean."
            )
        access_key = connection.login or _text(extra, "aws_access_key_id")
        secret_key = connection.password or _text(extra, "aws_secret_access_key")
        if bool(access_key) != bool(secret_key):
            raise InventoryError(
                f"Cannot use connection {connection.conn_id}: one of login and password -> both. Complete it."
            )
        services = extra.get("service_config")
        own = services.get(service) if isinstance(services, Mapping) else None
        endpoint = (_text(own, "endpoint_url") if isinstance(own, Mapping) else None) or _text(extra, "endpoint_url")
        if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
            raise InventoryError(
                f"Cannot use connection {connection.conn_id}: endpoint_url {endpoint!r} -> http(s)://host. Correct it."
            )
        return cls(
            access_key or None, secret_key or None, _text(extra, "aws_session_token"), _text(extra, "region_name"),
            endpoint, verify if isinstance(verify, str) and verify not in ("true", "True") else None,
        )  # fmt: skip


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    return str(value) if value not in (None, "") else None


class S3Storage:
    """`bucket/prefix`. The empty objects that tools leave as folder marks (`name/`) are no files."""

    is_local = False

    def __init__(self, root: str, options: S3Options) -> None:
        self.root, self.options = root, options
        self.bucket, _, self.prefix = root.partition("/")

    @cached_property
    def filesystem(self) -> FileSystem:
        from pyarrow.fs import S3FileSystem

        o = self.options
        endpoint = urlsplit(o.endpoint) if o.endpoint else None
        return S3FileSystem(
            access_key=o.access_key,
            secret_key=o.secret_key,
            session_token=o.session_token,
            region=o.region or ("us-east-1" if endpoint else None),
            scheme=endpoint.scheme if endpoint else "https",
            endpoint_override=endpoint.netloc + endpoint.path.rstrip("/") if endpoint else None,
            tls_ca_file_path=o.ca_file,
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_READ_SECONDS,
        )

    @cached_property
    def client(self) -> Any:
        """boto3 client with the same settings. InventoryError with the install hint when boto3 is not there."""
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise InventoryError(
                f"Cannot use address s3://{self.root}: boto3 is not installed -> it is. "
                "Install airflow-dataops[s3] where this runs."
            ) from error
        o = self.options
        # Endpoints of one's own rarely have a DNS name per bucket.
        style = {"addressing_style": "path"} if o.endpoint else {}
        config = Config(
            s3=style, connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS,
            retries={"max_attempts": _ATTEMPTS, "mode": "standard"},
        )  # fmt: skip
        with storage_errors(f"reach store s3://{self.root}"):
            return boto3.client(
                "s3",
                aws_access_key_id=o.access_key,
                aws_secret_access_key=o.secret_key,
                aws_session_token=o.session_token,
                region_name=o.region or ("us-east-1" if o.endpoint else None),
                endpoint_url=o.endpoint,
                verify=o.ca_file or True,
                config=config,
            )

    def address(self, relative: str) -> str:
        return safe_join(self.root, relative, local=False)

    def uri(self, relative: str) -> str:
        return "s3://" + self.address(relative)

    def _key(self, relative: str) -> str:
        return self.address(relative).partition("/")[2]

    def walk(self, directory: str = "") -> Iterator[StoredFile]:
        top = self._key(directory)
        skip = len(self.prefix) + 1 if self.prefix else 0
        with storage_errors(f"list s3://{self.address(directory)}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{top}/" if top else ""
            )
            # S3 lists in byte order of the keys; paths shall come in the order of the local store.
            found = sorted(
                StoredFile(item["Key"][skip:], int(item["Size"]), item["ETag"])
                for page in pages
                for item in page.get("Contents", ())
                if not item["Key"].endswith("/")
            )
        yield from found

    def list(self, directory: str = "") -> Sequence[tuple[str, int]]:
        return [(file.path, file.size) for file in self.walk(directory)]

    def stat(self, relative: str) -> StoredFile | None:
        with storage_errors(f"look at {self.uri(relative)}"):
            try:
                head = self.client.head_object(Bucket=self.bucket, Key=self._key(relative))
            except self.client.exceptions.ClientError as error:
                if error_code(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
        return StoredFile(relative, int(head["ContentLength"]), head["ETag"])

    def open_stream(self, file: StoredFile) -> BinaryIO:
        doing = f"read {self.uri(file.path)}"
        with storage_errors(doing):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(file.path), IfMatch=file.etag)
            except self.client.exceptions.ClientError as error:
                if error_code(error) in ("PreconditionFailed", "412", "NoSuchKey", "404"):
                    raise _replaced(file) from error
                raise
        if answer["ETag"] != file.etag:  # a server that does not know If-Match
            answer["Body"].close()
            raise _replaced(file)
        return io.BufferedReader(_Body(answer["Body"], doing), 1024 * 1024)

    def open_random(self, file: StoredFile) -> NativeFile:
        found = self.stat(file.path)
        if found is None or found.etag != file.etag:
            raise _replaced(file)
        with storage_errors(f"read {self.uri(file.path)}"):
            return self.filesystem.open_input_file(self.address(file.path))

    def put_if_absent(self, source: str, target: str) -> bool:
        """Small objects are written again, large ones copied inside the store by parts; both end with If-None-Match,
        because CopyObject alone does not know it everywhere. The look beforehand is for servers that ignore the header:
        there a race could only write the same bytes again."""
        if self.stat(target) is not None:
            return False
        found = self.stat(source)
        if found is None:
            raise InventoryError(f"Cannot put {self.uri(target)}: no {self.uri(source)} -> it exists. Stage it first.")
        with storage_errors(f"put {self.uri(target)}"):
            try:
                if found.size <= _ONE_PUT_BYTES:
                    with self.open_stream(found) as body:
                        self.client.put_object(
                            Bucket=self.bucket, Key=self._key(target), Body=body.read(), IfNoneMatch="*"
                        )
                else:
                    self._copy_by_parts(found, target)
            except self.client.exceptions.ClientError as error:
                match error_code(error):
                    case "PreconditionFailed" | "412":
                        return False
                    case "ConditionalRequestConflict" | "409":
                        raise ConflictError(
                            f"Cannot put {self.uri(target)}: somebody else writes it -> one writer. Try again."
                        ) from error
                    case "NotImplemented" | "501":
                        raise InventoryError(
                            f"Cannot put {self.uri(target)}: this store has no conditional writes -> If-None-Match. "
                            "Without it two runs could overwrite each other. Use a store that has them."
                        ) from error
                raise
        return True

    def delete_directory(self, directory: str) -> int:
        prefix = self._key(below_root(directory)) + "/"
        gone = 0
        with storage_errors(f"delete {self.uri(directory)}"):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
                if not keys:
                    continue
                answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
                failed = answer.get("Errors", ())
                if failed:
                    raise UnavailableError(
                        f"Cannot delete {self.uri(directory)}: {len(failed)} objects stay ({failed[0].get('Code')}) -> "
                        "none. The store refused them. Try again; if it stays so, check the rights to delete."
                    )
                gone += sum(not key["Key"].endswith("/") for key in keys)
        return gone

    def _copy_by_parts(self, found: StoredFile, target: str) -> None:
        key = self._key(target)
        upload = self.client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        try:
            parts = []
            for number, start in enumerate(range(0, found.size, _PART_BYTES), 1):
                end = min(start + _PART_BYTES, found.size) - 1
                copied = self.client.upload_part_copy(
                    Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number,
                    CopySource={"Bucket": self.bucket, "Key": self._key(found.path)},
                    CopySourceIfMatch=found.etag, CopySourceRange=f"bytes={start}-{end}",
                )  # fmt: skip
                parts.append({"ETag": copied["CopyPartResult"]["ETag"], "PartNumber": number})
            self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            with storage_errors(f"abort the upload of s3://{self.bucket}/{key}"):
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
            raise


def _replaced(file: StoredFile) -> ConflictError:
    return ConflictError(
        f"Cannot read file {file.path!r}: it is not ETag {file.etag} any more -> as listed. "
        "It was replaced or deleted meanwhile. The retry reads the listing again."
    )


class _Body(io.RawIOBase):
    """boto3's streaming body as a raw file whose failures are ours (a cut connection is noticed by its length)."""

    def __init__(self, body: Any, doing: str) -> None:
        self._body, self._doing = body, doing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with storage_errors(self._doing):
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()
