"""Source names → lake names: what every Hive reader takes unquoted, and back again.

A legal name is `[a-z_][a-z0-9_]*` of at most 128 characters (the metastore's limit). Reserved words are legal: the edges
quote them. The escape is the one of SQL/XML (ISO 9075-14): a character becomes `_xHHHH_`, beyond U+FFFF `_xHHHHHHHH_`.
ASCII letters fold to lower case, as Hive folds them; nothing else is ever lost, and two names that meet are an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from airflow_dataops.core.errors import InventoryError

MAX_NAME = 128
"""Characters of a database, table or column name in the metastore."""

_LEGAL = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_ESCAPE = re.compile(r"_x([0-9a-f]{4}|[0-9a-f]{8})_")
_HASHED = re.compile(r"_xh_[0-9a-f]{32}\Z")
# An underscore that would read as the start of an escape once the characters behind it are escaped too.
_LOOKALIKE = re.compile(r"_(?=x(?:[0-9a-f]{4}|[0-9a-f]{8})[^a-z0-9])")
_NO_NAME = "_xffff_"
_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def is_legal(name: str) -> bool:
    """Whether the lake takes the name as it is."""
    return len(name) <= MAX_NAME and _LEGAL.fullmatch(name) is not None


def sanitise(name: str) -> str:
    """The lake's name of a source name. Total, deterministic and idempotent; the identity on legal names.

    Two illegal names give one result only when they differ by ASCII case alone. A legal name that *looks* like an
    escape (`a_x0020_b`) meets the name it looks like (`a b`): `plan_names` refuses both in one table. Over 128
    characters the end gives way to `_xh_` and 128 bits of SHA-256 of the whole: collision-free, but not by construction.
    """
    if is_legal(name):
        return name
    if not name:
        return _NO_NAME
    text = _escaped(name.translate(_FOLD))
    if len(text) <= MAX_NAME:
        return text
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()[:32]
    return f"{text[: MAX_NAME - 36]}_xh_{digest}"


def restore(name: str) -> str:
    """The source name behind a sanitised one, ASCII letters in lower case (the exact spelling: `Column.source_name`).

    ValueError for a shortened name: only `Column.source_name` still knows it.
    """
    if name == _NO_NAME:
        return ""
    if len(name) == MAX_NAME and _HASHED.search(name):
        raise ValueError(
            f"Cannot restore name {name!r}: a shortened name -> an escaped one. A hash has no way back. "
            "Read the original from the column's source name."
        )
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)


def plan_names(names: Sequence[str]) -> dict[str, str]:
    """Source name → lake name for the columns of one table. InventoryError naming both originals when two meet."""
    plan: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        target = sanitise(name)
        if target in taken:
            raise InventoryError(
                f"Cannot name column {name!r}: {taken[target]!r} and {name!r} both become {target!r} -> one lake name "
                "for each. Lake names do not know upper case, and one value would overwrite the other. Rename one of "
                "them in `read.query`, or drop one with `privacy.columns`."
            )
        taken[target] = name
        plan[name] = target
    return plan


def _escaped(folded: str) -> str:
    marked = _LOOKALIKE.sub("_x005f_", folded)
    head, tail = marked[0], marked[1:]
    return _escape(head, "abcdefghijklmnopqrstuvwxyz_") + "".join(_escape(c, "abcdefghijklmnopqrstuvwxyz_0123456789") for c in tail)


def _escape(character: str, legal: str) -> str:
    if character in legal:
        return character
    point = ord(character)
    # U+FFFF in four digits stands for the empty name.
    return f"_x{point:04x}_" if point < 0xFFFF else f"_x{point:08x}_"
