"""A resolved row as the plan of its DAG: plain data, the same for the same row, made without Airflow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.schedule import jitter_seconds, parse_schedule

DEFAULT_POOL = "default_pool"
TAG_CHARACTERS = 100  # Airflow's limit
DOC_CHARACTERS = 600
RETRY_DELAY_SECONDS = 30  # doubled with every further retry, up to Airflow's own cap of a day


@dataclass(frozen=True, slots=True)
class DagPlan:
    """The DAG of one row. `schedule_kind` cron: a run per period of `schedule` in `timezone`, `jitter_seconds` late."""

    dag_id: str
    source_id: str
    schedule: str
    schedule_kind: Literal["cron", "continuous", "none"]
    timezone: str
    jitter_seconds: int
    start_date: date
    catchup: bool
    max_active_runs: int
    owner: str
    tags: tuple[str, ...]
    doc: str
    pool: str
    priority: int
    retries: int
    retry_delay_seconds: int
    timeout_seconds: int
    notify: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "start_date": self.start_date.isoformat(), "tags": list(self.tags)}


def source_pool(spec: PipelineSpec) -> str | None:
    """The Airflow pool that keeps a source system from being overrun: the row's own, else one called like its connection."""
    return spec.limits.pool or spec.conn_id


def plan_dag(spec: PipelineSpec, pools: Collection[str] | None = ()) -> DagPlan:
    """The plan of a row. InventoryError when Airflow could not take it.

    `pools` are those that `platform.yaml` declares; None where every `source_pool` is there, because the inventory bundle
    makes them. Tasks run in `limits.pool` if the row names one; else in the pool called like the connection, if there is one;
    else in Airflow's default pool: a task in a pool that does not exist would wait for ever, without a word.
    """
    schedule = parse_schedule(spec.schedule, spec.timezone)
    pool = source_pool(spec)
    exists = pools is None or pool in pools or pool == spec.limits.pool
    return DagPlan(
        dag_id=spec.dag_id,
        source_id=spec.id,
        schedule=spec.schedule,
        schedule_kind=schedule.kind,
        timezone=spec.timezone,
        jitter_seconds=jitter_seconds(spec),
        start_date=spec.start_date,
        catchup=spec.catchup and schedule.kind == "cron",
        max_active_runs=1 if schedule.kind == "continuous" else spec.limits.max_active_runs,
        owner=spec.owner,
        tags=_tags(spec),
        doc=_doc(spec),
        pool=(pool if exists else None) or DEFAULT_POOL,
        priority=spec.limits.priority,
        retries=spec.limits.retries,
        retry_delay_seconds=RETRY_DELAY_SECONDS,
        timeout_seconds=spec.limits.timeout_seconds,
        notify=spec.notify,
    )


def check_plan(spec: PipelineSpec) -> None:
    """Raises what `plan_dag` would raise, without the plan: a fleet is compiled by whoever needs none of its plans."""
    jitter_seconds(spec)  # and with it the schedule
    _tags(spec)


def _tags(spec: PipelineSpec) -> tuple[str, ...]:
    tags = sorted({"dataops", spec.domain, spec.kind, *spec.tags})
    for tag in tags:
        if not 0 < len(tag) <= TAG_CHARACTERS:
            raise InventoryError(
                f"Cannot use tag {tag[:40]!r} of {spec.id}: {len(tag)} characters -> 1 to {TAG_CHARACTERS}. Airflow takes "
                "no other. Shorten the tag in the row."
            )
    return tuple(tags)


def _doc(spec: PipelineSpec) -> str:
    """What the UI shows beside the DAG. The row's fingerprint makes every edit of the row a new version of the DAG."""
    about = spec.description.strip()
    if len(about) > DOC_CHARACTERS:
        about = about[:DOC_CHARACTERS] + "…"
    # The bundle's rows know no line: it moves with every edit above it, and would make a new version of every DAG below.
    place = (f"{spec.file}:{spec.line}" if spec.line else spec.file) or "no file"
    facts = f"Source `{spec.id}` ({spec.kind}), row at `{place}`, fingerprint `{spec.fingerprint}`"
    return f"{about}\n\n{facts}" if about else facts


MAINTENANCE_DAG_ID, ONBOARD_DAG_ID, APPROVALS_DAG_ID = "dataops_maintenance", "dataops_onboard", "dataops_approvals"
MAINTENANCE_TIMEOUT_SECONDS = 3600
MAINTENANCE_DOC = (
    "Every table of the inventory that is not at rest: what a dead run left decided or proved is finished, readers are shown "
    "what is decided, replaced directories are deleted after their grace; partitions older than `target.retention_days` are "
    "dropped. The columns of old partitions follow their table, and small or outdated files are written again. And whoever a row "
    "names in `notify` is told, once, when a table becomes older than `freshness_seconds`. For held drift that "
    "nobody was asked about, a run of the DAG of approvals asks. No source has to be up."
)


@dataclass(frozen=True, slots=True)
class MaintenancePlan:
    """The fleet's DAG of maintenance. `schedule` None: by hand only. `approvals_dag_id` None: no DAG asks about held drift."""

    schedule: str | None
    dag_id: str = MAINTENANCE_DAG_ID
    approvals_dag_id: str | None = APPROVALS_DAG_ID
    timeout_seconds: int = MAINTENANCE_TIMEOUT_SECONDS
    doc: str = MAINTENANCE_DOC


def plan_maintenance(
    schedule: str, dag_id: str = MAINTENANCE_DAG_ID, approvals_dag_id: str | None = APPROVALS_DAG_ID
) -> MaintenancePlan:
    """The plan, from the setting `maintenance_schedule`. InventoryError when it is no cron, preset or `none`."""
    parsed = parse_schedule(schedule)
    if parsed.kind == "continuous":
        raise InventoryError(
            "Cannot use setting [dataops] maintenance_schedule: '@continuous' -> five cron fields, a preset, or none. Without a "
            "pause it would do nothing else but look. Use for example '*/5 * * * *'."
        )
    return MaintenancePlan(parsed.cron, dag_id, approvals_dag_id)
