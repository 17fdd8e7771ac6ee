"""What the ledger remembers of sources: which rows there were, which are retired, and what a source was called before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

SourceState = Literal["active", "retired", "restored", "deleted"]
"""active → retired → deleted; retired → restored (the row is back, its DAG may still be paused) → active; deleted → active."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A row that some bundle has shown. `row` is its JSON when it was last good. `since`, `delete_at`: POSIX seconds; the second
    is when a retired DAG's grace is over. `paused`: it was the product that paused the DAG."""

    source_id: str
    bundle: str
    state: SourceState
    row: str
    since: float
    delete_at: float | None = None
    renamed_to: str | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Retirement:
    """A row that is gone. `renamed_to` is the source that has its state now, if any."""

    source_id: str
    delete_at: float
    renamed_to: str | None = None


class Sources(Protocol):
    """Rows as a bundle has shown them, and their names. State of tables hangs on the id that a source had first (its *state
    id*), so a rename moves nothing: neither a crash nor a run of the old name that is still under way can double a row."""

    def known(self, bundle: str) -> dict[str, str]:
        """Id → JSON of the rows of a bundle that are neither retired nor deleted."""
        ...

    def leaving(self, bundle: str) -> tuple[SourceRecord, ...]:
        """The retired ones, and the restored ones whose DAG is not settled yet, in order of id."""
        ...

    def apply(self, bundle: str, shown: Mapping[str, str], gone: Sequence[Retirement]) -> None:
        """*tx* `shown` (id → JSON) are rows of this bundle from now on: new, edited, or back again. `gone` are retired, unless
        they are already or another bundle has them by now; a retired one learns of the name that it was renamed to."""
        ...

    def paused(self, source_ids: Iterable[str]) -> None:
        """*tx* The product is about to pause the DAGs of these retired sources, so it may unpause them."""
        ...

    def settled(self, source_ids: Iterable[str]) -> None:
        """*tx* restored → active: their DAGs are as they were before."""
        ...

    def deleted(self, source_ids: Iterable[str]) -> None:
        """*tx* retired → deleted: Airflow has nothing of their DAGs any more. Tables and history stay."""
        ...

    def records(self, source_id: str | None = None) -> tuple[SourceRecord, ...]:
        """Those that are not simply active, in order of id; of one source, or of all."""
        ...

    def to_mark(self) -> tuple[SourceRecord, ...]:
        """Sources whose tables do not say yet in the catalog what they are: retired (or deleted), or active again."""
        ...

    def marked(self, record: SourceRecord) -> None:
        """*tx* The catalog says it now. Nothing when the source has changed its state since."""
        ...

    def state_id(self, source_id: str) -> str:
        """The id that the state of this source hangs on: its own, or the first one of those it was renamed from."""
        ...

    def former_ids(self) -> dict[str, str]:
        """Every name that was given up → the name of now."""
        ...

    def carry(self, source_id: str, former: str) -> str:
        """*tx* `former` is called `source_id` from now on; returns the state id. Idempotent, also for a late run of a name in the
        middle of a chain; a rename back works. InventoryError when `former` went elsewhere, or `source_id` has state of its own."""
        ...
