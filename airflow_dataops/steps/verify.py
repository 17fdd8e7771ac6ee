"""Proof after load: re-reads the lake and compares it with the ledger's decisions, and asks that no table of a run is
missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from airflow_dataops.core.errors import DataOpsError, ProofError
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, is_selected, table_spec
from airflow_dataops.ledger.base import Decision
from airflow_dataops.steps.run import Edges, Progress, Run
from airflow_dataops.steps.stage import kept_fingerprints


@dataclass(frozen=True, slots=True)
class PartitionVerified:
    """One partition: what the ledger decided against what the lake holds now and the catalog shows."""

    partition: str
    rows: int
    fingerprint: str
    found_rows: int
    found_fingerprint: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TableVerified:
    """One table's partitions; `ok` when all agree."""

    source_table: str
    target: str
    partitions: tuple[PartitionVerified, ...]
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and all(p.problem is None for p in self.partitions)

    def to_json(self) -> dict[str, Any]:
        return {
            "source_table": self.source_table, "target": self.target, "ok": self.ok, "error": self.error,
            "partitions": [asdict(p) for p in self.partitions],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """`unfinished` names tables of the run that did not load, with the reason."""

    tables: tuple[TableVerified, ...]
    unfinished: tuple[tuple[str, str], ...] = ()
    held: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.unfinished and all(t.ok for t in self.tables)

    def raise_for_problems(self, source: str) -> None:
        """ProofError that names what differs; nothing when all is proved."""
        if self.ok:
            return
        problems = [f"{t} did not load ({why})" for t, why in self.unfinished]
        for table in self.tables:
            problems += [table.error] if table.error else []
            problems += [f"{table.target} {p.partition}: {p.problem}" for p in table.partitions if p.problem]
        shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
        raise ProofError(
            f"Cannot prove {source}: {shown} -> every table loaded and equal to its fingerprint. See the load task's log."
        )


def verify(spec: PipelineSpec, edges: Edges, tables: Sequence[str] | None = None, run: Run | None = None) -> VerifyResult:
    """With `run`: every table in `tables` must have an outcome in it, and the partitions it published are re-read.
    Without: all partitions of all (or the named) tables are re-read."""
    if run is None:
        if tables is None:  # from the ledger, not the source: the proof works while the source is down
            known = {entry["table_key"].split(":", 1)[1] for entry in edges.ledger.runs.latest(spec.id, limit=100_000)}
            tables = sorted(name for name in known if is_selected(spec, name))
        names = tables
        return VerifyResult(tuple(_verify(table_spec(spec, n, edges.state_id), edges, None) for n in names))
    reports = edges.ledger.runs.of(run.token)
    names = tables if tables is not None else [key.split(":", 1)[1] for key in reports]
    verified, unfinished, held = [], [], []
    for name in names:
        report = reports.get(f"{spec.id}:{name}")
        if report is None:
            unfinished.append((name, "the run never came to it"))
        elif report["outcome"] == "failed":
            unfinished.append((name, f"{report['error_code']}: {report['error']}"))
        elif report["outcome"] == "held":
            held.append(name)
        else:
            table = table_spec(spec, name, edges.state_id)
            verified.append(_verify(table, edges, report))
    return VerifyResult(tuple(verified), tuple(unfinished), tuple(held))


def _verify(table: TableSpec, edges: Edges, report: Mapping[str, Any] | None) -> TableVerified:
    """With `report`: what that run published (it may have done several batches), or had published before."""
    try:
        decisions = edges.ledger.decisions.current(table.key)
        if report is None:
            asked = list(decisions.values())
        else:
            batch, names = (report["batch_id"], report["generation"]), set(report["partitions"])
            asked = [d for n, d in decisions.items() if n in names or (d.batch_id, d.generation) == batch]
        return TableVerified(table.source_table, table.name, tuple(verify_partition(table, d, edges) for d in asked))
    except DataOpsError as error:
        return TableVerified(table.source_table, table.name, (), str(error))


def _prove(rows: pa.RecordBatch) -> tuple[Fingerprint, int]:
    """The fingerprint of what is stored, and of how many rows it is not the one that they carry."""
    prints, kept = row_fingerprints(rows), kept_fingerprints(rows)
    return Fingerprint.of(prints), 0 if kept is None else int((kept != prints).any(axis=1).sum())


def verify_partition(table: TableSpec, decision: Decision, edges: Edges) -> PartitionVerified:
    """Re-reads every row: the fingerprint is computed anew from the stored values, not taken from metadata. Each file under
    its own types, because numbers that the table shows as text by now were numbers when they were proved."""
    found, damaged = Fingerprint.EMPTY, 0
    for fingerprint, more in edges.lake.scan([entry.path for entry in edges.lake.list(decision.location)], _prove):
        found += fingerprint
        damaged += more
        edges.progress(Progress(table.source_table, "verify", found.rows, decision.rows))
    problem = f"{damaged} rows whose `_row_fingerprint` is not that of their values -> none" if damaged else None
    if str(found) != decision.fingerprint:
        problem = f"{found.rows} rows {found} -> {decision.rows} rows {decision.fingerprint} as decided"
    shown = edges.catalog.get_partitions(table.database, table.table, [decision.values])
    if not shown or shown[0].location != edges.lake.uri(decision.location):
        place = shown[0].location if shown else "nothing"
        problem = f"the catalog shows {place} -> {edges.lake.uri(decision.location)} as decided"
    return PartitionVerified(decision.name, decision.rows, decision.fingerprint, found.rows, str(found), problem)
