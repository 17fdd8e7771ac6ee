"""JSON documents and NDJSON. What is an array, or one object over several lines, is a document; else one record per line.

Lines are parsed by Arrow where that is exact, else one by one. Dead letters: `bad_json` (a line that is no JSON, `NaN`, a
key written twice), `not_an_object`, `bad_encoding`, `value_does_not_fit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.json

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.base import FileAccess, Rows, SchemaChanged, Survey, Tally
from airflow_dataops.formats.csv_records import Block, Dialect, blocks, spans_of
from airflow_dataops.formats.encoding import is_valid, original_bytes
from airflow_dataops.formats.json_records import document_records
from airflow_dataops.formats.json_values import (
    BadValue,
    Decoder,
    Misfit,
    Node,
    firm_json_type,
    fit_to,
    is_kept_json,
    resolve_json,
)
from airflow_dataops.formats.letter_form import json_form
from airflow_dataops.formats.spelling import Spellings
from airflow_dataops.formats.text_stream import TextStream

_HEAD_BYTES = 1 << 20
_HEAD_RECORDS = 10_000
_BLOCK_BYTES = 1 << 22
_LINES = Dialect(quote=None)
# A double keeps 15 digits in any case; longer numbers are looked at one by one.
_MANY_DIGITS = re.compile(rb"[0-9.]{16}")
# Arrow's parser ends the process for a line that is `null`; nothing else that is JSON looks like this.
_DEADLY = re.compile(rb"\}\s*n")

Record = tuple[int, Any, bytes]
"""(place, value or BadValue or DeadLetter, its bytes)."""


class JsonFormat:
    """JSON and NDJSON files under one set of options."""

    name = "json"

    def __init__(self, options: FilesOptions) -> None:
        self.options = options

    def survey(self, file: FileAccess, expected: Mapping[str, pa.DataType], whole: bool) -> Survey:
        stream, by_line = self._open(file)
        try:
            root, count, size, complete = Node(), 0, 0, True
            for _, value, raw in self._records(file, stream, by_line):
                size += len(raw) + 1
                if isinstance(value, dict) and not _is_mangled(raw):
                    count += 1
                    root.see_fields(value)
                if not whole and (size > _HEAD_BYTES or count >= _HEAD_RECORDS):
                    complete = False
                    break
            plain = stream.traits["compression"] == "none"
            estimate = max(round(file.size * count / size), count) if size and plain else None
            return Survey(dict(root.fields), self._traits(stream, by_line), estimate if count else 0, complete)
        finally:
            stream.close()

    def schema(self, surveys: Sequence[Survey], expected: Mapping[str, pa.DataType]) -> pa.Schema:
        # An absent field is a NULL, so a field that the table has is never gone, here or in later records.
        merged: dict[str, Node] = {name: Node() for name in expected}
        for survey in surveys:
            for name, node in survey.columns.items():
                merged.setdefault(name, Node()).add(node)
        return pa.schema([(n, resolve_json(node, firm_json_type(expected.get(n)))) for n, node in merged.items()])

    def is_settled(self, surveys: Sequence[Survey], schema: pa.Schema, expected: Mapping[str, pa.DataType]) -> bool:
        for column in schema:
            firm = firm_json_type(expected.get(column.name))
            if firm is not None and not is_kept_json(firm, column.type):
                return False
            if firm != pa.string() and any(s.columns[column.name].is_guess for s in surveys if column.name in s.columns):
                return False
        return True

    def rows(
        self, file: FileAccess, schema: pa.Schema, expected: Mapping[str, pa.DataType], batch_rows: int,
        traits: dict[str, str], tally: Tally,
    ) -> Iterator[Rows]:  # fmt: skip
        stream, by_line = self._open(file)
        try:
            builder = _Builder(file.path, schema, expected, stream, tally)
            if by_line:
                for block in blocks(stream, _LINES, _BLOCK_BYTES):
                    fast = _by_arrow(block, schema, stream)
                    if fast is not None:
                        builder.seen(fast.records)
                        yield from _sliced(fast, batch_rows)
                    else:
                        yield from builder.rows(_lines(block, stream, file.path), batch_rows)
            else:
                yield from builder.rows(_document(stream, file.path), batch_rows)
            traits |= self._traits(stream, by_line)
        finally:
            stream.close()

    def _open(self, file: FileAccess) -> tuple[TextStream, bool]:
        stream = TextStream.open(file, self.options, 1 << 16)
        try:
            head = stream.peek(1 << 16).lstrip(b" \t\r\n")
            named = file.path.lower().split("/")[-1].split(".")[1:]
            if self.options.format == "ndjson" or {"ndjson", "jsonl"} & set(named):
                return stream, True
            if head.startswith(b"["):
                return stream, False
            return stream, _is_whole(self._first_line(stream))
        except BaseException:
            stream.close()
            raise

    def _first_line(self, stream: TextStream) -> bytes:
        """The first line that is not blank, as far as its first 64 MiB."""
        size = 1 << 16
        while True:
            head = stream.peek(size).lstrip(b" \t\r\n")
            end = head.find(b"\n")
            if end >= 0 or len(head) < size - 4096 or size > 1 << 26:
                return head[:end] if end >= 0 else head
            size *= 4

    def _records(self, file: FileAccess, stream: TextStream, by_line: bool) -> Iterator[Record]:
        if not by_line:
            yield from _document(stream, file.path)
            return
        for block in blocks(stream, _LINES, 1 << 18):
            yield from _lines(block, stream, file.path)

    def _traits(self, stream: TextStream, by_line: bool) -> dict[str, str]:
        return {"format": "ndjson" if by_line else "json", **stream.traits}


def _is_whole(line: bytes) -> bool:
    """Whether a line is a record of its own. A line that is no JSON at all counts as one when it looks closed, so that
    it becomes a dead letter and not the end of the file."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.rstrip().endswith(b"}")
    return True


