"""A text file as a stream of UTF-8 (or ASCII-compatible) bytes: opened, decompressed, byte order mark taken off."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import BinaryIO

from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.base import FileAccess
from airflow_dataops.formats.compression import ByteReader, decompressed
from airflow_dataops.formats.csv_records import Dialect, blocks, spans_of
from airflow_dataops.formats.encoding import Encoding, Recoded, detect

_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r)")
_BUFFER_BYTES = 1 << 20


class TextStream:
    """Gives bytes to `csv_records.blocks`, and lets the first ones be looked at before. `taken_bytes`: the mark, skipped
    lines and header."""

    def __init__(self, stream: ByteReader, head: bytes, encoding: Encoding, traits: dict[str, str]) -> None:
        self._stream, self._head, self.encoding, self.traits = stream, head, encoding, traits
        self.taken_bytes = encoding.bom

    @classmethod
    def open(cls, file: FileAccess, options: FilesOptions, head_bytes: int) -> TextStream:
        """`traits` names compression, encoding and byte order mark."""
        source = file.stream()
        try:
            plain, compression = decompressed(buffered(source), file.path, options.compression)
            head = _read(plain, head_bytes)
            encoding = detect(head, options.encoding)
            traits = {"compression": compression, "encoding": encoding.name, "bom": "yes" if encoding.bom else "no"}
            head = head[encoding.bom :]
            if encoding.wide:
                return cls(Recoded(_Joined(head, plain), encoding), b"", encoding, traits)
            return cls(plain, head, encoding, traits)
        except BaseException:
            source.close()
            raise

    def settle(self, name: str) -> None:
        """The file was all ASCII so far; from here on it is this encoding."""
        self.encoding = replace(self.encoding, name=name, evidence="content")

    def peek(self, size: int) -> bytes:
        """The next bytes, without taking them."""
        if len(self._head) < size:
            self._head += _read(self._stream, size - len(self._head))
        return self._head[:size]

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)

    def skip_lines(self, count: int) -> int:
        """Takes physical lines off; returns how many there were."""
        for skipped in range(count):
            size = 1 << 16
            while (found := _LINE.match(self.peek(size))) is None and len(self._head) >= size:
                size *= 2
            if not self._head:
                return skipped
            # A CR that ends what was read may be half of a CRLF.
            if found is not None and found.end() == len(self._head) and found[0].endswith(b"\r"):
                found = _LINE.match(self.peek(size + 1)) or found
            self._take(found.end() if found else len(self._head))
        return count

    def skip_record(self, dialect: Dialect) -> bytes:
        """Takes the first record that is not blank off, with the blank lines before it and its line end; returns them."""
        size = 1 << 16
        while True:
            head = self.peek(size)
            block = next(blocks(io.BytesIO(head), dialect, len(head) + 1), None)
            if block is None:
                return b""
            spans = spans_of(block, dialect, blank_is_record=False)
            if len(spans.starts) > 1 or len(head) < size:
                break
            size *= 2
        if not len(spans.starts):
            return b""
        end = int(spans.ends[0])
        end += 2 if head.startswith(b"\r\n", end) else 1 if end < len(head) else 0
        self._take(end)
        return head[:end]

    def _take(self, size: int) -> None:
        self._head = self._head[size:]
        self.taken_bytes += size

    def close(self) -> None:
        self._stream.close()


def _read(stream: ByteReader, size: int) -> bytes:
    """Exactly so many bytes, less only at the end."""
    parts = []
    while size > 0 and (data := stream.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def buffered(source: BinaryIO) -> BinaryIO:
    """The same bytes in large reads, and never fewer than asked before the end."""
    return io.BufferedReader(source, _BUFFER_BYTES) if isinstance(source, io.RawIOBase) else source


class _Joined:
    """Some bytes, and then a stream."""

    def __init__(self, head: bytes, stream: ByteReader) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
