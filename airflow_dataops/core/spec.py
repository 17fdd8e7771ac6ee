"""An inventory row as typed, frozen data. The public contract is INVENTORY.md; JSON Schema is generated from these models.

`SourceSpec` is a row as written (after defaults were merged); `PipelineSpec` adds where it belongs (domain) and where it
was written (file, line): the resolved row that everything behind the inventory works with.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ID_PATTERN = r"^[a-z](?:_?[a-z0-9])*_?$"
"""Stricter reading of INVENTORY.md's `^[a-z][a-z0-9_]{0,62}$` *without `__`*, in one expression."""

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN, min_length=1, max_length=63)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=250)]
Policy = Literal["evolve", "freeze", "discard_row", "discard_value"]

MOST_SECONDS = 3_155_760_000
"""A hundred years. Longer spans leave the calendars of Airflow and Python, and nobody means them."""

MOST_ROWS = 10**15


class Spec(BaseModel):
    """Base of all spec models: frozen, unknown keys refused, no coercion of numbers from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class ReadSpec(Spec):
    """How the source is read."""

    mode: Literal["full", "window", "watermark", "new_files", "cdc"] = "full"
    cursor: str | None = None
    lag_seconds: int = Field(0, ge=0, le=MOST_SECONDS)
    overlap_seconds: int = Field(0, ge=0, le=MOST_SECONDS)
    backfill: Literal["refuse", "snapshot"] = "refuse"
    batch_rows: int = Field(65536, ge=1, le=10_000_000)
    query: str | None = None
    isolation: Literal["snapshot", "none"] = "snapshot"


class WriteSpec(Spec):
    """How rows reach the lake table."""

    mode: Literal["append", "overwrite_partition", "merge"] = "overwrite_partition"
    keys: tuple[str, ...] = ()
    deletes: Literal["ignore", "soft", "hard"] = "ignore"
    order_by: str | None = None


class PartitionSpec(Spec):
    """One partition column of the lake table."""

    name: Name
    from_: str = Field(alias="from", pattern=r"^(period_start|column:.+)$")
    transform: Literal["identity", "year", "month", "day", "hour"] = "identity"

    @property
    def column(self) -> str | None:
        """The source column this partition comes from; None when it comes from the period."""
        return None if self.from_ == "period_start" else self.from_.removeprefix("column:")


class TargetSpec(Spec):
    """Where the rows land."""

    lake: str = "default"
    catalog: str = "default"
    database: Name = "{domain}"
    table: Name = "{table}"
    location: str | None = None
    partition_by: tuple[PartitionSpec, ...] = ()
    format: Literal["parquet", "avro"] = "parquet"
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    file_bytes: int = Field(134_217_728, ge=1_048_576, le=1 << 40)
    retention_days: int | None = Field(None, ge=1, le=36_525)
    create: bool = True
    late: Literal["merge", "reject", "own_partition"] = "merge"


class ContractSpec(Spec):
    """What drift is allowed to do."""

    tables: Literal["evolve", "freeze", "discard_row"] = "evolve"
    columns: Policy = "evolve"
    types: Policy = "evolve"
    date_to_timestamp: bool = False
    to_string: Literal["hold", "widen", "shadow_column"] = "hold"
    debounce_runs: int = Field(3, ge=0)
    retire_runs: int = Field(7, ge=1)


class DeadLettersSpec(Spec):
    """How many records may fail before the batch does, and where they go."""

    max_rows: int | None = Field(None, ge=0, le=MOST_ROWS)
    max_share: float = Field(0.01, ge=0, le=1)
    retention_days: int = Field(30, ge=1, le=36_525)
    conn_id: str | None = None


class PrivacySpec(Spec):
    """Explicit rules per column; glob → what happens to the value."""

    mode: Literal["off", "mask_unclassified"] = "off"
    columns: dict[Glob, Literal["keep", "mask", "hash", "drop"]] = Field(default_factory=dict)
    key_conn_id: str | None = None

    def __hash__(self) -> int:
        # Without one, which a map keeps pydantic from making, the default would be copied deep for every row.
        return hash((self.mode, frozenset(self.columns.items()), self.key_conn_id))


class LimitsSpec(Spec):
    """What one source may take from Airflow and from its system."""

    pool: str | None = None
    max_active_runs: int = Field(1, ge=1, le=64)
    retries: int = Field(3, ge=0, le=100)
    timeout_seconds: int = Field(21600, ge=1, le=MOST_SECONDS)
    priority: int = Field(1, ge=1, le=1_000_000)
    max_packs: int = Field(64, ge=1, le=1024)
    bytes_per_second: int | None = Field(None, ge=1)


class StandardsSpec(Spec):
    """Which standard columns each row gets."""

    ingested_at: bool = True
    batch_id: bool = True
    origin: bool = True
    row_fingerprint: bool = True


class RuleSpec(Spec):
    """A row filter or check. The feature comes with its own issue; the model takes it so that lint can say so."""

    model_config = ConfigDict(frozen=True, extra="allow")


class TableEntry(Spec):
    """One entry of `tables:`: which tables it is about, and what is different for them."""

    match: Glob
    read: dict[str, Any] | None = None
    write: dict[str, Any] | None = None
    target: dict[str, Any] | None = None
    contract: dict[str, Any] | None = None
    privacy: dict[str, Any] | None = None
    standards: dict[str, Any] | None = None


class SourceSpec(Spec):
    """One inventory row, defaults merged in."""

    name: Id
    kind: str
    conn_id: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    tables: tuple[Glob | TableEntry, ...] = ("*",)
    exclude: tuple[Glob, ...] = ()
    schedule: str = "@daily"
    timezone: str = "UTC"
    start_date: dt.date = dt.date(2024, 1, 1)
    catchup: bool = False
    jitter_seconds: int | None = Field(None, ge=0, le=86400)
    transport: Literal["direct", "kafka"] = "direct"
    lane: str | None = None
    read: ReadSpec = ReadSpec()
    write: WriteSpec = WriteSpec()
    target: TargetSpec = TargetSpec()
    contract: ContractSpec = ContractSpec()
    dead_letters: DeadLettersSpec = DeadLettersSpec()
    privacy: PrivacySpec = PrivacySpec()
    standards: StandardsSpec = StandardsSpec()
    limits: LimitsSpec = LimitsSpec()
    rules: tuple[RuleSpec, ...] = ()
    freshness_seconds: int | None = Field(None, ge=1, le=MOST_SECONDS)
    retired_days: int = Field(30, ge=0, le=36_525)
    notify: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    owner: str = Field(min_length=1)
    tags: tuple[str, ...] = ()
    description: str = ""
    enabled: bool = True
    renamed_from: Id | None = None


class PipelineSpec(SourceSpec):
    """A resolved row: the row, its domain, and where it was written."""

    domain: Id
    file: str = ""
    line: int = 0

    @property
    def id(self) -> str:
        """`<domain>.<name>`; all state hangs on it."""
        return f"{self.domain}.{self.name}"

    @property
    def dag_id(self) -> str:
        return f"ingest__{self.domain}__{self.name}"

    @property
    def reads_windows(self) -> bool:
        """Whether some of its tables are read by period (`read.mode: window`), by the row or by an entry of `tables`."""
        entries = [entry.read or {} for entry in self.tables if isinstance(entry, TableEntry)]
        return any(mode == "window" for mode in (self.read.mode, *(read.get("mode") for read in entries)))

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that can change what a run does (not over file and line)."""
        data = self.model_dump(mode="json", by_alias=True, exclude={"file", "line"})
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


_MAGIC = re.compile(r"[*?\[]")


def is_glob(text: str) -> bool:
    """Whether the text has glob characters at all."""
    return bool(_MAGIC.search(text))
