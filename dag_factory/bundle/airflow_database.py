"""What the bundle asks of Airflow's own database, and makes in it. Only the server components of Airflow may, and of those only
the DAG processor comes here: by `refresh`. Anywhere else there is nothing to ask, and nothing is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from airflow_dataops.core.errors import UnavailableError
from airflow_dataops.core.platform import PoolSpec

SOURCE_POOL_SLOTS = 16
"""Tasks that work at a time on a source system whose pool nobody has sized in `platform.yaml` or in Airflow."""


def foreign_dags(bundle: str, prefix: str) -> dict[str, str]:
    """DAG id → who gives it, of the active DAGs of other active bundles whose id begins so. UnavailableError when the database
    does not answer."""
    asked = (
        select(DagModel.dag_id, DagModel.bundle_name, DagModel.relative_fileloc)
        .join(DagBundleModel, DagBundleModel.name == DagModel.bundle_name)
        .where(
            DagBundleModel.active,
            DagModel.bundle_name != bundle,
            ~DagModel.is_stale,
            DagModel.dag_id.startswith(prefix, autoescape=True),
        )
    )
    with database_session("look for the DAGs of other bundles") as session:
        return {dag_id: f"file {file!r} of bundle {name!r}" for dag_id, name, file in session.execute(asked)}


def make_pools(used: frozenset[str], declared: Mapping[str, PoolSpec]) -> list[str]:
    """Makes the pools that are missing, and gives the declared ones the slots that are declared; returns the names of those it
    touched. The slots of the others belong to whoever operates Airflow. UnavailableError when the database does not answer."""
    touched = []
    with database_session("make Airflow's pools") as session:
        known = {pool.pool: pool for pool in session.scalars(select(Pool))}
        for name in sorted({*used, *declared}):
            spec = declared.get(name) or PoolSpec(slots=SOURCE_POOL_SLOTS, description=f"Tasks on the source system {name}.")
            pool = known.get(name)
            if pool is None:
                session.add(Pool(pool=name, slots=spec.slots, description=spec.description, include_deferred=False))
                touched.append(name)
            elif name in declared and pool.slots != spec.slots:
                pool.slots = spec.slots
                touched.append(name)
    return touched


@contextmanager
def database_session(what: str) -> Iterator[Session]:
    try:
        with create_session() as session:
            yield session
    except SQLAlchemyError as error:
        raise UnavailableError(
            f"Cannot {what}: {type(error).__name__} -> an answer of Airflow's database. Without it a run could wait for "
            "ever, or two files could give one DAG. It is tried again."
        ) from error
