"""From `--select` to the sources that are meant, and from the settings to the Airflow that runs them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import is_selected
from dag_factory.cli.report import Context, UsageError
from dag_factory.cli.source import open_inventory
from dag_factory.fleet.rest import AirflowRest
from dag_factory.fleet.selector import Selector, SelectorError, parse_selector, select, unknown_values, with_states

if TYPE_CHECKING:
    from airflow_dataops.ledger.base import Ledger

MOST_OUTCOMES = 100_000


@dataclass(frozen=True, slots=True)
class Selection:
    """The sources that are meant, at least one, in order of id. `notes` tell what one may not expect of the selection."""

    rows: tuple[PipelineSpec, ...]
    selector: Selector
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceState:
    """What ledger and Airflow say of a source. `tables` is table → last outcome; `late` target table → age in seconds;
    `run_failed`: the last run of its DAG failed, which may have been before any table was tried."""

    tables: dict[str, str]
    late: dict[str, int]
    run_failed: bool

    @property
    def states(self) -> tuple[str, ...]:
        """Of `failed`, `held`, `late` those that hold."""
        outcomes = set(self.tables.values())
        held = {"failed": self.run_failed or "failed" in outcomes, "held": "held" in outcomes, "late": bool(self.late)}
        return tuple(name for name, holds in held.items() if holds)


def open_airflow(context: Context) -> AirflowRest:
    """The API of the settings, with the login of its connection. InventoryError when the connection holds none."""
    from airflow_dataops.connections import resolve

    settings = context.settings
    connection = resolve(settings.airflow_conn_id)
    if not connection.password:
        raise InventoryError(
            f"Cannot log in to Airflow: connection {settings.airflow_conn_id!r} has no password -> login and password, or a token "
            "as the password without a login. Nothing of a fleet can be done without. Put it into the connection."
        )
    if connection.login:
        return AirflowRest(settings.airflow_url, connection.login, connection.password)
    return AirflowRest(settings.airflow_url, token=connection.password)


def selected(context: Context, texts: Sequence[str]) -> tuple[AirflowRest, Selection]:
    """The Airflow of the settings, and the sources that are meant. UsageError when there is none. `state=` asks ledger and
    Airflow; the rest asks the inventory, and before anybody logs in."""
    inventory = open_inventory(context)
    enabled = tuple(sorted((row for row in inventory.rows if row.enabled), key=lambda row: row.id))
    try:
        selector = parse_selector(texts)
        rows = select(enabled, selector)
    except SelectorError as error:
        raise UsageError(str(error)) from None
    unknown = unknown_values(enabled, selector)
    rest = open_airflow(context) if rows else None
    if rest is not None and selector.states:
        found = states_of(context, rows, rest)
        rows = with_states(rows, selector, {source: state.states for source, state in found.items()})
    if rest is None or not rows:
        misspelled = f" No source has {', '.join(unknown)}." if unknown else ""
        raise UsageError(
            f"Cannot select {str(selector)!r}: no source of {len(enabled)} -> one or more.{misspelled} Terms that are separated by "
            "blanks have to hold all of them. Correct `--select`."
        )
    notes = [f"no source has {value}" for value in unknown]
    bad = sorted({*inventory.all_rows} - {row.id for row in inventory.rows})
    if bad:
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        notes.append(f"left out, because their rows have problems: {', '.join(bad[:10])}{more}. See `dataops lint`")
    return rest, Selection(rows, selector, tuple(notes))


def states_of(context: Context, rows: Sequence[PipelineSpec], rest: AirflowRest) -> dict[str, SourceState]:
    """Source id → its state, of the tables that its row takes now."""
    from airflow_dataops.ledger import open_ledger
    from airflow_dataops.steps.freshness import late_tables

    failed = {dag["dag_id"] for dag in rest.dags(last_dag_run_state="failed")}
    ledger = open_ledger(context.settings.ledger)
    try:
        now = time.time()
        waiting = {(queue.source_id, queue.source_table) for queue in ledger.holds.queues()}
        return {
            row.id: SourceState(_outcomes(ledger, row, waiting), late_tables(row, ledger, now), row.dag_id in failed)
            for row in rows
        }
    finally:
        ledger.close()


def _outcomes(ledger: Ledger, row: PipelineSpec, waiting: Collection[tuple[str, str]]) -> dict[str, str]:
    """Of each table the outcome of its last run. `waiting` are those of which something is held now, whatever that run did."""
    found: dict[str, str] = {}
    for entry in ledger.runs.latest(row.id, limit=MOST_OUTCOMES):
        table = str(entry["result"]["source_table"])
        if is_selected(row, table):
            outcome = str(entry["result"]["outcome"])
            held = "held" if (row.id, table) in waiting else "loaded" if outcome == "held" else outcome
            found.setdefault(table, "failed" if outcome == "failed" else held)
    return found
