"""A backfill over many DAGs: which periods each would start, and one Airflow backfill per DAG that starts them.

What a period needs is asked of Airflow, each time anew: a period that has a run, of whatever kind, is recognised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec, TableEntry
from airflow_dataops.core.table_spec import is_selected, table_spec
from airflow_dataops.schedule import YEARS, Schedule, parse_schedule, periods_between
from dag_factory.fleet.dags import DagResult, FleetDag, failed
from dag_factory.fleet.rest import UNDER_WAY, AirflowRest

MOST_PERIODS = 10_000
REPROCESS = ("none", "failed", "completed")


@dataclass(frozen=True, slots=True)
class BackfillSpec:
    """What is asked: the periods that begin from `first` to `last`, both of them part of it, on the wall clock of each row's
    zone. `reprocess`: also those with a `failed` run, or with any `completed` one; `none`: only those without a run."""

    first: datetime
    last: datetime
    reprocess: str = "failed"


@dataclass(frozen=True, slots=True)
class PeriodsPlan:
    """The periods of one DAG in the range: partition key → state of its newest run (`missing` without one). `start` are those
    that a backfill would start now. `note` tells what is odd about it; with an `error` nothing can be started."""

    dag: FleetDag
    states: Mapping[str, str]
    start: tuple[str, ...]
    note: str = ""
    error: str | None = None

    @property
    def under_way(self) -> tuple[str, ...]:
        return tuple(key for key, state in self.states.items() if state in UNDER_WAY)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.dag.row.id, "dag_id": self.dag.dag_id, "periods": dict(self.states), "start": list(self.start),
            "note": self.note, "error": self.error,
        }  # fmt: skip


def backfill_spec(first: str, last: str, reprocess: str) -> BackfillSpec:
    """From what was typed. InventoryError for bounds that are no dates or times, or in the wrong order."""
    if reprocess not in REPROCESS:
        raise InventoryError(f"Cannot use reprocess {reprocess!r} -> one of {', '.join(REPROCESS)}. Correct it.")
    begin, end = _wall("--from", first), _wall("--to", last)
    if end < begin:
        raise InventoryError(f"Cannot use the range {first} to {last}: it ends before it begins -> bounds in order. Both count.")
    return BackfillSpec(begin, end, reprocess)


def _wall(option: str, text: str) -> datetime:
    try:
        found = datetime.combine(date.fromisoformat(text), datetime.min.time()) if len(text) <= 10 else datetime.fromisoformat(text)
        if found.tzinfo is not None or found.year not in YEARS:
            raise ValueError("of a zone, or of a year nobody has data of")
        return found
    except ValueError:
        raise InventoryError(
            f"Cannot use `{option}` {text!r}: no date of the years 1900 to 2199 -> a date as 2024-05-01, or a time as "
            "2024-05-01T13:00 on the wall clock of the row's zone. Correct it."
        ) from None


def keys_of(row: PipelineSpec, asked: BackfillSpec, now: datetime | None = None) -> tuple[str, ...]:
    """The keys of the periods that begin in the range and are over, oldest first, as Airflow's timetable has them.
    InventoryError when the row has no periods, or there are too many."""
    schedule = parse_schedule(row.schedule, row.timezone)
    if schedule.kind != "cron":
        raise InventoryError(
            f"Cannot backfill {row.id}: schedule {row.schedule!r} -> a cron expression or preset. Its runs stand for no period. "
            f"Load one by hand: `dataops run {row.id} --partition KEY`."
        )
    over = (now or datetime.now(UTC)).timestamp()
    # The end counts: one second more, because periods begin on whole seconds.
    found = [p for p in _at_most(schedule, asked.first, asked.last + timedelta(seconds=1)) if p.end.timestamp() <= over]
    if len(found) > MOST_PERIODS:
        raise InventoryError(
            f"Cannot backfill {row.id}: more than {MOST_PERIODS} periods -> at most so many. Airflow creates all runs at once. "
            "Take shorter ranges, one after the other."
        )
    return tuple(p.key for p in found)


def _at_most(schedule: Schedule, first: datetime, end: datetime) -> Iterator[Period]:
    """The periods that begin in the half-open range, by the stretch: a range may hold very many, and only so many matter."""
    seen = 0
    while first < end and seen <= MOST_PERIODS:
        until = min(end, first + timedelta(days=31))
        for period in periods_between(schedule, first, until):
            seen += 1
            yield period
        first = until


def plan_periods(rest: AirflowRest, dag: FleetDag, asked: BackfillSpec) -> PeriodsPlan:
    """What a backfill would do with this DAG now. Raises when Airflow does not answer; what is wrong with the DAG is in it."""
    why = dag.not_startable()
    if why is not None:
        return PeriodsPlan(dag, {}, (), error=why)
    refused, note = _history(dag.row)
    if refused:
        return PeriodsPlan(dag, {}, (), error=refused)
    try:
        keys = keys_of(dag.row, asked)
        states = _states(keys, _newest(rest, dag.dag_id, asked))
        start = resolved(rest, dag, asked, keys) if keys else ()
    except InventoryError as error:
        return PeriodsPlan(dag, {}, (), error=str(error))
    return PeriodsPlan(dag, states, start, note if keys else "no period of its schedule lies in the range and is over")


def resolved(rest: AirflowRest, dag: FleetDag, asked: BackfillSpec, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that Airflow would start now. InventoryError when its DAG has other periods than the row."""
    told = rest.resolve_backfill(dag.dag_id, asked.first.isoformat(), asked.last.isoformat(), asked.reprocess)
    foreign = [key for key in told if key not in set(keys)]
    if foreign:
        raise InventoryError(
            f"Cannot backfill {dag.dag_id}: Airflow would start period {foreign[0]!r}, and the row has none of this key -> the "
            "same periods. Airflow has the DAG of another version of the row. Wait until it has taken the edit over, or name the "
            "inventory it uses with `--inventory`."
        )
    wanted = set(told)
    return tuple(key for key in keys if key in wanted)


