"""A source's steps in this process, without Airflow: what `dataops run` does, step by step as its DAG would."""

from __future__ import annotations

import fnmatch
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.period import Period
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.open_edges import open_edges
from airflow_dataops.schedule import YEARS, parse_schedule, period_at, period_before, period_now, period_of_key, periods_between
from airflow_dataops.settings import Settings

if TYPE_CHECKING:
    from airflow_dataops.steps.drift_sync import DriftSyncResult
    from airflow_dataops.steps.gone import GoneResult
    from airflow_dataops.steps.run import LoadResult, Progress
    from airflow_dataops.steps.verify import VerifyResult

MOST_PERIODS = 10_000


class NotAskedWellError(InventoryError):
    """What was asked of a run (period, tables) cannot be meant; the row itself may be fine."""


@dataclass(frozen=True, slots=True)
class PeriodResult:
    """All steps of one period. `token` names the run in the ledger."""

    period: Period
    token: str
    drift: DriftSyncResult
    load: LoadResult
    verified: VerifyResult
    gone: GoneResult

    @property
    def ok(self) -> bool:
        """Whether every table of the run was loaded and proved; a held table is not, nor one that must not be gone."""
        held = self.gone.held or any(t.outcome == "held" for t in self.load.tables)
        return self.verified.ok and not self.load.failures and not held


def periods_of(
    spec: PipelineSpec,
    *,
    partition: str | None = None,
    start: str | None = None,
    end: str | None = None,
    now: datetime | None = None,
) -> tuple[Period, ...]:
    """The periods a run stands for: that of the key, those that begin in [start, end), or the one of now.

    A period is a backfill unless it is the one a run without any key would have had. InventoryError for a malformed key;
    NotAskedWellError for a malformed range, a period in the future, and more than 10,000 periods.
    """
    now = now or datetime.now(UTC)
    schedule = parse_schedule(spec.schedule, spec.timezone)
    if partition is None and start is None and end is None:
        return (period_now(schedule, now, spec.reads_windows),)
    expected = {period_at(schedule, now).key, period_before(schedule, now).key}
    if partition is not None:
        asked: tuple[Period, ...] = (period_of_key(schedule, partition, backfill=partition not in expected),)
    else:
        if start is None or end is None:
            raise NotAskedWellError("Cannot use the range: one end is missing -> both `--start` and `--end`. Give the other one.")
        first, last = _moment(start), _moment(end)
        asked = tuple(
            Period(p.key, p.start, p.end, p.given, backfill=p.key not in expected) for p in periods_between(schedule, first, last)
        )
    if not asked or len(asked) > MOST_PERIODS:
        raise NotAskedWellError(
            f"Cannot use the range {start} to {end}: {len(asked)} periods of schedule {spec.schedule!r} begin in it -> 1 to "
            f"{MOST_PERIODS}. Give another range."
        )
    future = next((p for p in asked if p.start.timestamp() > now.timestamp()), None)
    if future is not None:
        raise NotAskedWellError(
            f"Cannot run period {future.key!r} of {spec.id}: it begins {future.start.isoformat()} -> a period that has begun. "
            "Nothing can be in it yet. Give an earlier one."
        )
    return asked


def _moment(text: str) -> date | datetime:
    try:
        found = date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text)
        if found.year not in YEARS:
            raise ValueError("a year nobody has data of")
        return found
    except ValueError:
        raise NotAskedWellError(
            f"Cannot use {text!r} as a bound of the range: not a date of the years 1900 to 2199 -> a date as 2024-05-01, or a "
            "time as 2024-05-01T13:00. Correct it."
        ) from None


def run_local(
    spec: PipelineSpec,
    settings: Settings,
    platform: PlatformSpec,
    periods: Sequence[Period],
    *,
    writer: str,
    table_glob: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    began: Callable[[Period, tuple[str, ...]], None] | None = None,
) -> Iterator[PeriodResult]:
    """Discover, drift_sync, load and verify for each period in turn; yields each result as it is there.

    `began` is told the period and its source tables before the first is read. Raises what `discover` raises, and
    NotAskedWellError when `table_glob` takes no table; a table's own failure is in the result.
    """
    from airflow_dataops.steps.discover import discover
    from airflow_dataops.steps.drift_sync import drift_sync
    from airflow_dataops.steps.gone import notice_tables
    from airflow_dataops.steps.load import load
    from airflow_dataops.steps.run import Run
    from airflow_dataops.steps.verify import verify

    with open_edges(spec, settings, writer=writer, platform=platform, progress=progress) as edges:
        for period in periods:
            run = Run(f"cli/{spec.id}/{period.key}/{secrets.token_hex(8)}", period)
            listed = discover(spec, edges).tables
            gone = notice_tables(spec, edges, listed)
            found = [t for t in listed if table_glob is None or fnmatch.fnmatchcase(t.name, table_glob)]
            if not found:
                raise NotAskedWellError(
                    f"Cannot run {spec.id}: no table that the row takes matches {table_glob!r} -> at least one. Correct `--table`; "
                    f"`dataops discover {spec.id}` shows the tables."
                )
            names = tuple(t.name for t in found)
            if began is not None:
                began(period, names)
            drift = drift_sync(spec, edges, found)
            loaded = load(spec, edges, run, names)
            yield PeriodResult(period, run.token, drift, loaded, verify(spec, edges, names, run), gone)
