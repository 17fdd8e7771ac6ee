"""Rows that meet under one key within a merge's delta: which one stays (INVENTORY: newest wins)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fingerprint import key_fingerprints
from airflow_dataops.core.table_spec import TableSpec


class KeyedRows:
    """Collects 16 bytes of key identity a row (not the rows), plus the order value where the row names one.

    Newest = highest `write.order_by` (default: the watermark's cursor), NULL lowest; among equals the row read last.
    """

    def __init__(self, table: TableSpec, names: Mapping[str, str]) -> None:
        self._keys = [names.get(k, k) for k in table.write.keys]
        order = table.write.order_by or (table.read.cursor if table.read.mode == "watermark" else None)
        self._order = names.get(order, order) if order else None
        self._table = table
        self._prints: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []
        self._orders: list[pa.Array] = []
        self._part_ids: dict[tuple[str | None, ...], int] = {}

    def add(self, values: tuple[str | None, ...], rows: pa.RecordBatch) -> None:
        """Rows as they are written, in that order, into the partition `values`."""
        missing = [k for k in (*self._keys, *([self._order] if self._order else [])) if k not in rows.schema.names]
        if missing:
            raise InventoryError(
                f"Cannot merge {self._table.key}: key or order column {missing[0]!r} is not in the data -> one of "
                f"{', '.join(rows.schema.names[:20])}. Fix `write.keys` and `write.order_by`; "
                "a dropped or untyped column cannot be a key."
            )
        part = self._part_ids.setdefault(values, len(self._part_ids))
        self._prints.append(key_fingerprints(rows, self._keys))
        self._parts.append(np.full(rows.num_rows, part, dtype=np.int32))
        if self._order:
            self._orders.append(rows.column(self._order))

    def losers(self) -> dict[tuple[str | None, ...], np.ndarray]:
        """Per partition the row numbers (0-based, in order of writing) that a newer row of the same key replaces."""
        if not self._prints:
            return {}
        prints = np.concatenate(self._prints)
        order = np.lexsort((prints[:, 1], prints[:, 0]))
        ordered = prints[order]
        same = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))
        if not len(same):
            return {}
        involved = np.union1d(order[same], order[same + 1])
        values = self._values_at(involved)
        best: dict[bytes, int] = {}
        for row in involved.tolist():
            key = prints[row].tobytes()
            held = best.get(key)
            if held is None or _newer(values[row], row, values[held], held):
                best[key] = row
        lost = np.setdiff1d(involved, np.fromiter(best.values(), dtype=np.int64))
        parts = np.concatenate(self._parts)
        return {v: self._within(parts, i, lost) for v, i in self._part_ids.items() if (parts[lost] == i).any()}

    @staticmethod
    def _within(parts: np.ndarray, part: int, lost: np.ndarray) -> np.ndarray:
        rows_of_part = np.flatnonzero(parts == part)
        found: np.ndarray = np.searchsorted(rows_of_part, lost[parts[lost] == part])
        return found

    def _values_at(self, rows: np.ndarray) -> dict[int, Any]:
        if not self._orders:
            return dict.fromkeys(rows.tolist())
        taken = pa.chunked_array(self._orders).take(pa.array(rows)).to_pylist()
        return dict(zip(rows.tolist(), taken, strict=True))


def _newer(value: Any, row: int, held_value: Any, held_row: int) -> bool:
    if value is None or held_value is None or value == held_value:
        return row > held_row if (value is None) == (held_value is None) else held_value is None
    return bool(value > held_value)
