"""What can be said about table globs without looking at a source: `fnmatch` patterns with `*`, `?` and `[...]`."""

from __future__ import annotations

import fnmatch
import itertools
import operator
import re
from functools import lru_cache

from airflow_dataops.core.spec import is_glob

# Characters no table name has and no pattern should hold: what a `*` or `?` may always stand for.
_FRESH = "\ue000\ue001\ue002"
_PIECE = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
_MOST_CHOICES = 6


@lru_cache(maxsize=4096)
def fault(glob: str) -> str | None:
    """Why a glob can never mean what its writer thinks; None when nothing speaks against it."""
    if not glob.strip():
        return "is empty and matches no table"
    if re.sub(r"\[!?\]?[^\]]*\]", "", glob).count("["):
        return "has a `[` without its `]`. Close it, or write `[[]` for the character itself"
    return None


def doubt(glob: str) -> str | None:
    """What a glob's writer hardly meant, although a database takes such names; None when there is nothing odd."""
    if any(ord(c) < 32 for c in glob):
        return "holds a line break or another control character"
    if glob != glob.strip():
        return "begins or ends with a space"
    return None


@lru_cache(maxsize=4096)
def covers(wide: str, narrow: str) -> bool:
    """Whether every name that `narrow` matches is matched by `wide`.

    Decided by trying: names that `narrow` matches, with nothing and with something unheard-of where it leaves freedom,
    and each member of its character sets.
    """
    if not is_glob(wide):
        return wide == narrow
    return all(fnmatch.fnmatchcase(name, wide) for name in _examples(narrow))


@lru_cache(maxsize=4096)
def meet(one: str, other: str) -> bool:
    """Whether some name is matched by both."""
    if not is_glob(one):
        return fnmatch.fnmatchcase(one, other)
    if not is_glob(other):
        return fnmatch.fnmatchcase(other, one)
    a, b = _pieces(one), _pieces(other)
    # above[j]: some name is matched both by the pieces of `one` so far and by the first j of `other`.
    above = list(itertools.accumulate((piece == "*" for piece in b), operator.and_, initial=True))
    for piece in a:
        row = [piece == "*" and above[0]]
        for j, against in enumerate(b, 1):
            if piece == "*" or against == "*":
                row.append(above[j] or row[j - 1])
            else:
                row.append(above[j - 1] and _same(piece, against))
        above = row
    return above[-1]


@lru_cache(maxsize=4096)
def _pieces(glob: str) -> tuple[str, ...]:
    pieces = _PIECE.findall(glob)
    return tuple(t for t, before in zip(pieces, [None, *pieces], strict=False) if not (t == "*" and before == "*"))


def _same(one: str, other: str) -> bool:
    """Whether two one-character pieces share a character."""
    if one == "?" or other == "?":
        return True
    if len(one) > 1 and len(other) > 1:
        candidates = {*one[1:-1], *other[1:-1], *map(chr, range(32, 127)), _FRESH[0]}
        return any(fnmatch.fnmatchcase(c, one) and fnmatch.fnmatchcase(c, other) for c in candidates)
    literal, pattern = (one, other) if len(one) == 1 else (other, one)
    return fnmatch.fnmatchcase(literal, pattern) if len(pattern) > 1 else literal == pattern


@lru_cache(maxsize=4096)
def _examples(glob: str) -> tuple[str, ...]:
    """Names that the glob matches: two for each of its first free places, so that their number stays small."""
    choices: list[tuple[str, ...]] = []
    free = 0
    for piece in _pieces(glob):
        options: tuple[str, ...] = (piece,)
        if piece == "*":
            options = ("", _FRESH[0] * 40)
        elif piece == "?":
            options = (_FRESH[1],)
        elif len(piece) > 1:
            members = tuple(c for c in map(chr, range(32, 127)) if fnmatch.fnmatchcase(c, piece)) or (_FRESH[2],)
            options = tuple(dict.fromkeys((members[0], members[-1])))
        free += len(options) > 1
        choices.append(options if free <= _MOST_CHOICES else options[-1:])
    return tuple("".join(parts) for parts in itertools.product(*choices))
