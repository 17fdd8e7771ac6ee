"""What a file format is: it tells what a file's columns are, and gives its rows with their place in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from airflow_dataops.core.dead_letter import DeadLetter


@dataclass(frozen=True, slots=True)
class FileAccess:
    """One file as a reader sees it. Each call of `stream` or `random` opens exactly the listed file again."""

    path: str
    size: int
    stream: Callable[[], BinaryIO]
    random: Callable[[], pa.NativeFile]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows under the asked schema. `places`: int64, one per row: the 1-based line where the record starts (text) or
    the 1-based record number (JSON documents, Parquet, Avro). Beside them, the records that could not be read."""

    records: pa.RecordBatch
    places: pa.Array
    dead_letters: tuple[DeadLetter, ...] = ()


@dataclass(slots=True)
class Survey:
    """What one file (or its head) says of its columns: name → evidence, in the form that only its format knows.
    `traits`: encoding, delimiter, … . `rows_estimate` is None when the file does not tell.
    `complete`: every record was seen."""

    columns: dict[str, Any]
    traits: dict[str, str] = field(default_factory=dict)
    rows_estimate: int | None = None
    complete: bool = False


@dataclass(slots=True)
class Tally:
    """Over all files of a reading, by column of the table: how many values were present, and how many of them did not fit
    its type. One file may hold nothing else; what the column is, is asked of all files together."""

    present: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)

    @property
    def changed(self) -> list[str]:
        """The columns that have become others: most of their values do not fit."""
        return [name for name, misfits in self.misfits.items() if misfits * 2 > self.present[name]]


class SchemaChanged(Exception):
    """A value or a file needs another schema than the one in use. The source surveys all files and tells the step."""


class FileFormat(Protocol):
    """One family of formats. Errors: ProofError for a file that is not whole, InventoryError for one that is not what
    the row says, whatever the file's opener raises."""

    name: str

    def survey(self, file: FileAccess, expected: Mapping[str, pa.DataType], whole: bool) -> Survey:
        """Looks at the head of a file, or at every record of it."""
        ...

    def schema(self, surveys: Sequence[Survey], expected: Mapping[str, pa.DataType]) -> pa.Schema:
        """One schema for all these files: union of the columns by name, in order of appearance."""
        ...

    def is_settled(self, surveys: Sequence[Survey], schema: pa.Schema, expected: Mapping[str, pa.DataType]) -> bool:
        """Whether the heads' schema may stand until a value contradicts it. False: a column rests on empty values alone,
        or is of another family than the table's, and only all records together can tell."""
        ...

    def rows(
        self, file: FileAccess, schema: pa.Schema, expected: Mapping[str, pa.DataType], batch_rows: int,
        traits: dict[str, str], tally: Tally,
    ) -> Iterator[Rows]:  # fmt: skip
        """The rows of a file, at most `batch_rows` at once. Raises SchemaChanged when `schema` cannot take a value.
        When it ends, `traits` holds what is known of the file's form by then, and its values are in the tally."""
        ...
