"""What an onboarding shows before it is built: the proposed tables, the row as it would be written, the plan. Markdown.

Names of tables and columns are the source's, and everything else was typed by somebody: none of it may become markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import is_selected, table_spec
from dag_factory.cli.plan import summary
from dag_factory.cli.plan_markdown import as_code, as_plain
from dag_factory.inventory.yaml_text import list_item
from dag_factory.onboard.candidate import Candidate, plan_of
from dag_factory.proposal import FoundTable

MOST_TABLES = 100
MOST_COLUMNS = 12
MOST_CHARACTERS = 100_000


def report(candidate: Candidate, row: dict[str, object], found: Sequence[FoundTable]) -> str:
    """`candidate` is the row as proposed, `row` what would be written of it, `found` all tables of the source."""
    spec = candidate.spec
    taken = [table for table in found if is_selected(spec, table.name)]
    lines = [f"### New source `{spec.id}`", "", f"DAG `{spec.dag_id}`, written into `{as_code(candidate.file)}`.", ""]
    lines += [f"#### Tables: {len(taken)} of the {len(found)} it shows", ""]
    if taken:
        lines += ["| table | lake table | read | columns | keys | rows about |", "|---|---|---|---|---|---:|"]
        lines += [_table(spec, table) for table in taken[:MOST_TABLES]]
    if len(taken) > MOST_TABLES:
        lines += ["", f"and {len(taken) - MOST_TABLES} more"]
    text = "\n".join(list_item(row))
    lines += ["", "#### Row", "", f"{_fence(text)}yaml", text, _fence(text), ""]
    plan = plan_of(candidate)
    lines += [f"#### Plan: {as_plain(summary(plan))}", ""]
    for source in plan.sources:
        lines += [f"- `{as_code(change.field)}`: `{_cell(str(change.after))}`" for change in source.dag]
        lines += [f"- danger: {as_plain(str(danger))}" for danger in source.dangers]
    lines += [f"- warning: {as_plain(str(p.message))}" for p in candidate.inventory.problems if p.row == spec.id]
    made = "\n".join(lines) + "\n"
    return made if len(made) <= MOST_CHARACTERS else made[:MOST_CHARACTERS] + "\n\n… the rest is in the task's log"


def _table(spec: PipelineSpec, table: FoundTable) -> str:
    narrowed = table_spec(spec, table.name)
    read = narrowed.read.mode + (f" by {narrowed.read.cursor}" if narrowed.read.cursor else "") + f", {narrowed.write.mode}"
    names = [column.name for column in table.schema]
    columns = ", ".join(names[:MOST_COLUMNS]) + (f" and {len(names) - MOST_COLUMNS} more" if len(names) > MOST_COLUMNS else "")
    rows = "" if table.rows_estimate is None else f"{table.rows_estimate:,}"
    cells = (table.name, narrowed.name, read, columns, ", ".join(table.schema.keys))
    return "| " + " | ".join(f"`{_cell(cell)}`" if cell else "" for cell in cells) + f" | {rows} |"


def _cell(text: str) -> str:
    """For a code span in a table: a bar would end the cell even there, and some characters steer a terminal."""
    shown = "".join(c if c.isprintable() else "�" for c in as_code(text))
    return shown.replace("|", "¦") or " "


def _fence(text: str) -> str:
    """Longer than any run of backticks in the text."""
    longest = run = 0
    for c in text:
        run = run + 1 if c == "`" else 0
        longest = max(longest, run)
    return "`" * max(3, longest + 1)
