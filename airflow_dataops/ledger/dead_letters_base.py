"""What the ledger knows of dead letters: an index over the files in the restricted place, and what became of each record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from airflow_dataops.core.dead_letter import DeadLetter

LetterState = Literal["open", "replaying", "replayed", "discarded", "superseded", "expired"]
"""open → replaying (its replay is frozen) → replayed; open → open with one attempt more (it failed again); open → discarded,
expired (its record is deleted), or superseded (its batch was run again, and read the record again)."""


NOT_LISTED = "not_listed"
"""Reason of an entry that stands for many records of a file, without entries of their own yet."""


@dataclass(frozen=True, slots=True)
class LetterFile:
    """A file of dead letters that a batch has made, as its freeze indexes it: `more_letters` records (of `more_rows` rows) lie
    behind those that get an entry of their own. `schema_fingerprint` is of the source's schema at that time."""

    file: str
    schema_fingerprint: str | None = None
    more_letters: int = 0
    more_rows: int = 0


@dataclass(frozen=True, slots=True)
class LetterRecord:
    """One entry of the index. `preview` has the record's shape, never its values. Times are POSIX seconds. `letters` > 1: the
    entry stands for so many records."""

    id: int
    table_key: str
    source_id: str
    source_table: str
    target: str
    batch_id: str
    generation: int
    period_key: str
    batch_state: str
    state: LetterState
    reason: str
    message: str
    preview: str
    raw_bytes: int
    source_file: str | None
    source_offset: int | None
    column: str | None
    rows: int
    stage: str
    file: str | None
    place: int
    letters: int
    can_replay: bool
    withheld: bool
    schema_fingerprint: str | None
    attempts: int
    first_seen_at: float
    last_seen_at: float
    replay_batch_id: str | None
    changed_by: str | None
    changed_at: float | None
    why: str | None


@dataclass(frozen=True, slots=True)
class LetterCount:
    """How many letters (and rows) of a table are in a state."""

    source_id: str
    source_table: str
    target: str
    state: LetterState
    letters: int
    rows: int


@dataclass(frozen=True, slots=True)
class Expiry:
    """`files` are to be deleted: those that expired now, and what an earlier expiry has left. `unheeded` letters were still
    open: nobody had replayed or discarded them."""

    files: tuple[str, ...] = ()
    unheeded: int = 0


class DeadLetters(Protocol):
    """The index of dead letters. `Batches.freeze` fills it; a replay's freeze and commit change it."""

    def begin_file(self, table_key: str, source_id: str, file: str) -> None:
        """*tx* Before an attempt writes its first letter: somebody has to delete this file one day."""
        ...

    def find(
        self, source_id: str | None = None, *, ids: Collection[int] = (), states: Collection[str] = (), reason: str | None = None,
        table_key: str | None = None, limit: int | None = None,
    ) -> tuple[LetterRecord, ...]:  # fmt: skip
        """Newest first; `ids` alone, when given. A letter whose replay was rejected is open again."""
        ...

    def counts(self, source_id: str | None = None) -> tuple[LetterCount, ...]:
        """By table and state."""
        ...

    def discard(self, ids: Collection[int], who: str, why: str) -> tuple[int, ...]:
        """*tx* Of these, those that are open → discarded; returns them. The others stay as they are."""
        ...

    def unfold(self, entry: LetterRecord, letters: Sequence[DeadLetter]) -> None:
        """*tx* Gives the first records that an entry stands for entries of their own (`letters`, in their order in the file).
        Nothing when somebody else has done it since the entry was read."""
        ...

    def sources_with_files(self, begun_before: float) -> tuple[str, ...]:
        """Ids of the sources, by their name of now, that have files begun before that moment which are not deleted."""
        ...

    def expire(self, source_id: str, before: float) -> Expiry:
        """*tx* Letters of files begun before that moment expire: the open ones change their state. A file whose letters are being
        replayed stays until that is over."""
        ...

    def forget(self, files: Collection[str]) -> None:
        """*tx* After their deletion."""
        ...
