"""CSV and TSV: text in columns, parsed block by block by Arrow, typed without loss, every bad record a dead letter.

Dead letters: `ragged_row` (too few or many fields), `unbalanced_quote`, `nul_byte`, `bad_encoding`, `repeated_header` (files
that were put one behind the other), `value_does_not_fit` (a text that the column's type cannot take; see `text_types` for
when it widens the type instead).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.base import FileAccess, Rows, SchemaChanged, Survey, Tally
from airflow_dataops.formats.csv_dialect import Sniffed, are_made_up, sniff
from airflow_dataops.formats.csv_records import Block, Spans, blocks, count_lines, spans_of
from airflow_dataops.formats.encoding import by_content, is_valid, original_bytes
from airflow_dataops.formats.letter_form import csv_form
from airflow_dataops.formats.spelling import Spellings
from airflow_dataops.formats.text_stream import TextStream
from airflow_dataops.formats.text_types import Evidence, firm_type, is_foreign, is_kept, observe, resolve
from airflow_dataops.formats.text_values import convert, convert_widened

_HEAD_BYTES = 1 << 20
_SNIFF_BYTES = 1 << 16
_MIN_BLOCK, _MAX_BLOCK = 1 << 18, 1 << 22
_SEP_LINE = re.compile(rb'"?sep=([!-~\t ])"?(?:\r\n|\n|\r)', re.IGNORECASE)
"""How Excel is told the delimiter: a line of its own above the header."""


@dataclass(slots=True)
class _Opened:
    """A CSV file after its head was looked at: the stream stands at the first data record. `names` are the columns as the
    table spells them; `header` is the record that named them, `b""` for none that could come again."""

    stream: TextStream
    sniffed: Sniffed | None
    traits: dict[str, str]
    names: tuple[str, ...] = ()
    header: bytes = b""
    first_line: int = 1
    row_bytes: float = 100.0


@dataclass(slots=True)
class _Parsed:
    """A block as text columns. `records`: index of each row among the block's good records."""

    block: Block
    table: pa.RecordBatch
    lines: np.ndarray | None
    skipped: np.ndarray
    dead: list[DeadLetter] = field(default_factory=list)


