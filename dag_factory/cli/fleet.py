"""`dataops fleet …`: one operation on many DAGs, through Airflow's REST API. Each DAG has a result of its own; one that cannot
be done stops no other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.errors import InventoryError
from dag_factory.cli.fleet_display import Display, show_notes, show_periods, show_results, show_status
from dag_factory.cli.fleet_selection import Selection, selected, states_of
from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.fleet.backfill import BackfillWork, PeriodsPlan, backfill_spec, plan_periods
from dag_factory.fleet.dags import DagResult, FleetDag, each, failed, fleet_dags
from dag_factory.fleet.follow import Work, follow
from dag_factory.fleet.rest import UNDER_WAY, AirflowRest
from dag_factory.fleet.runs import RetryWork, TriggerWork, checked_key, run_id_of
from dag_factory.fleet.switches import cancel as cancel_dag
from dag_factory.fleet.switches import switch

if TYPE_CHECKING:
    from rich.console import Console

MOST_ACTIVE = 10_000


def status(context: Context, select: Sequence[str]) -> Report:
    """How the selected sources stand. Exit code 1 when one has failed, is held or late, or has no DAG in Airflow."""
    rest, selection = _open(context, select)
    states = states_of(context, selection.rows, rest)
    under_way: dict[str, dict[str, int]] = {}
    for run in rest.all_runs("~", {"state": UNDER_WAY}):
        counts = under_way.setdefault(run["dag_id"], {})
        counts[run["state"]] = counts.get(run["state"], 0) + 1
    sources, problems = [], []
    for dag in fleet_dags(rest, selection.rows):
        state = states[dag.row.id]
        missing = dag.missing()
        sources.append({
            "source": dag.row.id, "dag_id": dag.dag_id, "in_airflow": dag.shown is not None,
            "paused": None if dag.shown is None else bool(dag.shown["is_paused"]), "states": list(state.states),
            "last_run_failed": state.run_failed, "tables": state.tables, "late_seconds": state.late,
            "queued": under_way.get(dag.dag_id, {}).get("queued", 0), "running": under_way.get(dag.dag_id, {}).get("running", 0),
        })  # fmt: skip
        if missing is not None:
            problems.append(problem(f"{dag.row.id}: {missing}", "no_dag", source=dag.row.id))
        for name in state.states:
            problems.append(problem(f"{dag.row.id}: {name}. {_why(name, sources[-1])}", name, source=dag.row.id))

    def show(console: Console) -> None:
        show_status(console, sources, problems)

    return Report(
        data={"selection": str(selection.selector), "notes": list(selection.notes), "sources": sources},
        problems=tuple(problems),
        code=Code.PROBLEMS if problems else Code.GOOD,
        show=show,
    )


def backfill(
    context: Context, select: Sequence[str], from_: str | None, to: str | None, reprocess: str, max_active: int, dry_run: bool
) -> Report:
    """Starts what is missing of a range of periods, and waits for it."""
    if from_ is None or to is None:
        raise UsageError("Cannot backfill: one end of the range is missing -> both `--from` and `--to`. Both are part of it.")
    try:
        asked = backfill_spec(from_, to, reprocess)
    except InventoryError as error:
        raise UsageError(str(error)) from None
    _check_most(max_active)
    rest, selection = _open(context, select)
    plans: dict[str, PeriodsPlan] = {}

    def resolve(dag: FleetDag) -> DagResult:
        plans[dag.dag_id] = found = plan_periods(rest, dag, asked)
        if found.error is not None:
            return failed(dag, found.error, found.states)
        outcome = f"would start {len(found.start)}" if found.start else "nothing to do"
        return DagResult(dag.row.id, dag.dag_id, outcome, found.states)

    dags = fleet_dags(rest, selection.rows)
    with Display(context.progress, len(dags), "resolving periods") as display:
        results = each(dags, resolve, display.done)
    resolved = [plans[dag.dag_id] for dag in dags if dag.dag_id in plans]
    if not dry_run:
        show_periods(context.progress, resolved)
        # What is under way counts first: it has its share of the limit already.
        ready = sorted((p for p in resolved if p.error is None and p.states), key=lambda p: not p.under_way)
        worked = _followed(context, rest, [BackfillWork(rest, plan, asked) for plan in ready], max_active)
        results = [worked.get(result.dag_id, result) for result in results]
    more = {"from": from_, "to": to, "reprocess": reprocess, "plan": [p.to_json() for p in resolved]}

    def show(console: Console) -> None:
        if dry_run:
            show_periods(console, resolved)
        show_results(console, results)

    return _report(selection, results, dry_run, show, more)


def pause(context: Context, select: Sequence[str], dry_run: bool) -> Report:
    """No more runs of the selected DAGs start."""
    return _at_once(context, select, dry_run, lambda rest, dag: switch(rest, dag, paused=True, dry_run=dry_run))


def unpause(context: Context, select: Sequence[str], dry_run: bool) -> Report:
    """Runs of the selected DAGs start again."""
    return _at_once(context, select, dry_run, lambda rest, dag: switch(rest, dag, paused=False, dry_run=dry_run))


def cancel(context: Context, select: Sequence[str], dry_run: bool) -> Report:
    """Ends the backfills and runs that are under way."""
    return _at_once(context, select, dry_run, lambda rest, dag: cancel_dag(rest, dag, dry_run=dry_run))


def trigger(
    context: Context, select: Sequence[str], partition: str | None, label: str | None, max_active: int, dry_run: bool
) -> Report:
    """One run of each DAG."""
    try:
        run_id = run_id_of(label if label is not None else secrets.token_hex(6))
    except InventoryError as error:
        raise UsageError(str(error)) from None
    _check_most(max_active)
    rest, selection = _open(context, select)

    def work(dag: FleetDag) -> TriggerWork:
        checked_key(dag, partition)
        return TriggerWork(rest, dag, run_id, partition)

    return _runs(context, rest, selection, work, max_active, dry_run, "would trigger", {"partition": partition, "run_id": run_id})


def retry(context: Context, select: Sequence[str], max_active: int, dry_run: bool) -> Report:
    """The newest run of each DAG again, where it failed."""
    _check_most(max_active)
    rest, selection = _open(context, select)
    return _runs(context, rest, selection, lambda dag: RetryWork(rest, dag), max_active, dry_run, "would retry", {})


def _runs(
    context: Context, rest: AirflowRest, selection: Selection, work: Callable[[FleetDag], TriggerWork | RetryWork],
    max_active: int, dry_run: bool, word: str, more: dict[str, Any],
) -> Report:  # fmt: skip
    works: dict[str, Work] = {}

    def prepare(dag: FleetDag) -> DagResult:
        why = dag.not_startable()
        if why is not None:
            return failed(dag, why)
        prepared = work(dag)
        works[dag.dag_id] = prepared
        found = prepared.found() if dry_run else None
        if isinstance(prepared, RetryWork):
            outcome = "nothing to do" if found is None else word
        else:
            outcome = word if found is None else "existed"
        return DagResult(dag.row.id, dag.dag_id, outcome, {found["dag_run_id"]: found["state"]} if found else {})

    dags = fleet_dags(rest, selection.rows)
    with Display(context.progress, len(dags), "preparing") as display:
        results = each(dags, prepare, display.done)
    if not dry_run:
        worked = _followed(context, rest, [works[dag.dag_id] for dag in dags if dag.dag_id in works], max_active)
        results = [worked.get(result.dag_id, result) for result in results]
    return _report(selection, results, dry_run, lambda console: show_results(console, results), more)


def _at_once(
    context: Context, select: Sequence[str], dry_run: bool, do: Callable[[AirflowRest, FleetDag], DagResult]
) -> Report:
    rest, selection = _open(context, select)
    dags = fleet_dags(rest, selection.rows)
    with Display(context.progress, len(dags), "DAGs") as display:
        results = each(dags, lambda dag: do(rest, dag), display.done)
    return _report(selection, results, dry_run, lambda console: show_results(console, results), {})


def _followed(context: Context, rest: AirflowRest, works: Sequence[Work], max_active: int) -> dict[str, DagResult]:
    """DAG id → result, of works that are begun and followed to their end; ctrl-C says how it stands and goes on its way."""
    with Display(context.progress, len(works), "loading", lines=True) as display:
        try:
            results = follow(works, max_active=max_active, told=display.told, done=display.done)
        except KeyboardInterrupt:
            display.interrupted()
            raise
    return {result.dag_id: result for result in results}


def _open(context: Context, select: Sequence[str]) -> tuple[AirflowRest, Selection]:
    rest, selection = selected(context, select)
    show_notes(context.progress, selection)
    return rest, selection


def _check_most(max_active: int) -> None:
    if not 1 <= max_active <= MOST_ACTIVE:
        raise UsageError(f"Cannot use `--max-active` {max_active} -> 1 to {MOST_ACTIVE}.")


def _report(
    selection: Selection, results: Sequence[DagResult], dry_run: bool, show: Callable[[Console], None], more: dict[str, Any]
) -> Report:
    problems = tuple(problem(f"{r.dag_id}: {r.error}", "dag", source=r.source_id) for r in results if r.error is not None)
    return Report(
        data={
            "selection": str(selection.selector), "notes": list(selection.notes), "dry_run": dry_run, **more,
            "dags": [result.to_json() for result in results],
        },
        problems=problems,
        code=Code.PROBLEMS if problems else Code.GOOD,
        show=show,
    )  # fmt: skip


def _why(state: str, source: dict[str, Any]) -> str:
    if state == "late":
        return ", ".join(f"{name} is {age:,} s old" for name, age in source["late_seconds"].items())
    tables = [name for name, outcome in source["tables"].items() if outcome == state]
    return f"Tables: {', '.join(tables[:10])}" if tables else "The last run of its DAG failed"
