"""The `options` of a row, one model per kind of source. Lint checks a row with them; the source is opened with them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import Spec


class SqlOptions(Spec):
    """`kind: sql`. Which database it is comes from the connection; these only say how it is spoken to."""

    driver: Literal["auto", "adbc", "dbapi"] = Field(
        "auto", description="`auto` takes an Arrow-native (ADBC) driver where one is installed, DB-API otherwise."
    )
    statement_timeout_seconds: int | None = Field(
        None,
        ge=1,
        le=604_800,
        description="The database cancels a statement that runs longer. Unset: the database's own limit.",
    )
    schemas: tuple[str, ...] = Field(
        (), description="Only look at these database schemas. Empty: every schema that is not the system's."
    )


class FilesOptions(Spec):
    """`kind: files`. A path, a glob or a folder; local or S3."""

    path: str = Field(
        min_length=1,
        max_length=4096,
        description="A file, a glob or a folder; `s3://bucket/prefix` or a local path. A relative path starts at the "
        "connection's base path, without a connection at the folder that holds `inventory/`.",
    )
    format: Literal["auto", "csv", "tsv", "json", "ndjson", "parquet", "avro"] = Field(
        "auto", description="`auto` goes by the content, then by the name."
    )
    compression: Literal["auto", "none", "gzip", "zstd", "bz2", "xz"] = Field(
        "auto", description="`auto` goes by the first bytes, not by the name."
    )
    encoding: str | None = Field(None, description="Text encoding, for example `cp1252`. Unset: detected and recorded.")
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="Unset: detected and recorded.")
    quote: str | None = Field(None, min_length=1, max_length=1, description="Unset: detected and recorded.")
    header: bool | None = Field(
        None,
        description="Whether the first record names the columns. Unset: detected, and a "
        "file that differs in this from the others of its table is refused.",
    )
    null_values: tuple[str, ...] = Field(("",), description="Unquoted text that stands for NULL.")
    table_from: Literal["auto", "source", "file", "folder"] = Field(
        "auto",
        description="What one table is. `source`: all files are one table, named like the source. `file`: each file, by "
        "its name before the first dot. `folder`: each sub-folder. `auto`: a file or a glob is one table named "
        "like the source; in a folder each sub-folder and each file directly inside is a table.",
    )
    skip_rows: int = Field(0, ge=0, le=1_000_000, description="Lines above the header that are not data.")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                "".encode(value)
            except LookupError as error:
                raise ValueError(f"no text encoding is called {value!r}") from error
        return value


OPTION_MODELS: Mapping[str, type[Spec]] = {"sql": SqlOptions, "files": FilesOptions}
"""Kind of source → model of its `options`."""


def option_model(kind: str) -> type[Spec]:
    """The model of a kind's options. InventoryError for an unknown kind, listing the known ones."""
    model = OPTION_MODELS.get(kind)
    if model is None:
        near = difflib.get_close_matches(kind, OPTION_MODELS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InventoryError(f"Cannot find source kind {kind!r} -> one of {', '.join(sorted(OPTION_MODELS))}.{hint}")
    return model


def sql_options(options: Mapping[str, Any]) -> SqlOptions:
    """`options` of a `kind: sql` row; InventoryError names each wrong field."""
    return _validated(SqlOptions, options)


def files_options(options: Mapping[str, Any]) -> FilesOptions:
    """`options` of a `kind: files` row; InventoryError names each wrong field."""
    return _validated(FilesOptions, options)


S = TypeVar("S", bound=Spec)


def _validated(model: type[S], options: Mapping[str, Any]) -> S:
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        # Never the input itself: it may be a secret in the wrong place.
        found = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_input=False))
        known = ", ".join(model.model_fields)
        raise InventoryError(f"Cannot read options: {found} -> known options are {known}.") from None
