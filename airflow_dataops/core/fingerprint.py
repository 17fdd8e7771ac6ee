"""Fingerprints: what content is, whatever stores it (definition `f1`, docs/adr/0002-fingerprint-f1.md).

A row's fingerprint is 128 bits over its non-NULL fields. It does not see the order of columns, NULL or absent columns,
batch and file boundaries, chunking, dictionary or view encodings, nor a safe widening of a type. A table's fingerprint
is the number of its rows and the sum of theirs modulo 2^128: order-independent, mergeable, and it can be taken back.
It is content identity, not secrecy: for personal data use a keyed digest (privacy), never this.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from airflow_dataops.core import fingerprint_native
from airflow_dataops.core.errors import InventoryError, ProofError
from airflow_dataops.core.fingerprint_mix import VERSION as VERSION
from airflow_dataops.core.fingerprint_mix import Pair, Words, seal
from airflow_dataops.core.fingerprint_values import kind_of, sum_of_fields

STANDARD_COLUMNS: frozenset[str] = frozenset({"_ingested_at", "_batch_id", "_source_file", "_source_offset", "_row_fingerprint"})
"""Columns that say how a row came here. They are never part of its identity."""

_TEXT = re.compile(r"f1:(0|-?[1-9][0-9]*):([0-9a-f]{32})", re.ASCII)
_LANE = (1 << 64) - 1
_MODULUS = 1 << 128

# How much is worked on at a time, no effect on the result: enough rows to hide the price of a numpy call, few enough
# that the words of some columns stay in the processor's cache, and not much memory where rows are large.
_PIECE_ROWS = 16_384
_PIECE_BYTES = 32 << 20
_FEWEST_ROWS = 256
_LENT_BYTES = 4 << 20


def row_fingerprints(batch: pa.RecordBatch | pa.Table, *, exclude: Collection[str] = STANDARD_COLUMNS) -> Words:
    """The fingerprint of every row: uint64 of shape (rows, 2), high word first.

    Raises InventoryError when two columns share a name, or a column's type has no agreed equality (unions).
    """
    names = [name for name in batch.schema.names if name not in exclude]
    return _fingerprints(batch, names, count_nulls=False)


def key_fingerprints(batch: pa.RecordBatch | pa.Table, keys: Sequence[str]) -> Words:
    """As `row_fingerprints` over the named columns only, in any order; NULL is a value, equal to NULL of any type.

    For merge joins and deduplication. Raises InventoryError when there is no key, or one is not a column.
    """
    missing = sorted(set(keys).difference(batch.schema.names))
    if missing or not keys:
        raise InventoryError(
            f"Cannot fingerprint keys {list(keys)}: {f'no column {missing}' if missing else 'no key'} -> key columns "
            f"among {sorted(batch.schema.names)}. Rows are matched by these columns. Correct write.keys."
        )
    return _fingerprints(batch, sorted(set(keys)), count_nulls=True)


def same_kinds(one: pa.Schema, other: pa.Schema) -> bool:
    """Whether rows keep their fingerprints when they are read under the `other` schema: safe widening changes nothing, a number
    that becomes text is another value. False also where that cannot be told at sight (nested types that differ)."""
    for name in set(one.names) & set(other.names) - STANDARD_COLUMNS:
        have, want = one.field(name).type, other.field(name).type
        if have != want and (pa.types.is_nested(have) or kind_of(have, name) != kind_of(want, name)):
            return False
    return True


def as_binary(rows: Words) -> pa.FixedSizeBinaryArray:
    """Row fingerprints as a column of 16 bytes a row, big-endian, so that bytes sort and print as the numbers do."""
    data = np.ascontiguousarray(rows, ">u8")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(data)])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Content identity of a set of rows with repetition: how many, and their sum modulo 2^128 (`hi`, `lo` words).

    A commutative group: `a + b - b == a`. Only a difference can have a negative number of rows.
    """

    EMPTY: ClassVar[Fingerprint]

    rows: int
    hi: int
    lo: int

    @classmethod
    def of(cls, rows: Words) -> Fingerprint:
        """The fingerprint of rows given by `row_fingerprints`, shape (rows, 2)."""
        hi, lo = rows[:, 0], rows[:, 1]
        # The carry between the words needs the exact sum of `lo`, hence by halves: exact up to 2^32 rows at once.
        low = int(np.sum(lo & np.uint64(0xFFFF_FFFF), dtype=np.uint64))
        high = int(np.sum(lo >> np.uint64(32), dtype=np.uint64))
        return cls._of_sum(len(rows), (int(np.sum(hi, dtype=np.uint64)) << 64) + (high << 32) + low)

    @classmethod
    def _of_sum(cls, rows: int, total: int) -> Fingerprint:
        total %= _MODULUS
        return cls(rows, total >> 64, total & _LANE)

    @property
    def _sum(self) -> int:
        return self.hi << 64 | self.lo

    def __add__(self, other: Fingerprint) -> Fingerprint:
        return Fingerprint._of_sum(self.rows + other.rows, self._sum + other._sum)

    def __sub__(self, other: Fingerprint) -> Fingerprint:
        return Fingerprint._of_sum(self.rows - other.rows, self._sum - other._sum)

    def merge(self, other: Fingerprint) -> Fingerprint:
        """The fingerprint of both sets of rows together; the same as `+`."""
        return self + other

    def __str__(self) -> str:
        return f"{VERSION}:{self.rows}:{self._sum:032x}"

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """The reverse of `str`; one text per fingerprint. Raises ProofError on another version or a malformed text."""
        match = _TEXT.fullmatch(text)
        if match is None:
            version = text.partition(":")[0][:16]
            raise ProofError(
                f"Cannot parse fingerprint {text[:80]!r}: "
                + (f"version {version!r} -> {VERSION!r}" if version != VERSION else "malformed text")
                + f" -> {VERSION}:<rows>:<32 lower-case hex digits>. Fingerprints compare only within one version. "
                "Take the fingerprint of the data again with this release."
            )
        return cls._of_sum(int(match[1]), int(match[2], 16))


