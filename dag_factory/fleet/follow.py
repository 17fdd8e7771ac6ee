"""Work on many DAGs with a limit on how many runs there are at a time in all, followed until it has ended.

Nothing is kept here: what was done is in Airflow. So the same operation can be stopped and begun again at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from airflow_dataops.core.errors import DataOpsError, RetryError
from dag_factory.fleet.dags import CALLS_AT_ONCE, DagResult, FleetDag, failed

POLL_SECONDS = 2.0
MOST_SILENCES = 30
"""How often in a row Airflow may fail to answer about a DAG, each time after several tries, before it is given up."""


class Work(Protocol):
    """What is to be done with one DAG. `share`: runs it has at a time, at most, once begun."""

    dag: FleetDag
    share: int

    def begin(self, most: int) -> DagResult | None:
        """Starts, with at most so many runs at a time; the result if there is nothing to wait for."""
        ...

    def look(self) -> DagResult | None:
        """The result, or None as long as it has not ended. May start what could not be started before."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How it stands. `runs` is the sum of the shares of what is under way."""

    waiting: int
    under_way: tuple[str, ...]
    runs: int
    done: int
    failed: int


def follow(
    works: Sequence[Work],
    *,
    max_active: int,
    told: Callable[[Progress], None],
    done: Callable[[DagResult], None],
    poll_seconds: float = POLL_SECONDS,
) -> list[DagResult]:
    """Begins the works in order, never with more than `max_active` runs at a time in all, and waits for each; the results in
    the order of the works. An error of one is its result and stops no other."""
    results: dict[str, DagResult] = {}
    waiting, active = deque(works), list[Work]()
    silences: dict[str, int] = {}

    def ended(work: Work, result: DagResult) -> None:
        results[work.dag.dag_id] = result
        done(result)

    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        while waiting or active:
            beginning: list[Work] = []
            free = max_active - sum(work.share for work in active)
            while waiting and free > 0:
                work = waiting.popleft()
                work.share = min(work.share, free)
                free -= work.share
                beginning.append(work)
            looked = list(pool.map(_looked, active, [False] * len(active)))
            begun = list(pool.map(_looked, beginning, [True] * len(beginning)))
            still: list[Work] = []
            for work, found in zip([*active, *beginning], [*looked, *begun], strict=True):
                silences[work.dag.dag_id] = silences.get(work.dag.dag_id, 0) + 1 if isinstance(found, RetryError) else 0
                if isinstance(found, DagResult):
                    ended(work, found)
                elif isinstance(found, RetryError) and silences[work.dag.dag_id] < MOST_SILENCES:
                    still.append(work)
                elif isinstance(found, DataOpsError):
                    ended(work, failed(work.dag, f"{found} What was started goes on in Airflow."))
                else:
                    still.append(work)
            active = still
            told(_progress(waiting, active, results))
            if active:
                time.sleep(poll_seconds)
    return [results[work.dag.dag_id] for work in works]


def _looked(work: Work, first: bool) -> DagResult | DataOpsError | None:
    try:
        return work.begin(work.share) if first else work.look()
    except DataOpsError as error:
        return error


def _progress(waiting: Sequence[Work] | deque[Work], active: Sequence[Work], results: dict[str, DagResult]) -> Progress:
    wrong = sum(not result.ok for result in results.values())
    under_way = tuple(work.dag.dag_id for work in active)
    return Progress(len(waiting), under_way, sum(work.share for work in active), len(results) - wrong, wrong)
