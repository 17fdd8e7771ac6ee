"""Dead letters as something to read: their records under the contract of now, and those that fail again.

A replay changes a table only as its contract does by itself, and never holds it: a record that would need a decision
fails again. One record alone is no evidence of what a column is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.approval import Approval, renames_of
from airflow_dataops.core.conform import conform
from airflow_dataops.core.continued import Rename, fold, plan_folding, privacy_under
from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.drift_plan import DriftPlan, plan_drift
from airflow_dataops.core.errors import StaleError
from airflow_dataops.core.fit import fit
from airflow_dataops.core.letter_privacy import HiddenOtherwiseError, hide_anew, hide_row
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.offset import Letters, Scalar
from airflow_dataops.core.privacy import Action
from airflow_dataops.core.row_json_read import UnreadableError, array_of_json, record_of_json
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.core.types_text import type_from_text
from airflow_dataops.ledger.base import LetterRecord
from airflow_dataops.sources.base import Batch, Source, TextSource
from airflow_dataops.steps.letter_file import read_letters
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import data_schema, expected_schema, required_columns, reserved_names


@dataclass(slots=True)
class _Group:
    """Records of one shape: one row per letter."""

    records: pa.RecordBatch
    letters: list[DeadLetter]


class LettersReading:
    """The replayed records, in the table's columns. `schema` has the source's names; every value in it is hidden already."""

    def __init__(self, schema: TableSchema, batches: Sequence[Batch], values_discarded: int) -> None:
        self.schema, self._batches, self.values_discarded = schema, tuple(batches), values_discarded
        self.traits: dict[str, str] = {}

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def lowest(self, column: str | None) -> Scalar | None:
        """The lowest value of a column (source name) over all records."""
        found = [b.records.column(column) for b in self._batches if column in b.records.schema.names and b.records.num_rows]
        lows = [low for array in found if (low := pc.min(array).as_py()) is not None] if found else []
        return min(lows) if lows else None

    def close(self) -> None:
        """Nothing is held open."""


def text_source(source: Source) -> TextSource | None:
    """The source as one whose records are text; None when it is none."""
    return cast("TextSource", source) if hasattr(source, "read_letter") else None


def hide(
    letter: DeadLetter, actions: Mapping[str, Action], schema: pa.Schema, key: bytes | None, text: TextSource | None
) -> DeadLetter:
    """A letter of the reading, without the values that privacy hides. `schema` is the reading's."""
    types = {f.name: f.type for f in schema}
    if letter.form is not None and letter.form.kind == "row":
        return hide_row(letter, actions, types, key)
    return letter.without_raw() if text is None else text.hide_letter(letter, actions, types, key)


def read_again(
    table: TableSpec, claimed: Letters, current: CatalogTable | None, edges: Edges, keep: Callable[[], None]
) -> LettersReading:
    """Reads the letters of a replay from their place; `keep` prolongs the lease meanwhile. StaleError when the index does not
    know one of them any more."""
    entries = edges.ledger.dead_letters.find(ids=claimed.ids)
    if len(entries) != len(claimed.letters):
        raise StaleError(
            f"Cannot replay dead letters of {table.key}: {len(entries)} are known -> {len(claimed.letters)}. They are chosen anew."
        )
    have, last = data_schema(current), edges.ledger.drift.schema(table.key)
    approved = edges.ledger.holds.approvals(table.key)
    renames = renames_of(approved)
    expected = {c.name: c.type for c in expected_schema(have, last, table, renames) or ()}
    reader = _Reader(table, edges, expected, last, renames)
    rows: list[tuple[pa.RecordBatch, DeadLetter]] = []
    failed: list[DeadLetter] = []
    for letter in _from_place(entries, edges):
        keep()
        found = reader.read(letter)
        if isinstance(found, DeadLetter):
            failed.append(found)
        else:
            rows.append((found, letter))
    return _under_contract(table, have, _grouped(rows), failed, approved)


def _from_place(entries: Sequence[LetterRecord], edges: Edges) -> Iterator[DeadLetter]:
    """The letters as they were written, with their numbers, in order of these."""
    by_file: dict[str, list[LetterRecord]] = {}
    for entry in entries:
        by_file.setdefault(entry.file or "", []).append(entry)
    found: dict[int, DeadLetter] = {}
    for file, of_file in by_file.items():
        letters = read_letters(edges, file, [entry.place for entry in of_file])
        found |= {entry.id: replace(letters[entry.place], letter=entry.id) for entry in of_file}
    return (found[number] for number in sorted(found))


