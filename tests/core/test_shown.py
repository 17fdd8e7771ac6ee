"""What is news in what a source shows, over histories that nobody would write down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.shown import News, Seen, Shown, Sight, look

NAMES = ("a", "b")
KINDS = ("int64", "string")


@dataclass(frozen=True)
class Step:
    columns: dict[str, str]
    again: bool
    late: dict[str, str] | None


columns = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS)).map(lambda shown: {"id": "int64", **shown})
steps = st.lists(st.builds(Step, columns, st.booleans(), st.none() | columns), min_size=1, max_size=30)


def played(history: list[Step], debounce_runs: int, retire_runs: int = 7) -> list[Seen]:
    """Every run's observation; some are told twice, and some have a late one between them. Kept as JSON in between."""
    shown, found, event = None, [], 0

    def see(sight: Sight) -> Seen:
        nonlocal shown, event
        one = look(shown, sight, debounce_runs, retire_runs)
        event += 1
        shown = Shown.of_json(json.loads(json.dumps(one.shown.told_by(event, None).to_json())))
        assert shown == one.shown.told_by(event, None)
        return one

    for number, step in enumerate(history):
        if step.late is not None and number:
            late = see(Sight(step.late, late=True, run=f"late-{number}"))
            assert all(news.after is not None for news in late.columns) and not late.retired
            found.append(late)
        sight = Sight(step.columns, run=f"r{number}")
        found.append(see(sight))
        if step.again:
            assert not see(sight).columns
    return found


def transitions(history: list[Step]) -> list[tuple[str, str | None, str | None]]:
    changes = []
    for before, after in pairwise(history):
        for name in NAMES:
            one, other = before.columns.get(name), after.columns.get(name)
            changes += [(name, one, other)] if one != other else []
    return changes


@given(steps)
def test_without_debouncing_the_news_are_the_transitions(history: list[Step]) -> None:
    plain = [Step(step.columns, step.again, None) for step in history]
    told = [(n.name, n.before, n.after) for one in played(plain, 0) for n in one.columns]
    assert sorted(told, key=str) == sorted(transitions(plain), key=str)


@given(steps, st.integers(0, 5))
def test_what_is_known_last_is_what_was_shown_last(history: list[Step], debounce_runs: int) -> None:
    last = played(history, debounce_runs)[-1].shown
    assert {name: fact.value for name, fact in last.columns.items() if fact.value} == history[-1].columns


@given(steps, st.integers(1, 5))
def test_nothing_ever_shown_goes_untold(history: list[Step], debounce_runs: int) -> None:
    """Every value a column ever has, but those of the first sight, is in some news, or is one it had before."""
    found = played(history, debounce_runs)
    known = {(name, fact.value) for name, fact in found[0].shown.columns.items()}
    told = {(n.name, n.after) for one in found for n in one.columns}
    ever = {(name, value) for one in found for name, fact in one.shown.columns.items() for value in fact.ever}
    assert ever <= known | told


@given(steps, st.integers(1, 6))
def test_two_values_in_turn_are_one_event_a_quiet_time(history: list[Step], debounce_runs: int) -> None:
    """A column of one type that comes and goes: between two events of it lie as many runs in a row without a change."""
    plain = [Step(dict.fromkeys(step.columns, "int64"), step.again, None) for step in history]
    found = played(plain, debounce_runs)
    for name in NAMES:
        told = [number for number, one in enumerate(found) if any(n.name == name for n in one.columns)]
        shown = [step.columns.get(name) for step in plain]
        for first, second in pairwise(told):
            quiet, longest = 1, 1
            for number in range(first + 1, second):
                quiet = quiet + 1 if shown[number] == shown[number - 1] else 1
                longest = max(longest, quiet)
            assert longest >= debounce_runs


@given(steps, st.integers(0, 5))
def test_what_is_late_takes_nothing_back(history: list[Step], debounce_runs: int) -> None:
    regular = [Step(step.columns, step.again, None) for step in history]
    ends = [played(one, debounce_runs)[-1].shown.columns for one in (history, regular)]
    values = [{name: fact.value for name, fact in columns.items() if fact.value} for columns in ends]
    assert values[0] == values[1]


@given(steps, st.integers(1, 4), st.integers(0, 4))
def test_a_column_is_retired_once_for_each_time_it_is_away(history: list[Step], retire_runs: int, debounce_runs: int) -> None:
    plain = [Step(step.columns, step.again, None) for step in history]
    found = played(plain, debounce_runs, retire_runs)
    for name in NAMES:
        away, expected, known = 0, [], False
        for number, step in enumerate(plain):
            away = 0 if name in step.columns else away + 1
            known = known or name in step.columns
            expected += [number] if known and away == retire_runs else []
        # One that was there at first sight only is not counted before it was seen.
        assert [number for number, one in enumerate(found) if any(r.name == name for r in one.retired)] == expected


def test_a_third_value_is_news_while_two_flicker() -> None:
    shown, told = None, []
    for number, kind in enumerate(("int64", "string", "int64", "string", "bool", "string")):
        found = look(shown, Sight({"a": kind}, run=f"r{number}"), 3, 7)
        shown = found.shown.told_by(number, None)
        told.append([news.after for news in found.columns])
    assert told == [[], ["string"], [], [], ["bool"], []]


def test_a_column_without_values_is_not_gone() -> None:
    shown = look(None, Sight({"id": "int64", "a": "int64"}, run="r1"), 0, 1).shown
    found = look(shown, Sight({"id": "int64"}, frozenset({"a", "new"}), run="r2"), 0, 1)
    assert (found.columns, found.retired) == ((), ())
    assert found.shown == look(shown, Sight({"id": "int64", "a": "int64"}, run="r2"), 0, 1).shown


def test_who_tells_nothing_of_columns_counts_no_run() -> None:
    shown = look(None, Sight({"id": "int64", "a": "int64"}, run="r1"), 0, 2).shown
    gone = look(shown, Sight({"id": "int64"}, run="r2"), 0, 2).shown
    found = look(gone, Sight(None, traits={"encoding": "utf-8"}, run="r3"), 0, 2)
    assert (found.columns, found.retired, found.traits) == ((), (), ())
    assert look(found.shown, Sight({"id": "int64"}, run="r4"), 0, 2).retired == (News("a", None, None, "int64"),)
