"""A row's `schedule` and `timezone` as periods: which there are, their keys, and which one a run stands for.

Two series of moments come from one cron expression. It *fires* when a run shall start; its *ticks* bound the periods
and are calendar moments: `30 6 * * *` fires at half past six, and its periods are calendar days; `15 * * * *` fires a
quarter past, and its periods are hours. So a run at any minute of the day loads the whole day before, and a backfill
over dates never loses its last day.

Both series live on the wall clock of the zone. A tick that the clock jumps over is the moment it jumps to; of a moment
that comes twice the first one counts. So days have 23 or 25 hours, the doubled hour is one period of two hours, and
periods follow each other without gap or overlap, each with a key of its own.
"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
"""Airflow's presets (a test holds them equal)."""

DAY_KEY, HOUR_KEY, MINUTE_KEY = "%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M"
JITTER_CAP_SECONDS = 900

YEARS = range(1900, 2200)
"""Years that have periods: nobody has data of others, and the arithmetic of calendars ends not far behind them."""

_CHANCE = re.compile(r"(?<![a-z])[hr](?![a-z])", re.IGNORECASE)
_AROUND = timedelta(hours=26)  # no zone ever jumped further than a day
_REFERENCE = datetime(2024, 1, 1)  # a wall-clock moment; only distances between ticks are taken from it


@dataclass(frozen=True, slots=True)
class Schedule:
    """A checked schedule. `cron` says when runs start, `grid` where periods begin; both None unless `kind` is cron.

    Without a cron the periods are calendar days of the zone.
    """

    text: str
    timezone: str
    kind: Literal["cron", "continuous", "none"]
    cron: str | None = None
    grid: str | None = None
    key_format: str = DAY_KEY

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


@lru_cache(maxsize=4096)  # pure, and asked for several times per row while a DAG file is parsed
def parse_schedule(text: str, timezone: str = "UTC") -> Schedule:
    """The schedule of a row. InventoryError when the text is no cron, preset, `@continuous` or `none`, when the cron
    never fires, or when the zone is unknown."""
    try:
        # A system's own files beside the IANA names: another zone on each machine, or one that counts leap seconds.
        if timezone in ("localtime", "posixrules") or timezone.startswith(("posix/", "right/")):
            raise KeyError(timezone)
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise InventoryError(
            f"Cannot use timezone {timezone!r}: no such zone -> a name of the IANA database, such as 'UTC' or "
            "'Europe/Berlin'. Periods are bounded on the wall clock of the row's zone. Correct the field."
        ) from error
    if text == "none":
        return Schedule(text, timezone, "none")
    if text == "@continuous":
        return Schedule(text, timezone, "continuous")
    cron = " ".join(PRESETS.get(text, text).split())
    if text.startswith("@") and text not in PRESETS:
        raise _bad(text, "unknown preset")
    if _CHANCE.search(cron):
        raise _bad(text, "H and R, which leave the time to chance")
    if len(cron.split()) != 5:
        raise _bad(text, f"{len(cron.split())} fields")
    try:
        walker = _walker(cron, _REFERENCE)
        if walker.expanded[2:] != [["*"]] * 3:  # a cron of minutes and hours alone always fires
            walker.get_next(datetime)
    except (CroniterError, ValueError, AttributeError, OverflowError) as error:
        raise _bad(text, str(error)) from error
    grid, key_format = _grid(cron, walker.expanded)
    return Schedule(text, timezone, "cron", cron, grid, key_format)


def _bad(text: str, found: str) -> InventoryError:
    known = ", ".join([*PRESETS, "@continuous", "none"])
    return InventoryError(
        f"Cannot use schedule {text!r}: {found} -> five cron fields, or one of {known}. Without it no run would "
        "ever start. Correct the field; `none` is for sources that are only started by hand."
    )


def _grid(cron: str, fields: list[list[int | str]]) -> tuple[str, str]:
    """The cron of the period boundaries, and how their keys are written."""
    minute, hour, rest = cron.split()[0], cron.split()[1], cron.split()[2:]

    def single(values: list[int | str]) -> bool:
        return len(values) == 1 and values[0] != "*"

    if single(fields[0]) and single(fields[1]):
        return " ".join(["0", "0", *rest]), DAY_KEY
    if single(fields[0]):
        return " ".join(["0", hour, *rest]), HOUR_KEY
    return " ".join([minute, hour, *rest]), MINUTE_KEY


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment the wall clock shows this; the one it jumps to when it never does; the first when it does so twice."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC).astimezone(zone)


