"""The selected sources beside what Airflow has of them, and what came of an operation on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from airflow_dataops.core.errors import DataOpsError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.fleet.rest import AirflowRest

CALLS_AT_ONCE = 8
"""Calls of the API at a time: it has few workers, and others use it too."""


@dataclass(frozen=True, slots=True)
class FleetDag:
    """One source and the DAG that Airflow has of it, as the API shows it; None when Airflow shows none."""

    row: PipelineSpec
    shown: Mapping[str, Any] | None

    @property
    def dag_id(self) -> str:
        return self.row.dag_id

    def missing(self) -> str | None:
        """Why nothing can be done with the DAG; None when it is there."""
        if self.shown is None:
            return "Airflow shows no such DAG -> one. It may not have been parsed yet; look at its import errors."
        return None

    def not_startable(self) -> str | None:
        """Why no run of it can be started now."""
        why = self.missing()
        if why is None and self.shown is not None:
            if self.shown.get("has_import_errors"):
                why = "its file has import errors -> none. Look at them in Airflow, or at `dataops lint`."
            elif self.shown["is_paused"]:
                why = "it is paused -> not paused. Its runs would wait for ever. Use `dataops fleet unpause` first."
        return why


@dataclass(frozen=True, slots=True)
class DagResult:
    """What came of one DAG. `outcome` says it in one word; `periods` what became of each (partition key, or run id) → state;
    `error` why it is not done, None when it is."""

    source_id: str
    dag_id: str
    outcome: str
    periods: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source_id, "dag_id": self.dag_id, "outcome": self.outcome, "periods": dict(self.periods),
            "error": self.error,
        }  # fmt: skip


def fleet_dags(rest: AirflowRest, rows: Sequence[PipelineSpec]) -> tuple[FleetDag, ...]:
    """The DAGs of these rows, in their order. One call where there are few rows, else all pages of DAGs."""
    shown = {dag["dag_id"]: dag for dag in rest.dags(dag_id_prefix_pattern=_prefix(rows))}
    return tuple(FleetDag(row, shown.get(row.dag_id)) for row in rows)


def _prefix(rows: Sequence[PipelineSpec]) -> str:
    """What the ids of all these DAGs begin with, so that fewer are asked for."""
    ids = sorted(row.dag_id for row in rows)
    first, last = ids[0], ids[-1]
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def each(dags: Sequence[FleetDag], do: Callable[[FleetDag], DagResult], done: Callable[[DagResult], None]) -> list[DagResult]:
    """`do` for every DAG, some at a time; the results in order. What it raises is the result of that DAG alone. `done` is told
    each result as it is there."""

    def one(dag: FleetDag) -> DagResult:
        try:
            result = do(dag)
        except DataOpsError as error:
            result = failed(dag, str(error))
        done(result)
        return result

    pool = ThreadPoolExecutor(CALLS_AT_ONCE)
    try:
        return list(pool.map(one, dags))
    finally:
        # After ctrl-C those under way end, the rest is not begun.
        pool.shutdown(wait=True, cancel_futures=True)


def failed(dag: FleetDag, why: str, periods: Mapping[str, str] | None = None) -> DagResult:
    """A result that names its error."""
    return DagResult(dag.row.id, dag.dag_id, "error", periods or {}, why)
