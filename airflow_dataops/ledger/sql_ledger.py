"""The ledger in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from airflow_dataops.ledger.base import Ledger
from airflow_dataops.ledger.batches import SqlBatches
from airflow_dataops.ledger.dead_letters import SqlDeadLetters
from airflow_dataops.ledger.decisions import SqlDecisions
from airflow_dataops.ledger.directories import SqlDirectories
from airflow_dataops.ledger.drift import SqlDrift
from airflow_dataops.ledger.freshness import SqlFreshness
from airflow_dataops.ledger.holds import SqlHolds
from airflow_dataops.ledger.known_tables import SqlKnownTables
from airflow_dataops.ledger.maintenance import SqlMaintenance
from airflow_dataops.ledger.offsets import SqlOffsets
from airflow_dataops.ledger.outbox import SqlOutbox
from airflow_dataops.ledger.partitions import SqlPartitions
from airflow_dataops.ledger.requests import SqlRequests
from airflow_dataops.ledger.runs import SqlRuns
from airflow_dataops.ledger.sources import SqlSources
from airflow_dataops.ledger.tables import MIGRATIONS
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlLedger(Ledger):
    """`clock` gives POSIX seconds; leases, grace and ages are measured by it."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._database = SqlDatabase(url, "ledger")
        try:
            self._database.migrate(MIGRATIONS)
        except BaseException:
            self._database.close()
            raise
        self.batches = SqlBatches(self._database, clock)
        self.decisions = SqlDecisions(self._database, clock)
        self.directories = SqlDirectories(self._database, clock)
        self.partitions = SqlPartitions(self._database, clock)
        self.offsets = SqlOffsets(self._database)
        self.drift = SqlDrift(self._database, clock)
        self.outbox = SqlOutbox(self._database, clock)
        self.dead_letters = SqlDeadLetters(self._database, clock)
        self.runs = SqlRuns(self._database, clock)
        self.requests = SqlRequests(self._database, clock)
        self.tables = SqlKnownTables(self._database, clock)
        self.freshness = SqlFreshness(self._database, clock)
        self.sources = SqlSources(self._database, clock)
        self.maintenance = SqlMaintenance(self._database, clock)
        self.holds = SqlHolds(self._database, clock)

    def __repr__(self) -> str:
        return f"SqlLedger({self._database.place})"

    def close(self) -> None:
        self._database.close()
