"""The period a run stands for, and its key: the value a period partition gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Period:
    """`key` is the text of the partition (`2024-05-01`, or `2024-05-01T13` for hours). `start` and `end` (half-open) are
    zoned datetimes in the row's zone. `given` says where it came from: `key` (partition key), `interval` (data interval)
    or `now` (a click). `backfill` is True when the run repeats history on request."""

    key: str
    start: datetime
    end: datetime
    given: str = "key"
    backfill: bool = False
