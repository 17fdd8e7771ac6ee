"""Operations on DAGs that are done at once: pause, unpause, cancel. Doing them twice is doing them once."""

from __future__ import annotations

from dag_factory.fleet.dags import DagResult, FleetDag, failed
from dag_factory.fleet.rest import UNDER_WAY, AirflowRest


def switch(rest: AirflowRest, dag: FleetDag, *, paused: bool, dry_run: bool) -> DagResult:
    """Pauses or unpauses a DAG. A paused DAG starts no runs, and those in its queue wait."""
    why = dag.missing()
    if why is not None or dag.shown is None:
        return failed(dag, why or "")
    word = "paused" if paused else "unpaused"
    if dag.shown["is_paused"] == paused:
        return DagResult(dag.row.id, dag.dag_id, f"already {word}")
    if dry_run:
        return DagResult(dag.row.id, dag.dag_id, f"would be {word}")
    if paused:
        rest.pause(dag.dag_id)
    else:
        rest.unpause(dag.dag_id)
    return DagResult(dag.row.id, dag.dag_id, word)


def cancel(rest: AirflowRest, dag: FleetDag, *, dry_run: bool) -> DagResult:
    """Ends what is under way: backfills are cancelled, runs that wait or run are failed (their tasks are stopped; the next run
    goes on from the ledger)."""
    why = dag.missing()
    if why is not None:
        return failed(dag, why)
    backfills = [b for b in rest.backfills(dag.dag_id) if b["completed_at"] is None]
    if not dry_run:
        for backfill in backfills:  # before its runs, or it would start others in their place
            rest.cancel_backfill(backfill["id"])
    runs = rest.all_runs(dag.dag_id, {"state": UNDER_WAY})
    if not dry_run:
        for run in runs:
            now = rest.run(dag.dag_id, run["dag_run_id"])  # it may have ended by itself meanwhile, and then stays as it is
            if now is not None and now["state"] in UNDER_WAY:
                rest.fail_run(dag.dag_id, run["dag_run_id"])
    state = "would be cancelled" if dry_run else "cancelled"
    ended = {f"backfill {b['id']}": state for b in backfills}
    ended |= {run["dag_run_id"]: state for run in runs}
    return DagResult(dag.row.id, dag.dag_id, state if ended else "nothing under way", ended)
