"""The limit over all DAGs, and that no error of one is an error of another."""

from __future__ import annotations

import random

import pytest

from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.fleet.dags import DagResult, FleetDag
from dag_factory.fleet.follow import MOST_SILENCES, Progress, follow


class Steps:
    """A work that takes so many looks, noting how many runs all of them had at once."""

    running: dict[str, int] = {}  # noqa: RUF012 - shared on purpose
    most = 0

    def __init__(self, name: str, looks: int, share: int, silent: int = 0, error: str = "") -> None:
        row = PipelineSpec(domain="a", name=name, kind="sql", owner="ann")
        self.dag, self.share = FleetDag(row, {"is_paused": False}), share
        self._looks, self._silent, self._error = looks, silent, error

    def begin(self, most: int) -> DagResult | None:
        Steps.running[self.dag.dag_id] = most
        Steps.most = max(Steps.most, sum(Steps.running.values()))
        return self.look()

    def look(self) -> DagResult | None:
        if self._silent:
            self._silent -= 1
            raise UnavailableError("nobody answers")
        if self._error:
            del Steps.running[self.dag.dag_id]
            raise InventoryError(self._error)
        self._looks -= 1
        if self._looks > 0:
            return None
        del Steps.running[self.dag.dag_id]
        return DagResult(self.dag.row.id, self.dag.dag_id, "loaded")


@pytest.mark.parametrize("seed", range(20))
def test_the_limit_holds_and_all_ends(seed: int) -> None:
    chance = random.Random(seed)
    Steps.running, Steps.most = {}, 0
    limit = chance.randint(1, 7)
    works = [Steps(f"s{n}", chance.randint(0, 5), chance.randint(1, 4), chance.choice((0, 0, 3))) for n in range(30)]
    seen: list[Progress] = []
    done: list[DagResult] = []
    found = follow(works, max_active=limit, told=seen.append, done=done.append, poll_seconds=0)
    assert [r.dag_id for r in found] == [w.dag.dag_id for w in works]
    assert all(r.ok for r in found) and len(done) == 30
    assert 0 < Steps.most <= limit
    assert max(p.runs for p in seen) <= limit
    assert (seen[-1].waiting, seen[-1].under_way, seen[-1].done) == (0, (), 30)


def test_an_error_is_the_result_of_its_dag_alone() -> None:
    Steps.running, Steps.most = {}, 0
    deaf = Steps("deaf", 1, 1, silent=MOST_SILENCES + 5)
    works = [Steps("good", 2, 1), Steps("bad", 1, 1, error="Cannot."), deaf, Steps("last", 1, 1)]
    found = follow(works, max_active=2, told=lambda _: None, done=lambda _: None, poll_seconds=0)
    assert [r.ok for r in found] == [True, False, False, True]
    assert "Cannot." in str(found[1].error) and "nobody answers" in str(found[2].error)
