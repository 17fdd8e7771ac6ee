"""Which text encoding a file has, and its bytes as UTF-8 with nothing lost on the way.

Encodings that contain ASCII byte for byte (UTF-8, cp1252, latin-1, …) are cut into records as they are and decoded per
block. The others (UTF-16, UTF-32, Shift-JIS, …) are re-encoded while reading; bytes that mean nothing there travel as
invalid UTF-8, so that exactly their records are dead-lettered, and `original_bytes` gives them back.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import cache

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.formats.compression import ByteReader

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_KEEP = "dataops.keep_bytes"
_KEPT = re.compile("([\udc00-\udcff]+)")
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
_LETTERS = frozenset("ŠŒŽšœžŸÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüý")
_SIGNS = frozenset("€‚„…‘’“”•–—™¡¢£¥§¨©ª«¬®¯°±²³´µ·¹º»¼½¾¿×÷\xa0")


@dataclass(frozen=True, slots=True)
class Encoding:
    """`name` is Python's. `evidence`: `told`, `bom`, `content`, or `ascii` (nothing else seen yet: `name` may still become
    another that contains ASCII). `bom`: its length in bytes. `wide`: re-encoded while reading."""

    name: str
    evidence: str
    bom: int = 0
    wide: bool = False


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    """Undecodable byte b → the lone surrogate U+DC00 + b."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + b) for b in error.object[error.start : error.end]), error.end


codecs.register_error(_KEEP, _keep_bytes)


def detect(head: bytes, told: str | None) -> Encoding:
    """The encoding of a file from its first bytes. A byte order mark is always skipped, also when the row tells."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            if told is None:
                return Encoding(name, "bom", len(mark), wide=name != "utf-8")
            if _normal(told) in (name, name[:-3], "utf-8-sig"):
                return Encoding(name, "told", len(mark), wide=name != "utf-8")
    if told is not None:
        name = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(_normal(told), _normal(told))
        return Encoding(name, "told", wide=not contains_ascii(name))
    # Without a mark, UTF-16 shows by the zero bytes of its ASCII letters.
    pairs = len(head) // 2
    if pairs >= 4:
        even, odd = head[: pairs * 2 : 2].count(0), head[1 : pairs * 2 : 2].count(0)
        if odd > pairs * 0.6 and even < pairs * 0.1:
            return Encoding("utf-16-le", "content", wide=True)
        if even > pairs * 0.6 and odd < pairs * 0.1:
            return Encoding("utf-16-be", "content", wide=True)
    if head.isascii():
        return Encoding("utf-8", "ascii")
    return Encoding(by_content(head), "content")


def _normal(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise InventoryError(f"Cannot read text as {name!r}: no such encoding -> one Python knows. Correct `encoding`.") from None


def by_content(data: bytes) -> str:
    """`utf-8` or `cp1252` for bytes that are not all ASCII.

    cp1252 only when nothing in the data is UTF-8 and at least three of four telling bytes make sense there: a Western
    letter beside a letter, or a usual sign. Anything else stays UTF-8 and its bad records are dead letters: a wrong
    guess would land garbage. latin-1 is not told apart: its printable part is the same.
    """
    good, bad = 0, 0
    for run in _NOT_ASCII.finditer(data):
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(run[0], final=run.end() != len(data))
        except UnicodeDecodeError:
            for at in range(run.start(), run.end()):
                sign = data[at : at + 1].decode("cp1252", "replace")
                if sign in _LETTERS:
                    # A letter alone (a field of one letter) says nothing either way.
                    beside = data[max(at - 1, 0) : at] + data[at + 1 : at + 2]
                    good += any(b >= 0xC0 or chr(b).isalpha() for b in beside)
                else:
                    good, bad = good + (sign in _SIGNS), bad + (sign not in _SIGNS)
        else:
            if text:  # else a character cut in two by the end of the data: no evidence of anything
                return "utf-8"
        if good + bad >= 10_000:
            break
    return "cp1252" if good and good >= 3 * bad else "utf-8"


@cache
def contains_ascii(name: str) -> bool:
    """Whether every byte below 128 is always that ASCII character, wherever it stands."""
    if name == "utf-8":
        return True
    try:
        if bytes(range(128)).decode(name) != "".join(map(chr, range(128))):
            return False
        alone = [bytes([b]).decode(name, "surrogateescape") for b in range(256)]
        return all(bytes([b, c]).decode(name, "surrogateescape") == alone[b] + chr(c) for b in range(256) for c in b"A|@~0")
    except UnicodeDecodeError:
        return False


def is_valid(data: bytes, name: str) -> bool:
    """Whether these bytes are text in an encoding that contains ASCII."""
    if data.isascii():
        return True
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def original_bytes(data: bytes, encoding: Encoding) -> bytes:
    """The bytes as they stood in the file, from bytes that `Recoded` gave."""
    if not encoding.wide:
        return data
    parts = _KEPT.split(data.decode("utf-8", "surrogatepass"))
    # Every second part is a run of kept bytes.
    return b"".join(bytes(ord(c) & 0xFF for c in part) if n % 2 else part.encode(encoding.name) for n, part in enumerate(parts))


class Recoded:
    """A wide encoding as UTF-8 (and as invalid UTF-8 where the file is invalid)."""

    def __init__(self, stream: ByteReader, encoding: Encoding) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding.name)(_KEEP)
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            data = self._stream.read(size)
            self._ended = not data
            if text := self._decoder.decode(data, final=self._ended):
                return text.encode("utf-8", "surrogatepass")
        return b""

    def close(self) -> None:
        self._stream.close()
