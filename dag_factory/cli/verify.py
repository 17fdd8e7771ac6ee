"""`dataops verify`: the lake re-read, against the fingerprints the ledger recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dag_factory.cli.report import Code, Context, Report, problem
from dag_factory.cli.source import matching, new_writer, open_row

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.ledger.base import Ledger

_MOST_BATCHES = 1_000_000


def verify(context: Context, source: str, table: str | None, against_source: bool = False) -> Report:
    """Every current partition of every table the ledger knows of this source; exit code 1 when one differs. The source itself is
    not asked, so this works while it is down. `against_source`: `reconciled` instead."""
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.steps.verify import verify as verify_step

    if against_source:
        return reconciled(context, source, table)

    spec, inventory = open_row(context, source)
    with (
        context.progress.status(f"Re-reading {source} …"),
        open_edges(
            spec, context.settings, writer=new_writer(), platform=inventory.platform, with_source=False
        ) as edges,
    ):  # fmt: skip
        known = loaded_tables(edges.ledger, spec.id)
        result = verify_step(spec, edges, matching(known, table, "the loaded tables"))
    problems = []
    for t in result.tables:
        wrong = [t.error] if t.error else [f"{p.partition or 'all rows'}: {p.problem}" for p in t.partitions if p.problem]
        problems += [problem(f"{t.target}: {text}", "proof", table=t.source_table) for text in wrong]

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("table", "target", "partitions", "rows", "proved"):
            shown.add_column(title, justify="right" if title in ("partitions", "rows") else "left")
        for t in result.tables:
            rows = sum(p.found_rows for p in t.partitions)
            ok = Text("yes", style="green") if t.ok else Text("no", style="red")
            shown.add_row(Text(t.source_table), Text(t.target), str(len(t.partitions)), f"{rows:,}", ok)
        console.print(shown if result.tables else f"Nothing of {source} was loaded yet.")
        for p in problems:
            console.print(Text(p["message"], style="red"), soft_wrap=True)

    return Report(
        data={"source": source, "tables": [t.to_json() for t in result.tables]},
        problems=tuple(problems),
        code=Code.GOOD if result.ok else Code.PROBLEMS,
        show=show,
    )


def reconciled(context: Context, source: str, table: str | None) -> Report:
    """The source read again and compared with the lake, row by row where they differ; exit code 1 when they do. Keys of rows that
    differ are shown as they are stored: what is masked stays masked."""
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.steps.reconcile import reconcile

    spec, inventory = open_row(context, source)
    with (
        context.progress.status(f"Reading {source} again …"),
        open_edges(spec, context.settings, writer=new_writer(), platform=inventory.platform) as edges,
    ):
        result = reconcile(spec, edges, matching(loaded_tables(edges.ledger, spec.id), table, "the loaded tables"))
    problems = [problem(f"{t.target}: {t.error}", "proof", table=t.source_table) for t in result if t.error]
    problems += [
        problem(f"{t.target} {', '.join(span.partitions[:3])}: {span}", "proof", table=t.source_table)
        for t in result
        for span in t.spans
        if not span.ok
    ]

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("table", "target", "in the source", "in the lake", "equal"):
            shown.add_column(title, justify="right" if title.startswith("in ") else "left")
        for t in result:
            rows = [f"{sum(getattr(span, side) for span in t.spans):,}" for side in ("source_rows", "lake_rows")]
            ok = Text("yes", style="green") if t.ok else Text("no", style="red")
            shown.add_row(Text(t.source_table), Text(t.target), *rows, ok)
        console.print(shown if result else f"Nothing of {source} was loaded yet.")
        for p in problems:
            console.print(Text(p["message"], style="red"), soft_wrap=True)

    return Report(
        data={"source": source, "against_source": True, "tables": [t.to_json() for t in result]},
        problems=tuple(problems),
        code=Code.GOOD if all(t.ok for t in result) else Code.PROBLEMS,
        show=show,
    )


def loaded_tables(ledger: Ledger, source_id: str) -> tuple[str, ...]:
    """Source tables with a committed batch, in order of name."""
    history = ledger.batches.history(source_id=source_id, limit=_MOST_BATCHES)
    return tuple(sorted({batch.source_table for batch in history if batch.state == "committed"}))