class _Reader:
    """One letter → one row, hidden by the rules of now; or the letter that failed again."""

    def __init__(
        self, table: TableSpec, edges: Edges, expected: Mapping[str, pa.DataType], last: TableSchema | None,
        renames: Sequence[Rename],
    ) -> None:  # fmt: skip
        self._table, self._key, self._expected, self._renames = table, edges.privacy_key, expected, renames
        self._text, self._last = text_source(edges.source), last

    def read(self, letter: DeadLetter) -> pa.RecordBatch | DeadLetter:
        form = letter.form or self._old_form(letter)
        try:
            if form is None:
                raise UnreadableError("the record was kept without what is needed to read it again")
            if form.kind == "row":
                record = self._row(letter, form)
            else:
                read = self._of_text(replace(letter, form=form), form)
                if isinstance(read, DeadLetter):
                    return read
                record = read
            actions = privacy_under(record.schema.names, self._table.privacy, self._renames)
            return self._continued(letter, hide_anew(record, form.hidden, actions, self._key))
        except UnreadableError as error:
            return _failed(letter, "value_does_not_fit", f"Cannot replay the record: {error} -> a row of the table.")
        except HiddenOtherwiseError as error:
            return _failed(letter, "hidden_otherwise", f"Cannot replay the record: {error}. The value itself was never kept.")

    def _continued(self, letter: DeadLetter, record: pa.RecordBatch) -> pa.RecordBatch | DeadLetter:
        """The row under the table's names. A letter from before a rename has the old one, a later one the new one."""
        folded = fold(record, plan_folding(TableSchema.of_arrow(record.schema), self._renames))
        if folded.dead_letters:
            (again,) = folded.dead_letters
            return _failed(letter, again.reason, again.message, again.column)
        return folded.records

    def _row(self, letter: DeadLetter, form: LetterForm) -> pa.RecordBatch:
        record = record_of_json(letter.raw)
        arrays = {name: array_of_json([record[name]], type_from_text(kind)) for name, kind in form.types.items()}
        for name in form.unread:
            if name not in self._expected:
                raise UnreadableError(f"column {name!r} has no type in the table, and the source's own was not kept")
            try:
                arrays[name] = array_of_json([record[name]], self._expected[name])
            except UnreadableError as error:
                raise UnreadableError(f"column {name!r} holds {error}") from None
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _of_text(self, letter: DeadLetter, form: LetterForm) -> pa.RecordBatch | DeadLetter:
        if self._text is None:
            raise UnreadableError("a record of a file, and the source has none")
        expected = {name: t for name, t in self._expected.items() if name not in form.hidden}
        read = self._text.read_letter(letter, expected | dict.fromkeys(form.hidden, pa.string()))
        if read.dead_letters:
            (again,) = read.dead_letters
            return _failed(letter, again.reason, again.message, again.column)
        records, told = read.records, form.told.get("columns", ())
        # A column of the table that the record does not have is NULL here, and says nothing.
        given = [n for n, array in zip(records.schema.names, records.columns, strict=True) if not array.null_count or n in told]
        return records.select(given)

    def _old_form(self, letter: DeadLetter) -> LetterForm | None:
        """Letters of version 1 have none: a row's JSON is one of the types that the source had last."""
        try:
            names = list(record_of_json(letter.raw))
        except UnreadableError:
            return None
        known = {c.name: c.type for c in self._last or ()}
        if not names or set(names) - set(known):
            return None
        return LetterForm.of_row(pa.schema([(name, known[name]) for name in names]))


def _failed(letter: DeadLetter, reason: str, message: str, column: str | None = None) -> DeadLetter:
    return replace(letter, reason=reason, message=message, column=column, raw=b"", stage="read")


def _grouped(rows: Sequence[tuple[pa.RecordBatch, DeadLetter]]) -> list[_Group]:
    shapes: dict[tuple[tuple[str, pa.DataType], ...], list[tuple[pa.RecordBatch, DeadLetter]]] = {}
    for record, letter in rows:
        shapes.setdefault(tuple((f.name, f.type) for f in record.schema), []).append((record, letter))
    return [_Group(pa.concat_batches([r for r, _ in of]), [letter for _, letter in of]) for of in shapes.values()]


def _under_contract(
    table: TableSpec, have: TableSchema | None, groups: Sequence[_Group], failed: list[DeadLetter], approved: Sequence[Approval]
) -> LettersReading:
    """The groups under one schema: the table's, as far as its contract, and what was approved of it, lets it grow by them."""
    schema = have
    for group in groups:
        schema = _plan(table, schema, group, failed, approved)
    final = schema or TableSchema()
    names = {c.name: _shown_as(c) for c in final}
    batches: list[Batch] = []
    discarded = 0
    for group in groups:
        if not group.letters:
            continue
        plan = _drift(table, final, group.records, approved)
        numbers = pa.array([letter.letter for letter in group.letters], pa.int64())
        conformed = conform(group.records, plan, table.contract, source_offsets=numbers)
        by_number = {letter.letter: letter for letter in group.letters}
        lost = [d for d in conformed.dead_letters if d.rows]
        failed += [replace(by_number[d.source_offset], reason=d.reason, message=d.message, column=d.column, raw=b"") for d in lost]
        discarded += conformed.values_discarded
        kept = range(group.records.num_rows) if conformed.kept is None else conformed.kept.tolist()
        values = tuple(d for d in conformed.dead_letters if not d.rows)
        renamed = conformed.records.rename_columns([names[name] for name in conformed.records.schema.names])
        batches += _by_file(renamed, [group.letters[i] for i in kept], values)
    origin = TableSchema(tuple(Column(_shown_as(c), c.type) for c in final))
    empty = pa.RecordBatch.from_pylist([], origin.to_arrow())
    return LettersReading(origin, [*batches, Batch(empty, tuple(failed))], discarded)


