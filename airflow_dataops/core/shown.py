"""What a source shows of one table, run after run, and which of it is news.

A *fact* is one thing that is watched: the type of a column (none: the source does not show it), or a trait of the source
(encoding, delimiter, server version). `look` lays what a batch shows beside what is known and says what is news.

- Nothing that is seen for the first time with its table is news, and nothing that is as it was.
- A fact that changes is news once. It is *unsettled* then, until it stays the same for `debounce_runs` runs: values that it
  had in this unsettled time are *flips*, counted and no news. A value that it never had in that time is news again.
- A column that is away for `retire_runs` runs is retired; coming back ends that.
- What is *late* (an older batch, or files that are read a second time) can only add what nobody knew: it never says
  that something is gone or has changed back.

A run is one run of the table by its token, whatever batches it has; what no run stands behind (a declaration) counts none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Value = str | None

RUNS_KEPT = 16
NEW_EVENT = -1
"""Stands for the event that is about to be recorded, in what `look` returns."""


@dataclass(frozen=True, slots=True)
class Fact:
    """`value` now (None: not shown); `last` that was shown. `ever`: all values there were. While it is unsettled, `event` tells
    of it, and `since` holds the values of that time. `runs` counts runs with the present value while that matters."""

    value: Value
    last: str
    ever: tuple[str, ...] = ()
    runs: int = 0
    event: int | None = None
    since: tuple[Value, ...] = ()
    flips: int = 0
    retired: bool = False

    def to_json(self) -> dict[str, Any]:
        """Without what is as in any settled fact: a table may have a thousand."""
        full = {
            "value": self.value, "last": self.last, "ever": list(self.ever), "runs": self.runs, "event": self.event,
            "since": list(self.since), "flips": self.flips, "retired": self.retired,
        }  # fmt: skip
        plain = {
            "last": self.value, "ever": [self.value], "runs": 0, "event": None, "since": [], "flips": 0, "retired": False,
        }  # fmt: skip
        return {key: value for key, value in full.items() if key not in plain or value != plain[key]}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Fact:
        value = data["value"]
        ever = data.get("ever", [value])
        return cls(
            value, data.get("last", value), tuple(ever), data.get("runs", 0), data.get("event"), tuple(data.get("since", ())),
            data.get("flips", 0), data.get("retired", False),
        )  # fmt: skip


Facts = Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is known of a table. `runs`: tokens of the last runs that were counted; some may be under way at once."""

    columns: Facts = field(default_factory=dict)
    traits: Facts = field(default_factory=dict)
    runs: tuple[str, ...] = ()

    @property
    def retired(self) -> frozenset[str]:
        """Lake names of the columns that are retired."""
        return frozenset(name for name, fact in self.columns.items() if fact.retired)

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": {name: fact.to_json() for name, fact in self.columns.items()},
            "traits": {name: fact.to_json() for name, fact in self.traits.items()},
            "runs": list(self.runs),
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Shown:
        return cls(
            {name: Fact.of_json(fact) for name, fact in data["columns"].items()},
            {name: Fact.of_json(fact) for name, fact in data["traits"].items()},
            tuple(data["runs"]),
        )

    def continued(self, before: str, after: str) -> Shown:
        """From now on `after` is the column `before`, which is therefore shown; a column `after` of its own is retired."""
        columns, new, old = dict(self.columns), self.columns.get(after), self.columns.get(before)
        if new is not None:
            columns[after] = Fact(None, new.last, new.ever, retired=True)
            if new.value is not None:
                ever = tuple(dict.fromkeys((*(old.ever if old is not None else ()), new.value)))
                columns[before] = Fact(new.value, new.value, ever)
        return replace(self, columns=columns)

    def told_by(self, columns_event: int | None, traits_event: int | None) -> Shown:
        """With the ids of the events in place of `NEW_EVENT`."""
        return replace(self, columns=_told_by(self.columns, columns_event), traits=_told_by(self.traits, traits_event))


@dataclass(frozen=True, slots=True)
class Sight:
    """What one batch (or declaration) shows. `columns`: lake name → type as text, None when it tells nothing of columns;
    `untyped` are shown without a type: their type is what it was. `run` None: no run stands behind it."""

    columns: Mapping[str, str] | None
    untyped: frozenset[str] = frozenset()
    traits: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """One fact that changed. `before` and `after`: None when it was, or is, not shown; `last`: its last value before, None when
    there never was one."""

    name: str
    before: Value
    after: Value
    last: Value


@dataclass(frozen=True, slots=True)
class Seen:
    """What `look` found. `flips` and `settled`: event id → fact → how often it went to and fro, and what it came to rest at."""

    shown: Shown
    columns: tuple[News, ...] = ()
    traits: tuple[News, ...] = ()
    retired: tuple[News, ...] = ()
    flips: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    settled: Mapping[int, Mapping[str, Value]] = field(default_factory=dict)