class CsvFormat:
    """CSV and TSV files under one set of options."""

    name = "csv"

    def __init__(self, options: FilesOptions) -> None:
        _check_marks(options)
        self.options = options
        self._nulls = list(options.null_values)

    def survey(self, file: FileAccess, expected: Mapping[str, pa.DataType], whole: bool) -> Survey:
        opened = self._open(file, expected)
        try:
            if opened.sniffed is None:
                return Survey({}, opened.traits, 0, complete=True)
            names = opened.names
            seen = {name: Evidence() for name in names}
            rows, used = 0, 0
            for parsed in self._parsed(file, opened, _HEAD_BYTES):
                for name, texts in zip(names, parsed.table.columns, strict=True):
                    seen[name].add(observe(texts, firm_type(expected.get(name))))
                rows, used = rows + len(parsed.table), used + len(parsed.block.data)
                if not whole:
                    break
            estimate, data_bytes = None, file.size - opened.stream.taken_bytes
            if rows and opened.traits["compression"] == "none":
                estimate = max(round(data_bytes * rows / used), rows)
            seen_all = whole or (estimate is not None and used == data_bytes)
            return Survey(dict(seen), opened.traits, estimate if rows else 0, seen_all)
        finally:
            opened.stream.close()

    def schema(self, surveys: Sequence[Survey], expected: Mapping[str, pa.DataType]) -> pa.Schema:
        merged = _merged(surveys)
        return pa.schema([(name, resolve(seen, firm_type(expected.get(name)))) for name, seen in merged.items()])

    def is_settled(self, surveys: Sequence[Survey], schema: pa.Schema, expected: Mapping[str, pa.DataType]) -> bool:
        merged = _merged(surveys)
        for column in schema:
            firm = firm_type(expected.get(column.name))
            if not merged[column.name].has_values if firm is None else not is_kept(firm, column.type):
                return False
        return True

    def rows(
        self, file: FileAccess, schema: pa.Schema, expected: Mapping[str, pa.DataType], batch_rows: int,
        traits: dict[str, str], tally: Tally,
    ) -> Iterator[Rows]:  # fmt: skip
        opened = self._open(file, schema.names)
        try:
            if opened.sniffed is None:
                return
            unknown = set(opened.names) - set(schema.names)
            if unknown:
                raise SchemaChanged(f"{file.path}: new columns {sorted(unknown)}")
            types = {f.name: firm_type(expected.get(f.name)) for f in schema}
            firm = {f.name: t for f in schema if (t := types[f.name]) is not None and is_kept(t, f.type)}
            size = int(min(max(opened.row_bytes * batch_rows, _MIN_BLOCK), _MAX_BLOCK))
            for parsed in self._parsed(file, opened, size):
                yield from _sliced(self._typed(file, opened, parsed, schema, firm, tally), batch_rows)
        finally:
            traits |= opened.traits
            opened.stream.close()

    def _open(self, file: FileAccess, known: Collection[str]) -> _Opened:
        """`known`: the table's columns, empty when there are none yet."""
        stream = TextStream.open(file, self.options, _SNIFF_BYTES)
        try:
            options, skipped = self.options, stream.skip_lines(self.options.skip_rows)
            head = stream.peek(_SNIFF_BYTES)
            if options.delimiter is None and (told := _SEP_LINE.match(head)):
                options, skipped = options.model_copy(update={"delimiter": told[1].decode()}), skipped + stream.skip_lines(1)
                head = stream.peek(_SNIFF_BYTES)
            is_whole = len(head) < _SNIFF_BYTES
            if not stream.encoding.wide and stream.encoding.name != "utf-8":
                head = head.decode(stream.encoding.name, "replace").encode()
            sniffed = sniff(head, options, is_whole)
            traits = {"format": "tsv" if sniffed and sniffed.dialect.delimiter == "\t" else "csv", **stream.traits}
            if sniffed is None:
                return _Opened(stream, None, traits)
            d = sniffed.dialect
            traits |= {
                "delimiter": d.delimiter, "quote": d.quote or "none", "line_ends": sniffed.line_ends,
                "header": "yes" if sniffed.header else "no",
            }  # fmt: skip
            line, header = 1 + skipped, b""
            if self.options.header is None:
                _check_header(sniffed, known, file.path)
            if sniffed.header:
                _check_names(sniffed.names, file.path, stream.encoding.name)
                header = stream.skip_record(d)
                line += count_lines(header)
            names = Spellings(known).of(sniffed.names)
            comes_again = sniffed.width > 1 and not are_made_up(sniffed.names)
            records = max(head.count(b"\n"), head.count(b"\r"), 1)
            return _Opened(
                stream, sniffed, traits, tuple(names.values()), header.strip(b"\r\n") if comes_again else b"", line,
                len(head) / records,
            )  # fmt: skip
        except BaseException:
            stream.close()
            raise

    def _parsed(self, file: FileAccess, opened: _Opened, block_bytes: int) -> Iterator[_Parsed]:
        sniffed, stream = opened.sniffed, opened.stream
        if sniffed is None:
            return
        for block in blocks(stream, sniffed.dialect, block_bytes, opened.first_line):
            if stream.encoding.evidence == "ascii" and not block.data.isascii():
                stream.settle(by_content(block.data))
                opened.traits["encoding"] = stream.encoding.name
            parsed = self._parse(file, block, sniffed, opened)
            if len(parsed.table) or parsed.dead:
                yield parsed

    def _parse(self, file: FileAccess, block: Block, sniffed: Sniffed, opened: _Opened) -> _Parsed:
        """Text columns of a block, after the records were taken out that no parser must see."""
        stream, header = opened.stream, opened.header
        name, one_column = stream.encoding.name, sniffed.width == 1
        if stream.encoding.wide:
            name = "utf-8"
        dead: list[DeadLetter] = []
        spans: Spans | None = None
        data = block.data
        irregular = block.spans is not None and bool(block.spans.malformed.any())
        if irregular or b"\0" in data or (header and header in data) or not is_valid(data, name):
            spans = spans_of(block, sniffed.dialect, one_column)
            problems = _problems(data, spans, name, header)
            for n, problem in problems.items():
                record = data[spans.starts[n] : spans.ends[n]]
                dead.append(_letter(file, opened, problem, record, int(spans.lines[n])))
            data, spans = _without(data, spans, sorted(problems))
        if name != "utf-8" and not data.isascii():
            data = data.decode(name).encode()
        table, bad = self._text_columns(data, sniffed)
        records = len(table) + len(bad)
        if spans is None and records != block.lines:
            spans = spans_of(block, sniffed.dialect, one_column)
        if spans is not None and len(spans.starts) != records:
            raise ValueError(f"{file.path}: Arrow sees {records} records where the cutter sees {len(spans.starts)}")
        skipped = np.fromiter((n - 1 for n, _ in bad), np.int64, len(bad))
        parsed = _Parsed(block, table, None if spans is None else spans.lines, skipped, dead)
        if bad:
            spans = spans or spans_of(block, sniffed.dialect, one_column)
            for number, found in bad:
                message = f"{found} fields where the table has {sniffed.width}"
                raw = block.data[spans.starts[number - 1] : spans.ends[number - 1]]
                dead.append(_letter(file, opened, ("ragged_row", message), raw, int(spans.lines[number - 1])))
        return parsed

    def _text_columns(self, data: bytes, sniffed: Sniffed) -> tuple[pa.RecordBatch, list[tuple[int, int]]]:
        """(columns of text, (1-based number of the record, fields found) of each ragged record)."""
        fields = [pa.field(str(n), pa.string()) for n in range(sniffed.width)]
        if not data:
            return pa.RecordBatch.from_pylist([], pa.schema(fields)), []
        bad: list[tuple[int, int]] = []

        def skip(row: pa.csv.InvalidRow) -> str:
            bad.append((row.number, row.actual_columns))
            return "skip"

        table = pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(
                use_threads=False,  # only then does Arrow number the ragged rows
                column_names=[f.name for f in fields],
                block_size=len(data) + 1,
            ),
            pa.csv.ParseOptions(
                delimiter=sniffed.dialect.delimiter,
                quote_char=sniffed.dialect.quote or False,
                double_quote=True,
                newlines_in_values=True,
                ignore_empty_lines=sniffed.width > 1,
                invalid_row_handler=skip,
            ),
            pa.csv.ConvertOptions(
                check_utf8=False,  # proven for the whole block already
                column_types={f.name: f.type for f in fields},
                null_values=self._nulls,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        return table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema), bad

    def _typed(
        self, file: FileAccess, opened: _Opened, parsed: _Parsed, schema: pa.Schema, firm: dict[str, pa.DataType],
        tally: Tally,
    ) -> Rows:  # fmt: skip
        """The block under the schema; rows with a value that does not fit become dead letters."""
        texts_of = dict(zip(opened.names, parsed.table.columns, strict=True))
        arrays, misfit_of = [], {}
        for column in schema:
            texts = texts_of.get(column.name)
            if texts is None:
                arrays.append(pa.nulls(len(parsed.table), column.type))
                continue
            expected, misfits = firm.get(column.name), 0
            values = convert(texts, column.type, as_written=column.type != expected)
            if values is None:
                if expected is None:
                    raise SchemaChanged(f"{file.path}: column {column.name}")
                values, mask = convert_widened(texts, expected, column.type)
                misfits = int(mask.sum())
                words = pc.unique(texts.filter(pa.array(mask))).to_pylist()
                if not all(not word or is_foreign(word, column.type) for word in words):
                    raise SchemaChanged(f"{file.path}: column {column.name}")
                misfit_of[column.name] = mask
            if expected is not None:
                tally.misfits[column.name] += misfits
                tally.present[column.name] += len(texts) - texts.null_count
            arrays.append(values)
        records = pa.RecordBatch.from_arrays(arrays, schema=schema)
        places = _places(parsed)
        dead = parsed.dead
        if misfit_of:
            dead = dead + self._misfits(file, opened, parsed, schema, misfit_of, places)
            keep = pa.array(~np.logical_or.reduce(list(misfit_of.values())))
            records, places = records.filter(keep), places.filter(keep)
        return Rows(records, places, tuple(sorted(dead, key=lambda letter: letter.source_offset or 0)))

    def _misfits(
        self, file: FileAccess, opened: _Opened, parsed: _Parsed, schema: pa.Schema, misfit_of: dict[str, np.ndarray],
        places: pa.Array,
    ) -> list[DeadLetter]:  # fmt: skip
        if opened.sniffed is None:
            return []
        spans = spans_of(parsed.block, opened.sniffed.dialect, opened.sniffed.width == 1)
        rows = np.flatnonzero(np.logical_or.reduce(list(misfit_of.values())))
        lines = np.asarray(places)[rows]
        records = np.searchsorted(spans.lines, lines)
        starts, ends = spans.starts[records].tolist(), spans.ends[records].tolist()
        dead = []
        for row, line, start, end in zip(rows.tolist(), lines.tolist(), starts, ends, strict=True):
            column = next(name for name, mask in misfit_of.items() if mask[row])
            problem = "value_does_not_fit", f"the text of column {column!r} is no {schema.field(column).type}"
            dead.append(_letter(file, opened, problem, parsed.block.data[start:end], line, column))
        return dead


