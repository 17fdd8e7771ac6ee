"""A batch as its source gave it → rows exactly of the table's schema, and dead letters for what cannot go on.

Works by column; only rows at fault are looked at one by one. Every row that comes in goes out as a row or as one dead
letter, and every value survives exactly or is accounted for: nothing is rounded, cut or guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types as pt

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.drift import ColumnAdded, ColumnRetyped, TableCreated, TypeWidened
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.errors import ConflictError, DriftHeldError
from airflow_dataops.core.fit import Fitted, fit, untyped_values
from airflow_dataops.core.row_json import dump, json_values, rows_to_json
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.types_text import type_to_text

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Conformed:
    """`records` has the columns of `plan.schema`. `kept` are the indexes of the rows it came from (None: all).

    `dead_letters` have one letter per lost row, and one of 0 rows per column that lost values by `discard_value`:
    its raw form is `{"column", "values": [[source offset or row index, value], …]}`. `values_discarded` counts these.
    """

    records: pa.RecordBatch
    kept: NDArray[np.int64] | None = None
    dead_letters: tuple[DeadLetter, ...] = ()
    values_discarded: int = 0


def conform(
    records: pa.RecordBatch,
    plan: DriftPlan,
    contract: ContractSpec,
    *,
    source_file: str | None = None,
    source_offsets: pa.Array | None = None,
) -> Conformed:
    """Brings `records` (source names) to `plan.schema` (lake names, order, types; absent columns are NULL).

    `source_offsets` tells where each row stood. DriftHeldError when the plan holds or refuses something;
    ConflictError when the batch has a column that was not planned.
    """
    _refuse_unplanned(records, plan)
    rows = records.num_rows
    faults = _Faults(records, contract, source_file, source_offsets)
    by_target = {plan.names[name]: index for index, name in enumerate(records.schema.names)}
    discarded = {c.name: c for c in plan.dead_letter if isinstance(c, ColumnAdded | ColumnRetyped | TypeWidened)}
    arrays = []
    for column in plan.schema:
        index = by_target.pop(column.name, None)
        if index is None:
            arrays.append(pa.nulls(rows, column.type))
            continue
        change = discarded.get(column.name)
        source = records.column(index)
        fitted = _by_policy_only(source, column.type) if isinstance(change, ColumnRetyped) else fit(source, column.type)
        arrays.append(fitted.values)
        if fitted.unfit is not None:
            faults.unfit(index, fitted.unfit, column.type, by_contract=change is not None)
        empty = untyped_values(source)
        if empty is not None:
            faults.untyped(index, empty)
    if any(isinstance(c, TableCreated) for c in plan.dead_letter):
        faults.every_row("contract_tables", "the contract discards rows of new tables (`contract.tables: discard_row`)")
    else:
        for target, index in by_target.items():
            faults.left_out(index, by_contract=target in discarded)
        if not arrays:
            faults.every_row("no_typed_column", "no column of the table has a type yet, so there is nothing to store")
    return faults.conformed(arrays, plan.schema.to_arrow())


def _refuse_unplanned(records: pa.RecordBatch, plan: DriftPlan) -> None:
    if plan.hold or plan.refuse:
        changes = "; ".join(str(change) for change in (*plan.hold, *plan.refuse))
        raise DriftHeldError(
            f"Cannot conform a batch: {changes} -> a plan without held changes. Storing it now would leave out what a "
            "person has to decide about. Approve or reject the drift."
        )
    unplanned = [name for name in records.schema.names if name not in plan.names]
    if unplanned:
        raise ConflictError(
            f"Cannot conform a batch: columns {unplanned} -> the planned ones {sorted(plan.names)}. The source changed "
            "after the plan was made. Plan again."
        )


def _by_policy_only(source: pa.Array, target: pa.DataType) -> Fitted:
    """A retyped column under a discarding contract: its values fit a column of text, or a date a timestamp, by policy
    only, and here the policy said no."""
    fitted = fit(source, target)
    if pt.is_string(target) or (pt.is_timestamp(target) and pt.is_date(source.type)):
        valid: Mask = source.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
        return Fitted(pa.nulls(len(source), target), valid)
    return fitted


@dataclass(slots=True)
class _Faults:
    """What goes wrong in one batch, column by column, and what becomes of it."""

    records: pa.RecordBatch
    contract: ContractSpec
    source_file: str | None
    source_offsets: pa.Array | None
    lost: dict[int, tuple[str, str, str | None]] = field(default_factory=dict)
    """row → (reason, message, column): the first fault of each lost row"""
    discards: list[tuple[int, Mask, str, str]] = field(default_factory=list)
    """(column, rows, reason, message) of values left out of rows that stay"""

    def unfit(self, index: int, rows: Mask, target: pa.DataType, *, by_contract: bool) -> None:
        name, t = self.records.schema.names[index], self.records.schema.types[index]
        reason = "contract_types" if by_contract else "value_out_of_range"
        message = (
            f"Cannot store column {name!r}: a value of type {type_to_text(t)} -> one that {type_to_text(target)} holds "
            f"exactly. Values are never rounded or cut. Widen the type (`contract.types: evolve`), or correct the source."
        )
        self._fault(index, rows, reason, message, discard=self.contract.types == "discard_value")

    def left_out(self, index: int, *, by_contract: bool) -> None:
        """A column the table does not have: discarded by contract, or without a type."""
        source, name = self.records.column(index), self.records.schema.names[index]
        if source.null_count == len(source):
            return
        rows: Mask = source.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
        if not by_contract:
            self.untyped(index, rows)
            return
        policy = self.contract.columns
        message = (
            f"Cannot store column {name!r}: `contract.columns: {policy}` -> `evolve`. The table does not have it, and may "
            "not get it. Let the contract evolve, or drop the column with `privacy.columns`."
        )
        self._fault(index, rows, "contract_columns", message, discard=policy == "discard_value")

    def untyped(self, index: int, rows: Mask) -> None:
        """Empty lists and structs that no value has given a type yet: NULL stands for them."""
        message = (
            f"Cannot store part of column {self.records.schema.names[index]!r}: an empty list or object -> one with a "
            "value. Nothing has shown its type yet. Nothing to do: it is stored once a value comes."
        )
        self._fault(index, rows, "untyped_value", message, discard=True)

    def every_row(self, reason: str, why: str) -> None:
        for row in range(self.records.num_rows):
            self.lost.setdefault(row, (reason, f"Cannot store the row: {why}.", None))

    def _fault(self, index: int, rows: Mask, reason: str, message: str, *, discard: bool) -> None:
        if discard:
            self.discards.append((index, rows, reason, message))
            return
        column = self.records.schema.names[index]
        for row in np.flatnonzero(rows).tolist():
            self.lost.setdefault(row, (reason, message, column))

    def conformed(self, arrays: list[pa.Array], schema: pa.Schema) -> Conformed:
        stays = np.ones(self.records.num_rows, np.bool_)
        stays[list(self.lost)] = False
        letters = (*self._lost_rows(), *self._lost_values(stays))
        discarded = sum(int((rows & stays).sum()) for _, rows, _, _ in self.discards)
        result = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if stays.all():
            return Conformed(result, None, letters, discarded)
        kept = np.flatnonzero(stays)
        return Conformed(result.take(pa.array(kept)), kept, letters, discarded)

    def _lost_rows(self) -> Iterator[DeadLetter]:
        rows = sorted(self.lost)
        if not rows:
            return
        form = LetterForm.of_row(self.records.schema)
        for row, raw in zip(rows, rows_to_json(self.records.take(pa.array(rows))), strict=True):
            reason, message, column = self.lost[row]
            yield DeadLetter(reason, message, raw, self.source_file, self._offset(row), column, stage="conform", form=form)

    def _lost_values(self, stays: Mask) -> Iterator[DeadLetter]:
        for index, rows, reason, message in self.discards:
            at = np.flatnonzero(rows & stays)
            if not len(at):
                continue
            name = self.records.schema.names[index]
            values = json_values(self.records.column(index).take(pa.array(at)))
            places = [row if self.source_offsets is None else self._offset(row) for row in at.tolist()]
            raw = dump({"column": name, "values": [list(pair) for pair in zip(places, values, strict=True)]})
            yield DeadLetter(reason, message, raw, self.source_file, None, name, rows=0, stage="conform")

    def _offset(self, row: int) -> int | None:
        if self.source_offsets is None:
            return None
        value = self.source_offsets[row].as_py()
        return None if value is None else int(value)
