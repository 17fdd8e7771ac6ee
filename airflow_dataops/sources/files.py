"""Files as a source: CSV, TSV, JSON, NDJSON, Parquet, Avro on local disk or S3 (`kind: files`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pyarrow as pa
import xxhash

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import ConflictError, DataOpsError, InventoryError, ProofError
from airflow_dataops.core.offset import CursorRange, FileIdentity, FileSet, Scalar
from airflow_dataops.core.options import FilesOptions, files_options
from airflow_dataops.core.privacy import Action
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.formats import FileAccess, FileFormat, SchemaChanged, Survey, Tally, family_of, open_format
from airflow_dataops.formats.letter_text import LetterText
from airflow_dataops.formats.spelling import Spellings, respelled
from airflow_dataops.sources.base import Batch, Reading, ReadRequest, SchemaMoved, SourceTable
from airflow_dataops.sources.files_tables import Place, place_of
from airflow_dataops.sources.prefetch import Prefetch
from airflow_dataops.storage import StoredFile, storage_errors

_HEADS = 8
"""Heads that are looked at before reading. What a later file has beside them is found while reading (`SchemaMoved`)."""
_CHUNK_BYTES = 1 << 20


def open_files(spec: PipelineSpec, connection: Connection | None, *, base_path: str) -> FilesSource:
    """The files of a row. InventoryError for wrong options or a path that leaves its root."""
    options = files_options(spec.options)
    return FilesSource(place_of(spec.name, options, connection, base_path), options)


class FilesSource:
    """Tables made of files. A file is always read as the one that was listed (`etag`), or not at all."""

    kind = "files"

    def __init__(self, place: Place, options: FilesOptions) -> None:
        self._place, self._options = place, options
        # What a head said of exactly this file (path, etag) is asked again by every step of a run.
        self._families: dict[StoredFile, str] = {}
        self._heads: dict[tuple[StoredFile, tuple[tuple[str, pa.DataType], ...]], Survey] = {}

    def table_names(self) -> tuple[str, ...]:
        return tuple(self._place.tables())

    def discover(self) -> tuple[SourceTable, ...]:
        """A table whose files cannot be read has no columns and says why in its trait `problem`: its siblings go on."""
        return tuple(self._described(name, files) for name, files in self._place.tables().items())

    def describe(self, table: str, query: str | None = None) -> SourceTable:
        """As `discover` shows it, trait `problem` included: a file that was read long ago must not stop the new ones."""
        _refuse_query(query)
        return self._described(table, self._files_of(table))

    def _described(self, name: str, files: tuple[StoredFile, ...]) -> SourceTable:
        total = sum(file.size for file in files)
        try:
            survey = _Survey(self, files)
            schema = survey.heads({})
        except DataOpsError as error:
            return SourceTable(name, TableSchema(), bytes_estimate=total, traits={"problem": str(error)})
        rows = survey.rows_estimate
        sampled = sum(file.size for file in files[:_HEADS])
        if rows is not None and sampled and total > sampled:
            rows = round(rows * total / sampled)
        return SourceTable(name, TableSchema.of_arrow(schema), rows, total, traits=survey.traits)

    def high_cursor(self, table: str, cursor: str, query: str | None = None) -> Scalar | None:
        raise InventoryError(
            f"Cannot read table {table} by cursor {cursor!r}: files have no cursor -> read mode full or new_files. "
            "Correct `read.mode`."
        )

    def now(self) -> float | None:
        return None

    def files(self, table: str) -> tuple[FileIdentity, ...]:
        return tuple(FileIdentity(file.path, file.size, file.etag) for file in self._files_of(table))

    def _files_of(self, table: str) -> tuple[StoredFile, ...]:
        tables = self._place.tables()
        if table not in tables:
            known = ", ".join(list(tables)[:20]) or "none"
            raise InventoryError(f"Cannot find table {table!r} in the files -> one of: {known}. Correct `tables`.")
        return tables[table]

    def identify(self, file: FileIdentity) -> FileIdentity:
        if file.content:
            return file
        if not self._place.storage.is_local:
            return FileIdentity(file.path, file.size, file.etag, file.etag)
        digest = xxhash.xxh3_128()
        with (
            storage_errors(f"read file {file.path!r}"),
            self._place.storage.open_stream(StoredFile(file.path, file.size, file.etag)) as stream,
        ):
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        self.ensure_same(StoredFile(file.path, file.size, file.etag))
        return FileIdentity(file.path, file.size, file.etag, f"x3:{digest.hexdigest()}")

    def read(self, request: ReadRequest) -> Reading:
        _refuse_query(request.query)
        if isinstance(request.range, CursorRange):
            raise InventoryError(
                f"Cannot read table {request.table} by cursor {request.range.cursor!r}: files have none -> "
                "read mode full or new_files. Correct `read.mode`."
            )
        if isinstance(request.range, FileSet):
            files = tuple(self._as_identified(file) for file in request.range.files)
        else:
            files = self._files_of(request.table)
        return FilesReading(self, files, request)

    def _as_identified(self, file: FileIdentity) -> StoredFile:
        """The file under this path, if it is still this one: not touched, or touched and the same bytes."""
        now = self._place.storage.stat(file.path)
        if now is not None and now.etag != file.etag and file.content and now.size == file.size:
            content = self.identify(FileIdentity(now.path, now.size, now.etag)).content
            if content == file.content:
                return now
        if now is None or now.etag != file.etag:
            raise ConflictError(
                f"Cannot read file {file.path!r}: {'gone' if now is None else f'{now.etag} now'} -> {file.etag} as recorded. "
                "It was changed, replaced or deleted after it was listed. Put the recorded file back, or let the retry list again."
            )
        return now

    def ensure_same(self, file: StoredFile) -> None:
        """ConflictError when the file was touched since it was listed."""
        now = self._place.storage.stat(file.path)
        if now is None or now.etag != file.etag:
            raise ConflictError(
                f"Cannot trust file {file.path!r}: it changed while it was read -> unchanged. "
                "Its writer may not be done. The retry reads it again."
            )

    def access(self, file: StoredFile) -> FileAccess:
        storage = self._place.storage
        return FileAccess(file.path, file.size, partial(storage.open_stream, file), partial(storage.open_random, file))

    def family(self, file: StoredFile) -> str:
        """The family of a file's format, looked at once."""
        if file not in self._families:
            self._families[file] = family_of(self.access(file), self._options)
        return self._families[file]

    def open_format(self, family: str) -> FileFormat:
        return open_format(family, self._options)

    def head(self, file: StoredFile, expected: Mapping[str, pa.DataType], look: Callable[[], Survey]) -> Survey:
        """The survey of a head, looked at once."""
        key = file, tuple(sorted(expected.items(), key=lambda item: item[0]))
        if key not in self._heads:
            self._heads[key] = look()
        return self._heads[key]

    def read_letter(self, letter: DeadLetter, expected: Mapping[str, pa.DataType]) -> Batch:
        rows = LetterText(self._options).read(letter, expected)
        return Batch(rows.records, rows.dead_letters, letter.source_file, rows.places)

    def hide_letter(
        self, letter: DeadLetter, actions: Mapping[str, Action], types: Mapping[str, pa.DataType], key: bytes | None
    ) -> DeadLetter:
        return LetterText(self._options).hide(letter, actions, types, key)

    def close(self) -> None:
        """Nothing is held open between calls."""


