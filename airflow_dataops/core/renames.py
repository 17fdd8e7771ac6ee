"""Columns that may have been renamed at the source: suggestions with evidence, never applied on their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from airflow_dataops.core.continued import Rename
from airflow_dataops.core.drift import Change, ColumnAdded
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.schema import TableSchema

MIN_SIMILARITY = 0.5
MIN_OVERLAP = 0.8
MAX_CANDIDATES = 16


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
    before_origin: str | None = None
    after_origin: str | None = None

    @property
    def is_likely(self) -> bool:
        """Whether a person is asked: the values speak for it, or all the rest does."""
        alike = self.same_type and self.same_position and self.name_similarity >= MIN_SIMILARITY
        return (self.value_overlap or 0) >= MIN_OVERLAP or alike

    @property
    def rename(self) -> Rename:
        return Rename(self.before, self.after, self.before_origin or self.before, self.after_origin or self.after)

    def __str__(self) -> str:
        shared = "not compared" if self.value_overlap is None else f"{self.value_overlap:.0%} shared"
        told = [f"values {shared}"] + [f"same {what}" for what, is_so in self._same() if is_so]
        return f"column {self.before!r} may be {self.after!r} by now ({', '.join(told)})"

    def _same(self) -> tuple[tuple[str, bool], ...]:
        return ("type", self.same_type), ("position", self.same_position)

    def to_json(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "same_type": self.same_type,
            "same_position": self.same_position,
            "name_similarity": self.name_similarity,
            "value_overlap": self.value_overlap,
            "before_origin": self.before_origin or self.before,
            "after_origin": self.after_origin or self.after,
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> RenameSuggestion:
        return cls(
            data["before"], data["after"], data["same_type"], data["same_position"], data["name_similarity"],
            data["value_overlap"], data.get("before_origin"), data.get("after_origin"),
        )  # fmt: skip


def rename_candidates(
    table: TableSchema | None, observed: TableSchema, changes: Iterable[Change], continued: Collection[str] = ()
) -> tuple[RenameSuggestion, ...]:
    """Every pair of a column that is gone and one that is new, whose types fit; the best by name and position first, at
    most `MAX_CANDIDATES`. `continued`: names under which others go on; these are gone for good."""
    if table is None:
        return ()
    added = [change.column for change in changes if isinstance(change, ColumnAdded)]
    shown = {column.name.lower() for column in observed} | {sanitise(column.name) for column in observed}
    origins = [column.name for column in observed]
    found = []
    for position, gone in enumerate(table):
        if gone.origin.lower() in shown or gone.name in shown or gone.name in continued:
            continue
        for new in added:
            if promote(gone.type, new.type) is None:
                continue
            likeness = round(SequenceMatcher(None, gone.name, new.name, autojunk=False).ratio(), 3)
            here = new.origin in origins and origins.index(new.origin) == position
            same = gone.type == new.type
            found.append(
                RenameSuggestion(
                    gone.name, new.name, same, here, likeness, before_origin=gone.origin, after_origin=new.origin
                )
            )  # fmt: skip
    return _best_first(found)[:MAX_CANDIDATES]


def suggested(candidates: Iterable[RenameSuggestion]) -> tuple[RenameSuggestion, ...]:
    """Those for which their values, or else their name or position, speak. The best first."""
    return _best_first(c for c in candidates if (c.value_overlap or 0) >= MIN_OVERLAP or _speaks(c))


def suggest_renames(
    table: TableSchema | None, observed: TableSchema, changes: Iterable[Change], continued: Collection[str] = ()
) -> tuple[RenameSuggestion, ...]:
    """The candidates for which name or position speaks: what can be said before a value was looked at."""
    return suggested(rename_candidates(table, observed, changes, continued))


def likely(found: Iterable[RenameSuggestion]) -> tuple[RenameSuggestion, ...]:
    """The pairs to ask about, each column in one of them, the best first."""
    taken: list[RenameSuggestion] = []
    for one in _best_first(found):
        if one.is_likely and not {one.before, one.after} & {name for t in taken for name in (t.before, t.after)}:
            taken.append(one)
    return tuple(taken)


def with_overlap(candidate: RenameSuggestion, value_overlap: float | None) -> RenameSuggestion:
    return replace(candidate, value_overlap=value_overlap)


def _speaks(candidate: RenameSuggestion) -> bool:
    return candidate.name_similarity >= MIN_SIMILARITY or candidate.same_position


def _best_first(found: Iterable[RenameSuggestion]) -> tuple[RenameSuggestion, ...]:
    return tuple(
        sorted(found, key=lambda s: (-(s.value_overlap or 0.0), -s.name_similarity, not s.same_position, s.before, s.after))
    )
