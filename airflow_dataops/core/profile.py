"""The profile of a set of rows: how many, and for each column how many values there are and between which bounds.

Profiles merge: that of two sets together is their sum, in any order. It is made from what data files say of themselves, so
it costs no look at a row; what a file does not say is unknown, and stays unknown in every sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

from airflow_dataops.core.offset import Scalar, scalar_kind, scalar_of_json, scalar_to_json

TEXT_CHARACTERS = 32
"""Bounds of text longer than this are not kept: a profile tells codes from prose, it does not copy records."""


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """`values`: how many are not NULL, None when unknown. `low` and `high`: the smallest and the greatest, both None when there
    is no value, or when `bounded` is False: they are unknown, hidden, too long, or of kinds without a common order."""

    values: int | None = 0
    low: Scalar | None = None
    high: Scalar | None = None
    bounded: bool = True

    @classmethod
    def of(cls, values: int | None, low: Scalar | None, high: Scalar | None) -> ColumnProfile:
        """With the bounds as far as they may be kept."""
        if low is None or high is None:
            return cls(values, bounded=values == 0)
        kind = scalar_kind(low)
        too_long = any(isinstance(bound, str) and len(bound) > TEXT_CHARACTERS for bound in (low, high))
        if kind in (None, "bytes") or kind != scalar_kind(high) or too_long:
            return cls(values, bounded=False)
        return cls(values, low, high)

    def __add__(self, other: ColumnProfile) -> ColumnProfile:
        values = None if self.values is None or other.values is None else self.values + other.values
        if not self.bounded or not other.bounded:
            return ColumnProfile(values, bounded=False)
        if self.low is None or self.high is None:
            return replace(other, values=values)
        if other.low is None or other.high is None:
            return replace(self, values=values)
        if scalar_kind(self.low) != scalar_kind(other.low):
            return ColumnProfile(values, bounded=False)
        return ColumnProfile(values, min(self.low, other.low), max(self.high, other.high))


NO_VALUES = ColumnProfile()


@dataclass(frozen=True, slots=True)
class Profile:
    """`columns` by lake name; a column that is not among them has no value in any of the rows."""

    NOTHING: ClassVar[Profile]

    rows: int = 0
    columns: Mapping[str, ColumnProfile] = field(default_factory=lambda: MappingProxyType({}))

    def __add__(self, other: Profile) -> Profile:
        names = dict.fromkeys((*self.columns, *other.columns))
        both = {n: self.columns.get(n, NO_VALUES) + other.columns.get(n, NO_VALUES) for n in names}
        return Profile(self.rows + other.rows, both)

    def hiding(self, names: Collection[str]) -> Profile:
        """Without the bounds of these columns."""
        hidden = {n: ColumnProfile(c.values, bounded=c.values == 0) if n in names else c for n, c in self.columns.items()}
        return Profile(self.rows, hidden)

    def nulls(self, name: str) -> int | None:
        """How many rows have no value there; None when unknown."""
        values = self.columns.get(name, NO_VALUES).values
        return None if values is None else self.rows - values

    def to_json(self) -> dict[str, Any]:
        """Short, since a ledger holds many: `{"rows": n, "columns": {name: [values, low, high] or [values]}}`."""
        return {
            "rows": self.rows,
            "columns": {
                n: [c.values, scalar_to_json(c.low), scalar_to_json(c.high)] if c.bounded else [c.values]
                for n, c in self.columns.items()
            },
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Profile:
        """The inverse of `to_json`."""
        columns = {
            n: ColumnProfile(c[0], scalar_of_json(c[1]), scalar_of_json(c[2])) if len(c) > 1 else ColumnProfile(c[0], bounded=False)
            for n, c in data["columns"].items()
        }
        return cls(int(data["rows"]), columns)


Profile.NOTHING = Profile()
