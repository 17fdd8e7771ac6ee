"""A stream of CSV bytes, cut into blocks of whole records; and where each record stands.

A record ends at LF, CRLF or CR outside quotes. A quote opens a field only as its first character, is doubled inside, and
after the closing one the field must end. A record that breaks this (`1,"abc` and no end, `"abc"def`) is *malformed*: its
first physical line is one dead letter, and reading goes on with the next line, so that a lost quote costs one record and
not the rest of the file. A quote in the middle of a bare field (`5" pipe`) is an ordinary character.

Regular blocks (the rule) are recognised with numpy over the positions of the quotes; only the others are walked through
record by record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from airflow_dataops.core.errors import LimitError
from airflow_dataops.formats.compression import ByteReader

LF, CR = 10, 13
MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A quote that is not closed within so many bytes was never meant to be; a longer record is refused."""

_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r|\Z)")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are written. `quote` None: no character quotes."""

    delimiter: str = ","
    quote: str | None = '"'


@dataclass(frozen=True, slots=True)
class Spans:
    """Records of a block: start, end without line end, 1-based line; `malformed` is a bool mask. All of one length."""

    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray
    malformed: np.ndarray


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records. `lines`: physical lines in it, counting a last one without line end. `spans` is known already when
    the block had to be walked through; `plain`: it holds no quote at all."""

    data: bytes
    first_line: int
    lines: int
    plain: bool
    spans: Spans | None = None


def blocks(
    stream: ByteReader, dialect: Dialect, block_bytes: int, first_line: int = 1, most_record_bytes: int = MAX_RECORD_BYTES
) -> Iterator[Block]:
    """The whole stream as blocks of about `block_bytes`; a longer record makes a longer block, up to `most_record_bytes`. From
    there on a quote that is open has been lost; LimitError when there is no line end either."""
    rest, wanted, line = b"", block_bytes, first_line
    ended = False
    while not ended:
        parts, size = [rest] if rest else [], len(rest)
        while size < wanted:
            data = stream.read(wanted - size)
            if not data:
                ended = True
                break
            parts.append(data)
            size += len(data)
        buffer = parts[0] if len(parts) == 1 else b"".join(parts)
        if not buffer:
            return
        block, used = _cut(buffer, dialect, line, ended, most_record_bytes)
        if used == 0:
            if len(buffer) > 2 * most_record_bytes:
                raise LimitError(
                    f"Cannot read record at line {line}: more than {2 * most_record_bytes} bytes without an end -> less. "
                    "This may be no text file, or another delimiter or quote. Check the row's options."
                )
            wanted = len(buffer) * 2  # one record larger than the buffer: do not look at it byte by byte again
            rest = buffer
            continue
        rest, wanted = buffer[used:], block_bytes
        line += block.lines
        yield block


def first_block(head: bytes, dialect: Dialect, is_whole: bool) -> Block:
    """The whole records in the first bytes of a file; all of them when there is no whole record."""
    block, used = _cut(head, dialect, 1, is_whole)
    return block if used else _cut(head, dialect, 1, True)[0]


def spans_of(block: Block, dialect: Dialect, blank_is_record: bool) -> Spans:
    """Where the records of a block are. Blank lines are records only in a file of one column."""
    spans = block.spans
    if spans is None:
        ends, after = _line_ends(np.frombuffer(block.data, np.uint8))
        if not block.plain and dialect.quote:
            quotes = np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord(dialect.quote))
            outside = np.searchsorted(quotes, ends) % 2 == 0
        else:
            outside = np.ones(len(ends), np.bool_)
        lines = np.arange(block.first_line, block.first_line + len(ends) + 1)
        starts = np.concatenate(([0], after[outside]))
        start_lines = np.concatenate((lines[:1], lines[1:][outside]))
        stops = np.concatenate((ends[outside], [len(block.data)]))
        if starts[-1] == len(block.data):
            starts, start_lines, stops = starts[:-1], start_lines[:-1], stops[:-1]
        spans = Spans(starts, stops, start_lines, np.zeros(len(starts), np.bool_))
    if blank_is_record:
        return spans
    kept = spans.ends > spans.starts
    return Spans(spans.starts[kept], spans.ends[kept], spans.lines[kept], spans.malformed[kept])


def _line_ends(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first byte of each line end, first byte after it)."""
    lf = np.flatnonzero(data == LF)
    cr = np.flatnonzero(data == CR)
    if not len(cr):
        return lf, lf + 1
    is_crlf = np.zeros(len(cr), np.bool_)
    inner = cr < len(data) - 1
    is_crlf[inner] = data[cr[inner] + 1] == LF
    lf_of_crlf = cr[is_crlf] + 1
    alone = np.setdiff1d(lf, lf_of_crlf, assume_unique=True)
    ends = np.concatenate((alone, cr))
    after = np.concatenate((alone + 1, cr + 1 + is_crlf))
    order = np.argsort(ends, kind="stable")
    return ends[order], after[order]


def _cut(
    buffer: bytes, dialect: Dialect, line: int, ended: bool, most_record_bytes: int = MAX_RECORD_BYTES
) -> tuple[Block, int]:
    """(the whole records at the beginning of a buffer, bytes used); 0 used: there is not one whole record."""
    quote = dialect.quote.encode() if dialect.quote else b""
    if not quote or quote not in buffer:
        used = len(buffer) if ended else _after_last_line(buffer)
        data = buffer[:used]
        return Block(data, line, count_lines(data), plain=True), used
    regular = _regular(buffer, dialect, ended, most_record_bytes)
    if regular is not None:
        data = buffer[:regular]
        return Block(data, line, count_lines(data), plain=False), regular
    return _walk(buffer, dialect, line, ended, most_record_bytes)


