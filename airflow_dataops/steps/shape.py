"""From a source batch to a lake batch: mask, conform, deduplicate the overlap, fingerprint, stamp."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from airflow_dataops.core.conform import conform
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.privacy import apply_privacy
from airflow_dataops.core.standards import stamp
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.sources.base import Batch

Action = Literal["keep", "mask", "hash", "drop"]


@dataclass(slots=True)
class Shaper:
    """Turns batches of one table into what is stored, and counts what happens to each row on the way.

    Masking comes before conforming, so that a dead letter of `conform` never shows a masked value, and so that a hashed
    column is text to the drift rules from the start. `overlap` maps row fingerprints (of stored values) that the lake
    already has in the re-read zone to how often.
    """

    table: TableSpec
    plan: DriftPlan
    actions: Mapping[str, Action]
    privacy_key: bytes | None
    batch_id: str
    ingested_at_us: int
    overlap: Counter[bytes] = field(default_factory=Counter)
    rows_read: int = 0
    rows_deduplicated: int = 0
    rows_unchanged: int = 0
    rows_dead_lettered: int = 0
    values_discarded: int = 0
    source: Fingerprint = Fingerprint.EMPTY

    @property
    def is_private(self) -> bool:
        return any(action != "keep" for action in self.actions.values())

    def shape(self, batch: Batch) -> tuple[pa.RecordBatch, tuple[DeadLetter, ...]]:
        """(rows to store, always with their `_row_fingerprint`; dead letters). Every row read is in one of them, or
        counted as deduplicated."""
        records = batch.records
        self.rows_read += records.num_rows + sum(d.rows for d in batch.dead_letters)
        if self.is_private:
            self.source += Fingerprint.of(row_fingerprints(records))
            records = apply_privacy(records, self.actions, self.privacy_key)
        conformed = conform(
            records, self.plan, self.table.contract, source_file=batch.source_file, source_offsets=batch.source_offsets
        )
        dead = (*batch.dead_letters, *conformed.dead_letters)
        self.rows_dead_lettered += sum(d.rows for d in dead)
        self.values_discarded += conformed.values_discarded
        rows, offsets = conformed.records, batch.source_offsets
        if conformed.kept is not None and offsets is not None:
            offsets = offsets.take(pa.array(conformed.kept))
        prints = row_fingerprints(rows)
        if self.overlap:
            keep = self._not_overlapping(prints)
            if not keep.all():
                index = pa.array(np.flatnonzero(keep))
                rows, prints = rows.take(index), prints[keep]
                offsets = None if offsets is None else offsets.take(index)
        if not self.is_private:
            self.source += Fingerprint.of(prints)
        stamped = stamp(
            rows, self.table.standards.model_copy(update={"row_fingerprint": True}), ingested_at_us=self.ingested_at_us,
            batch_id=self.batch_id, source_file=batch.source_file, source_offsets=offsets, fingerprints=prints,
        )  # fmt: skip
        return stamped, dead

    def _not_overlapping(self, prints: np.ndarray) -> np.ndarray:
        """Only the overlap zone is small, so only its rows are looked at one by one: candidates are found vectorised."""
        keep = np.ones(len(prints), dtype=bool)
        known = np.frombuffer(b"".join(self.overlap), dtype=np.uint64).reshape(-1, 2)
        for row in np.flatnonzero(np.isin(prints[:, 0], known[:, 0])):
            identity = prints[row].tobytes()
            if self.overlap[identity] > 0:
                self.overlap[identity] -= 1
                self.rows_deduplicated += 1
                keep[row] = False
        return keep
