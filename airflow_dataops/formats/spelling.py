"""One column under several spellings: `ID`, `Id` and `id` in different files or records are one column of the lake, whose
names do not know upper case (`core.naming`).

Two such spellings in *one* header or object are two columns: they stay apart here, and the drift plan refuses them with
both names, because one value would overwrite the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from airflow_dataops.core.naming import sanitise
from airflow_dataops.formats.base import Survey

V = TypeVar("V")
_lake_name = lru_cache(maxsize=65536)(sanitise)


class Spellings:
    """Known names, found again under any spelling."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._exact: set[str] = set()
        self._by_lake_name: dict[str, str] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        self._exact.add(name)
        self._by_lake_name.setdefault(_lake_name(name), name)

    def of(self, names: Collection[str]) -> dict[str, str]:
        """Each of the names of one header or object → the known spelling of the same column, else itself."""
        lake_names = {name: _lake_name(name) for name in names}
        times = Counter(lake_names.values())
        return {
            name: name if name in self._exact or times[lake] > 1 else self._by_lake_name.get(lake, name)
            for name, lake in lake_names.items()
        }

    def under(self, value: Mapping[str, V]) -> Mapping[str, V]:
        """The fields of one object by their known names."""
        if value.keys() <= self._exact:
            return value
        names = self.of(value.keys())
        return {names[name]: item for name, item in value.items()}


def respelled(surveys: Sequence[Survey], expected: Mapping[str, object]) -> list[Survey]:
    """The surveys with one spelling per column: the expected one, else the one that came first."""
    known = Spellings(expected)
    result = []
    for survey in surveys:
        columns = dict(known.under(survey.columns))
        for name in columns:
            known.add(name)
        result.append(replace(survey, columns=columns))
    return result
