"""The records of a JSON document (an array of objects, one object, or several one after the other), one at a time.

A document that ends early or goes wrong in the middle is refused as a whole (ProofError): there are no lines to find the
next record by, and what came before is part of something unproven.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

from airflow_dataops.core.errors import LimitError, ProofError
from airflow_dataops.formats.compression import ByteReader
from airflow_dataops.formats.csv_records import MAX_RECORD_BYTES
from airflow_dataops.formats.json_values import Decoder

_CHUNK_BYTES = 1 << 20
_SPACE = " \t\r\n"


def document_records(stream: ByteReader, path: str) -> Iterator[tuple[Any, bytes]]:
    """(value, its bytes) of each record in order. A value is a BadValue when the record is JSON in form only.

    Bytes that are no UTF-8 travel inside strings as lone surrogates, so that their records alone are bad.
    """
    text = _Text(stream, path)
    if text.peek() == "":
        return
    is_array = text.peek() == "["
    if is_array:
        text.at += 1
    while True:
        mark = text.peek()
        if mark == "":
            if is_array:
                raise text.broken("the end of the file", "`]`")
            return
        if is_array and mark == "]":
            text.at += 1
            if text.peek():
                raise text.broken("more after the array", "the end of the file")
            return
        yield text.value()
        if is_array:
            mark = text.peek()
            if mark == ",":
                text.at += 1
                if text.peek() == "]":
                    raise text.broken("a comma before `]`", "a record")
            elif mark != "]":
                raise text.broken(repr(mark) if mark else "the end of the file", "`,` or `]`")


class _Text:
    """A window on the text that grows until it holds a whole value."""

    def __init__(self, stream: ByteReader, path: str) -> None:
        self._stream, self._path = stream, path
        self._json = Decoder()
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._window, self.at, self._before, self._ended = "", 0, 0, False

    def _grow(self, size: int) -> None:
        data = self._stream.read(size)
        self._ended = not data
        self._before += self.at
        self._window, self.at = self._window[self.at :] + self._decoder.decode(data, final=self._ended), 0

    def peek(self) -> str:
        """The next character that is no white space; `""` at the end."""
        while True:
            while self.at < len(self._window) and self._window[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self._window):
                return self._window[self.at]
            if self._ended:
                return ""
            self._grow(_CHUNK_BYTES)

    def value(self) -> tuple[Any, bytes]:
        wanted = _CHUNK_BYTES
        while True:
            try:
                value, end = self._json.decode(self._window, self.at)
            except (ValueError, RecursionError) as error:
                if self._ended:
                    raise self.broken(str(error)[:100], "JSON") from error
            else:
                # A number at the end of the window may go on behind it.
                if self._ended or end < len(self._window):
                    raw, self.at = self._window[self.at : end], end
                    return value, raw.encode("utf-8", "surrogateescape")
            if len(self._window) - self.at > MAX_RECORD_BYTES:
                raise LimitError(
                    f"Cannot read file {self._path!r}: no whole record in {MAX_RECORD_BYTES} characters -> one. "
                    "It may be damaged. Send it again, or write smaller records."
                )
            self._grow(wanted)
            wanted = max(wanted, (len(self._window) - self.at) * 2)

    def broken(self, found: str, expected: str) -> ProofError:
        return ProofError(
            f"Cannot read file {self._path!r} at character {self._before + self.at}: {found} -> {expected}. "
            "The JSON document is cut off or damaged, so what came before cannot be trusted either; nothing of it was "
            "loaded. Send the file again."
        )