def _document(stream: TextStream, path: str) -> Iterator[Record]:
    for place, (value, raw) in enumerate(document_records(stream, path), 1):
        yield place, value, raw


def _lines(block: Block, stream: TextStream, path: str) -> Iterator[Record]:
    """Each line that is not blank."""
    spans = spans_of(block, _LINES, blank_is_record=False)
    decoder = Decoder()
    for start, end, line in zip(spans.starts.tolist(), spans.ends.tolist(), spans.lines.tolist(), strict=True):
        raw = block.data[start:end]
        if raw.isspace():
            continue
        try:
            text = raw.decode(stream.encoding.name if not stream.encoding.wide else "utf-8")
        except UnicodeDecodeError:
            yield line, _letter(path, stream, "bad_encoding", f"no {stream.encoding.name} text", raw, line), raw
            continue
        try:
            value, stop = decoder.decode(text.strip())
            if stop != len(text.strip()):
                value = BadValue("there is more on the line than one value")
        except (ValueError, RecursionError):
            value = BadValue("the line is no JSON")
        yield line, value, raw


def _by_arrow(block: Block, schema: pa.Schema, stream: TextStream) -> Rows | None:
    """The block in one stroke; None when Arrow cannot, or could lose something."""
    data = block.data
    if len(schema) == 0 or stream.encoding.name != "utf-8" or not is_valid(data, "utf-8"):
        return None
    if _MANY_DIGITS.search(data) or _DEADLY.search(data) or b"NaN" in data or b"nfinity" in data:
        return None
    spans = spans_of(block, _LINES, blank_is_record=False)
    array = np.frombuffer(data, np.uint8)
    if len(spans.starts) == 0 or not (array[spans.starts] == ord("{")).all():
        return None
    try:
        table = pa.json.read_json(
            pa.BufferReader(data),
            pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None
    if len(table) != len(spans.starts) or table.schema.names != schema.names:
        return None
    columns = [column.combine_chunks() for column in table.columns]
    return Rows(pa.RecordBatch.from_arrays(columns, schema=schema), pa.array(spans.lines, pa.int64()))


def _sliced(rows: Rows, batch_rows: int) -> Iterator[Rows]:
    for start in range(0, len(rows.records), batch_rows):
        yield Rows(rows.records.slice(start, batch_rows), rows.places.slice(start, batch_rows))


class _Builder:
    """Values → record batches of one schema."""

    def __init__(self, path: str, schema: pa.Schema, expected: Mapping[str, pa.DataType], stream: TextStream, tally: Tally) -> None:
        self._path, self._schema, self._stream = path, schema, stream
        self._names = Spellings(schema.names)
        firm = {f.name: firm_json_type(expected.get(f.name)) for f in schema}
        self._firm = {f.name for f in schema if is_kept_json(firm[f.name], f.type)}
        self._fits = {f.name: fit_to(f.type, firm[f.name] if f.name in self._firm else None) for f in schema}
        self._tally = tally

    def seen(self, records: pa.RecordBatch) -> None:
        """Counts what was read elsewhere."""
        for name, column in zip(records.schema.names, records.columns, strict=True):
            self._tally.present[name] += len(column) - column.null_count

    def rows(self, records: Iterable[Record], batch_rows: int) -> Iterator[Rows]:
        columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        places: list[int] = []
        dead: list[DeadLetter] = []
        for place, value, raw in records:
            letter = self._add(columns, place, value, raw)
            if letter is None:
                places.append(place)
            else:
                dead.append(letter)
            if len(places) >= batch_rows or len(dead) >= batch_rows:
                yield self._made(columns, places, dead)
                columns = {name: [] for name in self._schema.names}
                places, dead = [], []
        if places or dead:
            yield self._made(columns, places, dead)

    def _add(self, columns: dict[str, list[Any]], place: int, value: Any, raw: bytes) -> DeadLetter | None:
        if isinstance(value, DeadLetter):
            return value
        if isinstance(value, BadValue):
            return self._letter("bad_json", value.problem, raw, place)
        if not isinstance(value, dict):
            return self._letter("not_an_object", f"the record is a JSON {type(value).__name__}", raw, place)
        if _is_mangled(raw):
            return self._letter("bad_encoding", "a string is no Unicode text", raw, place)
        fitted: dict[str, Any] = {}
        misfit_in: str | None = None
        for name, item in self._names.under(value).items():
            if item is None and name in self._fits:
                continue
            fit = self._fits.get(name)
            if fit is None:
                raise SchemaChanged(f"{self._path}: new field {name}")
            self._tally.present[name] += 1
            try:
                fitted[name] = fit(item)
            except Misfit as misfit:
                if name not in self._firm or not misfit.foreign:
                    raise SchemaChanged(f"{self._path}: field {name}") from None
                self._tally.misfits[name] += 1
                misfit_in = misfit_in or name
        if misfit_in is not None:
            message = f"the value of field {misfit_in!r} is no {self._schema.field(misfit_in).type}"
            return self._letter("value_does_not_fit", message, raw, place, misfit_in)
        for name, column in columns.items():
            column.append(fitted.get(name))
        return None

    def _made(self, columns: dict[str, list[Any]], places: list[int], dead: list[DeadLetter]) -> Rows:
        arrays = [pa.array(columns[f.name], f.type) for f in self._schema]
        if not arrays:
            return Rows(pa.RecordBatch.from_struct_array(pa.array([{}] * len(places), pa.struct([]))),
                        pa.array(places, pa.int64()), tuple(dead))  # fmt: skip
        records = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return Rows(records, pa.array(places, pa.int64()), tuple(dead))

    def _letter(self, reason: str, message: str, raw: bytes, place: int, column: str | None = None) -> DeadLetter:
        return _letter(self._path, self._stream, reason, message, raw, place, column)


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _is_mangled(raw: bytes) -> bool:
    """Whether a record holds half a surrogate pair, which no encoding can write, or bytes that are no UTF-8."""
    if not is_valid(raw, "utf-8"):
        return True
    if not _SURROGATE.search(raw):
        return False
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return True
    return False


def _letter(
    path: str, stream: TextStream, reason: str, message: str, raw: bytes, place: int, column: str | None = None
) -> DeadLetter:
    form = json_form(stream.encoding.name)
    return DeadLetter(reason, message, original_bytes(raw, stream.encoding), path, place, column, form=form)
