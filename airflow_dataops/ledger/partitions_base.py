"""What the ledger knows of a table's partitions one by one, and how one is dropped. Part of `ledger.base`, which re-exports it.

A dropped partition keeps its place in the order of decisions: its epoch goes on, so that nobody who built on what stood there
before can bring it back by oversight. `Decisions.current` does not tell it; whoever loads its rows again builds on nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from airflow_dataops.ledger.base import Decision, PartitionName

Dropped = Literal["retention", "gone"]
"""Why readers are shown nothing: `retention`, its period is over for long enough; `gone`, its files had vanished from the lake."""


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """The last decision about a partition, when it was made (POSIX seconds), and whether somebody may still be projecting it."""

    decision: Decision
    decided_at: float
    marked: bool


class Partitions(Protocol):
    """Every partition that ever had a decision, dropped ones included."""

    def page(self, table_key: str, after: PartitionName | None = None, limit: int = 1000) -> tuple[PartitionRecord, ...]:
        """The next page in order of name."""
        ...

    def drop(
        self, table_key: str, built_on: Mapping[PartitionName, int], why: Dropped, writer: str, audit: Mapping[str, object]
    ) -> tuple[Decision, ...]:
        """*tx* Of these partitions, those whose epoch is still the one told, that stand, and that no unfinished batch could be
        building on (an open one counts as long as its lease runs) are dropped: epoch + 1, readers shall see nothing, a
        pending mark of `writer` each. `audit` is recorded with the names in the same transaction, unless there are none.
        Returns them; the others are left for another time."""
        ...
