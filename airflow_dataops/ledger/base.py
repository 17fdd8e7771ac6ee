"""What the ledger is to the rest of the product: the one place where a batch's fate is decided (DESIGN §5).

The ledger decides, the lake holds, the catalog shows. Every method marked *tx* is one serialisable transaction:
it happens whole or not at all, and two callers are as if one after the other. A lost reply counts as a crash: claim
again and look. No method touches lake or catalog.

States of a batch: open → frozen → decided → committed; open → abandoned; frozen → held → decided | rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.offset import FileIdentity, FileSet, OffsetRange, Scalar
from airflow_dataops.core.profile import Profile
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.ledger.dead_letters_base import NOT_LISTED as NOT_LISTED
from airflow_dataops.ledger.dead_letters_base import DeadLetters as DeadLetters
from airflow_dataops.ledger.dead_letters_base import LetterFile as LetterFile
from airflow_dataops.ledger.dead_letters_base import LetterRecord as LetterRecord
from airflow_dataops.ledger.drift_base import Drift
from airflow_dataops.ledger.drift_base import Noticed as Noticed
from airflow_dataops.ledger.drift_base import Observation as Observation
from airflow_dataops.ledger.holds_base import Hold as Hold
from airflow_dataops.ledger.holds_base import Holds
from airflow_dataops.ledger.holds_base import Release as Release
from airflow_dataops.ledger.maintenance_base import FileFacts as FileFacts
from airflow_dataops.ledger.maintenance_base import Maintenance
from airflow_dataops.ledger.maintenance_base import Place as Place
from airflow_dataops.ledger.maintenance_base import Work as Work
from airflow_dataops.ledger.partitions_base import Dropped as Dropped
from airflow_dataops.ledger.partitions_base import PartitionRecord as PartitionRecord
from airflow_dataops.ledger.partitions_base import Partitions
from airflow_dataops.ledger.sources_base import SourceRecord as SourceRecord
from airflow_dataops.ledger.sources_base import Sources

State = Literal["open", "frozen", "decided", "committed", "abandoned", "held", "rejected"]
PartitionName = str
"""Hive's form of a partition: `dt=2024-05-01/region=EU`, escaped; `""` for the one partition of an unpartitioned table."""

WHOLE_TABLE = "*"
"""Claim scope of a table whose partitions are known only after reading."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a run wants to do. `run` identifies the run *and its clearing*: equal for all retries of one try of a run,
    different for a cleared or newly triggered one (then a committed batch becomes a new generation). `writer` is unique
    per process attempt, `nonce` random: both only make directory names and marks unique. `exclusive` asks that the range
    overlap no committed or unfinished other range of the table (append and merge by cursor). `follows_watermark` asks that
    the range is still what comes next: it begins at the table's watermark, or none of its files is taken. A request planned
    before another run's commit is stale, and would otherwise run that run's range again."""

    table_key: str
    source_id: str
    source_table: str
    target: str
    batch_id: str
    scope: PartitionName
    range: OffsetRange
    period_key: str
    run: str
    writer: str
    nonce: str
    root: str = ""
    lease_seconds: float = 300.0
    exclusive: bool = False
    follows_watermark: bool = False
    spec_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class StagedPartition:
    """One partition of a frozen batch: where its rows were staged, the proof over them, and their profile (None: unknown).
    `unchanged`: equal to the current decision when it was staged, so nothing is to be published for it."""

    name: PartitionName
    values: tuple[str | None, ...]
    directory: str
    files: tuple[Mapping[str, Any], ...]
    rows: int
    fingerprint: str
    unchanged: bool = False
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class BatchContent:
    """The content of a batch for ever, once frozen. `schema` is the lake table's schema the files were written under
    (without partition columns); `fingerprint` is over the stored values; `source_fingerprint` over the unmasked ones.
    `complete` tells that absent partitions of the table become empty (full snapshot of a data-partitioned table)."""

    partitions: tuple[StagedPartition, ...]
    schema: TableSchema
    accounting: Accounting
    fingerprint: str
    source_fingerprint: str
    source_schema: TableSchema | None = None
    complete: bool = False
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch as its present attempt holds it. `attempt` is the fencing token; `range` was fixed at the first claim.

    `state` open: read and stage. frozen or decided: adopt `content` and go on from there, whoever staged it.
    committed: this very run has committed it already, there is nothing to do. `asked` is False when this is another
    batch that has to be finished first; claim again afterwards.
    """

    table_key: str
    batch_id: str
    generation: int
    attempt: int
    sequence: int
    state: State
    scope: PartitionName
    range: OffsetRange
    period_key: str
    directory: str
    writer: str
    asked: bool = True
    content: BatchContent | None = None

    @property
    def object_name(self) -> str:
        """The name of this batch's object in a live directory: by batch and generation, never by attempt."""
        return f"{self.batch_id}-g{self.generation}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The ledger's word about one partition: what readers shall see. `location` is relative to the lake's root. `dropped`: they
    shall see nothing, and why; then there is no location, no batch and no row."""

    name: PartitionName
    values: tuple[str | None, ...]
    epoch: int
    location: str
    rows: int
    bytes: int
    fingerprint: str
    schema: TableSchema
    batch_id: str
    generation: int
    dropped: Dropped | None = None


@dataclass(frozen=True, slots=True)
class DecisionPlan:
    """What a batch wants decided for one partition, and the epoch it was built on (0: nothing stands there). `profile` and `files`
    are of the whole partition, None when they are not known."""

    name: PartitionName
    values: tuple[str | None, ...]
    built_on: int
    location: str
    rows: int
    bytes: int
    fingerprint: str
    schema: TableSchema
    profile: Profile | None = None
    files: FileFacts | None = None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch as `status` shows it. Times are POSIX seconds."""

    table_key: str
    source_id: str
    source_table: str
    target: str
    batch_id: str
    generation: int
    attempt: int
    sequence: int
    state: State
    scope: PartitionName
    range: OffsetRange
    period_key: str
    run: str
    claimed_at: float
    frozen_at: float | None
    committed_at: float | None
    accounting: Accounting | None
    fingerprint: str | None


