"""When a partition's time was over: what `target.retention_days` and `target.late` are counted from.

A partition is of a time when at least one of its columns is: the period, or a date or timestamp of the data, whole or cut to
years, months, days or hours. Its time is over at the end of what the column's value names (`2024-05` ends with May), and where
several columns name one, at the earliest of these ends. NULL names none.

Ends are POSIX seconds. A period ends on the wall clock of the row's zone, and where the schedule says; dates and naive timestamps
are taken in the row's zone, too; what was cut from instants (timestamps with a zone) ends in UTC, as it was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PartitionSpec
from airflow_dataops.core.types_text import type_to_text

PeriodEnd = Callable[[str], float | None]
"""The end of the period with this key; None: no period of the schedule, as it is now, has it."""

DAY_SECONDS = 86_400.0

_VALUE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.\d+)?)?)?)?)?)?")
_LONGEST = {"year": 1, "month": 2, "day": 3, "hour": 4, "identity": 6}


@dataclass(frozen=True, slots=True)
class _Clock:
    """How one partition column tells the time. `zone` None: it tells none."""

    zone: tzinfo | None
    transform: str = "identity"
    period_end: PeriodEnd | None = None

    def end(self, value: str | None) -> float | None:
        if self.zone is None or value is None:
            return None
        known = self.period_end(value) if self.period_end is not None else None
        return _end_of(value, self.transform, self.zone) if known is None else known


@dataclass(frozen=True, slots=True)
class PartitionAge:
    """When partitions of one table are over, by their values."""

    clocks: tuple[_Clock, ...]

    @property
    def is_known(self) -> bool:
        """Whether any column tells the time."""
        return any(clock.zone is not None for clock in self.clocks)

    def end(self, values: Sequence[str | None]) -> float | None:
        """None when no column's value names a time."""
        ends = (clock.end(value) for clock, value in zip(self.clocks, values, strict=True))
        return min((end for end in ends if end is not None), default=None)

    def is_over(self, values: Sequence[str | None], at: float | None) -> bool:
        """Whether the partition's time was over at that moment. What has no time is never over."""
        end = self.end(values)
        return at is not None and end is not None and end <= at


def partition_age(
    partition_by: Sequence[PartitionSpec], schema: TableSchema, timezone: str, period_end: PeriodEnd | None = None
) -> PartitionAge:
    """`schema`: the table's data columns, by lake name. `period_end` tells where periods end; without it, and for keys it does not
    know, a key is taken by its form: a day, an hour or a minute."""
    return PartitionAge(tuple(_clock_of(spec, schema, ZoneInfo(timezone), period_end) for spec in partition_by))


def retention_floor(now: float, retention_days: int | None) -> float | None:
    """Partitions that were over at this moment are expired; None: none ever is."""
    return None if retention_days is None else now - retention_days * DAY_SECONDS


def refuse_ageless(table: str, field: str, partition_by: Sequence[PartitionSpec], schema: TableSchema, age: PartitionAge) -> None:
    """InventoryError when the table has no partition column that tells the time."""
    if age.is_known:
        return
    types = {spec.name: schema.get(sanitise(spec.column)) for spec in partition_by if spec.column}
    found = ", ".join(f"{name} ({type_to_text(c.type)})" if c else name for name, c in types.items()) or "none"
    raise InventoryError(
        f"Cannot tell the age of partitions of {table}: its partition columns are {found} -> one that is a date or timestamp, or "
        f"the period. `{field}` is counted from it. Add such a column to `partition_by` of a new table, or remove the field."
    )


def _clock_of(spec: PartitionSpec, schema: TableSchema, zone: ZoneInfo, period_end: PeriodEnd | None) -> _Clock:
    if spec.column is None:
        return _Clock(zone, spec.transform, period_end if spec.transform == "identity" else None)
    column = schema.get(sanitise(spec.column))
    if column is None or not (pt.is_date(column.type) or pt.is_timestamp(column.type)):
        return _Clock(None)
    is_instant = pt.is_timestamp(column.type) and column.type.tz is not None
    return _Clock(UTC if is_instant else zone, spec.transform)


def _end_of(value: str, transform: str, zone: tzinfo) -> float | None:
    """The end of the year, month, day, hour, minute or second that the text names; None when it names none."""
    found = _VALUE.fullmatch(value)
    if found is None:
        return None
    parts = [int(part) for part in found.groups() if part is not None]
    if len(parts) > _LONGEST[transform]:
        return None
    try:
        start = datetime(*(parts + [1] * (3 - len(parts))))  # type: ignore[arg-type]
        return _next(start, len(parts)).replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):  # a date that no calendar has, or the last one that ours has
        return None


def _next(start: datetime, parts: int) -> datetime:
    if parts == 1:
        return start.replace(year=start.year + 1)
    if parts == 2:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + {3: timedelta(days=1), 4: timedelta(hours=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}[parts]
