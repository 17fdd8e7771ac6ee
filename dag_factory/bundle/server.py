"""What a refresh does beyond files, where it runs inside a server component of Airflow, which may use Airflow's database."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from airflow_dataops.core.platform import PoolSpec
from dag_factory.bundle.compiled import CompiledFleet

LOOK_AGAIN_SECONDS = 60.0
"""Until then a pool that somebody deleted leaves its tasks waiting."""

log = logging.getLogger(__name__)


def is_server() -> bool:
    """Whether this process may use Airflow's database: Airflow tells its own components so, and the DAG processor is one."""
    return os.environ.get("_AIRFLOW_PROCESS_CONTEXT") == "server"


class SourcePools:
    """The pools of a fleet's source systems, which must be there before a task asks for one: it would wait for ever."""

    def __init__(self) -> None:
        self._used: frozenset[str] = frozenset()
        self._declared: Mapping[str, PoolSpec] = {}
        self._due = 0.0

    def make(self, fleet: CompiledFleet) -> None:
        """Makes what the rows of the fleet need. UnavailableError when Airflow's database does not answer."""
        used = frozenset(row.pool for row in fleet.rows.values() if row.pool and row.enabled)
        if (used, fleet.platform.pools) != (self._used, self._declared):
            self._used, self._declared, self._due = used, fleet.platform.pools, 0.0
        self.keep()

    def keep(self) -> None:
        """Makes them again if somebody deleted one."""
        if time.monotonic() < self._due or not is_server():
            return
        from dag_factory.bundle.airflow_database import make_pools

        touched = make_pools(self._used, self._declared)
        self._due = time.monotonic() + LOOK_AGAIN_SECONDS
        if touched:
            log.info("Made or sized %s Airflow pools: %s", len(touched), ", ".join(touched[:20]))
