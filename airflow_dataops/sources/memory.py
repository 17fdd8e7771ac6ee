"""A source in memory: the twin of real ones for the tests of steps, with the same rules for ranges and identities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from airflow_dataops.core.errors import ConflictError, DataOpsError, InventoryError, RangeError
from airflow_dataops.core.offset import CursorRange, FileIdentity, FileSet, Scalar
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.sources.base import Batch, Reading, ReadRequest, SourceTable


@dataclass
class _Held:
    """A table as it stands now. `files`: path → (version, rows); empty for a table that is not made of files."""

    rows: pa.Table
    keys: tuple[str, ...] = ()
    comment: str = ""
    files: dict[str, tuple[int, pa.Table]] = field(default_factory=dict)


class MemorySource:
    """Tables given as Arrow. `put`, `append`, `put_file` and `delete_file` change them at any time, also between two
    batches of a reading: a reading with isolation `snapshot` keeps what it saw at its start, with `none` it does not.
    `clock` is what `now` says. `fail` makes the next reading of a table raise that error after `after_batches`.
    """

    kind = "memory"

    def __init__(self, tables: Mapping[str, pa.Table] | None = None, *, clock: float | None = None) -> None:
        self.clock = clock
        self._tables: dict[str, _Held] = {}
        self._versions = 0
        self._failures: dict[str, tuple[DataOpsError, int]] = {}
        for name, rows in (tables or {}).items():
            self.put(name, rows)

    def put(self, table: str, rows: pa.Table, *, keys: tuple[str, ...] = (), comment: str = "") -> None:
        """Creates or replaces a table."""
        self._tables[table] = _Held(rows, keys, comment)

    def append(self, table: str, rows: pa.Table) -> None:
        held = self._held(table)
        held.rows = pa.concat_tables([held.rows, rows], promote_options="default")

    def drop(self, table: str) -> None:
        del self._tables[table]

    def put_file(self, table: str, path: str, rows: pa.Table) -> FileIdentity:
        """Creates or replaces one file of a table made of files; every put is a new version, whatever it holds."""
        self._versions += 1
        held = self._tables.setdefault(table, _Held(rows.slice(0, 0)))
        held.files[path] = (self._versions, rows)
        parts = [rows for _, (_, rows) in sorted(held.files.items())]
        held.rows = pa.concat_tables(parts, promote_options="default")
        return next(file for file in self.files(table) if file.path == path)

    def delete_file(self, table: str, path: str) -> None:
        del self._held(table).files[path]

    def fail(self, table: str, error: DataOpsError, *, after_batches: int = 0) -> None:
        self._failures[table] = (error, after_batches)

    def table_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._tables))

    def discover(self) -> tuple[SourceTable, ...]:
        return tuple(self.describe(name) for name in self.table_names())

    def describe(self, table: str, query: str | None = None) -> SourceTable:
        _refuse_query(query)
        held = self._held(table)
        schema = TableSchema.of_arrow(held.rows.schema, held.keys)
        return SourceTable(table, schema, held.rows.num_rows, held.rows.nbytes, held.comment, {"form": "memory"})

    def high_cursor(self, table: str, cursor: str, query: str | None = None) -> Scalar | None:
        _refuse_query(query)
        values = _column(self._held(table).rows, table, cursor)
        if values.null_count:
            raise RangeError(
                f"Cannot read table {table} by cursor {cursor!r}: {values.null_count} rows have NULL there -> none. "
                "No range would ever read them. Choose another cursor, or fill the column."
            )
        high: Scalar | None = pc.max(values).as_py()
        return high

    def now(self) -> float | None:
        return self.clock

    def files(self, table: str) -> tuple[FileIdentity, ...]:
        return tuple(
            FileIdentity(path, rows.nbytes, f"v{version}") for path, (version, rows) in sorted(self._held(table).files.items())
        )

    def identify(self, file: FileIdentity) -> FileIdentity:
        digest = xxhash.xxh3_128()
        for batch in self._file(file).to_batches():
            digest.update(batch.serialize())
        return FileIdentity(file.path, file.size, file.etag, f"x3:{digest.hexdigest()}")

    def _file(self, file: FileIdentity) -> pa.Table:
        for held in self._tables.values():
            version, rows = held.files.get(file.path, (0, None))
            if rows is not None and f"v{version}" == file.etag:
                return rows
        raise ConflictError(
            f"Cannot read file {file.path!r}: not {file.etag} any more -> as listed. It was replaced or deleted. Try again."
        )

    def read(self, request: ReadRequest) -> Reading:
        _refuse_query(request.query)
        return MemoryReading(self, self._held(request.table), request, self._failures.pop(request.table, None))

    def rows_of(self, held: _Held, request: ReadRequest) -> list[tuple[str | None, pa.Table]]:
        """(file, rows) of the range, as it stands now."""
        if isinstance(request.range, FileSet):
            return [(file.path, self._file(file)) for file in request.range.files]
        if isinstance(request.range, CursorRange):
            return [(None, _within(held.rows, request.table, request.range))]
        if held.files:
            return [(path, rows) for path, (_, rows) in sorted(held.files.items())]
        return [(None, held.rows)]

    def _held(self, table: str) -> _Held:
        if table not in self._tables:
            raise InventoryError(f"Cannot find table {table!r} in memory -> one of: {', '.join(self.table_names()) or 'none'}.")
        return self._tables[table]

    def close(self) -> None:
        """Nothing to close."""


class MemoryReading:
    """One reading of a table in memory."""

    def __init__(self, source: MemorySource, held: _Held, request: ReadRequest, failure: tuple[DataOpsError, int] | None) -> None:
        self._source, self._held, self._request, self._failure = source, held, request, failure
        self._parts = source.rows_of(held, request)
        columns = [rows.schema for _, rows in self._parts] or [held.rows.schema]
        self._schema = pa.unify_schemas(columns, promote_options="default")
        self.schema = TableSchema.of_arrow(self._schema, held.keys)
        self.traits = {"form": "memory"}

    def __iter__(self) -> Iterator[Batch]:
        done = 0
        for part, (path, rows) in enumerate(self._parts):
            start = 0
            while True:
                if self._failure is not None and done >= self._failure[1]:
                    raise self._failure[0]
                if self._request.isolation == "none":
                    rows = self._source.rows_of(self._held, self._request)[part][1]
                if start >= rows.num_rows:
                    break
                piece = rows.slice(start, self._request.batch_rows)
                yield Batch(self._record_batch(piece), (), path, _places(start, len(piece)) if path else None)
                start, done = start + len(piece), done + 1

    def _record_batch(self, piece: pa.Table) -> pa.RecordBatch:
        columns = [
            piece[f.name].combine_chunks().cast(f.type) if f.name in piece.column_names else pa.nulls(len(piece), f.type)
            for f in self._schema
        ]
        return pa.RecordBatch.from_arrays(
            [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns], schema=self._schema
        )

    def close(self) -> None:
        """Nothing to close."""


def _places(start: int, count: int) -> pa.Array:
    return pa.array(range(start + 1, start + count + 1), pa.int64())


def _column(rows: pa.Table, table: str, cursor: str) -> pa.ChunkedArray:
    if cursor not in rows.column_names:
        raise InventoryError(
            f"Cannot read table {table} by cursor {cursor!r}: no such column -> one of {', '.join(rows.column_names)}."
        )
    return rows[cursor]


def _within(rows: pa.Table, table: str, r: CursorRange) -> pa.Table:
    """Rows of a cursor range; a NULL cursor is in no range."""
    values = _column(rows, table, r.cursor)
    keep = pc.is_valid(values)
    if r.low is not None:
        low = pa.scalar(r.low, values.type)
        keep = pc.and_(keep, pc.greater_equal(values, low) if r.low_inclusive else pc.greater(values, low))
    if r.high is not None:
        high = pa.scalar(r.high, values.type)
        keep = pc.and_(keep, pc.less_equal(values, high) if r.high_inclusive else pc.less(values, high))
    return rows.filter(pc.fill_null(keep, False))


def _refuse_query(query: str | None) -> None:
    if query is not None:
        raise InventoryError("Cannot read memory by query: `read.query` is set -> unset. There is no SQL here. Remove it.")
