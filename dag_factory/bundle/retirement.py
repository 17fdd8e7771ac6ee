"""Rows that are gone from the inventory, and rows with a new name: what the ledger has to know before anything is shown. Pure.

Gone is only what was there and what no file can mean any more. A row with an error is not gone, nor is a row of a file in
which something has no id that could be told; an edit that takes away much at once is taken for an accident.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import orjson

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.ledger.sources_base import Retirement, SourceRecord
from dag_factory.bundle.compiled import CompiledFleet
from dag_factory.bundle.units import RowText
from dag_factory.inventory.problem import Problem

TAG = "retired"
FEW_ROWS = 5
"""May always go at once: in a small inventory they are a large share."""
DAY_SECONDS = 86_400
DEFAULT_DAYS = 30
"""For a row that an older release has kept."""
MOST_NAMED = 10


class TooManyGoneError(InventoryError):
    """An edit takes away more rows than may go at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many rows may go in one edit: at most `rows`, and of a larger inventory at most `percent` of its rows."""

    rows: int
    percent: int

    def most(self, known: int) -> int:
        return min(self.rows, max(FEW_ROWS, known * self.percent // 100))


@dataclass(frozen=True, slots=True)
class RetirementPlan:
    """`shown` (id → JSON) is new, edited or back again; `gone` was there and is not any more; `renames` are (id, former id)."""

    shown: Mapping[str, str]
    gone: tuple[Retirement, ...]
    renames: tuple[tuple[str, str], ...]


def plan_retirement(
    fleet: CompiledFleet, known: Mapping[str, str], leaving: Iterable[SourceRecord], limits: Limits, now: float
) -> RetirementPlan:
    """What the fleet means for the rows that are `known` (id → JSON as it was last good) and those that are `leaving`. `now` in
    POSIX seconds. InventoryError when there is no file at all; TooManyGoneError names some of those that are gone."""
    if known and not fleet.good:
        raise InventoryError(
            f"Cannot use an inventory without any file: -> the {len(known)} rows of before. It looks like a mount that is missing. "
            "To remove the last rows, leave a domain file with `sources: []`."
        )
    rows = {row.id: row for row in fleet.rows.values()}
    retired = {record.source_id: record for record in leaving if record.state == "retired"}
    heirs = {row.was: row.id for row in rows.values() if row.was and row.was not in fleet.named}
    gone = [name for name in sorted(known) if name not in fleet.named and name.partition(".")[0] not in fleet.doubtful]
    wave = [name for name in gone if name not in heirs]
    if len(wave) > limits.most(len(known)):
        raise _too_many(wave, len(known), limits)
    late = [name for name in heirs if name in retired and retired[name].renamed_to != heirs[name]]
    return RetirementPlan(
        shown={name: row.text for name, row in rows.items() if name in retired or known.get(name) != row.text},
        gone=(
            *(Retirement(name, now + _grace_seconds(known[name]), heirs.get(name)) for name in gone),
            *(Retirement(name, retired[name].delete_at or now, heirs[name]) for name in late),
        ),
        renames=tuple((row.id, row.was) for row in rows.values() if row.was),
    )


def with_retired(fleet: CompiledFleet, leaving: Iterable[SourceRecord], elsewhere: Set[str], now: float) -> CompiledFleet:
    """The fleet with the retired rows whose grace is not over, in the shards they always had. `elsewhere`: DAG ids that
    another bundle gives by now."""
    rows = dict(fleet.rows)
    for record in leaving:
        if record.state == "retired" and not is_over(record, now) and record.source_id not in fleet.named:
            row = _retired(record)
            if row.dag_id not in elsewhere:
                rows.setdefault(row.dag_id, row)
    return replace(fleet, rows=rows)


def is_over(record: SourceRecord, now: float) -> bool:
    """Whether the grace of a retired row is over."""
    return record.delete_at is not None and record.delete_at <= now


def without(fleet: CompiledFleet, why: Mapping[str, str]) -> CompiledFleet:
    """The fleet without these sources, each of them a problem of its row's `renamed_from`, or of its name."""
    if not why:
        return fleet
    bad = {row.dag_id: row for row in fleet.rows.values() if row.id in why}
    problems = [Problem("error", r.file, r.line, r.id, "renamed_from" if r.was else "name", why[r.id]) for r in bad.values()]
    rows = {dag_id: row for dag_id, row in fleet.rows.items() if dag_id not in bad}
    ordered = sorted([*fleet.problems, *problems], key=lambda p: (p.file, p.line, p.field))
    return replace(fleet, rows=rows, problems=tuple(ordered))


def with_problem(fleet: CompiledFleet, file: str, message: str) -> CompiledFleet:
    """The fleet with a problem of the inventory as a whole."""
    return replace(fleet, problems=(Problem("error", file, 1, "", "", message), *fleet.problems))


def dag_id_of(source_id: str) -> str:
    return "ingest__" + source_id.replace(".", "__")


def _retired(record: SourceRecord) -> RowText:
    """The row as a DAG that runs by hand only, is never late, and tells nobody."""
    data = orjson.loads(record.row)
    told = f"Retired on {_day(record.since)}: "
    if record.renamed_to:
        told += f"the source is called {record.renamed_to} now, and its tables and its progress are there."
    else:
        told += "its row is not in the inventory any more. Its tables stay. Put the row back and it goes on."
    forgotten = _day(record.delete_at or record.since)
    data |= {
        "schedule": "none", "catchup": False, "freshness_seconds": None, "notify": [], "renamed_from": None,
        "tags": [*data["tags"], TAG],
        "description": f"{told} Airflow forgets this DAG on {forgotten}. {data['description']}".strip(),
    }  # fmt: skip
    text = orjson.dumps(data).decode()
    dag_id = dag_id_of(record.source_id)
    pool = data["limits"]["pool"] or data["conn_id"] or ""
    return RowText(record.source_id, dag_id, text, data["file"], 1, bool(data["enabled"]), pool, "", ())


def _grace_seconds(row: str) -> float:
    data: dict[str, Any] = orjson.loads(row)
    return float(data.get("retired_days", DEFAULT_DAYS) * DAY_SECONDS)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _too_many(wave: list[str], known: int, limits: Limits) -> TooManyGoneError:
    listed = ", ".join(wave[:MOST_NAMED]) + (f" and {len(wave) - MOST_NAMED} more" if len(wave) > MOST_NAMED else "")
    return TooManyGoneError(
        f"Cannot retire {len(wave)} of {known} sources at once: {listed} are gone -> at most {limits.most(known)}. It looks like "
        "files that are missing, so the inventory stays as it was last good, with all later edits left out. Put the rows back; or, "
        "if they are meant to go, remove them in smaller steps, or raise the settings `retire_most_rows` and `retire_most_percent` "
        "until it is done."
    )
