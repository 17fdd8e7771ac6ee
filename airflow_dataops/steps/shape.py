"""From a source batch to a lake batch: mask, conform, deduplicate the overlap, fingerprint, stamp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from airflow_dataops.core.comparison import hiding
from airflow_dataops.core.conform import conform
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.fingerprint_mix import Words
from airflow_dataops.core.privacy import apply_privacy
from airflow_dataops.core.standards import stamp
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.sources.base import Batch, TextSource
from airflow_dataops.steps.letters import hide
from airflow_dataops.steps.overlap import KnownRows
from airflow_dataops.steps.rename_evidence import RenameEvidence

Action = Literal["keep", "mask", "hash", "drop"]


@dataclass(slots=True)
class Shaper:
    """Turns batches of one table into what is stored, and counts what happens to each row on the way.

    Masking comes before conforming, so that a dead letter of `conform` never shows a masked value, and so that a hashed
    column is text to the drift rules from the start. `known` are the rows of the re-read zone that are stored already.
    """

    table: TableSpec
    plan: DriftPlan
    actions: Mapping[str, Action]
    privacy_key: bytes | None
    batch_id: str
    ingested_at_us: int
    text: TextSource | None = None
    known: KnownRows = field(default_factory=KnownRows)
    evidence: RenameEvidence | None = None
    rows_read: int = 0
    rows_deduplicated: int = 0
    rows_unchanged: int = 0
    rows_filtered: int = 0
    rows_dead_lettered: int = 0
    values_discarded: int = 0
    source: Fingerprint = Fingerprint.EMPTY

    @property
    def is_private(self) -> bool:
        return any(action != "keep" for action in self.actions.values())

    def shape(self, batch: Batch) -> tuple[pa.RecordBatch, tuple[DeadLetter, ...]]:
        """(rows to store, always with their `_row_fingerprint`; dead letters). Every row read is in one of them, counted as
        deduplicated, or told by `rest`."""
        records = batch.records
        self.rows_read += records.num_rows + sum(d.rows for d in batch.dead_letters)
        if self.is_private:
            self.source += Fingerprint.of(row_fingerprints(records))
            records = apply_privacy(records, self.actions, self.privacy_key)
        if self.evidence is not None:
            self.evidence.add(records)
        conformed = conform(
            records, self.plan, self.table.contract, source_file=batch.source_file, source_offsets=batch.source_offsets
        )
        dead = (*self._hidden(batch, conformed.dead_letters),)
        self.rows_dead_lettered += sum(d.rows for d in dead)
        self.values_discarded += conformed.values_discarded
        rows, offsets = conformed.records, batch.source_offsets
        if conformed.kept is not None and offsets is not None:
            offsets = offsets.take(pa.array(conformed.kept))
        prints = row_fingerprints(rows)
        if self.known:
            keep, known = self.known.sift(rows, prints)
            self.rows_deduplicated += known
            if not keep.all():
                index = pa.array(np.flatnonzero(keep))
                rows, prints = rows.take(index), prints[keep]
                offsets = None if offsets is None else offsets.take(index)
        return self._stamped(rows, prints, batch.source_file, offsets), dead

    def _hidden(self, batch: Batch, conformed: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
        """The batch's letters. None of them, wherever it stopped, holds a value that privacy hides."""
        if not self.is_private:
            yield from (*batch.dead_letters, *conformed)
            return
        for letter in batch.dead_letters:
            yield hide(letter, self.actions, batch.records.schema, self.privacy_key, self.text)
        marks = hiding([name for name, action in self.actions.items() if action != "drop"], self.actions, self.privacy_key)
        for letter in conformed:
            yield letter if letter.form is None else replace(letter, form=replace(letter.form, hidden=marks))

    def rest(self) -> pa.RecordBatch | None:
        """After the last batch: the rows to store of those that could not be told from known ones before."""
        rows, known = self.known.rest()
        self.rows_deduplicated += known
        return self._stamped(rows, row_fingerprints(rows), None, None) if rows is not None else None

    def _stamped(self, rows: pa.RecordBatch, prints: Words, source_file: str | None, offsets: pa.Array | None) -> pa.RecordBatch:
        if not self.is_private:
            self.source += Fingerprint.of(prints)
        return stamp(
            rows, self.table.standards.model_copy(update={"row_fingerprint": True}), ingested_at_us=self.ingested_at_us,
            batch_id=self.batch_id, source_file=source_file, source_offsets=offsets, fingerprints=prints,
        )  # fmt: skip
