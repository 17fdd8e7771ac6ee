"""Which run of which period a task instance works for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.schedule import (
    Schedule,
    parse_schedule,
    period_at,
    period_before,
    period_now,
    period_of_interval,
    period_of_key,
)

if TYPE_CHECKING:
    from airflow_dataops.steps.run import Run


def run_of(spec: PipelineSpec, dag_run: Any) -> Run:
    """The run as the steps know it. `dag_run` is Airflow's, as a task's context has it.

    The token is the run and how often it was cleared: retries keep it and so do only what is not done; a cleared or a
    new run does everything again, as a new generation.
    """
    from airflow_dataops.steps.run import Run

    token = f"{dag_run.dag_id}/{dag_run.run_id}#{dag_run.clear_number or 0}"
    return Run(token, period_of(spec, dag_run))


def period_of(spec: PipelineSpec, dag_run: Any) -> Period:
    """Partition key > data interval > neither (INVENTORY). InventoryError for a key that is malformed or in the future.

    A data interval without length says nothing: Airflow gives one to a run that a person starts with a logical date.
    """
    schedule = parse_schedule(spec.schedule, spec.timezone)
    # Of this try of the run: the same for all its tasks and their retries, a new one when the run is cleared.
    now: datetime = dag_run.start_date or dag_run.run_after or datetime.now(UTC)
    run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
    if dag_run.partition_key is not None:
        key = dag_run.partition_key
        asked = run_type == "manual" and key not in _expected_keys(schedule, now)
        period = period_of_key(schedule, key, backfill=asked or run_type == "backfill")
        if period.start.timestamp() > now.timestamp():
            raise InventoryError(
                f"Cannot run period {key!r} of {spec.id}: it begins {period.start.isoformat()} -> a period that has begun. "
                "Nothing can be in it yet. Start the run again with an earlier key."
            )
        return period
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    if start is not None and end is not None and start < end:
        return period_of_interval(schedule, start, end, backfill=run_type == "backfill")
    return period_now(schedule, now, spec.reads_windows)


def _expected_keys(schedule: Schedule, now: datetime) -> set[str]:
    """The keys that a run without any would have: a person who types one of them asks for nothing special."""
    return {period_at(schedule, now).key, period_before(schedule, now).key}
