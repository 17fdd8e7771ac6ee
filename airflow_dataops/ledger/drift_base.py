"""What the ledger remembers about shapes: what a source shows of a table, drift events, DDL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_dataops.core.drift_events import NOTHING_DECIDED, Decided
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import ContractSpec

OF_NO_BATCH = ""
"""In place of a batch: no batch will ever meet this event, which is of the whole table."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a frozen batch, or (without a batch) the declaration of the source, shows of a table. `schema` has the source's own
    names; None: nothing can be told of columns. `plan` is what was decided about the lake table (`core.drift_events`). `sequence`
    is the batch's; `late`: its files are read a second time. `rows`: those that it read."""

    table_key: str
    source_id: str
    source_table: str
    target: str
    schema: TableSchema | None
    traits: Mapping[str, str] = field(default_factory=dict)
    plan: Decided = field(default_factory=lambda: NOTHING_DECIDED)
    contract: ContractSpec = field(default_factory=ContractSpec)
    batch_id: str | None = None
    generation: int = 1
    sequence: int | None = None
    late: bool = False
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Noticed:
    """The ids of the drift events that an observation made, and which columns (lake names) are retired now."""

    events: tuple[int, ...] = ()
    retired: frozenset[str] = frozenset()


class Drift(Protocol):
    """What sources show, drift events, DDL audit.

    An event is a mapping: `id`, `kind` (structural, semantic or infrastructure), `source_id`, `source_table`, `target`,
    `table_key`, `before` and `after` (fingerprints of the source's schema, None for other kinds), `changes` (each with its
    `text` and what was `done`), `renames`, `batch_id` (the first with it; None until one comes), `rows`, `decision`,
    `decided_by`, `decided_at`, `at`, `flips` and `settled` (by column or trait, of a debounced one).
    """

    def schema(self, table_key: str) -> TableSchema | None:
        """What the source showed last, with its comments in full. Late batches do not count."""
        ...

    def observe(self, seen: Observation) -> Noticed:
        """*tx* Lays what is shown beside what is known (`core.shown`): one event for all news of columns, one for those of
        traits. The same batch again changes nothing; an older one than the last counts as late."""
        ...

    def observe_table(self, seen: Observation, *, present: bool) -> int | None:
        """*tx* The source lists a known table, or does not. The id of the event when that is news."""
        ...

    def gone(self, source_id: str) -> frozenset[str]:
        """Keys of the tables that the source does not list."""
        ...

    def events(self, source_id: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        """Newest first."""
        ...

    def event(self, event_id: int) -> Mapping[str, Any] | None:
        """With `before_schema` and `after_schema`: a list of `{"name", "type", "comment"}` each, None for other kinds."""
        ...

    def event_of(self, table_key: str, batch_id: str | None) -> int | None:
        """The newest structural event that this batch was the first of; None: that a declaration made and no batch met yet."""
        ...

    def record_ddl(self, entry: Mapping[str, Any]) -> None:
        """*tx* One row of the audit: table, statement kind, who, why, which drift (an event's id), before, after."""
        ...

    def ddl(self, table_key: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]: ...
