"""Which sources of an inventory are meant: `domain=sales,finance tag=daily state=failed`, a glob on the id, or `all`. Pure.

Terms are separated by blanks and all have to hold; a comma separates the values of one term, of which one has to. Values
of a term may be globs; a value with a blank in it is written in quotes.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec

ALL = "all"
FIELDS = ("domain", "kind", "owner", "tag")
STATES = ("failed", "held", "late")
ID = "id"


class SelectorError(InventoryError):
    """The selector cannot be read, or takes no source."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: one of `values` is that of the `field` (`id`, `state`, or one of `FIELDS`)."""

    field: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.values) if self.field == ID else f"{self.field}={','.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms hold. None at all means every source, which has to be said (`all`)."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.terms)) or ALL

    @property
    def states(self) -> tuple[Term, ...]:
        """The terms that only the ledger and Airflow can answer."""
        return tuple(term for term in self.terms if term.field == "state")


def parse_selector(texts: Sequence[str]) -> Selector:
    """The selector of one or several texts, all of which have to hold. SelectorError when it says nothing, or what is not
    known."""
    terms: list[Term] = []
    everything = False
    for text in texts:
        try:
            words = shlex.split(text, comments=False)
        except ValueError:
            raise _unreadable(text, "a quote that is not closed") from None
        for word in words:
            if word == ALL:
                everything = True
            else:
                terms.append(_term(word))
    if not terms and not everything:
        raise SelectorError(
            "Cannot select sources: nothing is said -> `all`, or terms as `domain=sales tag=daily`, `sales.*`. What is done to "
            "every source has to be meant. Give `--select`."
        )
    return Selector(tuple(terms))


def _term(word: str) -> Term:
    field, equals, said = word.partition("=")
    if not equals:
        field, said = ID, word
    elif field not in (*FIELDS, "state"):
        raise _unreadable(word, f"unknown term {field!r}")
    values = tuple(said.split(","))
    if not all(values):
        raise _unreadable(word, "an empty value")
    if equals and (odd := next((v for v in values if v.partition("=")[0] in (*FIELDS, "state") and "=" in v), None)):
        raise _unreadable(word, f"{odd!r} behind a comma; terms are separated by blanks")
    if field == "state" and (odd := next((v for v in values if v not in STATES), None)):
        raise _unreadable(word, f"unknown state {odd!r} (known: {', '.join(STATES)})")
    return Term(field, values)


def _unreadable(text: str, found: str) -> SelectorError:
    known = ", ".join(f"{field}=" for field in (*FIELDS, "state"))
    return SelectorError(
        f"Cannot read selector {text!r}: {found} -> {known}, a glob on the id such as sales.*, or all. Terms are separated by "
        "blanks and all hold; a comma means or. Correct `--select`."
    )


def select(rows: Iterable[PipelineSpec], selector: Selector) -> tuple[PipelineSpec, ...]:
    """The rows for which every term holds that the inventory can answer; `state` is not asked here."""
    terms = [term for term in selector.terms if term.field != "state"]
    return tuple(row for row in rows if all(_holds(term, row) for term in terms))


def with_states(
    rows: Iterable[PipelineSpec], selector: Selector, states: Mapping[str, Iterable[str]]
) -> tuple[PipelineSpec, ...]:
    """Of these rows those whose `states` (source id to states) satisfy every term about states."""
    return tuple(
        row for row in rows if all(set(term.values) & set(states.get(row.id, ())) for term in selector.states)
    )


def unknown_values(rows: Sequence[PipelineSpec], selector: Selector) -> tuple[str, ...]:
    """Values that no row has, as `domain=finanace`: most likely misspelled, and otherwise hidden by the others."""
    return tuple(
        str(Term(term.field, (value,)))
        for term in selector.terms
        if term.field != "state"
        for value in term.values
        if not any(_holds(Term(term.field, (value,)), row) for row in rows)
    )


def _holds(term: Term, row: PipelineSpec) -> bool:
    return any(own == value or fnmatch.fnmatchcase(own, value) for value in term.values for own in _own(term.field, row))


def _own(field: str, row: PipelineSpec) -> tuple[str, ...]:
    if field == ID:
        return (row.id, row.dag_id)
    return row.tags if field == "tag" else (str(getattr(row, field)),)
