"""Which tables of a row are older than it allows, from the ledger alone: also of a source that never ran.

A table's age counts from its last commit. Where there is none yet, it counts from when the table, or the row, was first seen
here, and not before the row's start date.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow_dataops.core.spec import PipelineSpec, TableEntry, is_glob
from airflow_dataops.core.table_spec import is_selected, table_spec
from airflow_dataops.ledger.base import Ledger

RETRY_SECONDS = 600.0
"""After how long somebody else may try to tell what one process has noticed and, so far, not told."""

NO_TABLE = ""
"""Stands for the tables of a source of which none is known."""


def newly_late(spec: PipelineSpec, ledger: Ledger, now: float) -> dict[str, int]:
    """Target table → age in seconds, for those over `freshness_seconds` of which nobody was told since they became late; the
    source's id stands for one without any table. Whoever tells it says so by `told`; until then it is noticed again.

    `now` in POSIX seconds. Rows that are not enabled or have no `freshness_seconds` are never late.
    """
    if not _is_judged(spec):
        return {}
    late = _late(spec, ledger, now)
    return {name or spec.id: late[name] for name in ledger.freshness.late(spec.id, late, RETRY_SECONDS)}


def late_tables(spec: PipelineSpec, ledger: Ledger, now: float) -> dict[str, int]:
    """Target table → age in seconds, for those over `freshness_seconds`, whoever was told of them; named as in `newly_late`."""
    return {name or spec.id: age for name, age in _late(spec, ledger, now).items()}


def _is_judged(spec: PipelineSpec) -> bool:
    return spec.freshness_seconds is not None and spec.enabled


def _late(spec: PipelineSpec, ledger: Ledger, now: float) -> dict[str, int]:
    if spec.freshness_seconds is None or not _is_judged(spec):
        return {}
    commits = _expected(spec, ledger)
    since = ledger.freshness.expect(spec.id, commits)
    begins = _start(spec)
    ages = {name: int(now - (max(since[name], begins) if at is None else at)) for name, at in commits.items()}
    return {name: age for name, age in ages.items() if age > spec.freshness_seconds}


def told(spec: PipelineSpec, ledger: Ledger, names: dict[str, int]) -> None:
    """Somebody was told of these late tables (as `newly_late` names them)."""
    ledger.freshness.told(spec.id, [NO_TABLE if name == spec.id else name for name in names])


def _expected(spec: PipelineSpec, ledger: Ledger) -> dict[str, float | None]:
    """Target table → its last commit: of all tables that the row takes now and somebody ever claimed, or that it names."""
    found: dict[str, float | None] = {}
    for entry in spec.tables:
        name = entry.match if isinstance(entry, TableEntry) else entry
        if not is_glob(name) and is_selected(spec, name):
            found[table_spec(spec, name).name] = None
    for known in ledger.tables.of_source(spec.id):
        if is_selected(spec, known.source_table):
            table = table_spec(spec, known.source_table)
            if table.name == known.target:  # else the row has sent it elsewhere since
                found[table.name] = known.committed_at
    return found or {NO_TABLE: None}


def _start(spec: PipelineSpec) -> float:
    day = spec.start_date
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(spec.timezone)).timestamp()