def _just_before(moment: datetime) -> datetime:
    """One second earlier in time: subtracting from a zoned datetime would move the wall clock instead."""
    return moment.astimezone(UTC) - timedelta(seconds=1)


def _clock_changes_near(moment: datetime, zone: ZoneInfo) -> bool:
    moment = moment.astimezone(UTC)
    return len({(moment + d).astimezone(zone).utcoffset() for d in (-_AROUND, timedelta(), _AROUND)}) > 1


def _walker(cron: str, wall: datetime) -> croniter:
    """Goes from tick to tick, beginning at the wall-clock time. Airflow asks some twenty times per DAG that it stores."""
    walker = copy.copy(_parsed(cron))  # shallow: a walker changes its own moment, never the parsed fields
    walker.set_current(wall, force=True)
    return walker


@lru_cache(maxsize=4096)
def _parsed(cron: str) -> croniter:
    return croniter(cron, _REFERENCE)


def _ticks_around(cron: str, wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """All ticks of a few days, in order of time, which near a change of the clock is not that of wall-clock times."""
    ticks, walker = set(), _walker(cron, wall - 2 * _AROUND)
    while (tick := walker.get_next(datetime)) <= wall + 2 * _AROUND:
        ticks.add(_instant(tick, zone).astimezone(UTC))
    return [t.astimezone(zone) for t in sorted(ticks)]


def next_tick(cron: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The first moment of the cron later than `after` (aware), in the zone."""
    wall = after.astimezone(zone).replace(tzinfo=None)
    if _clock_changes_near(after, zone):
        for tick in _ticks_around(cron, wall, zone):
            if tick.timestamp() > after.timestamp():
                return tick
        wall += 2 * _AROUND
    return _instant(_walker(cron, wall).get_next(datetime), zone)


def last_tick(cron: str, zone: ZoneInfo, at: datetime) -> datetime:
    """The last moment of the cron that is not later than `at` (aware), in the zone."""
    wall = at.astimezone(zone).replace(tzinfo=None)
    if _clock_changes_near(at, zone):
        for tick in reversed(_ticks_around(cron, wall, zone)):
            if tick.timestamp() <= at.timestamp():
                return tick
        wall -= 2 * _AROUND
    # croniter counts in whole seconds and `get_prev` is strict: the next second's predecessor may be `at` itself.
    return _instant(_walker(cron, wall.replace(microsecond=0) + timedelta(seconds=1)).get_prev(datetime), zone)


def _boundaries(schedule: Schedule) -> str:
    return schedule.grid or PRESETS["@daily"]


def period_at(schedule: Schedule, moment: datetime, *, given: str = "now", backfill: bool = False) -> Period:
    """The period that contains the moment (aware)."""
    start = last_tick(_boundaries(schedule), schedule.zone, moment)
    end = next_tick(_boundaries(schedule), schedule.zone, start)
    return Period(start.strftime(schedule.key_format), start, end, given, backfill)


def period_before(schedule: Schedule, moment: datetime, *, given: str = "now") -> Period:
    """The last period that is over at the moment (aware)."""
    return period_at(schedule, _just_before(period_at(schedule, moment).start), given=given)


def period_now(schedule: Schedule, now: datetime, reads_windows: bool) -> Period:
    """The period of a run that was given neither a partition key nor a data interval, at `now` (aware): the one that
    contains now (today's key, for days), but the last complete one where any table is read by period."""
    return period_before(schedule, now) if reads_windows else period_at(schedule, now)


def period_of_key(schedule: Schedule, key: str, *, backfill: bool = False) -> Period:
    """The period of a partition key. InventoryError when the key is malformed or no period of the schedule begins
    there: a period that overlaps its neighbours would load rows twice."""
    try:
        wall = datetime.strptime(key, schedule.key_format)
        canonical = wall.strftime(schedule.key_format) == key and wall.year in YEARS
    except ValueError:
        canonical = False
    if not canonical:
        example = _REFERENCE.strftime(schedule.key_format)
        raise InventoryError(
            f"Cannot use partition key {key!r}: malformed -> a key like {example!r} ({schedule.key_format}), of the years "
            f"{YEARS.start} to {YEARS.stop - 1}. Schedule {schedule.text!r} has keys of this form only. "
            "Start the run again with such a key."
        )
    period = period_at(schedule, _instant(wall, schedule.zone), given="key", backfill=backfill)
    if period.key != key:
        raise InventoryError(
            f"Cannot use partition key {key!r}: no period of schedule {schedule.text!r} ({schedule.timezone}) begins "
            f"there -> {period.key!r}, the period that contains it, or another begin. Overlapping periods would load "
            "rows twice. Start the run again with such a key."
        )
    return period


def period_ends(schedule: Schedule) -> Callable[[str], float | None]:
    """Tells the end of a period (POSIX seconds) by its key; None for a key that is none of the schedule (any more)."""

    def end(key: str) -> float | None:
        try:
            return period_of_key(schedule, key).end.timestamp()
        except InventoryError:
            return None

    return end


def period_of_interval(schedule: Schedule, start: datetime, end: datetime, *, backfill: bool = False) -> Period:
    """The period of a data interval (aware, half-open), exactly as given. InventoryError when it has no length."""
    if end.timestamp() <= start.timestamp():
        raise InventoryError(
            f"Cannot use data interval {start.isoformat()} to {end.isoformat()}: no length -> an end after the start. "
            "No row could lie in it. Start the run with a partition key."
        )
    first, last = start.astimezone(schedule.zone), end.astimezone(schedule.zone)
    key_format = schedule.key_format if schedule.kind == "cron" else "%Y-%m-%dT%H:%M:%S"
    return Period(first.strftime(key_format), first, last, "interval", backfill)


def periods_between(
    schedule: Schedule, start: date | datetime, end: date | datetime, *, backfill: bool = True
) -> tuple[Period, ...]:
    """All periods that begin in the half-open range. Dates and naive datetimes are wall-clock times of the zone."""
    first, last = _moment(schedule, start), _moment(schedule, end)
    if last.timestamp() <= first.timestamp():
        raise InventoryError(
            f"Cannot use the range {start} to {end}: empty -> an end after the start. The end is not part of the "
            "range. Give the day after the last one as the end."
        )
    found: list[Period] = []
    period = period_at(schedule, first, given="key", backfill=backfill)
    while period.start.timestamp() < last.timestamp():
        if period.start.timestamp() >= first.timestamp():
            found.append(period)
        period = period_at(schedule, period.end, given="key", backfill=backfill)
    return tuple(found)


def _moment(schedule: Schedule, value: date | datetime) -> datetime:
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return _instant(value, schedule.zone) if value.tzinfo is None else value.astimezone(schedule.zone)


def starts_at(schedule: Schedule, period: Period) -> datetime:
    """When the cron fires for this period: the first time that it is over. Without jitter."""
    if schedule.cron is None:
        return period.end
    return next_tick(schedule.cron, schedule.zone, _just_before(period.end))


def last_started(schedule: Schedule, now: datetime) -> Period:
    """The newest period whose cron has fired at `now` (aware)."""
    fired = now if schedule.cron is None else last_tick(schedule.cron, schedule.zone, now)
    return period_before(schedule, fired, given="key")


def jitter_seconds(spec: PipelineSpec) -> int:
    """How long after the cron fires this row's run starts: `spec.jitter_seconds`, else a delay that is derived from
    the id, the same for ever, at most a tenth of the shortest period and never over 15 minutes. 0 without a cron."""
    schedule = parse_schedule(spec.schedule, spec.timezone)
    if schedule.grid is None:
        return 0
    if spec.jitter_seconds is not None:
        return spec.jitter_seconds
    return zlib.crc32(spec.id.encode()) % (min(_shortest_seconds(schedule.grid) // 10, JITTER_CAP_SECONDS) + 1)


@lru_cache(maxsize=4096)
def _shortest_seconds(grid: str) -> int:
    """The shortest of some periods, on a wall clock that never changes."""
    walker = _walker(grid, _REFERENCE)
    ticks = [walker.get_next(datetime) for _ in range(8)]
    return min(int((b - a).total_seconds()) for a, b in pairwise(ticks))
