"""A scheduler with a whole fleet unpaused: do runs start when they are due, and do the queues stay short?"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

from benchmarks._fleet_live import LiveFleet, loaded_fleet

LATE_SECONDS = 60
"""Airflow looks for due runs in every loop; a run that waits longer stands in a queue."""

_DUE = "SELECT count(*) FROM dag WHERE NOT is_paused AND NOT is_stale AND next_dagrun_create_after < now()"
_RUNS = "SELECT state, count(*) FROM dag_run GROUP BY state"
_TASKS = "SELECT coalesce(state, 'none'), count(*) FROM task_instance GROUP BY state"
_DELAYS = (
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY d), percentile_disc(0.95) WITHIN GROUP (ORDER BY d), max(d), count(*) "
    "FROM (SELECT extract(epoch FROM start_date - run_after) AS d FROM dag_run WHERE start_date IS NOT NULL) t"
)


def scheduler(folder: Path, rows: int, minutes: float) -> dict[str, Any]:
    """Every row runs once a day, their ticks spread over it, so rows/1440 runs begin in a minute, four tasks each. Runs that
    were due before are left out by the rows' start dates. RuntimeError when none was due: it would prove nothing."""
    now = dt.datetime.now(dt.UTC)
    # The scheduler starts some minutes from now, after the cold load; what is due until then would be a queue from the start.
    begin = now + dt.timedelta(seconds=rows * 0.04 + 60)

    def start_of(hour: int, minute: int) -> dt.date:
        later = (hour, minute) >= (begin.hour, begin.minute)
        return begin.date() - dt.timedelta(days=1) if later else begin.date()

    settings = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AIRFLOW__CORE__PARALLELISM": "4"}
    with loaded_fleet(folder, rows, start_of=start_of, settings=settings) as (live, _, loaded):
        live.start("api-server", "api-server", "--workers", "1")
        time.sleep(max(0.0, (begin - dt.datetime.now(dt.UTC)).total_seconds()))
        live.start("scheduler", "scheduler", "--skip-serve-logs")
        live.until(lambda: live.rows("SELECT 1 FROM job WHERE job_type = 'SchedulerJob'"), 120)
        began, busy = time.monotonic(), live.cpu_seconds("scheduler")
        samples = []
        while time.monotonic() < began + minutes * 60:
            time.sleep(10)
            live.check()
            samples.append(_sample(live))
        middle, p95, longest, started = live.rows(_DELAYS)[0]
        share = (live.processes["scheduler"].cpu_times().user + live.processes["scheduler"].cpu_times().system) / (
            time.monotonic() - began
        )
    if not started:
        raise RuntimeError(f"Cannot measure: no run was due in {minutes:g} minutes -> some. Give more `--rows` or `--minutes`.")
    half = len(samples) // 2
    return {
        "dags": loaded["dags"],
        "minutes": minutes,
        "runs_started": started,
        "start_delay_seconds": {"median": float(middle or 0), "p95": float(p95 or 0), "max": float(longest or 0)},
        "due_not_created": {"first_half_max": _most(samples[:half], "due"), "second_half_max": _most(samples[half:], "due")},
        "tasks_waiting": {"first_half_max": _most(samples[:half], "waiting"), "second_half_max": _most(samples[half:], "waiting")},
        "runs_open_at_end": samples[-1]["open"],
        "runs_by_state": samples[-1]["runs"],
        "tasks_by_state": samples[-1]["tasks"],
        "scheduler_cpu_share": round(share, 2),
        "seconds_busy_before": round(busy, 1),
        "keeps_up": float(p95 or 0) < LATE_SECONDS and samples[-1]["due"] <= max(1, rows // 1440),
    }


def _sample(live: LiveFleet) -> dict[str, Any]:
    runs, tasks = dict(live.rows(_RUNS)), dict(live.rows(_TASKS))
    return {
        "due": live.rows(_DUE)[0][0],
        "waiting": tasks.get("scheduled", 0) + tasks.get("queued", 0),
        "open": runs.get("queued", 0) + runs.get("running", 0),
        "runs": runs,
        "tasks": tasks,
    }


def _most(samples: list[dict[str, Any]], name: str) -> int:
    return max((sample[name] for sample in samples), default=0)