def _merged(surveys: Sequence[Survey]) -> dict[str, Evidence]:
    merged: dict[str, Evidence] = {}
    for survey in surveys:
        for name, seen in survey.columns.items():
            merged.setdefault(name, Evidence()).add(seen)
    return merged


def _problems(data: bytes, spans: Spans, encoding: str, header: bytes) -> dict[int, tuple[str, str]]:
    """(reason, message) of each record, by number, that no parser must see."""
    problems = {
        int(n): ("unbalanced_quote", "a quote is not closed, or its field goes on after it")
        for n in np.flatnonzero(spans.malformed)
    }
    array = np.frombuffer(data, np.uint8)
    for n in np.unique(np.searchsorted(spans.starts, np.flatnonzero(array == 0), "right") - 1).tolist():
        problems.setdefault(n, ("nul_byte", "the record holds a NUL byte"))
    if not is_valid(data, encoding):
        for n in np.unique(np.searchsorted(spans.starts, np.flatnonzero(array >= 0x80), "right") - 1).tolist():
            if not is_valid(data[spans.starts[n] : spans.ends[n]], encoding):
                problems.setdefault(n, ("bad_encoding", f"the bytes are no {encoding} text"))
    if header:
        for n in np.flatnonzero(np.isin(spans.ends - spans.starts, (len(header), len(header) + len(codecs.BOM_UTF8)))).tolist():
            # The next file's byte order mark came along.
            if data[spans.starts[n] : spans.ends[n]].removeprefix(codecs.BOM_UTF8) == header:
                problems.setdefault(n, ("repeated_header", "the record is the header once more"))
    return problems