def _history(row: PipelineSpec) -> tuple[str | None, str]:
    """(why no table of the row has history to backfill, what to know when only some have none)."""
    names = [entry.match if isinstance(entry, TableEntry) else entry for entry in row.tables]
    reads = {name: table_spec(row, name).read for name in names if is_selected(row, name)}
    without = [n for n, read in reads.items() if read.mode == "cdc" or (read.mode == "full" and read.backfill == "refuse")]
    if not without:
        return None, ""
    if len(without) == len(reads):
        return (
            "its tables have no history: read.mode is full -> a mode with history. The source only knows today's state. Set "
            "`read.backfill: snapshot` in the row to store that under each period, or use `window`."
        ), ""
    return None, f"will fail for {', '.join(without[:5])}, which has no history (read.mode full, read.backfill refuse)"


def _newest(rest: AirflowRest, dag_id: str, asked: BackfillSpec) -> dict[str, dict[str, Any]]:
    """Partition key → its newest run, for all periods of the range and perhaps some around it."""
    found: dict[str, dict[str, Any]] = {}
    for run in rest.all_runs(dag_id, _window(asked)):
        found.setdefault(run["partition_key"], run)
    return found


def _window(asked: BackfillSpec) -> dict[str, str]:
    """The days of the range, as filters of runs; Airflow reads them in the zone of the DAG."""
    return {"partition_date_gte": asked.first.date().isoformat(), "partition_date_lte": asked.last.date().isoformat()}


def _states(keys: tuple[str, ...], newest: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {key: str(newest[key]["state"]) if key in newest else "missing" for key in keys}


class BackfillWork:
    """The backfill of one DAG, as `follow` begins and looks after it."""

    def __init__(self, rest: AirflowRest, plan: PeriodsPlan, asked: BackfillSpec) -> None:
        self.dag, self.share = plan.dag, plan.dag.row.limits.max_active_runs
        self._rest, self._asked, self._keys = rest, asked, tuple(plan.states)
        self._most = 1
        self._started: tuple[str, ...] | None = None
        self._before: set[str] = set()
        self._backfill: int | None = None

    def begin(self, most: int) -> DagResult | None:
        self._most = most
        return self.look()

    def look(self) -> DagResult | None:
        # Asked for one first: a long range has many. Also those count that somebody else started, or this same command
        # before it was stopped.
        if self._rest.runs(self.dag.dag_id, limit="1", state=UNDER_WAY, **_window(self._asked)):
            return None
        newest = _newest(self._rest, self.dag.dag_id, self._asked)
        states = _states(self._keys, newest)
        if self._started is None:
            return self._start(newest, states)
        absent = [key for key in self._started if key not in newest or newest[key]["dag_run_id"] in self._before]
        if not absent:
            return self._result(states)
        if any(b["id"] == self._backfill and b["completed_at"] is None for b in self._rest.backfills(self.dag.dag_id)):
            return None
        return failed(self.dag, f"Airflow started no run for {', '.join(absent[:10])} -> one each. Run the command again.", states)

    def _start(self, newest: Mapping[str, Mapping[str, Any]], states: dict[str, str]) -> DagResult | None:
        todo = resolved(self._rest, self.dag, self._asked, self._keys)
        if not todo:
            self._started = ()
            return self._result(states)
        unfinished = self._unfinished()
        if unfinished is not None:  # Airflow takes one per DAG at a time, and looks every half minute whether it is done
            if unfinished["is_paused"]:
                return failed(self.dag, f"its backfill {unfinished['id']} is paused -> going on, or cancelled.", states)
            return None
        self._before = {str(run["dag_run_id"]) for run in newest.values()}
        asked = self._asked
        try:
            self._backfill = self._rest.create_backfill(
                self.dag.dag_id, asked.first.isoformat(), asked.last.isoformat(), asked.reprocess, self._most
            )
        except ConflictError:
            return None  # somebody was quicker; what they start is looked after
        except UnavailableError:
            unfinished = self._unfinished()  # it may be there all the same, when only the answer was lost
            if unfinished is None:
                raise
            self._backfill = int(unfinished["id"])
        self._started = todo
        return None

    def _unfinished(self) -> dict[str, Any] | None:
        return next((b for b in self._rest.backfills(self.dag.dag_id) if b["completed_at"] is None), None)

    def _result(self, states: Mapping[str, str]) -> DagResult:
        started = set(self._started or ())
        shown = {key: state if key in started or state != "success" else "existed" for key, state in states.items()}
        bad = [key for key, state in states.items() if state != "success"]
        outcome = "loaded" if started else "nothing to do"
        if not bad:
            return DagResult(self.dag.row.id, self.dag.dag_id, outcome, shown)
        why = (
            f"{len(bad)} of {len(states)} periods are not loaded: {', '.join(bad[:10])} -> all. Look at `dataops status "
            f"{self.dag.row.id}` and the runs' logs; the same command again does these only."
        )
        return failed(self.dag, why, shown)
