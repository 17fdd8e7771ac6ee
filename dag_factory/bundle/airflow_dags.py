"""The DAGs of retired sources in Airflow's own database: asked, paused, unpaused, deleted. For the DAG processor only, as
`airflow_database.py`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from airflow.api.common.delete_dag import delete_dag
from airflow.exceptions import AirflowException, DagNotFound
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from sqlalchemy import exists, select, update

from dag_factory.bundle.airflow_database import database_session

log = logging.getLogger(__name__)
IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class DagState:
    """What Airflow has of a DAG. `gone`: no file gives it any more; `running`: a run of it has started and not ended."""

    bundle: str | None
    paused: bool
    gone: bool
    running: bool


def dag_states(dag_ids: Collection[str]) -> dict[str, DagState]:
    """By DAG id, of those that Airflow knows. UnavailableError when its database does not answer."""
    running = exists().where(DagRun.dag_id == DagModel.dag_id, DagRun.state == "running")
    columns = (DagModel.dag_id, DagModel.bundle_name, DagModel.is_paused, DagModel.is_stale, running)
    ids, found = sorted(dag_ids), {}
    with database_session("look at the DAGs of retired sources") as session:
        for i in range(0, len(ids), IDS_AT_ONCE):
            for dag_id, *state in session.execute(select(*columns).where(DagModel.dag_id.in_(ids[i : i + IDS_AT_ONCE]))):
                found[dag_id] = DagState(*state)
    return found


def set_paused(dag_ids: Collection[str], bundle: str, paused: bool) -> None:
    """Pauses or unpauses those that this bundle gives. UnavailableError when the database does not answer."""
    with database_session("pause the DAGs of retired sources") as session:
        mine = (DagModel.dag_id.in_(sorted(dag_ids)), DagModel.bundle_name == bundle)
        session.execute(update(DagModel).where(*mine).values(is_paused=paused).execution_options(synchronize_session=False))


def versions_in_use() -> set[str]:
    """The bundle versions, of all bundles, that a run could be started or continued with: those of active DAGs and of unfinished
    runs. UnavailableError when the database does not answer."""
    unfinished = select(DagRun.bundle_version).where(DagRun.state.in_(("queued", "running")))
    active = select(DagModel.bundle_version).where(~DagModel.is_stale)
    with database_session("look for the versions that runs need") as session:
        return {version for query in (unfinished, active) for version in session.scalars(query.distinct()) if version}


def forget_dag(dag_id: str) -> bool:
    """Deletes the DAG with its runs, as Airflow's own button does; its log of who did what stays. False while a task of it
    runs. UnavailableError when the database does not answer."""
    with database_session(f"delete DAG {dag_id}") as session:
        try:
            delete_dag(dag_id, session=session)
        except DagNotFound:
            return True
        except AirflowException as error:
            log.warning("Cannot delete retired DAG %s yet: %s", dag_id, error)
            return False
    return True
