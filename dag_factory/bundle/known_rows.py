"""Rows whose text has not changed are not read again: an edited row costs one row, however many its file has.

A domain file is cut where a line begins with the `-` of an item of `sources`. The rows that were good before are taken out,
the rest is read as the file it is, with every line at its number. That gives the same as reading the whole, because

- an item can begin at such a line only, so if there are as many items as cuts, every cut is an item (and not, say, the inside
  of a quoted text), and what stands between two cuts is one item and nothing else;
- no item looks into another one: files with anchors are read whole, and so is what says `renamed_from`, or has any other fault
  than one of a row with a name.

`tests/bundle/test_known_rows.py` edits files at random and compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from dag_factory.inventory.yaml_nodes import MAX_BYTES, MAX_NODES

if TYPE_CHECKING:
    from dag_factory.bundle.units import RowText, Unit

_SOURCES = re.compile(r"^sources:[ ]*(#[^\n]*)?\n", re.MULTILINE)
_FIRST = re.compile(r"(?:[ ]*(?:#[^\n]*)?\n)*([ ]*)-[ \n]")
_ANCHOR = re.compile(r"(?:^|[\s,\[\]{}:?-])[&*][0-9A-Za-z_-]", re.MULTILINE)
_SEPARATORS = ",[{:-?\n"
"""One of them stands before each value; a key without a value counts as two."""


@dataclass(frozen=True, slots=True)
class Cut:
    """`head` is everything up to the first row, `rows` are (line, text); nothing but comments follows the last."""

    head: str
    rows: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, text: str) -> Cut | None:
        """None when the file has to be read whole."""
        text = text.replace("\r\n", "\n")
        if re.search("[\r\x85\u2028\u2029\t]", text) or _ANCHOR.search(text):
            return None  # a line end of another kind would move the numbers of lines
        if 2 * sum(map(text.count, _SEPARATORS)) + 2 > MAX_NODES:
            return None
        sources = _SOURCES.search(text)
        first = _FIRST.match(text, sources.end()) if sources else None
        if first is None:
            return None
        start = first.start(1)
        items = [found.start() for found in re.compile(rf"^{first[1]}-(?=[ \n])", re.MULTILINE).finditer(text, start)]
        # Something that stands no deeper than the rows, and is none: a key behind `sources`, or an error.
        if re.compile(rf"^[ ]{{0,{len(first[1])}}}(?![ \n#]|-[ \n])\S", re.MULTILINE).search(text, start):
            return None
        if len(first[1]) and re.compile(rf"^[ ]{{0,{len(first[1]) - 1}}}-", re.MULTILINE).search(text, start):
            return None
        head = text[:start]
        return cls(head, tuple(_numbered(text, items, head.count("\n") + 1)))

    def without(self, known: frozenset[str]) -> str:
        """The file with the known rows' lines as empty comments: blank ones could be part of a text above them."""
        parts = ["#\n" * text.count("\n") if text in known else text for _, text in self.rows]
        return self.head + "".join(parts)


def _numbered(text: str, items: list[int], line: int) -> Iterator[tuple[int, str]]:
    for start, end in pairwise([*items, len(text)]):
        row = text[start:end]
        yield line, row
        line += row.count("\n")


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of one file before: under which circumstances, and its good rows by their text."""

    context: tuple[str, ...]
    rows: dict[str, RowText]


class KnownRows:
    """The good rows of each file as it was last read, by file name."""

    def __init__(self) -> None:
        self._files: dict[str, _Read] = {}

    def keep(self, names: Collection[str]) -> None:
        """Forgets all other files."""
        self._files = {name: read for name, read in self._files.items() if name in names}

    def unit(self, name: str, data: bytes, context: tuple[str, ...], read: Callable[[bytes], Unit]) -> Unit:
        """What `read` gives for `data`. `context` is everything else that the rows depend on."""
        before = self._files.pop(name, None)
        try:
            cut = Cut.of(data.decode()) if len(data) <= MAX_BYTES else None  # a part of what is too large may not be
        except UnicodeDecodeError:
            cut = None
        if cut is None:
            return read(data)
        context = (*context, cut.head)
        unit = None
        if before is not None and before.context == context:
            unit = _by_parts(cut, before.rows, read)
        if unit is None:
            unit = read(data)
        if len(unit.named) == len(cut.rows) and not _of_the_file(unit):
            self._files[name] = _Read(context, _keepable(cut, unit))
        return unit


def _by_parts(cut: Cut, rows: dict[str, RowText], read: Callable[[bytes], Unit]) -> Unit | None:
    """The unit, of which only unknown rows are read, and the first one, because no file is without. None when it is not sure
    to be the same as that of the whole."""
    known = frozenset(rows) - {cut.rows[0][1]}
    fresh = [line for line, text in cut.rows if text not in known]
    part = read(cut.without(known).encode())
    if len(part.named) != len(fresh) or _of_the_file(part) or _renamed(part):
        return None
    names = dict(zip(fresh, part.named, strict=True))
    again = {row.line: row for row in part.rows}
    good: list[RowText] = []
    named: list[str] = []
    for line, text in cut.rows:
        row = again.get(line) if line in names else _moved(rows[text], line)
        named.append(names.get(line) or rows[text].id)
        good += [row] if row is not None else []
    if len(set(named)) < len(named) or again.keys() - names.keys():
        return None
    return replace(part, rows=tuple(good), named=tuple(named))


def _of_the_file(unit: Unit) -> bool:
    """Whether there is a problem that no row has: it may lie in any line, and be about anything."""
    return unit.broken or unit.unnamed or any(not problem.row for problem in unit.problems)


def _renamed(unit: Unit) -> bool:
    """Whether a row looks for another one: it may be among those that are not read. (The text does not tell: a key in quotes can
    be written with escapes.)"""
    return any(row.was for row in unit.rows) or any(problem.field == "renamed_from" for problem in unit.problems)


def _keepable(cut: Cut, unit: Unit) -> dict[str, RowText]:
    """The rows by their text that have no problem, not even a warning: what is told of a row has to be told each time. None that
    was renamed: whether it may is told by the others."""
    told = {problem.row for problem in unit.problems}
    texts = dict(cut.rows)
    return {texts[row.line]: row for row in unit.rows if not row.was and row.id not in told and row.line in texts}


def _moved(row: RowText, line: int) -> RowText:
    """The same row further down or up; what its defaults say stays where it is, above all rows."""
    by = line - row.line
    if not by:
        return row
    claims = tuple(
        (
            replace(claim, row_place=f"{claim.row_place.rpartition(':')[0]}:{line}"),
            file,
            at + by if file == row.file and at >= row.line else at,
        )
        for claim, file, at in row.claims
    )
    return replace(row, line=line, claims=claims)
