"""Read and stage (DESIGN §5.2): one attempt's rows into data files of its own directory."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from airflow_dataops.core.comparison import ABSENT
from airflow_dataops.core.errors import ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, Fingerprint, as_binary, row_fingerprints
from airflow_dataops.core.fingerprint_mix import Words
from airflow_dataops.core.partition import partition_name
from airflow_dataops.core.profile import Profile
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import DataFile, FileFooter, FileLayout, FileWriter, Lake

MAX_OPEN_FILES = 24
"""Files on disk that are open; beyond this the least recently used is closed, at the price of more files."""

HELD_BYTES = 64 << 20
"""Rows in memory of all partitions together; beyond this the fullest partitions are written until half of it is left."""

ROW_GROUP_ROWS = 65_536
"""A reader decodes whole row groups: with twice as many rows, reading back a table of 20 columns takes 40 MB more."""

HIDDEN = "hidden"
"""Metadata of a data file: how its columns are hidden, as JSON (`core.comparison.hiding`)."""

NOT_HIDDEN: Mapping[str, str] = MappingProxyType({})

Values = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class WrittenPartition:
    """One partition of an attempt, closed, with the files' footers re-read."""

    values: Values
    name: str
    directory: str
    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)

    @property
    def fingerprint(self) -> Fingerprint:
        return sum((Fingerprint.parse(f.fingerprint) for f in self.files), Fingerprint.EMPTY)

    @property
    def profile(self) -> Profile:
        return sum((f.profile for f in self.files), Profile.NOTHING)


def hidden_columns(footer: FileFooter) -> dict[str, str]:
    """How the file's columns are hidden, by its own word."""
    return dict(json.loads(footer.metadata.get(HIDDEN, "{}")))


def hidden_under(footer: FileFooter, names: Iterable[str]) -> dict[str, str]:
    """The same for the file's rows under a schema of these names: columns that it does not have say nothing there either."""
    absent = {name: ABSENT for name in names if name not in footer.schema.names and name not in STANDARD_COLUMNS}
    return absent | hidden_columns(footer)


def profile_of(footer: FileFooter) -> Profile:
    """The file's profile without bounds of masked or hashed columns: they are no values, and may stand for one person."""
    return footer.profile.hiding(hidden_columns(footer))


@dataclass(slots=True)
class _Part:
    values: Values
    name: str
    directory: str
    files: list[DataFile] = field(default_factory=list)
    writer: FileWriter | None = None
    rows: int = 0
    print: Fingerprint = Fingerprint.EMPTY


class PartitionFiles:
    """Writes rows to the files of their partitions below one directory, with a running fingerprint per file."""

    def __init__(
        self,
        lake: Lake,
        directory: str,
        object_name: str,
        table: TableSpec,
        schema: pa.Schema,
        hidden: Mapping[str, str] = NOT_HIDDEN,
    ) -> None:
        """`hidden`: which of the columns do not hold the source's own values, and how (`core.comparison.hiding`)."""
        self._lake, self._directory, self._object_name, self._table = lake, directory, object_name, table
        self._schema, self._hidden = schema, dict(hidden)
        self._layout = FileLayout(table.target.format, table.target.compression, ROW_GROUP_ROWS)
        self._parts: OrderedDict[Values, _Part] = OrderedDict()
        self._count = self._held = 0

    def partition(self, values: Values) -> _Part:
        """The partition's place, made known even if no row ever comes (an empty partition is a fact too)."""
        part = self._parts.get(values)
        if part is None:
            name = partition_name([p.name for p in self._table.target.partition_by], values)
            directory = f"{self._directory}/{name}" if name else self._directory
            part = self._parts[values] = _Part(values, name, directory)
        return part

    def write(self, values: Values, rows: pa.RecordBatch) -> None:
        """Rows with their `_row_fingerprint` column, whether or not the table keeps it."""
        part = self.partition(values)
        self._parts.move_to_end(values)
        if part.writer is None:
            path = f"{part.directory}/{self._object_name}-{self._count:05d}.parquet"
            self._count += 1
            part.writer = self._lake.open_file(path, self._schema, self._layout)
        before = part.writer.held_bytes
        part.writer.write(rows.select(self._schema.names))
        self._held += part.writer.held_bytes - before
        part.rows += rows.num_rows
        part.print += Fingerprint.of(stamped_fingerprints(rows))
        if self._held > HELD_BYTES:
            self._flush_fullest()
        if part.writer.bytes_written >= self._table.target.file_bytes:
            self._close(part)
        elif part.writer.bytes_written:
            self._make_room()

    def _flush_fullest(self) -> None:
        writers = [part.writer for part in self._parts.values() if part.writer is not None]
        for writer in sorted(writers, key=lambda w: -w.held_bytes):
            if self._held <= HELD_BYTES // 2:
                break
            self._held -= writer.held_bytes
            writer.flush()
        self._make_room()

    def _make_room(self) -> None:
        opened = [p for p in self._parts.values() if p.writer is not None and p.writer.bytes_written]
        for part in opened[: max(0, len(opened) - MAX_OPEN_FILES)]:
            self._close(part)

    def _close(self, part: _Part) -> None:
        writer = part.writer
        if writer is None:
            return
        self._held -= writer.held_bytes
        told = {"fingerprint": str(part.print), "rows": str(part.rows), "table": self._table.name, "source": self._table.key}
        writer.close(told | ({HIDDEN: json.dumps(self._hidden, sort_keys=True)} if self._hidden else {}))
        footer = self._lake.footer(writer.path)
        if footer.rows != part.rows:
            raise ProofError(
                f"Cannot prove file {writer.path}: its footer says {footer.rows} rows -> {part.rows} as written. "
                "Nothing was published."
            )
        part.files.append(DataFile(writer.path, footer.rows, footer.bytes, str(part.print), profile_of(footer)))
        part.writer, part.rows, part.print = None, 0, Fingerprint.EMPTY

    def close(self) -> list[WrittenPartition]:
        """Closes all files and re-reads their footers; in order of partition name."""
        for part in self._parts.values():
            self._close(part)
            if not part.files:
                self._lake.make_directory(part.directory)
        written = [WrittenPartition(p.values, p.name, p.directory, tuple(p.files)) for p in self._parts.values()]
        return sorted(written, key=lambda p: p.name)

    def abort(self) -> None:
        for part in self._parts.values():
            if part.writer is not None:
                part.writer.abort()


def stamped_fingerprints(rows: pa.RecordBatch) -> Words:
    """The row fingerprints back from the `_row_fingerprint` column that `stamp` put there; computed where it is absent
    or NULL (files of a time when the table did not keep it)."""
    kept = kept_fingerprints(rows)
    return row_fingerprints(rows) if kept is None else kept


def kept_fingerprints(rows: pa.RecordBatch) -> Words | None:
    """What the `_row_fingerprint` column says; None where there is none, or not in every row."""
    index = rows.schema.get_field_index("_row_fingerprint")
    if index < 0 or rows.column(index).null_count:
        return None
    return _from_binary(rows.column(index))


def stamped_anew(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with fingerprints of what they hold now, where the table keeps them."""
    index = rows.schema.get_field_index("_row_fingerprint")
    return rows if index < 0 else rows.set_column(index, rows.schema.field(index), as_binary(row_fingerprints(rows)))


def _from_binary(column: pa.FixedSizeBinaryArray) -> Words:
    big_endian = np.frombuffer(column.buffers()[1], ">u8", count=2 * len(column), offset=16 * column.offset)
    return big_endian.reshape(-1, 2).astype(np.uint64)
