"""What the maintenance asks of the ledger: decisions that no batch wants, and what each partition's files are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from airflow_dataops.core.schema import Column, TableSchema

if TYPE_CHECKING:
    from airflow_dataops.ledger.base import Decision, DecisionPlan, KnownTable, PartitionName

Work = Literal["cascade", "compact", "rename"]
"""Why a partition is decided anew though no batch brought rows: its columns follow the table's, its files are written again, or a
column of them goes on as another."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A partition's data files: how many, and the distinct schemas (names and types, nothing else) that they were written under."""

    count: int
    schemas: tuple[TableSchema, ...]

    @classmethod
    def of(cls, count: int, schemas: Iterable[Iterable[Column]]) -> FileFacts:
        """Whatever the columns say beside name and type is left out, so that equal files have equal schemas."""
        written = {TableSchema(tuple(Column(c.name, c.type) for c in columns)) for columns in schemas}
        return cls(count, tuple(sorted(written, key=lambda schema: (schema.fingerprint, schema.names))))

    def __add__(self, other: FileFacts) -> FileFacts:
        return FileFacts.of(self.count + other.count, (*self.schemas, *other.schemas))


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that this work alone may fill, for one partition."""

    table_key: str
    work_id: str
    directory: str


class Maintenance(Protocol):
    """The maintenance takes no claim: it decides where nobody else is at work, on the epoch that it has built on, or not at all
    (DESIGN §5.5). Its decisions bear the id of the work, never that of a batch: a late writer of that batch would take it for
    its own, and put its object into the new directory."""

    def due(self) -> tuple[KnownTable, ...]:
        """Tables with a commit since the maintenance has last gone through them."""
        ...

    def done(self, known: KnownTable) -> None:
        """*tx* Nothing is left to do for what was committed when `known` was read."""
        ...

    def facts(self, table_key: str, names: Sequence[PartitionName] | None = None) -> dict[PartitionName, FileFacts | None]:
        """Of the current decisions, of the asked partitions or of all. None: decided before anybody counted."""
        ...

    def learn(self, table_key: str, found: Mapping[PartitionName, tuple[int, FileFacts]]) -> None:
        """*tx* What the files of partitions without facts turned out to be, where the epoch (first) is still that one."""
        ...

    def without_facts(self, table_key: str, limit: int) -> dict[PartitionName, Decision]:
        """Partitions of which nobody knows what their files are, in order of name."""
        ...

    def shown(
        self, table_key: str, wanted: Callable[[TableSchema], bool], after: PartitionName | None = None, limit: int = 500
    ) -> dict[PartitionName, Decision]:
        """Partitions whose decided columns are `wanted`, in order of name. Asked once for each distinct schema."""
        ...

    def differ(self, table_key: str) -> bool:
        """Whether partitions of the table are decided with different columns."""
        ...

    def written(
        self,
        table_key: str,
        wanted: Callable[[tuple[TableSchema, ...]], bool],
        after: PartitionName | None = None,
        limit: int = 500,
    ) -> dict[PartitionName, Decision]:
        """Partitions with rows whose files' schemas are `wanted`, in order of name. Asked once for each distinct set of schemas."""
        ...

    def scattered(
        self, table_key: str, fewest_files: int, below_bytes: int, after: PartitionName | None = None, limit: int = 500
    ) -> dict[PartitionName, Decision]:
        """Partitions of at least so many files that hold fewer bytes than this on average, in order of name."""
        ...

    def claimed(self, table_key: str, names: Sequence[PartitionName]) -> frozenset[PartitionName]:
        """Those of the partitions that an unfinished batch may be at work on."""
        ...

    def place(self, table_key: str, work: Work, root: str, nonce: str) -> Place:
        """*tx* Registers a new directory below `root`."""
        ...

    def give_up(self, place: Place) -> None:
        """*tx* Nothing will be published from there, and it is deleted already."""
        ...

    def move(self, place: Place, writer: str, plan: DecisionPlan) -> Decision:
        """*tx* The partition lies in the place from now on: epoch + 1, a pending mark of the writer. BusyError when it is claimed;
        ConflictError when it was decided since (`built_on`); FencedError when the place was given up."""
        ...

    def recolumn(
        self, table_key: str, work_id: str, writer: str, built_on: Mapping[PartitionName, int], schema: TableSchema
    ) -> tuple[Decision, ...]:
        """*tx* Same place, same rows, these columns: epoch + 1 and a pending mark for each of the partitions that is not claimed
        and still at its epoch. The others are left alone; returns those that were decided."""
        ...
