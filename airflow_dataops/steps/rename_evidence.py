"""How many values a vanished column and a new one share: measured while a batch is staged, only when there is such a pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from airflow_dataops.core.continued import Rename
from airflow_dataops.core.drift import ColumnAdded
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.renames import RenameSuggestion, rename_candidates, suggested, with_overlap
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.core.value_sketch import ValueSketch, overlap
from airflow_dataops.steps.run import Edges

RECENT_ROWS = 65_536
"""Rows of the lake that are looked at, of its newest partitions first."""

RECENT_FILES = 32


def _declared(table: TableSpec, have: TableSchema | None, drift: DriftPlan, edges: Edges) -> Iterator[ColumnAdded]:
    """Columns that the table was given because the source declares them, and of which no batch has come yet (`drift_sync`)."""
    told = edges.ledger.drift.event_of(table.key, None)
    event = None if told is None or have is None else edges.ledger.drift.event(told)
    for change in event["changes"] if event is not None else ():
        name = change["column"]["name"] if change["change"] == ColumnAdded.change else None
        column = have.get(name) if have is not None and name is not None else None
        if column is not None and name in drift.names.values():
            yield ColumnAdded(column)


class RenameEvidence:
    """Sees the batch's rows as the source names them, after privacy: what is hidden is compared as it is hidden."""

    def __init__(
        self, table: TableSpec, lake_schema: TableSchema | None, observed: TableSchema, drift: DriftPlan,
        actions: Mapping[str, str], renames: Sequence[Rename], edges: Edges,
    ) -> None:  # fmt: skip
        self._table, self._lake_schema = table, lake_schema
        changes = (*drift.apply, *drift.hold, *drift.dead_letter, *_declared(table, lake_schema, drift, edges))
        candidates = rename_candidates(lake_schema, observed, changes, {one.after for one in renames})
        origin = {target: name for name, target in drift.names.items()}
        # All values of a masked column are one value.
        self._pairs = {c: origin[c.after] for c in candidates if c.after in origin and actions.get(origin[c.after]) != "mask"}
        self._silent = [c for c in candidates if c not in self._pairs]
        self._new = {name: ValueSketch() for name in self._pairs.values()}

    def add(self, records: pa.RecordBatch) -> None:
        for name, sketch in self._new.items():
            index = records.schema.get_field_index(name)
            if index >= 0:
                sketch.add(records.column(index))

    def judged(self, edges: Edges, drift: DriftPlan) -> DriftPlan:
        """The plan, its suggestions with the share of values in common."""
        if not self._pairs:
            return drift
        old = {c.before: ValueSketch() for c in self._pairs}
        for rows in self._recent(edges, list(old)):
            for name, sketch in old.items():
                sketch.add(rows.column(rows.schema.get_field_index(name)))
        measured: list[RenameSuggestion] = [
            with_overlap(candidate, overlap(old[candidate.before], self._new[name])) for candidate, name in self._pairs.items()
        ]
        return replace(drift, renames=suggested([*measured, *self._silent]))

    def _recent(self, edges: Edges, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self._lake_schema is None:
            return
        schema = pa.schema([(name, self._lake_schema.column(name).type) for name in columns])
        decisions = edges.ledger.decisions.current(self._table.key)
        rows = files = 0
        for name in sorted(decisions, reverse=True):
            for entry in edges.lake.list(decisions[name].location):
                for batch in edges.lake.read([entry.path], schema):
                    yield batch
                    rows += batch.num_rows
                    if rows >= RECENT_ROWS:
                        return
                files += 1
                if files >= RECENT_FILES:
                    return
