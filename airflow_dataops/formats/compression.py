"""Compressed bytes → bytes, recognised by the first bytes and never by the name.

A compressed stream that ends early, or goes on with something else, is refused as a whole (ProofError): the records
before the cut are unproven, because the sender's last bytes are missing, so nothing of the file may land. The table
fails, its siblings go on, and the file must be sent again.
"""

from __future__ import annotations

import io
import lzma
from typing import BinaryIO, Protocol

import pyarrow as pa

from airflow_dataops.core.errors import DataOpsError, InventoryError, ProofError

_MAGIC = {
    "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00",
}  # fmt: skip
_SKIPPABLE_ZSTD = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))
_ZIP = b"PK\x03\x04"
MAGIC_BYTES = 6


class ByteReader(Protocol):
    """Anything that gives the next bytes; `b""` at the end."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


def compression_of(head: bytes) -> str:
    """`gzip`, `zstd`, `bz2`, `xz` or `none`, from the first bytes of a file."""
    for name, magic in _MAGIC.items():
        if head.startswith(magic):
            return name
    return "zstd" if head.startswith(_SKIPPABLE_ZSTD) else "none"


def decompressed(stream: BinaryIO, path: str, told: str = "auto") -> tuple[ByteReader, str]:
    """(the plain bytes, the compression found). Members written one after the other are read as one file."""
    rewound = _Rewound(stream)
    found = compression_of(rewound.peek(MAGIC_BYTES))
    if found == "none" and rewound.peek(4) == _ZIP:
        raise InventoryError(
            f"Cannot read file {path!r}: a zip archive -> plain, gzip, zstd, bz2 or xz. "
            "An archive may hold many files. Unpack it, or compress the file itself."
        )
    if told not in ("auto", found) and rewound.peek(1):
        raise ProofError(
            f"Cannot read file {path!r}: its first bytes say {found} -> {told}, as the row says. "
            "It may be damaged. Send it again, or set `compression: auto`."
        )
    if found == "none":
        return rewound, found
    if found == "xz":
        return _Checked(_Xz(rewound), path, found), found
    return _Checked(pa.CompressedInputStream(pa.PythonFile(rewound, "r"), found), path, found), found


class _Rewound(io.RawIOBase):
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._head, self._given = stream, b"", 0

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._stream.read(size - len(self._head))):
            self._head += more
        return self._head[:size]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(data) :]
        if len(data) != size:
            data += self._stream.read(size - len(data) if size >= 0 else -1)
        self._given += len(data)
        return data

    def tell(self) -> int:
        return self._given

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Xz:
    """xz streams one after the other, with the padding the format allows, and nothing else."""

    def __init__(self, stream: _Rewound) -> None:
        self._stream, self._decoder, self._rest = stream, lzma.LZMADecompressor(lzma.FORMAT_XZ), b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decoder.eof:
                self._rest = self._decoder.unused_data or self._rest
                self._rest = (self._rest or self._stream.read(65536)).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            if self._decoder.needs_input:
                fed = self._rest or self._stream.read(65536)
                self._rest = b""
                if not fed:
                    raise EOFError("Truncated compressed stream")
            else:
                fed = b""
            if data := self._decoder.decompress(fed, size):
                return data

    def close(self) -> None:
        self._stream.close()


class _Checked:
    """Damage told as what it is."""

    def __init__(self, inner: ByteReader, path: str, name: str) -> None:
        self._inner, self._path, self._name = inner, path, name

    def read(self, size: int, /) -> bytes:
        try:
            return self._inner.read(size)
        except DataOpsError:
            raise
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
            if isinstance(error.__context__, DataOpsError):  # our own reader failed below pyarrow's
                raise error.__context__ from error
            raise ProofError(
                f"Cannot read file {self._path!r}: {str(error)[:200]} -> a whole {self._name} stream. "
                "It is cut off or damaged, so what came before cannot be trusted either; nothing of it was loaded. "
                "Send the file again."
            ) from error

    def close(self) -> None:
        self._inner.close()