class _Survey:
    """What the heads, or all records, of some files say together."""

    def __init__(self, source: FilesSource, files: tuple[StoredFile, ...]) -> None:
        self._source, self._files = source, files
        # An empty file may stand among those of any format.
        self._first = next((file for file in files if file.size), files[0] if files else None)
        self.format = source.open_format(source.family(self._first) if self._first else "csv")
        self.traits: dict[str, str] = {}
        self.rows_estimate: int | None = 0

    def heads(self, expected: Mapping[str, pa.DataType]) -> pa.Schema:
        surveys = [self._head(file, expected) for file in self._files[:_HEADS]]
        missing = set(expected) - set(self.format.schema(respelled(surveys, expected), expected).names)
        for file in self._files[_HEADS:]:
            # A column the table has is not gone before every file was asked.
            if not missing:
                break
            surveys.append(self._head(file, expected))
            missing -= Spellings(expected).under(surveys[-1].columns).keys()
        surveys = respelled(surveys, expected)
        schema = self.format.schema(surveys, expected)
        complete = len(surveys) == len(self._files) and all(survey.complete for survey in surveys)
        if not complete and not self.format.is_settled(surveys, schema, expected):
            schema = self.everything(expected)
        self.traits = merged_traits([survey.traits for survey in surveys])
        estimates = [survey.rows_estimate for survey in surveys]
        known = [rows for rows in estimates if rows is not None]
        self.rows_estimate = sum(known) if len(known) == len(estimates) else None
        return schema

    def everything(self, expected: Mapping[str, pa.DataType]) -> pa.Schema:
        surveys = [self._look(file, expected, whole=True) for file in self._files]
        return self.format.schema(respelled(surveys, expected), expected)

    def ensure_format(self, file: StoredFile) -> None:
        """InventoryError for a file of another format than the table's."""
        if not file.size or self._first is None or (family := self._source.family(file)) == self.format.name:
            return
        raise InventoryError(
            f"Cannot read {file.path!r} and {self._first.path!r} as one table: {family} and {self.format.name} -> one format. "
            "Put them into folders of their own, or exclude one."
        )

    def _head(self, file: StoredFile, expected: Mapping[str, pa.DataType]) -> Survey:
        return self._source.head(file, expected, lambda: self._look(file, expected, whole=False))

    def _look(self, file: StoredFile, expected: Mapping[str, pa.DataType], whole: bool) -> Survey:
        with storage_errors(f"read file {file.path!r}"):
            self.ensure_format(file)
            survey = self.format.survey(self._source.access(file), expected, whole)
        self._source.ensure_same(file)
        return survey


