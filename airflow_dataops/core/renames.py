"""Columns that may have been renamed at the source: suggestions with evidence, never applied on their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from airflow_dataops.core.drift import Change, ColumnAdded
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.schema import TableSchema

MIN_SIMILARITY = 0.5


@dataclass(frozen=True, slots=True)
class RenameSuggestion:
    """`before` (a lake column that vanished) may now be `after` (a new one).

    Evidence: equal type, equal position among the source's columns, likeness of the names from 0 to 1, and the share
    of values in common, which only the data can tell (None until somebody measured it).
    """

    before: str
    after: str
    same_type: bool
    same_position: bool
    name_similarity: float
    value_overlap: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "same_type": self.same_type,
            "same_position": self.same_position,
            "name_similarity": self.name_similarity,
            "value_overlap": self.value_overlap,
        }


def suggest_renames(table: TableSchema | None, observed: TableSchema, changes: Iterable[Change]) -> tuple[RenameSuggestion, ...]:
    """Pairs of a column that is gone and one that is new, whose types fit and whose name or position speaks for it,
    the best first."""
    if table is None:
        return ()
    added = [change.column for change in changes if isinstance(change, ColumnAdded)]
    shown = {column.name.lower() for column in observed}
    origins = [column.name for column in observed]
    found = []
    for position, gone in enumerate(table):
        if gone.origin.lower() in shown:
            continue
        for new in added:
            promotion = promote(gone.type, new.type)
            if promotion is None:
                continue
            likeness = round(SequenceMatcher(None, gone.name, new.name, autojunk=False).ratio(), 3)
            here = new.origin in origins and origins.index(new.origin) == position
            if likeness >= MIN_SIMILARITY or here:
                found.append(RenameSuggestion(gone.name, new.name, gone.type == new.type, here, likeness))
    return tuple(sorted(found, key=lambda s: (-s.name_similarity, not s.same_position, s.before, s.after)))