class Batches(Protocol):
    """Claims and the life of batches."""

    def claim(self, request: ClaimRequest) -> Claim:
        """*tx* DESIGN §5.1. Same batch open → taken over (attempt + 1) by a retry of the same run at once, by another
        run after the lease (BusyError before); its range is the stored one. Other batch in the way → frozen or decided:
        returned with `asked=False` to be finished first; open: BusyError until its lease is over, then abandoned.
        In the way are unfinished batches of the same scope and, when `exclusive`, those whose ranges overlap.
        Frozen or decided by another run → `asked=False`, too: after it this run is a new generation.
        Committed (held, rejected) by the same `run` → returned in that state; by another → generation + 1. RangeError when
        `exclusive` and the range overlaps a committed or held one without being exactly it, or no order can be told;
        StaleError when a file of a FileSet is in another batch by now, or the range no longer begins at the watermark that it
        follows. Registers the attempt's directory."""
        ...

    def adopt(
        self, table_key: str, batch_id: str, generation: int, writer: str, nonce: str, lease_seconds: float = 300.0,
        *, leave_live: bool = False,
    ) -> Claim | None:  # fmt: skip
        """*tx* For the sweep: a frozen or decided batch with attempt + 1, or None when it is neither any more. `leave_live`:
        None, too, as long as the lease of its holder runs."""
        ...

    def reclaim(self, table_key: str, run: str, writer: str, nonce: str, lease_seconds: float = 300.0) -> Claim | None:
        """*tx* For a retry of `run`: the batch of this table that this very run left open (not abandoned), with its stored
        range, attempt + 1 and a new directory; None when there is none."""
        ...

    def renew(self, claim: Claim, lease_seconds: float) -> None:
        """*tx* Prolongs the lease; FencedError when a later attempt took over."""
        ...

    def freeze(
        self, claim: Claim, content: BatchContent, dead_letters: Sequence[DeadLetter], lease_seconds: float = 300.0,
        letter_file: LetterFile | None = None,
    ) -> Claim:  # fmt: skip
        """*tx* attempt is mine, state open → frozen, and the lease prolonged; FencedError otherwise. Dead letters are indexed
        (masked, capped preview) with the batch, in the same transaction; those of a replay that failed again get one attempt more,
        its others wait for its commit (StaleError when one of them is not open any more). Returns the claim with state and
        content set."""
        ...

    def hold(self, claim: Claim, reason: Mapping[str, Any]) -> None:
        """*tx* frozen → held: the claim is released, the range counts as accounted for, the watermark moves. `reason` with
        `changes` is a question (`Holds`); without, the batch waits for its turn."""
        ...

    def abandon(self, claim: Claim) -> None:
        """*tx* open → abandoned and the claim released, if the attempt is still mine; otherwise nothing."""
        ...

    def decide(
        self, claim: Claim, plans: Sequence[DecisionPlan], held_letters: tuple[Sequence[DeadLetter], LetterFile | None] = ((), None)
    ) -> tuple[Decision, ...]:
        """*tx* DESIGN §5.5: attempt is mine (FencedError), state frozen (decided already: the standing decisions are
        returned; held, of a claim by `Holds.take`: its content becomes the batch's, with its dead letters), every `built_on` is
        the partition's epoch (ConflictError: rebuild), no earlier unfinished sequence of the table in the same scope (BusyError;
        HoldError when it is held: hold this one, too). ConflictError, too, when a partition left unchanged is not the current
        decision any more, or a `complete` content misses one that has rows. Epoch + 1 each, a pending mark of `claim.writer`
        each."""
        ...

    def commit(
        self, claim: Claim, verified: Mapping[PartitionName, int], watermark: tuple[Scalar | None, Scalar] | None,
        files: Sequence[FileIdentity] = (), asset: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """*tx* DESIGN §5.8: state decided (committed already: nothing), every verified epoch still the partition's
        (ConflictError: project again). Watermark low → high only if it equals low; claim released, marks of the writer
        cleared, replaced directories stamped superseded, files recorded with the period, the asset event queued."""
        ...

    def commit_unchanged(
        self, claim: Claim, watermark: tuple[Scalar | None, Scalar] | None = None,
        files: Sequence[FileIdentity] = (), asset: Mapping[str, Any] | None = None,
        held_letters: tuple[Sequence[DeadLetter], LetterFile | None] = ((), None),
    ) -> None:  # fmt: skip
        """*tx* frozen (or held, as in `decide`) → committed for a batch in which every partition is unchanged: nothing is
        decided. ConflictError when one of them is no longer the current decision, HoldError behind a held batch."""
        ...

    def unfinished(self, table_key: str | None = None) -> tuple[BatchRecord, ...]:
        """Frozen and decided batches, in order of sequence."""
        ...

    def held(self, table_key: str) -> tuple[BatchContent, ...]:
        """What waits for a person, in order of sequence."""
        ...

    def ended_below(self, table_key: str, cursor: str, low: Scalar) -> frozenset[str]:
        """The ids of committed batches whose ranges of this cursor end below `low`: not one of their rows is at or above it. One
        that ends so little below that only the end of a long text tells may be missing."""
        ...

    def history(self, source_id: str | None = None, table_key: str | None = None, limit: int = 50) -> tuple[BatchRecord, ...]:
        """Newest first."""
        ...

    def committed_by(self, run: str, table_key: str) -> BatchRecord | None:
        """The batch of this table that this run has committed (or held), if any."""
        ...

    def root(self, table_key: str) -> str | None:
        """The place in the lake that the table's last batch was claimed for; None before there was one."""
        ...

    def of_period(self, table_key: str, period_key: str) -> tuple[BatchRecord, ...]:
        """Committed batches of a period, newest generation of each, in order of sequence; no replays of dead letters."""
        ...


class Decisions(Protocol):
    """The current decision of each partition, and pending marks."""

    def current(self, table_key: str, names: Sequence[PartitionName] | None = None) -> dict[PartitionName, Decision]:
        """What stands, of the asked partitions or of all of the table."""
        ...

    def latest(self, table_key: str, names: Sequence[PartitionName]) -> dict[PartitionName, Decision]:
        """The last decisions of these partitions, also those that dropped them: what the catalog has to show, or not."""
        ...

    def profiles(self, table_key: str, names: Sequence[PartitionName] | None = None) -> dict[PartitionName, Profile | None]:
        """The profiles of the current decisions, of the asked partitions or of all. None: decided before there were any."""
        ...

    def mark(self, table_key: str, names: Sequence[PartitionName], writer: str) -> dict[PartitionName, Decision]:
        """*tx* Reads the `latest` decisions and marks them as being projected by `writer`."""
        ...

    def marked(self, table_key: str | None = None) -> tuple[tuple[str, PartitionName, str, float], ...]:
        """(table key, partition, writer, marked at) of all pending marks."""
        ...

    def clear_marks(self, table_key: str, writer: str, verified: Mapping[PartitionName, int]) -> None:
        """*tx* Clears marks of this writer where the verified epoch is the current one."""
        ...

    def clear_stale_marks(self, table_key: str, older_than_seconds: float, verified: Mapping[PartitionName, int]) -> None:
        """*tx* Clears marks of whatever writer that are older than any task or call can live, where the verified epoch
        is the current one."""
        ...

    def names_of(self, claim: Claim) -> tuple[PartitionName, ...]:
        """The partitions for which this batch has decided something, even where a later decision stands by now."""
        ...

    def locations(self, table_key: str) -> frozenset[str]:
        """Every directory that was ever ours: decisions, superseded, staged. To tell a foreign change."""
        ...


class Directories(Protocol):
    """Directories by state; the only ground on which anything is ever deleted (DESIGN §5.10)."""

    def register(self, claim: Claim, directory: str) -> None:
        """*tx* A further directory of this attempt (a merge's rebuild)."""
        ...

    def expirable(self, table_key: str, grace_seconds: float, dead_after_seconds: float) -> tuple[str, ...]:
        """*tx* Superseded directories whose grace is over since the verified swap or since the last mark on that partition
        was cleared, with no mark, not a decision; staging of abandoned or losing attempts after `dead_after_seconds`.
        Attempt directories of committed batches that no decision ever used (an append's staging: its object lives in the
        live directory) count as losing attempts. Never of held or frozen batches. An attempt's directory is judged as a
        whole: it stays as long as any decision that ever lay in it would. Notes when the table's next one is due."""
        ...

    def forget(self, table_key: str, directory: str) -> None:
        """*tx* After its deletion."""
        ...


class Offsets(Protocol):
    """How far a table was read."""

    def watermark(self, table_key: str) -> Scalar | None: ...

    def free_from(self, table_key: str, cursor: str, top: Scalar) -> tuple[Scalar | None, Scalar | None]:
        """*tx* Where the next range begins, and before which value it has to end because another is committed or held there
        (None: nothing is). The watermark moves over those that follow upon it: backfilled ones, of which it knows nothing.
        `top`: a value of the cursor's type; ranges of another cursor or without an order with it are left to `claim`."""
        ...

    def seen_files(self, table_key: str) -> dict[str, tuple[FileIdentity, ...]]:
        """Path → the identities committed under it."""
        ...

    def files_of(self, table_key: str, batch_id: str) -> FileSet | None: ...


class Outbox(Protocol):
    """Asset events that wait to be told."""

    def pending_assets(self, source_id: str) -> tuple[tuple[int, Mapping[str, Any]], ...]: ...

    def assets_told(self, ids: Sequence[int]) -> None: ...


class Runs(Protocol):
    """How each table fared in each run, failed ones included: what `verify` and `status` ask."""

    def record(self, run: str, source_id: str, table_key: str, result: Mapping[str, Any]) -> None:
        """*tx* Replaces what this run said of the table before. `result` is `TableResult.to_json()`."""
        ...

    def of(self, run: str) -> dict[str, Mapping[str, Any]]:
        """Table key → the last result in that run."""
        ...

    def latest(self, source_id: str | None = None, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        """Newest first: {"run", "source_id", "table_key", "at" (POSIX seconds), "result"}."""
        ...


@dataclass(frozen=True, slots=True)
class KnownTable:
    """A lake table that some batch was claimed for. `committed_at`: POSIX seconds of its last commit."""

    table_key: str
    source_id: str
    source_table: str
    target: str
    committed_at: float | None


class KnownTables(Protocol):
    """Which tables there are, and which of them are not at rest."""

    def of_source(self, source_id: str) -> tuple[KnownTable, ...]:
        """In order of their key."""
        ...

    def of_target(self, target: str) -> tuple[KnownTable, ...]:
        """Those that land in the lake table `<database>.<table>`: one, unless rows of several catalogs name it alike."""
        ...

    def with_work(self) -> tuple[KnownTable, ...]:
        """Those with frozen or decided batches, with pending marks, or with something that may be due for deletion, of all
        sources. Costs what there is to do, not what there is."""
        ...


class Freshness(Protocol):
    """What is expected to be fresh, and who was told that it is late. A name is a target table, or `""` for a source that
    has none yet."""

    def expect(self, source_id: str, names: Collection[str]) -> dict[str, float]:
        """*tx* Name → since when it is expected (POSIX seconds; now, for a new one). Others of the source are forgotten."""
        ...

    def late(self, source_id: str, names: Collection[str], retry_seconds: float) -> tuple[str, ...]:
        """*tx* These of the expected names are late, the others are not (any more). Returns those that somebody has to be
        told of now: not told since they became late, and nobody else has been at it for `retry_seconds`."""
        ...

    def told(self, source_id: str, names: Collection[str]) -> None:
        """*tx* Somebody knows."""
        ...


class Ledger(Protocol):
    """One ledger. Opened by `open_ledger(url)` in `ledger/__init__.py`; migrated by Alembic when opened."""

    batches: Batches
    decisions: Decisions
    directories: Directories
    partitions: Partitions
    offsets: Offsets
    drift: Drift
    outbox: Outbox
    dead_letters: DeadLetters
    runs: Runs
    tables: KnownTables
    freshness: Freshness
    sources: Sources
    maintenance: Maintenance
    holds: Holds

    def close(self) -> None: ...
