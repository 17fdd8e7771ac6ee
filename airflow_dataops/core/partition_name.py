"""Partition values ↔ Hive's partition name: `dt=2024-05-01/region=a%2Fb`, escaped exactly as Hive does."""

from __future__ import annotations

import re
from collections.abc import Sequence

from airflow_dataops.core.errors import InventoryError

DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""How Hive spells a partition value that is NULL or empty."""

MAX_SEGMENT_BYTES = 255
"""Bytes of one directory name on the file systems a lake stands on."""

# FileUtils.charToEscape of Hive, and NUL, which no path can hold.
_UNSAFE = re.compile(r"""[\x00-\x1F"#%'*/:=?\\\x7F{\[\]^]""")
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")


def escape(text: str) -> str:
    """One column name or value as it stands in a path."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)


def unescape(text: str) -> str:
    """The inverse of `escape`; takes everything Hive's own reader takes."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def partition_name(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """`column=value` joined by `/`; `""` without columns. NULL and the empty text are both Hive's default partition.

    InventoryError when a directory name would be longer than file systems allow.
    """
    segments = []
    for column, value in zip(columns, values, strict=True):
        segment = f"{escape(column)}={_escape_value(value)}"
        size = len(segment.encode("utf-8", "surrogatepass"))
        if size > MAX_SEGMENT_BYTES:
            raise InventoryError(
                f"Cannot name a partition by {column!r}: {size} bytes -> at most {MAX_SEGMENT_BYTES}, the longest "
                "directory name. A partition value becomes a directory. Partition by a shorter column."
            )
        segments.append(segment)
    return "/".join(segments)


def parse_partition_name(text: str) -> tuple[tuple[str, str | None], ...]:
    """(column, value) pairs of a partition name, NULL as None. ValueError when a part has no `=`."""
    pairs: list[tuple[str, str | None]] = []
    for segment in text.split("/") if text else ():
        column, equals, value = segment.partition("=")
        if not equals or not column:
            raise ValueError(f"Cannot read partition name {text!r}: part {segment!r} -> column=value.")
        pairs.append((unescape(column), None if value in ("", DEFAULT_PARTITION) else unescape(value)))
    return tuple(pairs)


def _escape_value(value: str | None) -> str:
    if not value:
        return DEFAULT_PARTITION
    if value == DEFAULT_PARTITION:  # a value of that very text must not read back as NULL
        return f"%5F{value[1:]}"
    return escape(value)
