"""Resolved rows: what everything behind the inventory works with."""

from __future__ import annotations

import difflib

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.inventory import Inventory


class UnknownSourceError(InventoryError):
    """No row of the inventory has this id."""


def pipeline(inventory: Inventory, source: str) -> PipelineSpec:
    """The good row with this id. UnknownSourceError lists what is near; InventoryError shows a bad row's problems."""
    found = inventory.get(source)
    if found is not None:
        return found
    problems = [p for p in inventory.problems if p.row == source and p.severity == "error"]
    shared = [p for p in inventory.errors if not p.row]
    if source in inventory.all_rows and (problems or shared):
        told = "; ".join(str(p) for p in (problems or shared)[:20])
        raise InventoryError(f"Cannot use source {source}: its row has problems -> none. {told}. Correct them, see `dataops lint`.")
    raise unknown_source(inventory, source)


def unknown_source(inventory: Inventory, source: str) -> UnknownSourceError:
    """The error for an id that no row has."""
    known = sorted(inventory.all_rows)
    near = difflib.get_close_matches(source, known, 3) or [k for k in known if k.endswith("." + source)]
    listed = ", ".join(near or known[:10]) or "none at all"
    more = "" if near or len(known) <= 10 else f" and {len(known) - 10} more"
    return UnknownSourceError(
        f"Cannot find source {source!r} in {inventory.folder} -> {'perhaps ' if near else 'one of '}{listed}{more}. "
        "Sources are called <domain>.<name>. Correct the id."
    )