Fingerprint.EMPTY = Fingerprint(0, 0, 0)


def _fingerprints(batch: pa.RecordBatch | pa.Table, names: list[str], *, count_nulls: bool) -> Words:
    repeated = sorted(name for name, times in Counter(batch.schema.names).items() if times > 1 and name in names)
    if repeated:
        raise InventoryError(
            f"Cannot fingerprint rows: columns {repeated} occur more than once -> different names. A value is known by "
            "its column's name. Rename the columns in the source's query."
        )
    # glibc hands freed blocks of 128 KiB and more back to the system, and each new one is paid for in page faults (a
    # third of all the time, measured), until it has seen a larger block come and go. Elsewhere this does nothing.
    np.empty(_LENT_BYTES, np.uint8)
    result = np.zeros((batch.num_rows, 2), np.uint64)
    done = 0
    for piece in _pieces(batch.select(names)) if names else ():
        out = result[done : done + piece.num_rows]
        if fingerprint_native.KERNEL is not None:
            fingerprint_native.fill_fingerprints(fingerprint_native.KERNEL, out, names, piece.columns, count_nulls=count_nulls)
        else:
            sums = sum_of_fields(names, piece.columns, piece.num_rows, count_nulls=count_nulls)
            seal(sums)
            out[:, 0], out[:, 1] = sums
        done += piece.num_rows
    if not names:
        seal(Pair(*result.T))
    return result


def _pieces(batch: pa.RecordBatch | pa.Table) -> Iterator[pa.RecordBatch]:
    for whole in _batches(batch):
        size = _PIECE_BYTES * whole.num_rows // max(whole.nbytes, 1)
        size = max(_FEWEST_ROWS, min(size, _PIECE_ROWS))
        for start in range(0, whole.num_rows, size):
            yield whole.slice(start, size)


def _batches(batch: pa.RecordBatch | pa.Table) -> list[pa.RecordBatch]:
    if isinstance(batch, pa.RecordBatch):
        return [batch]
    chunks = max((column.num_chunks for column in batch.columns), default=0)
    if chunks > 1 and batch.num_rows < chunks * _PIECE_ROWS // 4:  # many tiny chunks: every one would pay the calls
        batch = batch.combine_chunks()
    return list(batch.to_batches())