def look(shown: Shown | None, sight: Sight, debounce_runs: int, retire_runs: int) -> Seen:
    """What is news in what a batch shows. `shown` None: the table is seen for the first time."""
    before = shown or Shown()
    is_counted = sight.run is not None and sight.run not in before.runs and not sight.late
    runs = (*before.runs, sight.run)[-RUNS_KEPT:] if is_counted and sight.run is not None else before.runs
    one = _Look(debounce_runs, is_counted, sight.late)
    columns, retired = dict(before.columns), []
    if sight.columns is not None:
        is_first = not columns
        gone = [name for name in columns if name not in sight.columns and name not in sight.untyped]
        wanted: dict[str, Value] = dict.fromkeys(gone) | dict(sight.columns)
        for name, value in wanted.items():
            one.note(columns, name, value, is_first)
        for name in sight.untyped & columns.keys():
            # NULLs alone: the column is shown, as what it was last.
            one.note(columns, name, columns[name].last, is_first)
        for name, fact in columns.items():
            if fact.value is None and not fact.retired and fact.runs >= retire_runs and not sight.late:
                columns[name] = replace(fact, retired=True)
                retired.append(News(name, None, None, fact.last))
    column_news, one.news = one.news, []
    traits = dict(before.traits)
    for name, value in sorted(sight.traits.items()):
        one.note(traits, name, value, is_first=name not in traits)
    return Seen(
        Shown(columns, traits, runs),
        tuple(column_news), tuple(one.news), tuple(retired), one.flips, one.settled,
    )  # fmt: skip


class _Look:
    def __init__(self, debounce_runs: int, is_counted: bool, late: bool) -> None:
        self.debounce_runs, self.is_counted, self.late = debounce_runs, is_counted, late
        self.news: list[News] = []
        self.flips: dict[int, dict[str, int]] = {}
        self.settled: dict[int, dict[str, Value]] = {}

    def note(self, facts: dict[str, Fact], name: str, value: Value, is_first: bool) -> None:
        fact = facts.get(name)
        if fact is None:
            if value is not None:
                facts[name] = self._new(name, value, is_first)
        elif self.late:
            facts[name] = self._late(name, fact, value)
        elif value == fact.value:
            facts[name] = self._same(name, fact)
        else:
            facts[name] = self._changed(name, fact, value)

    def _new(self, name: str, value: str, is_first: bool) -> Fact:
        if is_first:
            return Fact(value, value, (value,))
        self.news.append(News(name, None, value, None))
        # A late batch shows what is not there any more.
        now = None if self.late else value
        return Fact(now, value, (value,), runs=1 if self.is_counted else 0, event=NEW_EVENT, since=(None, value))

    def _late(self, name: str, fact: Fact, value: Value) -> Fact:
        if value is None or value in fact.ever:
            return fact
        self.news.append(News(name, fact.value, value, fact.last))
        return replace(fact, ever=(*fact.ever, value))

    def _same(self, name: str, fact: Fact) -> Fact:
        if (fact.event is None and (fact.value is not None or fact.retired)) or not self.is_counted:
            return fact
        runs = fact.runs + 1
        if fact.event is not None and runs >= self.debounce_runs:
            if fact.flips:
                self.settled.setdefault(fact.event, {})[name] = fact.value
            fact = replace(fact, event=None, since=(), flips=0)
        return replace(fact, runs=runs if fact.event is not None or fact.value is None else 0)

    def _changed(self, name: str, fact: Fact, value: Value) -> Fact:
        event, since, flips = fact.event, fact.since, fact.flips
        unsettled = event is not None and fact.runs < self.debounce_runs
        if event is not None and unsettled and value in since:
            flips += 1
            self.flips.setdefault(event, {})[name] = flips
        else:
            self.news.append(News(name, fact.value, value, fact.last))
            since = (*(since if unsettled else (fact.value,)), value)
            event, flips = NEW_EVENT, 0
        ever = fact.ever if value is None or value in fact.ever else (*fact.ever, value)
        last = fact.last if value is None else value
        return Fact(value, last, ever, runs=1 if self.is_counted else 0, event=event, since=since, flips=flips)


def first_shown(columns: Iterable[tuple[str, str]]) -> Shown:
    """A table of which only the columns (lake name, type as text) of last time are known."""
    return Shown({name: Fact(value, value, (value,)) for name, value in columns})


def _told_by(facts: Facts, event: int | None) -> Facts:
    return {name: replace(fact, event=event) if fact.event == NEW_EVENT else fact for name, fact in facts.items()}
