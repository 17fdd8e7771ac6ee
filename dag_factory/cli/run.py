"""`dataops run`: a source's steps in this process, with the accounting per table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.period import Period
from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.cli.source import new_writer, open_row
from dag_factory.local import NotAskedWellError, PeriodResult, periods_of, run_local

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.steps.run import Progress

COUNTS = (
    "rows_read", "rows_written", "rows_unchanged", "rows_filtered", "rows_deduplicated", "rows_dead_lettered", "rows_held",
    "values_discarded",
)  # fmt: skip
"""The published names of the accounting, in the order of its equation."""


def run(context: Context, source: str, table: str | None, partition: str | None, start: str | None, end: str | None) -> Report:
    """Loads the source. Exit code 1 when a table failed, is held or cannot be proved; 3 when all that failed was a system
    that is down; 4 when a limit stopped it."""
    if partition is not None and (start is not None or end is not None):
        raise UsageError("Cannot use `--partition` and `--start`/`--end` together -> one of them. A key is one period.")
    if (start is None) != (end is None):
        raise UsageError("Cannot use one of `--start` and `--end` alone -> both. The end is not part of the range.")
    spec, inventory = open_row(context, source)
    try:
        periods = periods_of(spec, partition=partition, start=start, end=end)
    except InventoryError as error:
        raise UsageError(str(error)) from None
    for period in periods:
        context.progress.print(_told(source, period), soft_wrap=True, markup=False)
    results: list[PeriodResult] = []
    settings, platform = context.settings, inventory.platform
    with _watching(context) as (progress, began):
        try:
            results += run_local(
                spec, settings, platform, periods, writer=new_writer(), table_glob=table, progress=progress, began=began
            )
        except NotAskedWellError as error:
            raise UsageError(str(error)) from None
    problems = tuple(p for result in results for p in _problems(result))

    def show(console: Console) -> None:
        from rich.text import Text

        for result in results:
            _show(result, console)
        for p in problems:
            console.print(Text(p["message"], style="red"), soft_wrap=True)

    return Report(
        data={"source": source, "periods": [_json(result) for result in results]}, problems=problems, code=_code(results), show=show
    )


def _told(source: str, period: Period) -> str:
    backfill = ", backfill" if period.backfill else ""
    return f"{source} period {period.key} [{period.start.isoformat()}, {period.end.isoformat()}){backfill}"


def _json(result: PeriodResult) -> dict[str, Any]:
    verified = {t.source_table: t for t in result.verified.tables}
    tables = []
    for t in result.load.tables:
        proof = verified.get(t.source_table)
        tables.append({**t.to_json(), "verified": proof.ok if proof else None})
    return {
        "period": result.period.key, "start": result.period.start.isoformat(), "end": result.period.end.isoformat(),
        "backfill": result.period.backfill, "run": result.token, "ok": result.ok, "drift_sync": result.drift.to_json(),
        "tables": tables, "tables_gone": list(result.gone.gone),
    }  # fmt: skip


def _problems(result: PeriodResult) -> Iterator[dict[str, Any]]:
    more = {"period": result.period.key}
    for t in result.load.tables:
        if t.outcome == "failed":
            text = f"{t.source_table} ({result.period.key}) failed: {t.error}"
            yield problem(text, t.error_code or "unexpected", table=t.source_table, retryable=t.retryable, **more)
        elif t.outcome == "held":
            why = t.reason or "its drift needs a decision"
            text = f"{t.source_table} ({result.period.key}) is held: {why}. Nothing of it was published; see `dataops drift list`."
            yield problem(text, "held", table=t.source_table, **more)
    for target in result.gone.held:
        text = f"{target} ({result.period.key}): its source does not list it any more; see `contract.tables`."
        yield problem(text, "table_gone", table=target, **more)
    for v in result.verified.tables:
        wrong = [f"{p.partition or 'all rows'}: {p.problem}" for p in v.partitions if p.problem]
        for text in [v.error] if v.error else wrong:
            yield problem(f"{v.target} ({result.period.key}) is not proved: {text}", "proof", table=v.source_table, **more)


def _code(results: list[PeriodResult]) -> Code:
    if all(result.ok for result in results):
        return Code.GOOD
    failed = [t for result in results for t in result.load.failures]
    if any(t.error_code == "limit" for t in failed):
        return Code.LIMIT
    only_failed = all(
        t.outcome in ("loaded", "unchanged", "nothing_new", "done_before", "failed") for r in results for t in r.load.tables
    )
    proved = all(v.ok for result in results for v in result.verified.tables)
    return Code.NOT_DONE if failed and only_failed and proved and all(t.retryable for t in failed) else Code.PROBLEMS


def _show(result: PeriodResult, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    counts = [c for c in COUNTS if c in COUNTS[:2] or any(getattr(t.accounting, c) for t in result.load.tables)]
    wide = console.width >= _WIDE
    shown = Table(title=f"period {result.period.key}", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("table", "target", "outcome"):
        shown.add_column(name, overflow="fold")
    for name in (*counts, *(("partitions",) if wide else ()), "seconds"):
        shown.add_column(name, justify="right", no_wrap=True)
    if wide:
        shown.add_column("fingerprint", no_wrap=True)
    for t in result.load.tables:
        cells = [Text(t.source_table), Text(t.target), Text(t.outcome, style=_STYLES.get(t.outcome, ""))]
        cells += [Text(f"{getattr(t.accounting, c):,}") for c in counts]
        cells += [Text(str(len(t.partitions)))] if wide else []
        cells += [Text(f"{t.seconds:.2f}"), *([Text(t.fingerprint or "")] if wide else [])]
        shown.add_row(*cells)
    console.print(shown)


_WIDE = 150
"""Columns of a terminal that has room for fingerprints; JSON always has them."""

_STYLES = {"loaded": "green", "unchanged": "green", "done_before": "green", "held": "yellow", "failed": "red"}


@contextmanager
def _watching(context: Context) -> Iterator[tuple[Any, Any]]:
    """Two callbacks: of the steps' progress, and of a period's begin. A moving display on a terminal, a line per finished
    table elsewhere."""
    console = context.progress
    if not console.is_terminal:

        def told(p: Progress) -> None:
            if p.stage in _ENDS:
                console.print(f"{p.table}: {p.stage}, {p.rows:,} rows", soft_wrap=True, markup=False)

        yield told, lambda period, tables: console.print(f"period {period.key}: {len(tables)} tables", markup=False)
        return
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Display(*columns, console=console, transient=True) as display:
        task = display.add_task("discover", total=None)

        def began(period: Period, tables: tuple[str, ...]) -> None:
            display.update(task, description=escape(f"period {period.key}"), total=len(tables), completed=0)

        def moved(p: Progress) -> None:
            rows = f" {p.rows:,} rows" if p.rows else ""
            display.update(task, description=escape(f"{p.table} {p.stage}{rows}"), advance=1 if p.stage in _ENDS else 0)

        yield moved, began


_ENDS = frozenset(("loaded", "unchanged", "nothing_new", "held", "done_before", "failed"))
