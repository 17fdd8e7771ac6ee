"""What every step is given: the edges, the run, and the results it reports."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_dataops.catalog.base import Catalog
from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.errors import DataOpsError, told
from airflow_dataops.core.period import Period
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import Lake
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.sources.base import Source

Outcome = Literal["loaded", "unchanged", "nothing_new", "held", "done_before", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of progress of one table: for a terminal or a task log. Never holds record values."""

    table: str
    stage: str
    rows: int = 0
    total: int | None = None


def _nonce() -> str:
    return secrets.token_hex(4)


def _silent(_: Progress) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Edges:
    """The outside systems of one source, opened. `dead_letters` is a place of its own, with its own access.

    `writer` is unique per process attempt (it names pending marks); `clock` gives POSIX seconds; `nonce` is random. `state_id` is
    the id that the source's state hangs on when it was renamed; None: its own.
    """

    source: Source
    lake: Lake
    catalog: Catalog
    ledger: Ledger
    dead_letters: Lake
    writer: str
    privacy_key: bytes | None = field(default=None, repr=False)
    clock: Callable[[], float] = time.time
    nonce: Callable[[], str] = _nonce
    progress: Callable[[Progress], None] = _silent
    lease_seconds: float = 300.0
    dead_after_seconds: float = 86_400.0
    grace_seconds: float = 86_400.0
    state_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """`token` is the same for all retries of one try of a run, and another after it was cleared or triggered anew."""

    token: str
    period: Period


NOTHING = Accounting()


@dataclass(frozen=True, slots=True)
class TableResult:
    """How one table fared in a run. `reason` is what somebody has to decide about a held one. `partitions` are those the run
    stands for, also when they were unchanged."""

    source_table: str
    target: str
    outcome: Outcome
    accounting: Accounting = NOTHING
    batch_id: str | None = None
    generation: int | None = None
    fingerprint: str | None = None
    partitions: tuple[str, ...] = ()
    error: str | None = None
    error_code: str | None = None
    retryable: bool = False
    seconds: float = 0.0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "source_table": self.source_table, "target": self.target, "outcome": self.outcome,
            **self.accounting.to_json(), "batch_id": self.batch_id, "generation": self.generation,
            "fingerprint": self.fingerprint, "partitions": list(self.partitions), "error": self.error,
            "error_code": self.error_code, "retryable": self.retryable, "seconds": round(self.seconds, 3), "reason": self.reason,
        }  # fmt: skip

    @classmethod
    def of_error(cls, table: TableSpec | None, source_table: str, error: BaseException) -> TableResult:
        text, code = told(error)
        return cls(
            source_table=source_table,
            target=table.name if table else "",
            outcome="failed",
            error=text,
            error_code=code,
            retryable=error.retryable if isinstance(error, DataOpsError) else True,
        )


@dataclass(frozen=True, slots=True)
class LoadResult:
    """All tables of one `load` step. A failing table never stops its siblings; the task fails at the end."""

    tables: tuple[TableResult, ...] = field(default=())

    @property
    def failures(self) -> tuple[TableResult, ...]:
        return tuple(t for t in self.tables if t.outcome == "failed")

    @property
    def retryable(self) -> bool:
        """Whether at least one failed table may succeed when tried again."""
        return any(t.retryable for t in self.failures)

    def __add__(self, other: LoadResult) -> LoadResult:
        return LoadResult(self.tables + other.tables)

    @classmethod
    def of(cls, tables: Iterable[TableResult]) -> LoadResult:
        return cls(tuple(tables))