def _without(data: bytes, spans: Spans, bad: list[int]) -> tuple[bytes, Spans]:
    """Bytes and spans of the other records; neighbours stay together, with what is between them."""
    parts, after = [], 0
    for n in [*bad, len(spans.starts)]:
        if n > after:
            parts.append(data[spans.starts[after] : spans.ends[n - 1]])
        after = n + 1
    kept = np.ones(len(spans.starts), np.bool_)
    kept[bad] = False
    rest = Spans(spans.starts[kept], spans.ends[kept], spans.lines[kept], spans.malformed[kept])
    return b"\n".join(parts) + b"\n" * bool(parts), rest


def _check_marks(options: FilesOptions) -> None:
    for name, mark in (("delimiter", options.delimiter), ("quote", options.quote)):
        if mark is not None and (not mark.isascii() or mark in "\r\n\0"):
            raise InventoryError(
                f"Cannot read CSV with {name} {mark!r} -> one ASCII character that ends no line. Correct `options.{name}`."
            )
    if options.delimiter is not None and options.delimiter == options.quote:
        raise InventoryError(
            f"Cannot read CSV with {options.delimiter!r} as delimiter and as quote -> two characters. Correct one of them."
        )


def _check_header(sniffed: Sniffed, known: Collection[str], path: str) -> None:
    """InventoryError for a file without a header in a table of files that have one, or the other way round: which of the
    table's columns its values belong to would be a guess, and as columns of their own they would stay for ever."""
    if not known or are_made_up(sniffed.names) == are_made_up(known):
        return
    shown = ", ".join([name for name in known if are_made_up([name]) == are_made_up(known)][:5])
    if are_made_up(known):
        found, wanted, cure = "names columns", "data", "Take it off, or set `header: false` if it is data after all"
    else:
        found, wanted, cure = "is data", "the names of columns", "Put the header back, or set `header: true` if it is one after all"
    raise InventoryError(
        f"Cannot read file {path!r}: its first record {found} -> {wanted}, as in the files before (columns {shown}). Where its "
        f"values belong would be a guess. {cure}; or exclude the file."
    )


def _check_names(names: tuple[str, ...], path: str, encoding: str) -> None:
    bad = next((name for name in names if "\ufffd" in name or "\0" in name), None)
    if bad is not None:
        raise InventoryError(
            f"Cannot read the header of {path!r}: column {bad!r} is no {encoding} text -> readable names. "
            "Set `encoding` to the file's own, for example cp1252."
        )


def _letter(
    file: FileAccess, opened: _Opened, problem: tuple[str, str], raw: bytes, line: int, column: str | None = None
) -> DeadLetter:
    encoding = opened.stream.encoding
    if opened.sniffed is None:
        raise ValueError(f"{file.path}: a record of a file without any")
    # A header is no record, and must not become one where all columns are text.
    form = csv_form(opened.names, opened.sniffed.dialect, encoding.name) if problem[0] != "repeated_header" else None
    return DeadLetter(*problem, original_bytes(raw, encoding), file.path, line, column, form=form)


def _places(parsed: _Parsed) -> pa.Array:
    """The line of each row of the parsed table."""
    count = len(parsed.table) + len(parsed.skipped)
    lines = parsed.lines
    if lines is None:
        lines = np.arange(parsed.block.first_line, parsed.block.first_line + count)
    if len(parsed.skipped):
        lines = np.delete(lines, parsed.skipped)
    return pa.array(lines, pa.int64())


def _sliced(rows: Rows, batch_rows: int) -> Iterator[Rows]:
    """At most `batch_rows` at once; the dead letters go with the first slice."""
    yield Rows(rows.records.slice(0, batch_rows), rows.places.slice(0, batch_rows), rows.dead_letters)
    for start in range(batch_rows, len(rows.records), batch_rows):
        yield Rows(rows.records.slice(start, batch_rows), rows.places.slice(start, batch_rows))
