"""What a source is to the rest of the product: tables that can be described, and ranges of them that can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pyarrow as pa

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.offset import FileIdentity, OffsetRange, Scalar
from airflow_dataops.core.privacy import Action
from airflow_dataops.core.schema import TableSchema


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as its source declares it. `schema` has the source's own column names; for files it is inferred.
    Estimates are None when the source cannot tell cheaply. `traits` are facts worth recording about the table's form
    (encoding, delimiter, line ends, server version, …) for infrastructure drift."""

    name: str
    schema: TableSchema
    rows_estimate: int | None = None
    bytes_estimate: int | None = None
    comment: str = ""
    traits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read. `expected` is the lake table's schema in *source* column names (None on first load): text formats
    use it to choose, among the types the text allows, one the table can take (leading zeros stay text; an int column
    that meets `2.5` becomes a decimal, not a float). `query` replaces the table by a SELECT."""

    table: str
    range: OffsetRange
    batch_rows: int = 65536
    query: str | None = None
    expected: TableSchema | None = None
    isolation: str = "snapshot"


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows in source names and types, and the records beside them that could not be read.

    `source_file`/`source_offsets` tell where each row stood (file sources: path and 1-based line or record number).
    Rows read = len(records) + sum of dead_letters.rows.
    """

    records: pa.RecordBatch
    dead_letters: tuple[DeadLetter, ...] = ()
    source_file: str | None = None
    source_offsets: pa.Array | None = None


class Reading(Protocol):
    """One read in progress. `schema` is known before the first batch; every batch has exactly this schema.

    Text formats may find, late in a file, a value that the schema cannot take: then iteration raises `SchemaMoved`
    (from `sources.base`) that carries the wider schema, and the caller stages again from the start with it.
    """

    schema: TableSchema
    traits: dict[str, str]

    def __iter__(self) -> Iterator[Batch]: ...

    def close(self) -> None: ...


class SchemaMoved(Exception):
    """A late value does not fit the schema that was inferred from the head. `schema` fits everything seen so far
    (the reader looks at the whole rest before raising, so that one restart is enough). Nothing was lost: read again
    with `ReadRequest.expected = schema`."""

    def __init__(self, schema: TableSchema) -> None:
        super().__init__("inferred schema moved")
        self.schema = schema


class Source(Protocol):
    """One outside system. Opened by `open_source(spec, connection)` in `sources/__init__.py`."""

    kind: str

    def discover(self) -> tuple[SourceTable, ...]:
        """All tables with declared columns, keys, comments and estimates. Never reads data, except that file sources
        look at heads to infer columns."""
        ...

    def table_names(self) -> tuple[str, ...]:
        """The names alone: cheap enough for every run."""
        ...

    def describe(self, table: str, query: str | None = None) -> SourceTable:
        """One table as declared now. InventoryError when the source has no such table."""
        ...

    def high_cursor(self, table: str, cursor: str, query: str | None = None) -> Scalar | None:
        """The highest value of the cursor column now; None for an empty table. Highest, here and in every range, is what
        Python calls so: text goes by code point, whatever its collation. StopError (`RangeError`) when rows have NULL there,
        because no cursor range would ever read them, and when the source cannot put the column in that order."""
        ...

    def now(self) -> float | None:
        """The source's own clock (POSIX seconds), for the lag guard; None when it has none."""
        ...

    def files(self, table: str) -> tuple[FileIdentity, ...]:
        """The table's files as listed now, sorted by path. Empty for sources that are not made of files."""
        ...

    def identify(self, file: FileIdentity) -> FileIdentity:
        """The same file with `content` filled in (reads its bytes once where the listing does not tell)."""
        ...

    def read(self, request: ReadRequest) -> Reading:
        """Starts reading. A file whose `etag` is no longer the listed one raises RetryError (`ConflictError`): read by
        identity, never by name alone."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class TextSource(Protocol):
    """A source whose records are text, which only its own parser can read: also from a dead letter. Needs nothing of the outside
    system."""

    def read_letter(self, letter: DeadLetter, expected: Mapping[str, pa.DataType]) -> Batch:
        """One row in source names, or one dead letter. `expected`: column → the type it has to have."""
        ...

    def hide_letter(
        self, letter: DeadLetter, actions: Mapping[str, Action], types: Mapping[str, pa.DataType], key: bytes | None
    ) -> DeadLetter:
        """The letter without the values that privacy hides: replaced by column where the record can be cut, else withheld."""
        ...
