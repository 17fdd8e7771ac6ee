"""Positions in a source: cursor values, ranges, files; with a type-exact JSON form for the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

Scalar = int | float | str | bytes | bool | Decimal | date | datetime | time
"""A cursor value as Python knows it. Naive and zoned datetimes stay what they are."""


def scalar_kind(value: Scalar) -> str | None:
    """What the value can be put in order with; None for a number that is none. 1, 1.0 and Decimal("1.00") are of one kind."""
    if isinstance(value, bool):
        return "booleans"
    if isinstance(value, (int, float, Decimal)):
        return None if math.isnan(value) else "numbers"
    if isinstance(value, datetime):
        return "naive moments" if value.tzinfo is None else "zoned moments"
    if isinstance(value, time):
        return "naive times" if value.tzinfo is None else "zoned times"
    if isinstance(value, date):
        return "dates"
    return "text" if isinstance(value, str) else "bytes"


@dataclass(frozen=True, slots=True)
class Everything:
    """The whole table (read mode `full`)."""


@dataclass(frozen=True, slots=True)
class CursorRange:
    """Rows whose `cursor` column lies between low and high; None is open on that side.

    Watermark reads are (low, high] (the default flags), or (low, high) up to a range that is taken already; windows and
    backfilled ranges are [low, high).
    """

    cursor: str
    low: Scalar | None
    high: Scalar | None
    low_inclusive: bool = False
    high_inclusive: bool = True


@dataclass(frozen=True, slots=True, order=True)
class FileIdentity:
    """One file as it was listed. `etag` says whether it was touched (an object store's ETag; size, mtime_ns and inode
    locally), `content` identifies its bytes (the ETag, or `x3:` + XXH3-128 locally; "" until somebody asked)."""

    path: str
    size: int
    etag: str
    content: str = ""


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of a `new_files` batch, fixed when it was claimed and read again by identity."""

    files: tuple[FileIdentity, ...]


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters of one batch that are replayed together: pairs of a letter's number in the ledger's index and how often it
    has failed. A letter that failed again is another range, and another batch."""

    batch_id: str
    generation: int
    letters: tuple[tuple[int, int], ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(number for number, _ in self.letters)


OffsetRange = Everything | CursorRange | FileSet | Letters


def scalar_to_json(value: Scalar | None) -> Any:
    """JSON that gives exactly this value back: {"t": type, "v": text}, or null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return {"t": "bool", "v": value}
    if isinstance(value, int):
        return {"t": "int", "v": str(value)}
    if isinstance(value, float):
        return {"t": "float", "v": value.hex()}
    if isinstance(value, str):
        return {"t": "str", "v": value}
    if isinstance(value, bytes):
        return {"t": "bytes", "v": value.hex()}
    if isinstance(value, Decimal):
        return {"t": "decimal", "v": str(value)}
    if isinstance(value, datetime):
        return {"t": "datetime", "v": value.isoformat()}
    if isinstance(value, date):
        return {"t": "date", "v": value.isoformat()}
    return {"t": "time", "v": value.isoformat()}


def scalar_of_json(data: Any) -> Scalar | None:
    """The inverse of `scalar_to_json`."""
    if data is None:
        return None
    kind, v = data["t"], data["v"]
    match kind:
        case "bool":
            return bool(v)
        case "int":
            return int(v)
        case "float":
            return float.fromhex(v)
        case "str":
            return str(v)
        case "bytes":
            return bytes.fromhex(v)
        case "decimal":
            return Decimal(v)
        case "datetime":
            return datetime.fromisoformat(v)
        case "date":
            return date.fromisoformat(v)
        case "time":
            return time.fromisoformat(v)
    known = "bool, int, float, str, bytes, decimal, datetime, date, time"
    raise ValueError(f"Cannot read cursor value of type {kind!r} -> one of {known}.")


def range_to_json(r: OffsetRange) -> dict[str, Any]:
    """The ledger's form of a range."""
    if isinstance(r, Everything):
        return {"kind": "everything"}
    if isinstance(r, CursorRange):
        return {
            "kind": "cursor", "cursor": r.cursor, "low": scalar_to_json(r.low), "high": scalar_to_json(r.high),
            "low_inclusive": r.low_inclusive, "high_inclusive": r.high_inclusive,
        }  # fmt: skip
    if isinstance(r, Letters):
        return {
            "kind": "letters", "batch_id": r.batch_id, "generation": r.generation, "letters": [list(pair) for pair in r.letters],
        }  # fmt: skip
    return {"kind": "files", "files": [[f.path, f.size, f.etag, f.content] for f in r.files]}


def range_of_json(data: dict[str, Any]) -> OffsetRange:
    """The inverse of `range_to_json`."""
    match data["kind"]:
        case "everything":
            return Everything()
        case "cursor":
            return CursorRange(
                data["cursor"], scalar_of_json(data["low"]), scalar_of_json(data["high"]),
                data["low_inclusive"], data["high_inclusive"],
            )  # fmt: skip
        case "files":
            return FileSet(tuple(FileIdentity(*f) for f in data["files"]))
        case "letters":
            return Letters(data["batch_id"], data["generation"], tuple((number, times) for number, times in data["letters"]))
    raise ValueError(f"Cannot read range of kind {data['kind']!r} -> everything, cursor, files or letters.")


def ends_below(high: Scalar | None, low: Scalar) -> bool:
    """Whether everything up to `high` is below `low`. False when that is not known, or the two have no order."""
    return high is not None and scalar_kind(high) == scalar_kind(low) and bool(high < low)  # type: ignore[operator]


def moves_watermark(r: OffsetRange) -> tuple[Scalar | None, Scalar] | None:
    """From where to where the watermark goes when the range is accounted for; None for windows, backfilled ranges and files.
    The range tells, not the row: that may have been edited since."""
    if not isinstance(r, CursorRange) or r.low_inclusive or r.high is None:
        return None
    return r.low, r.high


def is_cut(r: OffsetRange) -> bool:
    """Whether a watermark read ends where a taken range begins, so that there may be more for the same run behind it."""
    return isinstance(r, CursorRange) and not r.low_inclusive and not r.high_inclusive


def free_from(mark: Scalar | None, taken: Iterable[CursorRange]) -> tuple[Scalar | None, Scalar | None]:
    """Where a watermark read may begin, at `mark` or at the end of the taken ranges that follow upon it, and before which value
    it has to end (None: nothing above is taken). Values must be of one comparable type."""
    before: Scalar | None = None
    for r in sorted(taken, key=lambda r: (r.low is not None, r.low)):
        if r.high is None or (mark is not None and not r.high > mark):  # type: ignore[operator]
            continue
        if r.low is None or (mark is not None and r.low <= mark):  # type: ignore[operator]
            mark = r.high  # rows tied with it are read: what is taken ends below it, or is known
        else:
            before = r.low
            break
    return mark, before


def overlaps(a: CursorRange, b: CursorRange) -> bool:
    """Whether two ranges over the same cursor share a possible value. Values must be of one comparable type."""

    def before(x: CursorRange, y: CursorRange) -> bool:
        """x ends before y begins."""
        if x.high is None or y.low is None:
            return False
        if x.high == y.low:
            return not (x.high_inclusive and y.low_inclusive)
        return bool(x.high < y.low)  # type: ignore[operator]

    return not before(a, b) and not before(b, a)
