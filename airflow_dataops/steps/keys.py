"""Rows that meet under one key in a merge: which one stays (INVENTORY: newest wins), within the delta and against the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fingerprint import key_fingerprints
from airflow_dataops.core.fingerprint_mix import Words
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.steps.stage import Values, stamped_fingerprints

Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Settled:
    """Per partition the row numbers (0-based, in order of writing) that are not to be stored: `deduplicated` of them because
    a newer row of their key is in the delta or in the table, `unchanged` because the table holds exactly that row."""

    lost: dict[Values, NDArray[np.int64]] = field(default_factory=dict)
    deduplicated: int = 0
    unchanged: int = 0


class KeyedRows:
    """Collects 32 bytes of key and row identity a row (not the rows), plus the order value where the row names one.

    Newest = highest `write.order_by` (default: the cursor), NULL lowest; among equals the row read last, and a row of the
    delta before one of the table.
    """

    def __init__(self, table: TableSpec, names: Mapping[str, str]) -> None:
        self.keys = [names.get(k, k) for k in table.write.keys]
        order = table.write.order_by or (None if table.read.mode in ("full", "new_files") else table.read.cursor)
        self.order = names.get(order, order) if order else None
        self._table = table
        self._prints: list[Words] = []
        self._rows: list[Words] = []
        self._parts: list[NDArray[np.int32]] = []
        self._orders: list[pa.Array] = []
        self._part_ids: dict[Values, int] = {}

    def add(self, values: Values, rows: pa.RecordBatch) -> None:
        """Rows as they are written, with their `_row_fingerprint`, in that order, into the partition `values`."""
        missing = [k for k in (*self.keys, *([self.order] if self.order else [])) if k not in rows.schema.names]
        if missing:
            raise InventoryError(
                f"Cannot merge {self._table.key}: key or order column {missing[0]!r} is not in the data -> one of "
                f"{', '.join(rows.schema.names[:20])}. Fix `write.keys` and `write.order_by`; "
                "a dropped or untyped column cannot be a key."
            )
        part = self._part_ids.setdefault(values, len(self._part_ids))
        self._prints.append(key_fingerprints(rows, self.keys))
        self._rows.append(stamped_fingerprints(rows))
        self._parts.append(np.full(rows.num_rows, part, dtype=np.int32))
        if self.order:
            self._orders.append(rows.column(self.order))

    def settle(self, base: Iterable[tuple[Values, pa.RecordBatch]]) -> Settled:
        """`base`: the rows of the table as it stands (key and order columns, and `_row_fingerprint` where it is kept), with
        the partition they are in. It is only gone through once, batch by batch."""
        if not self._prints:
            return Settled()
        prints, parts = np.concatenate(self._prints), np.concatenate(self._parts)
        order = np.lexsort((prints[:, 1], prints[:, 0]))
        older = self._older(prints, order)
        stays = np.ones(len(prints), dtype=bool)
        stays[older] = False
        match = _Match(prints, order[stays[order]])
        behind, equal, met = np.zeros(len(prints), bool), np.zeros(len(prints), bool), np.zeros(len(prints), np.int64)
        delta_rows = np.concatenate(self._rows)
        orders = pa.chunked_array(self._orders) if self._orders else None
        for values, rows in base:
            mine, theirs = match.of(key_fingerprints(rows, self.keys))
            if not len(mine):
                continue
            np.add.at(met, mine, 1)
            if orders is not None:
                behind[mine[_newer_in(rows.column(self.order).take(pa.array(theirs)), orders.take(pa.array(mine)))]] = True
            same = _same_rows(rows, theirs, delta_rows[mine]) & (parts[mine] == self._part_ids.get(values, -1))
            equal[mine[same]] = True
        equal &= ~behind & (met == 1)  # a key that the table has twice is written again, once
        lost = np.flatnonzero(~stays | behind | equal)
        return Settled(self._by_part(parts, lost), len(older) + int(behind.sum()), int(equal.sum()))

    def _older(self, prints: Words, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the delta that another of its rows replaces."""
        ordered = prints[order]
        same = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))
        if not len(same):
            return np.empty(0, np.int64)
        involved = np.union1d(order[same], order[same + 1])
        values = self._values_at(involved)
        best: dict[bytes, int] = {}
        for row in involved.tolist():
            key = prints[row].tobytes()
            held = best.get(key)
            if held is None or _newer(values[row], row, values[held], held):
                best[key] = row
        return np.setdiff1d(involved, np.fromiter(best.values(), dtype=np.int64))

    def _by_part(self, parts: NDArray[np.int32], lost: NDArray[np.int64]) -> dict[Values, NDArray[np.int64]]:
        found: dict[Values, NDArray[np.int64]] = {}
        for values, part in self._part_ids.items():
            own = lost[parts[lost] == part]
            if len(own):
                found[values] = np.searchsorted(np.flatnonzero(parts == part), own)
        return found

    def _values_at(self, rows: NDArray[np.int64]) -> dict[int, Any]:
        if not self._orders:
            return dict.fromkeys(rows.tolist())
        taken = pa.chunked_array(self._orders).take(pa.array(rows))
        if pa.types.is_temporal(taken.type):  # Python has no nanoseconds; the numbers below are in the same order
            taken = taken.cast(pa.int32() if taken.type.bit_width == 32 else pa.int64())
        return dict(zip(rows.tolist(), taken.to_pylist(), strict=True))


class _Match:
    """Finds the row of the delta for each row of the table by its key. The delta's keys are distinct by now."""

    def __init__(self, prints: Words, order: NDArray[np.int64]) -> None:
        self._sorted, self._order = prints[order], order
        high = self._sorted[:, 0]
        self._places: dict[bytes, int] | None = None
        if bool((high[1:] == high[:-1]).any()):  # two keys share their high word: the slow way is exact
            self._places = {p.tobytes(): i for i, p in enumerate(self._sorted)}

    def of(self, prints: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows of the delta, rows of `prints`) that share a key."""
        if not len(self._sorted):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if self._places is not None:
            found = np.fromiter((self._places.get(p.tobytes(), -1) for p in prints), dtype=np.int64, count=len(prints))
            theirs = np.flatnonzero(found >= 0)
            return self._order[found[theirs]], theirs
        at = np.minimum(np.searchsorted(self._sorted[:, 0], prints[:, 0]), len(self._sorted) - 1)
        theirs = np.flatnonzero((self._sorted[at] == prints).all(axis=1))
        return self._order[at[theirs]], theirs


def _newer_in(theirs: pa.Array, mine: pa.Array | pa.ChunkedArray) -> Mask:
    """Where the table's order value is higher, NULL lowest."""
    higher = pc.greater(theirs, mine.combine_chunks() if isinstance(mine, pa.ChunkedArray) else mine)
    newer = pc.if_else(theirs.is_null(), False, pc.fill_null(higher, True))
    found: Mask = newer.to_numpy(zero_copy_only=False).astype(bool)
    return found


def _same_rows(rows: pa.RecordBatch, theirs: NDArray[np.int64], mine: Words) -> Mask:
    """Where the table's row is the delta's. A file that does not keep fingerprints tells nothing: not the same."""
    index = rows.schema.get_field_index("_row_fingerprint")
    if index < 0 or rows.column(index).null_count:
        return np.zeros(len(theirs), dtype=bool)
    found: Mask = (stamped_fingerprints(rows)[theirs] == mine).all(axis=1)
    return found


def _newer(value: Any, row: int, held_value: Any, held_row: int) -> bool:
    if value is None or held_value is None or value == held_value:
        return row > held_row if (value is None) == (held_value is None) else held_value is None
    return bool(value > held_value)
