"""What the ledger knows of held drift: the questions that wait for a person, the answers that stand, the batches behind them.

A batch whose drift must be held waits under a *hold*: one question per table and set of changes, however many batches show them.
Batches behind it, without a drift of their own, wait too, and for nothing but their turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.approval import Approval
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.drift import ColumnRenamed
from airflow_dataops.core.renames import RenameSuggestion

if TYPE_CHECKING:
    from airflow_dataops.ledger.base import Claim, LetterFile


@dataclass(frozen=True, slots=True)
class Hold:
    """One question. `changes` are `Change.to_json`; `why` the same as text. `batches` and `rows` still wait under it, the oldest
    since `oldest_at`. `renames`: pairs of columns that the answer `rename` is about. `decision` is None until somebody has
    answered. Times are POSIX seconds."""

    hold_id: str
    table_key: str
    source_id: str
    source_table: str
    target: str
    changes: tuple[Mapping[str, Any], ...]
    why: str
    batch_id: str
    opened_at: float
    decision: str | None
    decided_by: str | None
    decided_at: float | None
    batches: int
    rows: int
    oldest_at: float | None
    error: str | None
    renames: tuple[RenameSuggestion, ...] = ()

    @property
    def is_suggestion(self) -> bool:
        """Whether nothing waits for the answer: the columns are beside each other until somebody says that they are one."""
        return all(change["change"] == ColumnRenamed.change for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.hold_id, "source": self.source_id, "source_table": self.source_table, "target": self.target,
            "why": self.why, "changes": [dict(c) for c in self.changes], "first_batch": self.batch_id,
            "decision": self.decision, "decided_by": self.decided_by, "batches": self.batches, "rows": self.rows,
            "error": self.error, "suggestion": self.is_suggestion, "renames": [one.to_json() for one in self.renames],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Queue:
    """What of one table waits, held drift and what stands behind it. `rows` as counted in `rows_held`; `oldest_at` is when its head
    was read. `undecided`: ids of the questions that nobody has answered."""

    table_key: str
    source_id: str
    source_table: str
    target: str
    batches: int
    rows: int
    oldest_at: float
    undecided: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """A held batch that may go on, claimed by an attempt of its own. `claim.content` is what was frozen. `hold` is the answered
    question; None when it only stood behind others."""

    claim: Claim
    hold: Hold | None


class Holds(Protocol):
    """Questions, answers, and the way out of a queue: held → decided, committed (both by `Batches`), or rejected."""

    def get(self, hold_id: str) -> Hold | None: ...

    def list(self, source_id: str | None = None, *, decided: bool = False, limit: int = 100) -> tuple[Hold, ...]:
        """The oldest first: those that wait for an answer, or still have batches. `decided`: the others too, newest first."""
        ...

    def queues(self, source_id: str | None = None) -> tuple[Queue, ...]:
        """One per table of which something waits, the oldest first."""
        ...

    def decide(self, hold_id: str, answer: str, by: str, approvals: Sequence[Approval] = (), at: float | None = None) -> Hold:
        """*tx* The answer, once: ConflictError that says who answered what and when, also for the same answer again by somebody
        else; the same answer by the same person stands. `approvals` are kept for the table from then on. InventoryError for an
        id that nobody knows."""
        ...

    def suggest(
        self, table_key: str, source_id: str, batch_id: str, found: Sequence[RenameSuggestion]
    ) -> tuple[str, ...]:
        """*tx* A question for each pair that was never asked about, whatever was answered; their ids. No batch waits for it."""
        ...

    def revoke(self, hold_id: str, by: str) -> Hold:
        """*tx* An approved rename is taken back: it stands for no later batch. Again by the same person changes nothing;
        InventoryError for every other answer."""
        ...

    def approvals(self, table_key: str) -> tuple[Approval, ...]:
        """All that was ever approved of this table."""
        ...

    def is_ahead(self, claim: Claim) -> bool:
        """Whether a batch before this one, of the same partitions, is held."""
        ...

    def take(
        self, table_key: str, writer: str, nonce: str, lease_seconds: float = 300.0, but: Collection[tuple[str, int]] = ()
    ) -> Release | None:
        """*tx* The next held batch that may go on: its question is answered, or it has none, and nothing before it of its
        partitions is unfinished or held. Attempt + 1 and a new directory; it stays held. Not one whose lease runs, nor those of
        `but` (batch id, generation). None when there is none."""
        ...

    def ask(self, claim: Claim, reason: Mapping[str, Any]) -> str:
        """*tx* attempt is mine, state held: planned again, the batch needs an(other) answer. It waits under an open question of
        the same changes, or a new one; returns its id."""
        ...

    def failed(self, claim: Claim, error: str) -> None:
        """*tx* The batch could not go on, and says why. Its lease is over. Nothing when a later attempt took over."""
        ...

    def reject(
        self, claim: Claim, accounting: Accounting, dead_letters: Sequence[DeadLetter], letter_file: LetterFile | None = None
    ) -> None:
        """*tx* attempt is mine, state held → rejected; its rows are counted and indexed as dead letters."""
        ...

    def unasked(self) -> tuple[Hold, ...]:
        """Undecided ones for which no run of the approvals DAG was started."""
        ...

    def asked(self, hold_id: str) -> None:
        """*tx* A run was started for it."""
        ...

    def answered(self) -> tuple[Hold, ...]:
        """Decided ones whose run of the approvals DAG may still be asking."""
        ...

    def closed(self, hold_id: str) -> None:
        """*tx* No run asks about it any more."""
        ...

    def overdue(self, older_than_seconds: float) -> tuple[Hold, ...]:
        """Undecided ones that are so old, and of whose age nobody was told."""
        ...

    def told(self, hold_id: str) -> None:
        """*tx* Somebody knows of its age."""
        ...
