"""`dataops partitions`: what the ledger decided of a lake table, partition by partition, against catalog and lake."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dag_factory.cli.lake_table import open_lake_table
from dag_factory.cli.report import Code, Context, Report, UsageError, problem

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.steps.partition_sync import PartitionFound

_MOST_SHOWN = 10_000


def list_(context: Context, table: str, after: str | None, limit: int) -> Report:
    """A page of the table's partitions, in order of name."""
    from airflow_dataops.steps.partition_sync import list_partitions

    if not 1 <= limit <= _MOST_SHOWN:
        raise UsageError(f"Cannot use `--limit` {limit} -> 1 to {_MOST_SHOWN}; go on with `--after`.")
    with open_lake_table(context, table) as (_, target, edges):
        found = list(list_partitions(target, edges, after, limit))

    def show(console: Console) -> None:
        _show_partitions(console, found)
        if len(found) == limit:
            console.print(f"There may be more: --after '{found[-1].partition}'", style="dim", markup=False)

    return Report(data={"table": table, "partitions": [_partition(p) for p in found]}, show=show)


def repair(
    context: Context, table: str, dry_run: bool, yes: bool, deep: bool, most_partitions: int | None, most_percent: int | None
) -> Report:  # fmt: skip
    """Exit code 1 when something is wrong that is left so, 4 when more would be dropped than may be."""
    from airflow_dataops.steps.drop_limits import DropLimits
    from airflow_dataops.steps.partition_sync import apply_partition_sync, check_partition_sync, plan_partition_sync

    settings = context.settings
    limits = DropLimits(
        _number("most-partitions", most_partitions, settings.drop_most_partitions),
        _number("most-percent", most_percent, settings.drop_most_percent),
    )
    with context.progress.status(f"Comparing {table} …"), open_lake_table(context, table) as (_, target, edges):
        plan = plan_partition_sync(target, edges, deep=deep)
        check_partition_sync(plan, limits)
        result = None if dry_run else apply_partition_sync(plan, edges, drop=yes)
    left = plan.wrong if result is None else result.left
    needs_yes = " Its files are gone: `--yes` drops it, and its period has to be loaded again."
    problems = tuple(
        problem(f"{table} {p.partition or 'all rows'}: {p.detail}.{needs_yes if p.state == 'gone' else ''}", p.state) for p in left
    )
    data = {
        "table": table, "dry_run": dry_run, "standing": plan.standing, "busy": plan.busy,
        "wrong": [_partition(p) for p in plan.wrong],
        "shown": list(result.shown) if result else [], "dropped": list(result.dropped) if result else [],
        "left": [_partition(p) for p in left],
    }  # fmt: skip

    def show(console: Console) -> None:
        if plan.wrong:
            _show_partitions(console, plan.wrong)
        done = "nothing was changed" if result is None else f"{len(result.shown)} shown anew, {len(result.dropped)} dropped"
        console.print(f"{plan.standing:,} partitions, {len(plan.wrong):,} not as decided, {plan.busy:,} being loaded: {done}.")
        _show_problems(console, problems)

    return Report(data=data, problems=problems, code=Code.PROBLEMS if problems else Code.GOOD, show=show)


def expire(context: Context, table: str, dry_run: bool, limit: int | None) -> Report:
    """Exit code 4 when more would be dropped at once than may be without `--limit`."""
    from airflow_dataops.schedule import parse_schedule, period_ends
    from airflow_dataops.steps.drop_limits import DropLimits
    from airflow_dataops.steps.retention import all_partitions, apply_expiry, check_expiry, plan_expiry

    settings = context.settings
    with context.progress.status(f"Looking at {table} …"), open_lake_table(context, table) as (spec, target, edges):
        ends = period_ends(parse_schedule(spec.schedule, spec.timezone))
        plan = plan_expiry(target, all_partitions(edges.ledger, target.key), time.time(), ends)
        if limit is not None:
            plan = replace(plan, drop=plan.drop[: _number("limit", limit, 0)])
        elif not dry_run:
            check_expiry(plan, DropLimits(settings.drop_most_partitions, settings.expire_most_percent))
        result = None if dry_run else apply_expiry(plan, edges)
    dropped = [d.name for d in plan.drop] if result is None else list(result.dropped)
    foreign = result.foreign if result is not None else ()
    problems = tuple(
        problem(f"{table} {name}: the catalog shows a place that was never ours -> untouched. Drop it there.", "foreign")
        for name in foreign
    )
    rows = sum(d.rows for d in plan.drop if d.name in set(dropped))
    data = {
        "table": table, "dry_run": dry_run, "retention_days": target.target.retention_days,
        "over_before": _time(plan.over_before), "standing": plan.standing, "undated": plan.undated,
        "dropped": dropped, "rows": rows, "left": result.left if result else 0,
    }  # fmt: skip

    def show(console: Console) -> None:
        for name in dropped:
            console.print(name, markup=False)
        verb = "would be dropped" if dry_run else "dropped; their files go after the grace"
        console.print(f"{len(dropped):,} of {plan.standing:,} partitions with {rows:,} rows {verb}.")
        _show_problems(console, problems)

    return Report(data=data, problems=problems, code=Code.PROBLEMS if problems else Code.GOOD, show=show)


def _number(name: str, given: int | None, default: int) -> int:
    if given is None:
        return default
    if given < 1:
        raise UsageError(f"Cannot use `--{name}` {given} -> at least 1.")
    return given


def _partition(found: PartitionFound) -> dict[str, Any]:
    return asdict(found) | {"decided_at": _time(found.decided_at)}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _show_partitions(console: Console, found: Sequence[PartitionFound]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("partition", "state", "epoch", "rows", "bytes", "batch", "schema", "decided", "place"):
        shown.add_column(title, justify="right" if title in ("epoch", "rows", "bytes") else "left", overflow="fold")
    for p in found:
        state = f"{p.state} ({p.dropped})" if p.dropped else p.state
        shown.add_row(
            Text(p.partition or "all rows"), Text(state), str(p.epoch), f"{p.rows:,}", f"{p.bytes:,}", Text(p.batch or ""),
            Text((p.schema or "")[:12]), _time(p.decided_at) or "", Text(p.place or ""),
        )  # fmt: skip
    console.print(shown if found else "No partition was decided yet.")


def _show_problems(console: Console, problems: Sequence[Any]) -> None:
    from rich.text import Text

    for one in problems:
        console.print(Text(str(one["message"]), style="red"), soft_wrap=True)
