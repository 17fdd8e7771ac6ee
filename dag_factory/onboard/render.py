"""The DAG `dataops_onboard`: check → propose → approve → build → first_run, behind the form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_dataops.operators.onboard import (
    ApproveOperator,
    BuildOperator,
    CheckRequestOperator,
    Desk,
    FirstRunOperator,
    ProposeOperator,
)
from dag_factory.onboard.form import FIELDS, MOST_CHARACTERS, FormField
from dag_factory.plan import ONBOARD_DAG_ID

TIMEOUT = timedelta(minutes=15)
MOST_RUNS = 1000
"""Requests that wait for their answer are runs under way."""
DOC = """\
**A new source, without opening an editor.** Trigger this DAG: the form asks what to read and when. Its tasks check the row as
`dataops lint` would, look at the source, and show the proposed tables and the plan (log of `propose`, and the question of
`approve`). Answered *Build*, the row is written into the inventory, its DAG appears, and its first run starts.

Credentials are never typed here: name an Airflow connection.
"""


def render_onboard(desk: Callable[[Any], Desk], dag_id: str = ONBOARD_DAG_ID) -> DAG:
    """The DAG. `desk` is called by its tasks, with the bundle they run in."""
    # Few and short retries: somebody is waiting for the answer.
    common: dict[str, Any] = {"owner": "dataops", "retries": 1, "retry_delay": timedelta(seconds=10)}
    with DAG(
        dag_id,
        schedule=None,
        catchup=False,
        max_active_runs=MOST_RUNS,
        is_paused_upon_creation=False,
        params={field.name: _param(field) for field in FIELDS},
        tags=["dataops"],
        doc_md=DOC,
        disable_bundle_versioning=True,  # a request is about the inventory of now
        auto_register=False,
    ) as dag:
        check = CheckRequestOperator(task_id="check", desk=desk, execution_timeout=TIMEOUT, **common)
        propose = ProposeOperator(task_id="propose", desk=desk, execution_timeout=TIMEOUT, **common)
        # Airflow 3.3 may take an answer within the first second for a process that was killed, and tries the task again.
        approve = ApproveOperator(task_id="approve", **{**common, "retries": 5})
        build = BuildOperator(task_id="build", desk=desk, execution_timeout=TIMEOUT, **{**common, "retries": 5})
        first_run = FirstRunOperator(task_id="first_run", execution_timeout=TIMEOUT, **{**common, "retries": 5})
        check >> propose >> approve >> build >> first_run
    return dag


def _param(field: FormField) -> Param:
    shared = {"title": field.title, "description_md": field.about, "section": field.section}
    if field.kind == "switch":
        return Param(field.default, type="boolean", **shared)
    if field.kind == "lines":
        kinds = ["null", "array"] if field.default is None else "array"
        return Param(field.default, type=kinds, items={"type": "string"}, **shared)
    if field.kind == "choice":
        return Param(field.default, type="string", enum=list(field.choices), values_display=dict(field.choices), **shared)
    if field.required:
        return Param(type="string", minLength=1, maxLength=MOST_CHARACTERS, **shared)
    return Param(field.default, type=["null", "string"], maxLength=MOST_CHARACTERS, **shared)
