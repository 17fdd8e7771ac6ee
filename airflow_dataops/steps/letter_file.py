"""Files of dead letters in the restricted place: the full records of one attempt, each in its envelope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from airflow_dataops.core.dead_letter import ENVELOPE, RAW_BYTES, DeadLetter, LetterForm
from airflow_dataops.core.errors import ProofError
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import FileLayout, FileWriter
from airflow_dataops.ledger.base import Claim, LetterFile
from airflow_dataops.steps.run import Edges

LETTER_SCHEMA = pa.schema(
    [
        ("reason", pa.string()), ("message", pa.string()), ("column", pa.string()), ("source_file", pa.string()),
        ("source_offset", pa.int64()), ("rows", pa.int64()), ("raw", pa.binary()), ("source", pa.string()),
        ("source_table", pa.string()), ("batch_id", pa.string()),
        # since version 2
        ("version", pa.int16()), ("table", pa.string()), ("generation", pa.int64()), ("attempt", pa.int64()),
        ("stage", pa.string()), ("form", pa.string()), ("withheld", pa.bool_()), ("raw_bytes", pa.int64()),
        ("schema_fingerprint", pa.string()), ("seen_at", pa.timestamp("us", "UTC")),
    ]
)  # fmt: skip
_LAYOUT = FileLayout(dictionary=("form", "schema_fingerprint", "source", "source_table", "batch_id", "table"), uncompressed=())


class DeadLetterFile:
    """The full records, in the restricted place; the first `KEEP` (of `KEEP_BYTES` together) are kept at hand for the
    ledger's index. The ledger knows of the file before it is there, so that somebody deletes it one day; it has a folder of its
    own (`name`), so that this deletes nothing else."""

    KEEP = 1000
    KEEP_BYTES = 16 << 20

    def __init__(self, table: TableSpec, claim: Claim, edges: Edges, name: str) -> None:
        self._edges, self._lake, self._table, self._claim = edges, edges.dead_letters, table, claim
        self._path = f"{claim.directory}/{name}/letters.parquet"
        self._writer: FileWriter | None = None
        self._letters = self._rows = self._kept_bytes = 0
        self.kept: list[DeadLetter] = []
        self.schema_fingerprint: str | None = None
        self._reasons: Counter[str] = Counter()
        self._closed = False

    @property
    def uri(self) -> str:
        return self._lake.uri(self._path)

    @property
    def indexed(self) -> LetterFile | None:
        """What the ledger's index needs to know of the file; None when there is none."""
        if self._writer is None:
            return None
        rows = self._rows - sum(letter.rows for letter in self.kept)
        return LetterFile(self._path, self.schema_fingerprint, self._letters - len(self.kept), rows)

    def reasons(self) -> str:
        """How many rows for which reason, the most frequent first; never a value."""
        return ", ".join(f"{reason}: {rows}" for reason, rows in self._reasons.most_common(5))

    def write(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        if self._writer is None:
            self._edges.ledger.dead_letters.begin_file(self._table.key, self._table.source_id, self._path)
            self._writer = self._lake.open_file(self._path, LETTER_SCHEMA, _LAYOUT)
        for letter in letters:
            self._reasons[letter.reason] += letter.rows
            # The index has the first ones, without a gap: an entry's number in the file is its place.
            if len(self.kept) == self._letters and self._letters < self.KEEP and self._kept_bytes < self.KEEP_BYTES:
                self.kept.append(letter)
                self._kept_bytes += len(letter.raw)
            self._letters += 1
            self._rows += letter.rows
        self._writer.write(pa.RecordBatch.from_pylist(list(self._as_rows(letters)), LETTER_SCHEMA))

    def _as_rows(self, letters: Sequence[DeadLetter]) -> Iterator[dict[str, object]]:
        claim, now = self._claim, int(self._edges.clock() * 1_000_000)
        for d in letters:
            yield {
                "reason": d.reason, "message": d.message, "column": d.column, "source_file": d.source_file,
                "source_offset": d.source_offset, "rows": d.rows, "raw": d.raw[:RAW_BYTES], "source": self._table.source_id,
                "source_table": self._table.source_table, "batch_id": claim.batch_id, "version": ENVELOPE,
                "table": self._table.name, "generation": claim.generation, "attempt": claim.attempt, "stage": d.stage,
                "form": d.form.text if d.form is not None and d.can_replay else None, "withheld": d.withheld,
                "raw_bytes": len(d.raw), "schema_fingerprint": self.schema_fingerprint, "seen_at": now,
            }  # fmt: skip

    def close(self) -> None:
        """ProofError when the footer does not show what was written. Safe to call again."""
        if self._writer is None or self._closed:
            return
        self._closed = True
        told = {"source": self._table.key, "batch_id": self._claim.batch_id, "envelope": str(ENVELOPE)}
        self._writer.close(told)
        footer = self._lake.footer(self._path)
        if footer.rows != self._letters:
            raise ProofError(f"Cannot prove dead letters {self._path}: footer says {footer.rows} -> {self._letters} written.")

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()


def read_letters(edges: Edges, file: str, places: Sequence[int]) -> dict[int, DeadLetter]:
    """The letters at these numbers of a file, by number. ProofError when the file, or one of them, is not there."""
    path = file if not file.endswith("/") else _only_file(edges, file)
    wanted = sorted(set(places))
    found: dict[int, DeadLetter] = {}
    first = 0
    for rows in edges.dead_letters.read([path], LETTER_SCHEMA):
        here = [place - first for place in wanted if first <= place < first + rows.num_rows]
        for place, row in zip(here, rows.take(pa.array(here, pa.int64())).to_pylist(), strict=True):
            found[first + place] = _letter(row)
        first += rows.num_rows
    if len(found) != len(wanted):
        raise ProofError(
            f"Cannot read dead letters {edges.dead_letters.uri(path)}: {first} records -> at least {wanted[-1] + 1}. Somebody "
            "changed the file."
        )
    return found


def _only_file(edges: Edges, folder: str) -> str:
    """Letters of before the index named their file are in the only one of their attempt's folder."""
    listed = edges.dead_letters.list(folder.rstrip("/"))
    if len(listed) != 1:
        raise ProofError(
            f"Cannot find dead letters in {edges.dead_letters.uri(folder)}: {len(listed)} files -> one. Somebody changed it."
        )
    return listed[0].path


def _letter(row: dict[str, Any]) -> DeadLetter:
    return DeadLetter(
        row["reason"], row["message"], row["raw"], row["source_file"], row["source_offset"], row["column"], row["rows"],
        row["stage"] or "read", None if row["form"] is None else _form(row["form"]), bool(row["withheld"]),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _form(text: str) -> LetterForm:
    return LetterForm.of_text(text)
