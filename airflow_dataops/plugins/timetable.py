"""The timetable of a row's DAG: one run per calendar period, with the period's key as partition key (DESIGN §8).

`schedule.py` knows the periods; this class only tells them to Airflow's scheduler and its backfills.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow.exceptions import InvalidPartitionKeyError
from airflow.sdk import timezone
from airflow.timetables.base import DagRunInfo
from airflow.timetables.trigger import CronPartitionTimetable

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.period import Period
from airflow_dataops.schedule import (
    last_started,
    last_tick,
    next_tick,
    parse_schedule,
    period_at,
    period_of_key,
    starts_at,
)

if TYPE_CHECKING:
    from airflow.timetables.base import TimeRestriction
    from pendulum import DateTime


@lru_cache(maxsize=1024)
def _known(kind: type[PeriodTimetable], schedule: str, timezone: str, jitter_seconds: int) -> PeriodTimetable:
    return kind(schedule, timezone=timezone, jitter_seconds=jitter_seconds)


SHOWN_CHARACTERS = 200
"""Of a schedule. Airflow keeps 1,000 of the whole tooltip; a longer one would keep all DAGs of its file out of the database."""


class PeriodTimetable(CronPartitionTimetable):
    """Runs whose key is the calendar period just ended.

    `schedule` is a cron expression or preset; `jitter_seconds` delays the start of each run and nothing else. A period
    starts at or after the DAG's start date, so the first key is that date. A backfill takes the periods that begin in
    its range and are over.
    """

    def __init__(self, schedule: str, *, timezone: str = "UTC", jitter_seconds: int = 0) -> None:
        self._schedule = parse_schedule(schedule, timezone)
        if self._schedule.grid is None or self._schedule.cron is None:
            raise InventoryError(
                f"Cannot make a timetable of schedule {schedule!r}: it has no periods -> a cron expression or preset. "
                "Runs without a period need none. Use Airflow's own schedule for them."
            )
        self._jitter = timedelta(seconds=jitter_seconds)
        super().__init__(self._schedule.grid, timezone=timezone, run_offset=-1, key_format=self._schedule.key_format)

    def _describe_with_dom_dow_fix(self, expression: str) -> str:
        """Airflow's tooltip. The base class would describe the period boundaries, at a millisecond per DAG."""
        text = self._schedule.text
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
        return f"{shown} ({self._schedule.timezone}), one run per period"

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PeriodTimetable:
        # Airflow does it up to seventeen times for each DAG that it stores.
        return cls.shared(data["schedule"], data["timezone"], data.get("jitter_seconds", 0))

    @classmethod
    def shared(cls, schedule: str, timezone: str, jitter_seconds: int) -> PeriodTimetable:
        """The same object for the same schedule: nobody changes a timetable, and thousands of rows have a handful of them."""
        return _known(cls, schedule, timezone, jitter_seconds)  # type: ignore[arg-type]

    def serialize(self) -> dict[str, Any]:
        data: dict[str, Any] = {"schedule": self._schedule.text, "timezone": self._schedule.timezone}
        if self._jitter:
            data["jitter_seconds"] = int(self._jitter.total_seconds())
        return data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeriodTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self._schedule, self._jitter))

    @property
    def summary(self) -> str:
        return self._schedule.text

    def next_dagrun_info_v2(self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction) -> DagRunInfo | None:
        """The next run: the first period not yet run (with catch-up), or the newest that is over (without)."""
        candidates = []
        if last_dagrun_info is not None:
            candidates.append(self._after(last_dagrun_info))
        elif restriction.earliest is not None:
            candidates.append(self._first_from(restriction.earliest))
        if not restriction.catchup or not candidates:
            candidates.append(last_started(self._schedule, datetime.now(UTC) - self._jitter))
            if restriction.earliest is not None:
                candidates.append(self._first_from(restriction.earliest))
        period = max(candidates, key=lambda p: p.start.timestamp())
        if restriction.latest is not None and period.start.timestamp() > restriction.latest.timestamp():
            return None
        return self._info(period, starts_at(self._schedule, period).astimezone(UTC) + self._jitter)

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterable[DagRunInfo]:
        """The runs of a backfill. A period that is not over is left out, as Airflow does with data intervals."""
        period = self._first_from(self.localize_partition_datetime(earliest))
        last, now = self.localize_partition_datetime(latest).timestamp(), datetime.now(UTC).timestamp()
        while period.start.timestamp() <= last and period.end.timestamp() <= now:
            yield self._info(period, period.start)
            period = period_at(self._schedule, period.end)

    def _after(self, info: DagRunInfo) -> Period:
        if info.partition_date is not None:
            return period_at(self._schedule, period_at(self._schedule, info.partition_date).end)
        # The last run was made under another kind of schedule: go on after what was over when it started.
        return period_at(self._schedule, last_started(self._schedule, info.run_after - self._jitter).end)

    def _first_from(self, moment: datetime) -> Period:
        """The first period that starts at the moment or later."""
        period = period_at(self._schedule, moment)
        return period if period.start.timestamp() >= moment.timestamp() else period_at(self._schedule, period.end)

    @staticmethod
    def _info(period: Period, run_after: datetime) -> DagRunInfo:
        return DagRunInfo(
            run_after=_utc(run_after), data_interval=None, partition_date=_utc(period.start), partition_key=period.key
        )

    def _decode_partition_date(self, partition_key: str) -> datetime:
        try:
            return _utc(period_of_key(self._schedule, partition_key).start)
        except InventoryError as error:
            raise InvalidPartitionKeyError(str(error)) from None

    # What the base class steps along, for everything of it that is not replaced above.

    def _get_next(self, current: DateTime) -> DateTime:
        return _utc(next_tick(self._expression, self._schedule.zone, current))

    def _get_prev(self, current: DateTime) -> DateTime:
        return _utc(last_tick(self._expression, self._schedule.zone, current - timedelta(microseconds=1)))

    def _align_to_next(self, current: DateTime) -> DateTime:
        return _utc(self._first_from(current).start)

    def _align_to_prev(self, current: DateTime) -> DateTime:
        return _utc(last_tick(self._expression, self._schedule.zone, current))


def _utc(moment: datetime) -> DateTime:
    return timezone.coerce_datetime(moment.astimezone(UTC))
