"""The plan of a row as Airflow's DAG: discover → drift_sync → load (mapped over packs of tables) → verify. And the fleet's own
DAGs of maintenance and of approvals.

The only file of the factory that imports Airflow. Task ids are the names of the steps and never change (DESIGN §2).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, AssetAlias, get_parsing_context

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.operators.approvals import ASK, AnswerOperator, AskOperator, StartQuestionsOperator
from airflow_dataops.operators.assets import alias_name
from airflow_dataops.operators.compact import CompactOperator
from airflow_dataops.operators.discover import DiscoverOperator
from airflow_dataops.operators.drift_sync import DriftSyncOperator
from airflow_dataops.operators.expire import ExpireOperator
from airflow_dataops.operators.fleet import Fleet
from airflow_dataops.operators.freshness import FreshnessOperator
from airflow_dataops.operators.load import LoadOperator
from airflow_dataops.operators.notify import DataOpsNotifier
from airflow_dataops.operators.step import DISCOVER
from airflow_dataops.operators.sweep import SweepOperator
from airflow_dataops.operators.verify import FingerprintOperator
from airflow_dataops.plugins.timetable import PeriodTimetable
from dag_factory.inventory import Inventory
from dag_factory.plan import APPROVALS_DAG_ID, DagPlan, MaintenancePlan, plan_dag

MOST_QUESTIONS = 1000
"""Questions that wait for their answer are runs under way."""
APPROVALS_DOC = """\
**What becomes of held drift?** The maintenance starts a run for each question; its id is the drift's. The task `ask` waits for the
answer without a worker (*Browse, Required Actions*); `answer` publishes what was held, or writes it to the dead letters. An answer
given by `dataops drift` ends the question, too.
"""


def render(spec: PipelineSpec, platform: PlatformSpec | None = None, *, source_pools: bool = False) -> DAG:
    """The DAG of a resolved row. `source_pools`: every source system has its pool in Airflow, see `plan_dag`."""
    declared = platform.pools if platform else ()
    return render_plan(plan_dag(spec, None if source_pools else declared), spec, platform)


def render_plan(plan: DagPlan, spec: PipelineSpec, platform: PlatformSpec | None = None) -> DAG:
    """The DAG of a plan. The row travels as a plain attribute of the `discover` task: whatever text is in it is data, and
    none of it is in the serialised DAG but what the plan took."""
    # Not `default_args`: those are serialised once more beside each task's own.
    common: dict[str, Any] = {
        "owner": plan.owner,
        "pool": plan.pool,
        "priority_weight": plan.priority,
        # As the row says it: Airflow's default adds up what comes after a task, so every `discover` would go before any `load`.
        "weight_rule": "absolute",
        "retries": plan.retries,
        "retry_delay": timedelta(seconds=plan.retry_delay_seconds),
        "retry_exponential_backoff": 2,
        "execution_timeout": timedelta(seconds=plan.timeout_seconds),
    }
    with DAG(
        plan.dag_id,
        schedule=_schedule(plan),
        start_date=_start(plan),
        catchup=plan.catchup,
        max_active_runs=plan.max_active_runs,
        # The row says by `enabled` whether it runs; a second switch that starts as "off" would only surprise.
        is_paused_upon_creation=False,
        tags=list(plan.tags),
        doc_md=plan.doc,
        # Airflow would take every DAG that a file so much as builds; the loader says which ones a file is about.
        auto_register=False,
    ) as dag:
        discover = DiscoverOperator(task_id=DISCOVER, spec=spec, platform=platform, **common)
        drift_sync = DriftSyncOperator(task_id="drift_sync", **common)
        outlets = [AssetAlias(alias_name(spec))]
        load = LoadOperator.partial(task_id="load", outlets=outlets, **common).expand(pack=discover.output)
        verify = FingerprintOperator(
            task_id="verify",
            # Of this task only: it fails whenever one before it did, so one failed run is one message.
            on_failure_callback=[DataOpsNotifier(plan.notify, plan.source_id)] if plan.notify else None,
            **common,
        )
        discover >> drift_sync >> load >> verify
    return dag


def render_maintenance(plan: MaintenancePlan, inventory: Callable[[], Inventory]) -> DAG:
    """The DAG that sweeps all tables, keeps their files in shape, and judges their freshness. `inventory` is read when a task
    runs, not while this file is parsed."""

    fleet = _fleet_of(inventory)
    # No retries: the next run comes soon, and does the same.
    common: dict[str, Any] = {"owner": "dataops", "retries": 0, "execution_timeout": timedelta(seconds=plan.timeout_seconds)}
    with DAG(
        plan.dag_id,
        schedule=plan.schedule,
        start_date=datetime(2024, 1, 1, tzinfo=pendulum.timezone("UTC")),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["dataops"],
        doc_md=plan.doc,
        auto_register=False,
    ) as dag:
        # Beside each other: a lake that is down must not keep anybody from hearing that tables are late.
        SweepOperator(task_id="sweep", fleet=fleet, **common)
        ExpireOperator(task_id="expire", fleet=fleet, **common)
        FreshnessOperator(task_id="freshness", fleet=fleet, **common)
        CompactOperator(task_id="compact", fleet=fleet, **common)
        if plan.approvals_dag_id is not None:
            StartQuestionsOperator(task_id=ASK, fleet=fleet, approvals_dag_id=plan.approvals_dag_id, **common)
    return dag


def render_approvals(inventory: Callable[[], Inventory], dag_id: str = APPROVALS_DAG_ID) -> DAG:
    """The DAG with a run per question about held drift: ask → answer. `inventory` is read when a task runs."""
    fleet = _fleet_of(inventory)
    common: dict[str, Any] = {"owner": "dataops", "retries": 5, "retry_delay": timedelta(seconds=10)}
    with DAG(
        dag_id,
        schedule=None,
        catchup=False,
        max_active_runs=MOST_QUESTIONS,
        is_paused_upon_creation=False,
        tags=["dataops"],
        doc_md=APPROVALS_DOC,
        disable_bundle_versioning=True,  # an answer is about the rows of now
        auto_register=False,
    ) as dag:
        # No `execution_timeout` for the one that waits. Airflow 3.3 may take an answer within the first second for a process that
        # was killed, and tries the task again.
        ask = AskOperator(task_id=ASK, fleet=fleet, **common)
        answer = AnswerOperator(task_id="answer", fleet=fleet, execution_timeout=timedelta(hours=1), **common)
        ask >> answer
    return dag


def _fleet_of(inventory: Callable[[], Inventory]) -> Callable[[], Fleet]:
    def fleet() -> Fleet:
        found = inventory()
        return Fleet(found.rows, found.platform)

    return fleet


def wanted_dag_id() -> str | None:
    """The one DAG this parse is for, when a task starts; None when all are wanted."""
    return get_parsing_context().dag_id


def _schedule(plan: DagPlan) -> Any:
    if plan.schedule_kind == "cron":
        return PeriodTimetable.shared(plan.schedule, plan.timezone, plan.jitter_seconds)
    return "@continuous" if plan.schedule_kind == "continuous" else None


def _start(plan: DagPlan) -> datetime:
    day = plan.start_date
    return datetime(day.year, day.month, day.day, tzinfo=pendulum.timezone(plan.timezone))
