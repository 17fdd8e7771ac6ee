"""Which tables a source has now, packed for parallel work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec, TableEntry, is_glob
from airflow_dataops.core.table_spec import is_selected, table_spec
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.run import Edges

MISSING = "missing"
"""Trait of a table that the row names and the source does not have."""

DEFAULT_TABLE_BYTES = 1_000_000
PACK_BYTES = 512_000_000
"""Tables are packed together until a pack reaches this size, so that one pack is worth a task's start (a few seconds)."""


@dataclass(frozen=True, slots=True)
class DiscoverResult:
    """The selected tables and their packs (names only: what may go through XCom)."""

    tables: tuple[SourceTable, ...]
    packs: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return {"tables": [t.name for t in self.tables], "packs": [list(p) for p in self.packs]}


def discover(spec: PipelineSpec, edges: Edges) -> DiscoverResult:
    """The source's tables that the row takes: those it lists, and those the row names without a wildcard, listed or not (a
    database does not list partitions, for one). A named table that is not there has the trait `problem`, so that it fails
    on its own. InventoryError when the row takes none: a glob that matches nothing is a fault of the row (or of a
    permission), not an empty success."""
    queries = {name: table_spec(spec, name).read.query for name in map(_name_of, spec.tables) if not is_glob(name)}
    asked = {name: query for name, query in queries.items() if query is not None}
    listed = edges.source.discover() if len(asked) < len(spec.tables) else ()
    found = {t.name: t for t in listed if t.name not in asked}
    for name, query in queries.items():
        if name not in found and is_selected(spec, name):
            found[name] = _named(name, query, edges)
    taken = tuple(t for t in found.values() if is_selected(spec, t.name))
    if not taken:
        known = ", ".join(sorted(found)[:10]) or "no table at all"
        raise InventoryError(
            f"Cannot discover tables of {spec.id}: none of {len(found)} tables matches `tables` and `exclude` -> at least one. "
            f"The source shows {known}. Check the globs, and that the connection's user may see the tables."
        )
    return DiscoverResult(taken, pack(taken, spec.limits.max_packs))


def _named(name: str, query: str | None, edges: Edges) -> SourceTable:
    try:
        return edges.source.describe(name, query)
    except InventoryError as error:
        return SourceTable(name, TableSchema(), traits={"problem": str(error), MISSING: "yes"})


def _name_of(entry: str | TableEntry) -> str:
    return entry if isinstance(entry, str) else entry.match


def pack(tables: tuple[SourceTable, ...], max_packs: int) -> tuple[tuple[str, ...], ...]:
    """Balances tables over as few packs as their size asks for, at most `max_packs` (largest first onto the lightest
    pack). The same tables with the same sizes give the same packs."""
    sizes = {t.name: max(t.bytes_estimate or DEFAULT_TABLE_BYTES, 1) for t in tables}
    total = sum(sizes.values())
    count = max(1, min(max_packs, len(tables), math.ceil(total / PACK_BYTES)))
    loads = [0] * count
    packs: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        lightest = min(range(count), key=lambda i: (loads[i], i))
        loads[lightest] += sizes[name]
        packs[lightest].append(name)
    return tuple(tuple(sorted(p)) for p in packs if p)
