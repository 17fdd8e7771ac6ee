"""What the sample shows when it has loaded: each table with its proof, an example query, and what to try next.

Figures come from the ledger; that a table can be queried is asked of `dataops sql`, as any person would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from airflow_dataops.core.errors import UnavailableError
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.open_edges import open_edges
from airflow_dataops.settings import load_settings
from dag_factory.inventory import read_inventory
from dag_factory.sample_airflow import PASSWORD, USER, SampleAirflow

EXAMPLE_TABLES = ("nyc.flights", "nyc.airlines")
EXAMPLE = """\
SELECT a.name AS airline, count(*) AS flights, round(avg(f.arr_delay), 1) AS mean_delay_minutes
FROM nyc.flights f JOIN nyc.airlines a USING (carrier)
GROUP BY airline ORDER BY flights DESC LIMIT 5"""
QUERY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table of the lake. `rows` and `fingerprint` are over its current partitions; `dead_letters` and `last` are
    of the last run that had something to do with it."""

    source: str
    target: str
    outcome: str
    rows: int
    partitions: int
    dead_letters: int
    fingerprint: str
    error: str | None


def show_tables(airflow: SampleAirflow, console: Console) -> bool:
    """Prints every table of the inventory and the example query; True when all of them are loaded and can be queried."""
    reports = table_reports(airflow)
    loaded = [report for report in reports if report.outcome not in ("failed", "held")]
    counts = query(airflow, count_query(report.target for report in loaded)) if loaded else []
    queryable = {row["table"]: row["rows"] for row in counts}
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for title in ("table", "from", "last run"):
        table.add_column(title, no_wrap=True)
    for title in ("rows", "partitions", "dead letters"):
        table.add_column(title, justify="right")
    table.add_column("fingerprint", no_wrap=True)
    wrong: list[str] = []
    for report in reports:
        table.add_row(
            report.target, report.source, report.outcome, f"{report.rows:,}", str(report.partitions),
            str(report.dead_letters), report.fingerprint,
        )  # fmt: skip
        if report.error:
            wrong.append(f"{report.target or report.source}: {report.error}")
        elif report in loaded and queryable.get(report.target) != report.rows:
            wrong.append(f"{report.target}: {queryable.get(report.target)} rows in a query -> {report.rows} in the ledger")
    console.print(Text("\nTables in the lake, every row accounted for:"))
    console.print(table)
    for text in wrong:
        console.print(Text(text, style="red"))
    example = EXAMPLE if set(EXAMPLE_TABLES) <= queryable.keys() else _peek(queryable)
    if example:
        console.print(Text(f"\n$ dataops sql '{example}'"))
        console.print(as_table(query(airflow, example)))
    return bool(reports) and not wrong and len(loaded) == len(reports)


def table_reports(airflow: SampleAirflow) -> list[TableReport]:
    """Every table that a row of the inventory has ever loaded or tried to, in the order of the inventory."""
    settings = load_settings(environ=airflow.environment(os.environ))
    reports = []
    with open_edges(None, settings, writer="sample-report", with_source=False) as edges:
        for row in read_inventory(settings.inventory).rows:
            latest: dict[str, Mapping[str, Any]] = {}
            for entry in edges.ledger.runs.latest(row.id, limit=10_000):
                latest.setdefault(entry["table_key"], entry["result"])
            for _, result in sorted(latest.items()):
                current = edges.ledger.decisions.current(
                    table_spec(row, result["source_table"], edges.ledger.sources.state_id(row.id)).key
                )
                reports.append(table_report(row.id, result, [(d.rows, d.fingerprint) for d in current.values()]))
    return reports


def table_report(source: str, result: Mapping[str, Any], partitions: Sequence[tuple[int, str]]) -> TableReport:
    """One line of the report: the last result and (rows, fingerprint) of each current partition."""
    from airflow_dataops.core.fingerprint import Fingerprint

    total = Fingerprint.EMPTY
    for _, fingerprint in partitions:
        total += Fingerprint.parse(fingerprint)
    return TableReport(
        source=source,
        target=result["target"],
        outcome=result["outcome"],
        rows=sum(rows for rows, _ in partitions),
        partitions=len(partitions),
        dead_letters=result["rows_dead_lettered"],
        fingerprint=str(total),
        error=result["error"],
    )


def count_query(targets: Iterable[str]) -> str:
    """One statement that counts the rows of each table as a reader sees them."""
    parts = []
    for target in targets:
        database, _, table = target.partition(".")
        label = target.replace("'", "''")
        parts.append(f"SELECT '{label}' AS \"table\", count(*) AS rows FROM {_quoted(database)}.{_quoted(table)}")
    return "\nUNION ALL\n".join(parts)


def query(airflow: SampleAirflow, sql: str) -> list[dict[str, Any]]:
    """The answer of `dataops sql --json`. UnavailableError when the command fails, with what it says."""
    command = (sys.executable, "-P", "-m", "dag_factory.cli", "sql", "--json", sql)
    ended = subprocess.run(
        command, env=airflow.environment(os.environ), cwd=airflow.project, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=QUERY_SECONDS, check=False, text=True,
    )  # fmt: skip
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = {"ok": False, "problems": [ended.stderr[-2000:]]}
    if ended.returncode or not answer["ok"]:
        raise UnavailableError(
            f"Cannot query the lake: `dataops sql` ended with {ended.returncode} -> 0. {_told(answer['problems'])}"
        )
    return list(answer["rows"])


def _told(problems: Iterable[Any]) -> str:
    return " ".join(str(problem["message"] if isinstance(problem, dict) else problem) for problem in problems)


def as_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of a query for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if isinstance(rows[0][name], int | float) else "left")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    return table


def show_next_steps(airflow: SampleAirflow, console: Console) -> None:
    """What a newcomer can do now."""
    here = _shell_path(airflow)
    console.print(Text(f"""
Airflow serves at {airflow.url} (login {USER} / {PASSWORD}). Ctrl-C stops it; `make run` goes on where it was.
Try next, in a second terminal, where the first line makes `dataops` and `airflow` mean this sample:
  . {here}/activate
  dataops status                # the last batches, every row accounted for
  dataops run nyc.reference     # the same steps without Airflow; nothing changed, so nothing is rewritten
  dataops verify nyc.flights    # read the lake again and compare it with the recorded fingerprints
  airflow backfill create --dag-id ingest__nyc__weather --from-date 2013-08-01 --to-date 2013-10-01
Add a row to inventory/ for a CSV of your own: its DAG shows in Airflow within seconds (README.md)."""))  # fmt: skip


def _shell_path(airflow: SampleAirflow) -> str:
    try:
        return str(airflow.home.relative_to(airflow.project))
    except ValueError:
        return str(airflow.home)


def _peek(tables: Iterable[str]) -> str | None:
    first = next(iter(sorted(tables)), None)
    if first is None:
        return None
    database, _, table = first.partition(".")
    return f"SELECT * FROM {_quoted(database)}.{_quoted(table)} LIMIT 3"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
