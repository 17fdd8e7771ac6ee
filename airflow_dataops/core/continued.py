"""Columns that go on under another name at the source: what is shown and read as `after` is the table's `before` (an approved
rename). The table keeps its name, so that every old file stays readable.

Either name may come, and both at once: files of before and after the rename in one batch, a source that fills both for a while.
Then a row's value is that of the one which has some. Two different values are no row of the table: `two_values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types as pt

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fit import fit
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.privacy import Action, plan_privacy
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.row_json import rows_to_json
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import PrivacySpec
from airflow_dataops.core.storable import storable
from airflow_dataops.core.types_text import type_to_text

TWO_VALUES = "two_values"
"""Why a row is a dead letter whose column has one value under its old name and another under its new one."""

_STRICTER: tuple[Action, ...] = ("keep", "hash", "mask", "drop")


@dataclass(frozen=True, slots=True)
class Rename:
    """The table's column `before` (lake name) goes on as `after` (the lake name of the source's column). The origins are how the
    source spelled, and spells, them."""

    before: str
    after: str
    before_origin: str
    after_origin: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Rename:
        return cls(data["before"], data["after"], data["before_origin"], data["after_origin"])


@dataclass(frozen=True, slots=True)
class Folding:
    """How rows of a source become rows of the table's columns: `schema` has the names after that, `parts` for each of its columns
    those it takes values from, the table's own name first."""

    schema: TableSchema
    parts: tuple[tuple[str, ...], ...]

    @property
    def is_nothing(self) -> bool:
        return all(part == (column.name,) for column, part in zip(self.schema, self.parts, strict=True))


def plan_folding(shown: TableSchema, renames: Iterable[Rename]) -> Folding:
    """`shown`: source or lake names. InventoryError when a column stands there under two names with types that have none in
    common."""
    by_after = {one.after: one for one in renames}
    origins = {one.before: one.before_origin for one in by_after.values()}
    groups: dict[str, list[Column]] = {}
    for column in shown:
        lake = sanitise(column.name)
        groups.setdefault(by_after[lake].before if lake in by_after else lake, []).append(column)
    columns, parts = [], []
    for lake, group in groups.items():
        own = [c for c in group if sanitise(c.name) == lake]
        ordered = [*own, *(c for c in group if c not in own)]
        name = own[0].name if own else origins[lake]
        columns.append(replace(ordered[0], name=name, type=_joined(name, ordered)))
        parts.append(tuple(c.name for c in ordered))
    names = {part: c.name for c, some in zip(columns, parts, strict=True) for part in some}
    keys = tuple(dict.fromkeys(names.get(key, key) for key in shown.keys))
    return Folding(TableSchema(tuple(columns), keys), tuple(parts))


def _joined(name: str, group: Sequence[Column]) -> pa.DataType:
    kind = group[0].type
    for column in group[1:]:
        if pt.is_null(kind) or pt.is_null(column.type):
            kind = column.type if pt.is_null(kind) else kind
            continue
        promotion = promote(kind, column.type)
        if promotion is None:
            raise InventoryError(
                f"Cannot read column {name!r}: the source shows it as {type_to_text(kind)}, and as {column.name!r} with "
                f"{type_to_text(column.type)} -> types that one column holds. By an approved rename both are one. Take that back "
                "(`dataops drift revoke`), or leave one of them out of `read.query`."
            )
        kind = kind if promotion.how == "same" else promotion.type
    return kind if len(group) == 1 else storable(kind)


@dataclass(frozen=True, slots=True)
class Folded:
    """`records` under the folding's schema. `kept`: which rows they came from (None: all). `dead_letters`: the others, as read."""

    records: pa.RecordBatch
    kept: NDArray[np.int64] | None = None
    dead_letters: tuple[DeadLetter, ...] = ()


def fold(
    records: pa.RecordBatch, folding: Folding, *, source_file: str | None = None, source_offsets: pa.Array | None = None
) -> Folded:
    """Every row is in `records` or one of the dead letters, and every value in one of both."""
    if folding.is_nothing:
        return Folded(records)
    arrays: list[pa.Array] = []
    lost: dict[int, str] = {}
    for column, part in zip(folding.schema, folding.parts, strict=True):
        values, two = _one_of([records.column(name) for name in part], column.type)
        arrays.append(values)
        lost |= dict.fromkeys(np.flatnonzero(two).tolist(), column.name)
    made = pa.RecordBatch.from_arrays(arrays, names=list(folding.schema.names))
    if not lost:
        return Folded(made)
    kept = np.setdiff1d(np.arange(records.num_rows), np.array(sorted(lost)))
    letters = _letters(records, lost, source_file, source_offsets)
    return Folded(made.take(pa.array(kept)), kept, letters)


