"""Single runs of many DAGs: trigger one each, or try again what failed last."""

from __future__ import annotations

import re
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.schedule import parse_schedule, period_of_key
from dag_factory.fleet.dags import DagResult, FleetDag, failed
from dag_factory.fleet.rest import ENDED, UNDER_WAY, AirflowRest

_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,80}\Z")


def run_id_of(label: str) -> str:
    """The id of the runs that an operation of this label starts. InventoryError when Airflow would not take it."""
    if not _LABEL.match(label):
        raise InventoryError(f"Cannot use label {label!r} -> 1 to 80 letters, digits and `_.-`. It becomes a part of run ids.")
    return f"fleet__{label}"


class TriggerWork:
    """One run of one DAG, for the period of `partition_key` when there is one. A run of the same `run_id` is recognised, and
    so is one of the same period that succeeded or is under way."""

    def __init__(self, rest: AirflowRest, dag: FleetDag, run_id: str, partition_key: str | None) -> None:
        self.dag, self.share = dag, 1
        self._rest, self._run_id, self._key = rest, run_id, partition_key
        self._begun = self._existed = False

    def found(self) -> dict[str, Any] | None:
        """The run that makes another one unnecessary."""
        run = self._rest.run(self.dag.dag_id, self._run_id)
        if run is None and self._key is not None:
            same = [r for r in self._rest.all_runs(self.dag.dag_id, {"partition_key_prefix_pattern": self._key})
                    if r["partition_key"] == self._key]  # fmt: skip
            run = same[0] if same and same[0]["state"] != "failed" else None
        return run

    def begin(self, most: int) -> DagResult | None:
        del most  # one run is one run
        why = self.dag.not_startable()
        if why is not None:
            return failed(self.dag, why)
        found = self.found()
        if found is None:
            self._rest.trigger(self.dag.dag_id, self._key, run_id=self._run_id)
            self._begun = True
            return None
        self._run_id, self._existed, self._begun = str(found["dag_run_id"]), found["state"] in ENDED, True
        return self.look()

    def look(self) -> DagResult | None:
        if not self._begun:  # Airflow did not answer when it should
            return self.begin(self.share)
        run = self._rest.run(self.dag.dag_id, self._run_id)
        if run is None:
            return failed(self.dag, f"its run {self._run_id} is gone -> there. Was it deleted?")
        return _ended(self.dag, run, "existed" if self._existed else "triggered")


def checked_key(dag: FleetDag, key: str | None) -> None:
    """InventoryError when the row has no period of this key."""
    if key is not None:
        period_of_key(parse_schedule(dag.row.schedule, dag.row.timezone), key)


class RetryWork:
    """The newest run of a DAG, if it failed: its failed tasks are done again. A run whose tasks never began is done as a
    whole."""

    def __init__(self, rest: AirflowRest, dag: FleetDag) -> None:
        self.dag, self.share = dag, 1
        self._rest = rest
        self._run_id: str | None = None

    def found(self) -> dict[str, Any] | None:
        """The run that would be tried again, or that is under way already."""
        newest = self._rest.runs(self.dag.dag_id, limit="1")
        return newest[0] if newest and newest[0]["state"] != "success" else None

    def begin(self, most: int) -> DagResult | None:
        del most
        why = self.dag.not_startable()
        if why is not None:
            return failed(self.dag, why)
        run = self.found()
        if run is None:
            return DagResult(self.dag.row.id, self.dag.dag_id, "nothing to do")
        run_id = str(run["dag_run_id"])
        if run["state"] not in UNDER_WAY:
            states = {task["state"] for task in self._rest.tasks(self.dag.dag_id, run_id)}
            self._rest.clear_run(self.dag.dag_id, run_id, only_failed=bool(states & {"failed", "upstream_failed"}))
        self._run_id = run_id
        return None

    def look(self) -> DagResult | None:
        if self._run_id is None:  # Airflow did not answer when it should
            return self.begin(self.share)
        run = self._rest.run(self.dag.dag_id, self._run_id)
        if run is None:
            return failed(self.dag, f"its run {self._run_id} is gone -> there. Was it deleted?")
        return _ended(self.dag, run, "retried")


def _ended(dag: FleetDag, run: dict[str, Any], outcome: str) -> DagResult | None:
    state = str(run["state"])
    if state not in ENDED:
        return None
    periods = {str(run["partition_key"] or run["dag_run_id"]): state}
    if state == "failed":
        why = f"its run {run['dag_run_id']} failed -> success. Look at `dataops status {dag.row.id}` and the run's logs."
        return failed(dag, why, periods)
    return DagResult(dag.row.id, dag.dag_id, outcome, periods)