def _after_last_line(buffer: bytes) -> int:
    # A CR at the very end may be half of a CRLF.
    return max(buffer.rfind(b"\n"), buffer.rfind(b"\r", 0, len(buffer) - 1)) + 1


def count_lines(data: bytes) -> int:
    """Physical lines, counting a last one without line end."""
    if not data:
        return 0
    # numpy counts single bytes several times faster than `bytes.count`.
    array = np.frombuffer(data, np.uint8)
    ends = int(np.count_nonzero(array == LF))
    if b"\r" in data:
        ends += int(np.count_nonzero(array == CR)) - data.count(b"\r\n")
    return ends + (not data.endswith((b"\n", b"\r")))


def _regular(buffer: bytes, dialect: Dialect, ended: bool, most_record_bytes: int) -> int | None:
    """Bytes of whole records when every quote stands where the rules want it, so that a line end is outside quotes
    exactly if the number of quotes before it is even; None when some quote does not."""
    data = np.frombuffer(buffer, np.uint8)
    quotes = np.flatnonzero(data == ord(dialect.quote or ""))
    if ended:
        used = len(buffer)
        if len(quotes) % 2:
            return None
    else:
        ends, after = _line_ends(data)
        if len(after) and after[-1] == len(buffer) and data[-1] == CR:
            ends, after = ends[:-1], after[:-1]
        outside = np.flatnonzero(np.searchsorted(quotes, ends) % 2 == 0)
        if not len(outside):
            # No whole record, or a lost quote that would swallow everything: the walk tells, when it is too long.
            short = len(buffer) < most_record_bytes
            return 0 if short and _pairs_up(data, quotes[: len(quotes) // 2 * 2], dialect) else None
        used = int(after[outside[-1]])
        quotes = quotes[quotes < used]
    return used if _pairs_up(data[:used], quotes, dialect) else None


def _pairs_up(data: np.ndarray, quotes: np.ndarray, dialect: Dialect) -> bool:
    opening, closing = quotes[0::2], quotes[1::2]
    around = np.zeros(256, np.bool_)
    around[[LF, CR, ord(dialect.delimiter), ord(dialect.quote or "")]] = True
    before = opening[opening > 0] - 1
    after = closing[closing < len(data) - 1] + 1
    return bool(around[data[before]].all() and around[data[after]].all())


@cache
def _patterns(delimiter: str, quote: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    quoted = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+%b" % (q, q, q, q, q, q)
    bare = rb"(?!%b)[^%b\r\n]*+" % (q, d)
    field = rb"(?:%b(?=[%b\r\n]|\Z)|%b)" % (quoted, d, bare)
    return re.compile(rb"%b(?:%b%b)*+" % (field, d, field)), re.compile(quoted)


def fields_of(record: bytes, dialect: Dialect) -> list[str]:
    """The fields of one well-formed record, unquoted. For heads and headers; data is split by Arrow."""
    quote = (dialect.quote or "\0").encode()
    _, quoted = _patterns(dialect.delimiter, quote.decode())
    delimiter, fields, at = dialect.delimiter.encode(), [], 0
    while True:
        opened = quoted.match(record, at) if dialect.quote else None
        stop = record.find(delimiter, opened.end() if opened else at)
        stop = len(record) if stop < 0 else stop
        field = record[at:stop]
        if opened:
            field = opened[0][1:-1].replace(quote * 2, quote) + record[opened.end() : stop]
        fields.append(field.decode("utf-8", "replace"))
        if stop == len(record):
            return fields
        at = stop + 1


def _walk(buffer: bytes, dialect: Dialect, line: int, ended: bool, most_record_bytes: int) -> tuple[Block, int]:
    """Record by record, malformed ones marked."""
    record, quoted = _patterns(dialect.delimiter, dialect.quote or '"')
    found: list[tuple[int, int, int, bool]] = []
    at, at_line = 0, line
    size, has_cr = len(buffer), b"\r" in buffer
    while at < size:
        matched = record.match(buffer, at)
        stop = matched.end() if matched else at
        if stop < size and buffer[stop] in (LF, CR):
            after = stop + (2 if buffer.startswith(b"\r\n", stop) else 1)
            if not ended and after == size and buffer[stop] == CR:
                break
            found.append((at, stop, at_line, False))
        elif stop == size:
            if not ended:
                break
            found.append((at, stop, at_line, False))
            after = size
        else:
            # Here begins a quoted field that does not end as it must: wrongly, or not yet.
            opened = stop + (buffer.startswith(dialect.delimiter.encode(), stop))
            closed = quoted.match(buffer, opened)
            open_ended = closed is None or closed.end() >= size
            if open_ended and not ended and size - at < most_record_bytes:
                break
            whole = _LINE.match(buffer, at)
            after = whole.end() if whole else size
            if not ended and after >= size:
                break
            end = len(buffer[at:after].rstrip(b"\r\n")) + at
            found.append((at, end, at_line, True))
        at_line += buffer.count(b"\n", at, after) + (buffer[after - 1] not in (LF, CR))
        if has_cr:
            at_line += buffer.count(b"\r", at, after) - buffer.count(b"\r\n", at, after)
        at = after
    columns = list(zip(*found, strict=True)) or [(), (), (), ()]
    starts, ends, lines = (np.array(c, np.int64) for c in columns[:3])
    spans = Spans(starts, ends, lines, np.array(columns[3], np.bool_))
    return Block(buffer[:at], line, at_line - line, plain=False, spans=spans), at