def _one_of(arrays: Sequence[pa.Array], kind: pa.DataType) -> tuple[pa.Array, NDArray[np.bool_]]:
    """The values, and in which rows there are two that differ."""
    if len(arrays) == 1:
        return arrays[0], np.zeros(len(arrays[0]), np.bool_)
    values = pa.nulls(len(arrays[0]), kind)
    two = np.zeros(len(values), np.bool_)
    for array in arrays:
        fitted = fit(array, kind)
        two |= _differ(values, fitted.values)
        if fitted.unfit is not None:
            two |= fitted.unfit
        values = _coalesced(values, fitted.values)
    return values, two


def _differ(first: pa.Array, second: pa.Array) -> NDArray[np.bool_]:
    """Where both have a value, and not the same. No number is no number."""
    both = pc.and_(first.is_valid(), second.is_valid())
    if not pc.any(both).as_py():
        return np.zeros(len(first), np.bool_)
    if pt.is_nested(first.type):
        found = np.zeros(len(first), np.bool_)
        for row in np.flatnonzero(both.to_numpy(zero_copy_only=False)).tolist():
            found[row] = first[row] != second[row]
        return found
    other = pc.fill_null(pc.not_equal(first, second), False)
    if pt.is_floating(first.type):
        other = pc.and_not(other, pc.fill_null(pc.and_(pc.is_nan(first), pc.is_nan(second)), False))
    differ: NDArray[np.bool_] = other.to_numpy(zero_copy_only=False).astype(np.bool_)
    return differ


def _coalesced(first: pa.Array, second: pa.Array) -> pa.Array:
    if pt.is_nested(first.type):
        index = np.arange(len(first)) + np.where(first.is_valid().to_numpy(zero_copy_only=False), 0, len(first))
        return pa.concat_arrays([first, second]).take(pa.array(index))
    return pc.coalesce(first, second)


def _letters(
    records: pa.RecordBatch, lost: Mapping[int, str], source_file: str | None, source_offsets: pa.Array | None
) -> tuple[DeadLetter, ...]:
    rows, form = sorted(lost), LetterForm.of_row(records.schema)
    found = []
    for row, raw in zip(rows, rows_to_json(records.take(pa.array(rows))), strict=True):
        message = (
            f"Cannot store the row: column {lost[row]!r} has another value under its new name -> one value. By an approved rename "
            "both names are one column. Correct the source, or take the rename back (`dataops drift revoke`) and replay it."
        )
        at = None if source_offsets is None else source_offsets[row].as_py()
        found.append(DeadLetter(TWO_VALUES, message, raw, source_file, at, lost[row], form=form))
    return tuple(found)


def privacy_under(names: Sequence[str], privacy: PrivacySpec, renames: Sequence[Rename]) -> dict[str, Action]:
    """`plan_privacy`; what is said for any name of a column that goes on under others counts for all of them, the strictest. A
    rename never unmasks."""
    of = {name: one.before for one in renames for name in (one.before, one.after)}
    origins = [name for one in renames for name in (one.before_origin, one.after_origin)]
    actions = plan_privacy(list(dict.fromkeys((*names, *origins))), privacy)
    strictest: dict[str, Action] = {}
    for name, action in actions.items():
        lake = of.get(sanitise(name))
        if lake is not None:
            strictest[lake] = max(action, strictest.get(lake, "keep"), key=_STRICTER.index)
    return {name: strictest.get(of.get(sanitise(name), ""), action) for name, action in actions.items()}


def lake_named(renames: Iterable[Rename]) -> tuple[Rename, ...]:
    """The same, of rows that are stored: these have lake names."""
    return tuple(Rename(one.before, one.after, one.before, one.after) for one in renames)


def lake_columns(types: Mapping[str, str], renames: Iterable[Rename]) -> dict[str, str]:
    """What a source shows (lake name → type as text), under the table's names; of two the table's own."""
    of = {one.after: one.before for one in renames}
    return {of[name]: kind for name, kind in types.items() if name in of} | {n: k for n, k in types.items() if n not in of}


def moved_hidden(hidden: Mapping[str, str], renames: Iterable[Rename], absent: str, mixed: str) -> dict[str, str]:
    """How the columns of a file are hidden once its values of `after` are in `before`. `absent` and `mixed`: the words for a column
    that nobody gave, and for one whose values are hidden in different ways."""
    found = dict(hidden)
    for one in renames:
        own, other = found.get(one.before), hidden.get(one.after)
        found.pop(one.before, None)
        if own == absent:
            found |= {one.before: other} if other is not None else {}
        elif other == absent or own == other:
            found |= {one.before: own} if own is not None else {}
        else:
            found[one.before] = mixed
        found[one.after] = absent
    return found
