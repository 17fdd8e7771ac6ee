"""Is a row that is read now one that was stored earlier? Also when the row's privacy rules, the source's columns or a type
have changed in between.

Rows are compared over the columns that both have, each side hidden as the other is: a value that was stored as it is can
be masked or hashed like those that are read, and the other way round. Where no rule brings two columns together (other
keys, a mask against a hash, types without a common one) they say nothing, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, row_fingerprints
from airflow_dataops.core.fingerprint_mix import Words
from airflow_dataops.core.privacy import Action, apply_privacy, key_mark
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.spec import ContractSpec

ABSENT, MIXED = "absent", "mixed"
"""How a column is hidden that its source did not give (gone, or dropped), and one whose values come from files that do not
agree. Neither can be compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`columns` (lake names) are compared. `types` are what stored rows are read as; `stored` and `read` are the rules to apply
    to either side first. `beyond` are columns of the rows that are read which stored rows have no word about."""

    columns: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    stored: tuple[tuple[str, Action], ...]
    read: tuple[tuple[str, Action], ...]
    beyond: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether a row that is read shows all it has: rows that look the same are the same, so any may stand for any."""
        return not self.beyond and not self.read

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(list(zip(self.columns, self.types, strict=True)))

    def of_stored(self, rows: pa.RecordBatch, key: bytes | None) -> Words:
        """Fingerprints of stored rows, given under `schema`."""
        return self._fingerprints(rows, dict(self.stored), key)

    def of_read(self, rows: pa.RecordBatch, key: bytes | None) -> Words:
        """Fingerprints of rows as they are to be stored now."""
        return self._fingerprints(rows.select(self.columns), dict(self.read), key)

    def says_more(self, rows: pa.RecordBatch) -> pa.Array:
        """Which of the rows that are read have a value that stored rows cannot have: of equals, these are the new ones."""
        more = pa.repeat(pa.scalar(False), rows.num_rows)
        for name in self.beyond:
            more = pc.or_(more, rows.column(name).is_valid())
        return more

    def _fingerprints(self, rows: pa.RecordBatch, rules: Mapping[str, Action], key: bytes | None) -> Words:
        return row_fingerprints(apply_privacy(rows, {name: rules.get(name, "keep") for name in rows.schema.names}, key))


def hiding(columns: Iterable[str], actions: Mapping[str, Action], key: bytes | None) -> dict[str, str]:
    """How each of these columns (lake names) is hidden, for a file's metadata: `mask`, `hash:` and which key, or `absent` for
    one without an action, since nobody gave it. Columns that are kept are not named."""
    found: dict[str, str] = {}
    for name in columns:
        action = actions.get(name, "drop")
        if action != "keep":
            found[name] = _hash(key) if action == "hash" else ABSENT if action == "drop" else action
    return found


def compare(
    stored: pa.Schema, hidden: Mapping[str, str], read: pa.Schema, actions: Mapping[str, Action], key: bytes | None,
    contract: ContractSpec,
) -> Comparison:  # fmt: skip
    """`stored`: the columns of a data file, `hidden` as its metadata says; `read`: the columns that the source gives now, as
    they will be stored, hidden by `actions`."""
    now = hiding(read.names, actions, key)
    columns, types, stored_rules, read_rules, beyond = [], [], [], [], []
    for name, wanted in zip(read.names, read.types, strict=True):
        if name in STANDARD_COLUMNS:
            continue
        at = stored.get_field_index(name)
        rules = None if at < 0 else _rules(hidden.get(name), now.get(name), _hash(key))
        kind = None if rules is None else _read_as(stored.field(at).type, rules[0], wanted, rules[1], contract)
        if rules is None or kind is None:
            beyond.append(name)
            continue
        columns.append(name)
        types.append(kind)
        stored_rules += [(name, rules[0])] if rules[0] != "keep" else []
        read_rules += [(name, rules[1])] if rules[1] != "keep" else []
    return Comparison(tuple(columns), tuple(types), tuple(stored_rules), tuple(read_rules), tuple(beyond))


def _hash(key: bytes | None) -> str:
    """What a column is called that is hashed by this key."""
    return f"hash:{key_mark(key or b'')}"


def _rules(was: str | None, now: str | None, hashed: str) -> tuple[Action, Action] | None:
    """What to do to the stored and to the read side; None when nothing brings them together. `hashed`: by the present key."""
    known: dict[str, Action] = {"mask": "mask", hashed: "hash"}
    if was == now and (was is None or was in known):
        return "keep", "keep"
    if was is None and now in known:
        return known[now], "keep"
    if now is None and was in known:
        return "keep", known[was]
    return None


def _read_as(
    stored: pa.DataType, stored_rule: Action, read: pa.DataType, read_rule: Action, contract: ContractSpec
) -> pa.DataType | None:
    """The type under which stored values are read; None when the two sides have no type in common."""
    mine = pa.string() if stored_rule == "hash" else stored
    theirs = pa.string() if read_rule == "hash" else read
    if pt.is_null(mine) or pt.is_null(theirs):
        return None
    lifted = promote(theirs, mine, contract)
    if lifted is not None and lifted.type == theirs:
        return read if stored_rule == read_rule == "keep" else stored
    return stored if promote(mine, theirs) is not None else None  # widths of one kind: fingerprints do not see them
