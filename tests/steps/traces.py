"""A world in memory in which one of the model's traces is played: one table, and several processes that share its edges.

Source, catalog and ledger are the product's own twins, the lake is a folder, and time stands still until it is told to go on.
Without compare-and-swap the catalog behaves like Hive's partitions: the last writer wins, whatever it knew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.catalog.memory import MemoryCatalog
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, table_spec
from airflow_dataops.lake import open_lake
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import BatchRecord, Decision
from airflow_dataops.sources.memory import MemorySource
from airflow_dataops.steps.load import load_table
from airflow_dataops.steps.run import Edges, Run, TableResult
from airflow_dataops.steps.sweep import expire_table
from tests.ledger.actors import Clock
from tests.steps.effects import Killed, Stage
from tests.steps.world import day, visible_rows

GRACE, DEAD, LEASE = 1_000.0, 50_000.0, 100.0
SMALL_FILES = {"target": {"file_bytes": 1_048_576}}
SEVERAL_FILES = 200_000
"""Rows of which one attempt with `SMALL_FILES` makes more than one file: after two full row groups the first is full."""


@dataclass
class Traced:
    """The table `orders`. `load` is one process attempt, from its claim to its end or its death."""

    folder: Path
    row: dict[str, Any]
    compares_and_swaps: bool = True
    _writers: Iterator[int] = field(default_factory=itertools.count)
    _nonces: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.source = MemorySource()
        self.catalog = MemoryCatalog(compares_and_swaps=self.compares_and_swaps)
        self.ledger = open_ledger("sqlite://", clock=self.clock)
        self.lake = open_lake(f"file://{self.folder}/lake")
        defaults = {"name": "src", "domain": "d", "kind": "sql", "conn_id": "db", "owner": "team"}
        self.spec = PipelineSpec.model_validate(defaults | self.row)

    @property
    def table(self) -> TableSpec:
        return table_spec(self.spec, "orders")

    def put(self, *rows: tuple[Any, ...], columns: tuple[str, ...] = ("id", "v")) -> None:
        """The source as it is from now on; a reading that has begun keeps what it saw."""
        self.source.put("orders", pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)}))

    def put_many(self, count: int) -> None:
        self.source.put("orders", pa.table({"id": range(count), "v": range(count)}))

    def edges(self, stage: Stage | None = None) -> Edges:
        wrap = stage.wrap if stage is not None else lambda _, edge: edge
        return Edges(
            source=wrap("source", self.source),
            lake=wrap("lake", self.lake),
            catalog=wrap("catalog", self.catalog),
            ledger=wrap("ledger", self.ledger),
            dead_letters=open_lake(f"file://{self.folder}/dead"),
            writer=f"w{next(self._writers)}",
            clock=self.clock,
            nonce=lambda: f"n{next(self._nonces)}",
            lease_seconds=LEASE,
            dead_after_seconds=DEAD,
            grace_seconds=GRACE,
        )

    def load(self, run: str, stage: Stage | None = None, period: Period | str = "2023-05-01") -> TableResult:
        """`run`: equal for the retries of one run."""
        period = day(period) if isinstance(period, str) else period
        return load_table(self.spec, self.edges(stage), Run(run, period), "orders")

    def loads(self, run: str, stage: Stage | None = None, period: Period | str = "2023-05-01") -> TableResult:
        """`load` that has to succeed."""
        result = self.load(run, stage, period)
        assert result.error is None, result.error
        return result

    def visible(self) -> list[tuple[Any, ...]]:
        """What a reader who asks the catalog gets, files and all; FileNotFoundError where it leads nowhere."""
        return [tuple(row.values()) for row in visible_rows(self.catalog, self.table)]

    def planned(self) -> list[Path]:
        """The files of a query that is planned now. It will read them later."""
        shown = self.catalog.page_partitions(self.table.database, self.table.table)
        places = [Path(unquote(urlparse(partition.location).path)) for partition in shown]
        return sorted(file for place in places for file in place.rglob("*.parquet"))

    def batches(self) -> list[BatchRecord]:
        """In order of sequence."""
        return list(reversed(self.ledger.batches.history(table_key=self.table.key)))

    def decided(self) -> Decision:
        """What stands for the one partition of a table without any."""
        return self.ledger.decisions.current(self.table.key)[""]

    def expire(self, *, patience: bool = True) -> None:
        """Without patience: as if every grace were over."""
        edges = self.edges()
        expire_table(self.table, edges if patience else replace(edges, grace_seconds=0.0, dead_after_seconds=0.0))


def rows_of(files: Sequence[Path]) -> list[tuple[Any, ...]]:
    """What a query reads from files that it planned earlier."""
    found = [row for file in files for row in pq.ParquetFile(file).read(["id", "v"]).to_pylist()]
    return sorted(tuple(row.values()) for row in found)


@contextmanager
def asleep(when: str, meanwhile: Callable[[], Any], nth: int = 1, awake: Callable[[], Any] = lambda: None) -> Iterator[Stage]:
    """This process stops at its `nth` effect of that name (`before lake.link`) until `meanwhile` is over: a sleeper, a zombie.
    `awake` is called at each of its later effects. A test in which it never gets there proves nothing."""
    reached: list[str] = []

    def at(_: int, name: str) -> None:
        if len(reached) >= nth:
            awake()
        elif name == when:
            reached.append(name)
            if len(reached) == nth:
                meanwhile()

    yield Stage(at)
    assert len(reached) >= nth, f"it came to {when} only {len(reached)} times"


@contextmanager
def dying(when: str) -> Iterator[Stage]:
    """This process dies there and has no effect afterwards, not even cleaning up."""
    dead: list[str] = []

    def at(_: int, name: str) -> None:
        if dead or name == when:
            dead.append(name)
            raise Killed(name)

    with pytest.raises(Killed):
        yield Stage(at)
