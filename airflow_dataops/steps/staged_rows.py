"""The rows of one attempt, from the moment they have the lake's shape: into files, each key once, counted and proved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from airflow_dataops.core.errors import LimitError, ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS, Fingerprint
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import Claim, Decision, StagedPartition
from airflow_dataops.steps.keys import KeyedRows
from airflow_dataops.steps.lease import Lease
from airflow_dataops.steps.letter_file import DeadLetterFile
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.stage import PartitionFiles, Values, WrittenPartition
from airflow_dataops.steps.target import keys_fix_partition

FREE_DEAD_LETTERS = 10
"""A share says nothing about a handful: `max_share` is judged beyond this many dead letters, or when no row was good."""


class Counts(Protocol):
    """What is counted of an attempt's rows before they are proved."""

    rows_read: int
    rows_deduplicated: int
    rows_unchanged: int
    rows_dead_lettered: int


@dataclass(frozen=True, slots=True)
class Proved:
    """The partitions as they were staged, the fingerprint over all of them, and their rows: `written` to be published,
    `unchanged` in partitions that equal what is decided."""

    partitions: tuple[StagedPartition, ...]
    fingerprint: Fingerprint
    written: int
    unchanged: int


class StagedRows:
    """`schema` (data and standard columns) and `hidden` are set before the first row is stored."""

    def __init__(self, table: TableSpec, claim: Claim, edges: Edges, restart: int = 0) -> None:
        self.table, self.claim, self.edges = table, claim, edges
        self.directory = claim.directory if not restart else f"{claim.directory}/r{restart}"
        self.letters = DeadLetterFile(table, claim, edges, f"dead-{restart:03d}")
        self.files: PartitionFiles | None = None
        self.keyed: KeyedRows | None = None
        self.schema = TableSchema()
        self.hidden: Mapping[str, str] = {}
        self.lease = Lease(claim, edges)

    def place(self, directory: str) -> PartitionFiles:
        return PartitionFiles(self.edges.lake, directory, self.claim.object_name, self.table, self.schema.to_arrow(), self.hidden)

    def store(self, values: Values, rows: pa.RecordBatch, files: PartitionFiles) -> None:
        files.write(values, rows)
        if self.keyed is not None:
            self.keyed.add(values, rows)

    def deduplicated(self, counts: Counts) -> list[WrittenPartition]:
        """Closes the files; in a merge, rewrites the partitions with rows that are not to be stored: a newer one of their key
        is in the delta or in the table, or the table has that very row."""
        if self.files is None:
            raise ProofError(f"Cannot stage {self.table.key}: no file place was opened -> one. This is a defect.")
        written = self.files.close()
        if self.keyed is None:
            return written
        settled = self.keyed.settle(self._base(self.keyed, written))
        if not settled.lost:
            return written
        again = self.place(f"{self.directory}/d")
        try:
            for part in written:
                if part.values in settled.lost:
                    again.partition(part.values)
                    self._rewrite(part, settled.lost[part.values], again)
            replaced = {part.values: part for part in again.close()}
        except BaseException:
            again.abort()
            raise
        counts.rows_deduplicated += settled.deduplicated
        counts.rows_unchanged += settled.unchanged
        return [replaced.get(part.values, part) for part in written]

    def _base(self, keyed: KeyedRows, written: list[WrittenPartition]) -> Iterator[tuple[Values, pa.RecordBatch]]:
        """The rows of the table that may share a key with the delta. The claim keeps them as they are until the decision."""
        decisions = self.edges.ledger.decisions.current(self.table.key)
        if keys_fix_partition(self.table):
            decisions = {part.name: decisions[part.name] for part in written if part.name in decisions}
        schema = self.schema.to_arrow()
        wanted = {*keyed.keys, *([keyed.order] if keyed.order else ()), "_row_fingerprint"}
        columns = [name for name in schema.names if name in wanted]
        for decision in decisions.values():
            paths = [entry.path for entry in self.edges.lake.list(decision.location)]
            for rows in self.edges.lake.read(paths, schema, columns):
                self.lease.keep()
                yield decision.values, rows

    def _rewrite(self, part: WrittenPartition, lost: np.ndarray, into: PartitionFiles) -> None:
        """The rows of a written partition but the `lost` ones, into new files."""
        start = 0
        for rows in self.edges.lake.read([f.path for f in part.files], self.schema.to_arrow()):
            self.lease.keep()
            keep = np.ones(rows.num_rows, dtype=bool)
            keep[lost[(lost >= start) & (lost < start + rows.num_rows)] - start] = False
            start += rows.num_rows
            if keep.any():
                into.write(part.values, rows.filter(pa.array(keep)))

    def _is_unchanged(self, part: WrittenPartition, decision: Decision | None) -> bool:
        """Whether overwriting this partition would change nothing: it equals the current decision, and the lake still holds
        what was decided (files that somebody deleted are written again)."""
        if decision is None or self.table.write.mode != "overwrite_partition":
            return False
        if decision.fingerprint != str(part.fingerprint) or not _holds(decision.schema, self.schema):
            return False
        return sum(entry.bytes for entry in self.edges.lake.list(decision.location)) == decision.bytes

    def proved(self, written: list[WrittenPartition], *, waits: bool) -> Proved:
        """The rows by partition, from the files' own footers. What `waits` is compared with nothing: the table will be another."""
        decisions: dict[str, Decision] = {}
        if not waits:
            decisions = self.edges.ledger.decisions.current(self.table.key, [part.name for part in written])
        staged, total, rows_written, rows_unchanged = [], Fingerprint.EMPTY, 0, 0
        for part in written:
            if not waits and not part.rows and self._brings_nothing(part, decisions):
                continue
            print_ = part.fingerprint
            same = not waits and self._is_unchanged(part, decisions.get(part.name))
            total += print_
            rows_unchanged += part.rows if same else 0
            rows_written += 0 if same else part.rows
            staged.append(
                StagedPartition(
                    part.name, part.values, part.directory,
                    tuple({"path": f.path, "rows": f.rows, "bytes": f.bytes, "fingerprint": f.fingerprint} for f in part.files),
                    part.rows, str(print_), same, part.profile,
                )
            )  # fmt: skip
        return Proved(tuple(staged), total, rows_written, rows_unchanged)

    def _brings_nothing(self, part: WrittenPartition, decisions: Mapping[str, Decision]) -> bool:
        """An empty delta of a partition that is there, or that only rows would bring into being. (An overwritten one becomes
        empty by it.)"""
        if self.table.write.mode == "overwrite_partition":
            return False
        return part.name in decisions or any(p.column is not None for p in self.table.target.partition_by)

    def check_limits(self, counts: Counts, *, final: bool = True) -> None:
        """LimitError when more records failed than the row allows: nothing is published then."""
        dead, read = counts.rows_dead_lettered, counts.rows_read
        limits = self.table.dead_letters
        why = f"({self.letters.reasons()}) Nothing was published. The records are in {self.letters.uri}"
        if limits.max_rows is not None and dead > limits.max_rows:
            raise LimitError(
                f"Cannot load {self.table.key}: {dead} dead letters -> at most {limits.max_rows} (`dead_letters.max_rows`). {why}. "
                "Fix the source, or raise the limit."
            )
        share_allows = math.ceil(limits.max_share * read)
        free = 0 if limits.max_share == 0 or dead == read else FREE_DEAD_LETTERS
        if final and dead > max(share_allows, free):
            raise LimitError(
                f"Cannot load {self.table.key}: {dead} of {read} records are dead letters -> at most {limits.max_share:.2%} "
                f"(`dead_letters.max_share`). {why}. Fix the source, or raise the limit."
            )

    def abort(self) -> None:
        """Closes what is open and leaves it to the expiry of lost directories."""
        if self.files is not None:
            self.files.abort()


def _holds(have: TableSchema, new: TableSchema) -> bool:
    """Whether every data column of the new files is in the standing ones, so that equal fingerprints mean equal rows
    (a new column that is all NULL does not count)."""
    return {c.name for c in new} - STANDARD_COLUMNS >= {c.name for c in have} - STANDARD_COLUMNS or have == new
