"""`dataops partitions compact`: what the maintenance does for a table's files, now, and without a limit."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from dag_factory.cli.lake_table import open_lake_table
from dag_factory.cli.report import Code, Context, Report, UsageError, problem

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.steps.compact import PartitionCompacted


def compact(context: Context, table: str, partition: str | None, dry_run: bool) -> Report:
    """Exit code 1 when a partition could not be proved or written, or is left because a batch was there first."""
    from airflow_dataops.steps.maintain import learn, limits_of, maintain_table, plans, told_only
    from airflow_dataops.steps.target import current_table

    with context.progress.status(f"Looking at the files of {table} …"), open_lake_table(context, table) as (_, target, edges):
        shown = current_table(edges, target)
        if shown is None:
            raise UsageError(f"Cannot compact table {table}: the catalog does not have it -> a table. Run its source.")
        if partition is not None and partition not in edges.ledger.decisions.current(target.key, [partition]):
            raise UsageError(f"Cannot compact partition {partition!r} of {table}: there is none -> one as `dt=2024-05-01`.")
        while learn(target, edges):
            pass  # a page of footers at a time
        limits = replace(limits_of(context.settings), bytes=sys.maxsize)
        only = None if partition is None else [partition]
        if dry_run:
            found = [told_only(plan) for plan in plans(target, shown, edges, limits, only)]
            cascaded, renamed, error = 0, 0, None
        else:
            done = maintain_table(target, edges, limits, only)
            found, cascaded, renamed = list(done.partitions), done.cascaded, done.renamed
            error = None if done.error is None else problem(f"{table}: {done.error}", done.error_code or "failed")
    left = [p for p in found if p.outcome in ("busy", "overtaken", "left", "failed")]
    problems = tuple(problem(f"{table} {p.partition or 'all rows'}: {p.error}", p.error_code or p.outcome) for p in left)
    problems += (error,) if error is not None else ()

    def show(console: Console) -> None:
        _show(console, found)
        columns = f", the columns of {cascaded:,} partitions follow the table" if cascaded else ""
        columns += f", {renamed:,} partitions have a renamed column under its old name" if renamed else ""
        console.print(
            f"{len(found):,} partitions with files to be written again{columns}{' (nothing was done)' if dry_run else ''}."
        )

    return Report(
        data={
            "table": table,
            "dry_run": dry_run,
            "cascaded": cascaded,
            "renamed": renamed,
            "partitions": [p.to_json() for p in found],
        },
        problems=problems,
        code=Code.PROBLEMS if problems else Code.GOOD,
        show=show,
    )


def _show(console: Console, found: list[PartitionCompacted]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not found:
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("partition", "why", "outcome", "rows", "bytes", "files", "after", "not readable by"):
        shown.add_column(title, justify="right" if title in ("rows", "bytes", "files", "after") else "left", overflow="fold")
    for p in found:
        columns = "; ".join(f"{name}: {', '.join(fail)}" for name, fail in p.columns.items())
        after = f"{p.files_after:,}" if p.outcome == "compacted" else ""
        shown.add_row(
            Text(p.partition), p.why, p.outcome, f"{p.rows:,}", f"{p.bytes:,}", f"{p.files_before:,}", after, Text(columns)
        )  # fmt: skip
    console.print(shown)
