"""From what was typed to the inventory and the row that is meant."""

from __future__ import annotations

import fnmatch
import os
import secrets
from collections.abc import Iterable

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.cli.report import Context, UsageError
from dag_factory.inventory import Inventory, read_inventory
from dag_factory.pipeline import UnknownSourceError, pipeline


def open_inventory(context: Context) -> Inventory:
    """The inventory of the settings. UsageError when there is no such folder."""
    folder = context.settings.inventory
    try:
        return read_inventory(folder)
    except InventoryError as error:
        raise UsageError(str(error)) from None


def open_row(context: Context, source: str) -> tuple[PipelineSpec, Inventory]:
    """The row that is meant. UsageError for an id nobody knows, InventoryError for a row with problems."""
    inventory = open_inventory(context)
    try:
        return pipeline(inventory, source), inventory
    except UnknownSourceError as error:
        raise UsageError(str(error)) from None


def matching(tables: Iterable[str], glob: str | None, what: str) -> tuple[str, ...]:
    """The tables a `--table` glob takes (all without one). UsageError when it takes none."""
    known = tuple(tables)
    if glob is None:
        return known
    taken = tuple(t for t in known if fnmatch.fnmatchcase(t, glob))
    if not taken:
        listed = ", ".join(sorted(known)[:10]) or "none"
        raise UsageError(f"Cannot find a table that matches {glob!r} -> one of {what}: {listed}. Correct `--table`.")
    return taken


def new_writer() -> str:
    """A name for this process in the ledger: unique per call."""
    return f"cli-{os.getpid()}-{secrets.token_hex(4)}"