class FilesReading:
    """The rows of some files, one file after the other, in order of path."""

    def __init__(self, source: FilesSource, files: tuple[StoredFile, ...], request: ReadRequest) -> None:
        self._source, self._files, self._request = source, files, request
        self._expected = {column.name: column.type for column in request.expected or ()}
        survey = self._survey = _Survey(source, files)
        self._schema = survey.heads(self._expected)
        if not len(self._schema) and request.expected is not None:
            # No file shows a column: nothing is known to have changed.
            self._schema = request.expected.to_arrow()
        self.schema = TableSchema.of_arrow(self._schema)
        self.traits = survey.traits
        self._ahead: Prefetch[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        # Parsing the next block while the caller computes on this one; more ahead would only take memory.
        ahead = self._ahead = Prefetch(self._read(), cancel=_nothing, ahead=1)
        try:
            yield from ahead
        finally:
            ahead.close()

    def _read(self) -> Iterator[Batch]:
        seen: list[dict[str, str]] = []
        tally = Tally()
        try:
            for file in self._files:
                traits: dict[str, str] = {}
                yield from self._batches(file, traits, tally)
                seen.append(traits)
            if tally.changed:
                raise SchemaChanged(f"most values of columns {tally.changed} do not fit")
        except SchemaChanged as change:
            raise SchemaMoved(TableSchema.of_arrow(self._moved(change))) from None
        if seen:
            self.traits.clear()
            self.traits.update(merged_traits(seen))

    def _batches(self, file: StoredFile, traits: dict[str, str], tally: Tally) -> Iterator[Batch]:
        access = self._source.access(file)
        with storage_errors(f"read file {file.path!r}"):
            self._survey.ensure_format(file)
            for rows in self._survey.format.rows(access, self._schema, self._expected, self._request.batch_rows, traits, tally):
                yield Batch(rows.records, rows.dead_letters, file.path, rows.places)
        self._source.ensure_same(file)

    def _moved(self, change: SchemaChanged) -> pa.Schema:
        moved = self._survey.everything(self._expected)
        if moved == self._schema:
            raise ProofError(
                f"Cannot settle the columns of table {self._request.table}: {change} -> a schema that takes all values. "
                "A file may have changed meanwhile; otherwise this is a defect, please report it."
            )
        return moved

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()


def _nothing() -> None:
    """A file has nothing to cancel: the thread stops at the next block."""


def merged_traits(all_traits: list[dict[str, str]]) -> dict[str, str]:
    """One value per trait; several files that differ show all values."""
    merged: dict[str, set[str]] = {}
    for traits in all_traits:
        for name, value in traits.items():
            merged.setdefault(name, set()).add(value)
    return {name: " | ".join(sorted(values)) for name, values in merged.items()}


def _refuse_query(query: str | None) -> None:
    if query is not None:
        raise InventoryError("Cannot read files by query: `read.query` is set -> unset. Files have no SQL. Remove it.")