def _drift(table: TableSpec, have: TableSchema | None, records: pa.RecordBatch, approved: Sequence[Approval]) -> DriftPlan:
    needed, reserved = required_columns(table), reserved_names(table)
    observed = _observed(have, records)
    return plan_drift(have, observed, table.contract, required=needed, reserved=reserved, approved=approved)


def _shown_as(column: Column) -> str:
    """The source's name of a lake column. The text beside a retyped column (`shadow_column`) comes from that column, too, and has
    only its own."""
    return column.origin if sanitise(column.origin) == column.name else column.name


def _observed(have: TableSchema | None, records: pa.RecordBatch) -> TableSchema:
    """What the source would show if it had the table's other columns as they are: that a record lacks one says nothing."""
    given = {sanitise(f.name) for f in records.schema}
    others = [Column(_shown_as(c), c.type) for c in have or () if c.name not in given]
    return TableSchema((*(Column(f.name, f.type) for f in records.schema), *others))


def _plan(
    table: TableSpec, schema: TableSchema | None, group: _Group, failed: list[DeadLetter], approved: Sequence[Approval]
) -> TableSchema | None:
    """The schema after what the contract, or what was approved, applies for this group. Records that it would be held for are taken
    out of the group."""
    plan = _drift(table, schema, group.records, approved)
    if plan.hold or plan.refuse:
        _narrow(schema, group, failed)
        plan = _drift(table, schema, group.records, approved)
    if plan.hold or plan.refuse:
        what = "; ".join(str(change) for change in (*plan.hold, *plan.refuse))
        message = f"Cannot replay the record: {what} -> nothing that a person has to decide. A replay never changes a table so."
        failed += [_failed(letter, "needs_decision", message) for letter in group.letters]
        group.letters, group.records = [], group.records.slice(0, 0)
        return schema
    return plan.schema if group.letters else schema


def _narrow(schema: TableSchema | None, group: _Group, failed: list[DeadLetter]) -> None:
    """Brings the group's columns to the table's types; a column that the table lacks goes. Records that lose a value by it fail
    again."""
    have = {c.name: c.type for c in schema or ()}
    arrays, names = [], []
    lost = np.zeros(group.records.num_rows, bool)
    why: dict[int, tuple[str, str]] = {}
    for name, array in zip(group.records.schema.names, group.records.columns, strict=True):
        t = have.get(sanitise(name))
        if t is None:
            unfit = array.is_valid().to_numpy(zero_copy_only=False).astype(bool)
            message = f"Cannot replay the record: it has a value in column {name!r} -> none. The table has no such column."
        else:
            fitted = fit(array, t)
            unfit = np.zeros(len(array), bool) if fitted.unfit is None else fitted.unfit
            message = f"Cannot replay the record: column {name!r} has a value of type {array.type} -> one that {t} holds exactly."
            arrays.append(fitted.values)
            names.append(name)
        lost |= unfit
        for row in np.flatnonzero(unfit).tolist():
            why.setdefault(row, (name, message))
    failed += [_failed(group.letters[row], "needs_decision", message, name) for row, (name, message) in sorted(why.items())]
    stays = pa.array(~lost)
    group.records = pa.RecordBatch.from_arrays(arrays, names=names).filter(stays) if arrays else group.records.slice(0, 0)
    group.letters = [letter for letter, gone in zip(group.letters, lost.tolist(), strict=True) if not gone] if arrays else []


def _by_file(records: pa.RecordBatch, letters: Sequence[DeadLetter], values: tuple[DeadLetter, ...]) -> Iterator[Batch]:
    """The rows with where they stood in their files; `values` were left out of them."""
    places: dict[str | None, list[int]] = {}
    for row, letter in enumerate(letters):
        places.setdefault(letter.source_file, []).append(row)
    for file, rows in places.items():
        offsets = None if file is None else pa.array([letters[row].source_offset for row in rows], pa.int64())
        yield Batch(records.take(pa.array(rows, pa.int64())), values, file, offsets)
        values = ()
