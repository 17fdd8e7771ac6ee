"""From frozen to committed: DDL, decide, project, verify, commit (DESIGN §5.4–5.8). Whoever staged the batch, anyone may
finish it; every effect may be repeated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from airflow_dataops.catalog.base import CatalogPartition, CatalogTable
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import ConflictError, ForeignChangeError, HoldError, ProofError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.offset import FileIdentity, FileSet, moves_watermark
from airflow_dataops.core.partition_name import parse_partition_name
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent, Claim, Decision, LetterFile, PartitionName
from airflow_dataops.steps.build import build
from airflow_dataops.steps.notice import notice
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.staged_as import as_staged, hold_reason, suggestions
from airflow_dataops.steps.target import current_table, ensure_table

TRIES = 10
HeldLetters = tuple[Sequence[DeadLetter], LetterFile | None]
"""The dead letters of a held batch that was shaped anew, and their file."""


def finish(table: TableSpec, claim: Claim, edges: Edges) -> tuple[PartitionName, ...] | None:
    """`publish`, or None when the batch has to wait for a person (its own drift, or a held batch before it): it is held
    then, whoever staged it, even if that process died before it could hold it. What it shows of its source is noticed first."""
    noticed = notice(table, claim, edges)
    found = suggestions(claim.content) if claim.content is not None and claim.state == "frozen" else ()
    if found:
        edges.ledger.holds.suggest(table.key, table.source_id, claim.batch_id, found)
    reason = hold_reason(claim.content) if claim.content is not None else None
    if reason is not None and claim.state == "frozen":
        edges.ledger.batches.hold(claim, reason)
        return None
    try:
        return publish(table, claim, edges, noticed.retired)
    except HoldError as error:
        if claim.state != "frozen":
            raise
        edges.ledger.batches.hold(claim, {"reason": str(error)})
        return None


def publish(
    table: TableSpec, claim: Claim, edges: Edges, retired: frozenset[str] | None = None,
    letters: HeldLetters = ((), None), *, why: str = "",
) -> tuple[PartitionName, ...]:  # fmt: skip
    """Finishes a frozen or decided batch, or a held one with what it was shaped to and the dead letters of that; returns the
    partitions it changed (none when all were unchanged). `retired` columns say so in the catalog; None: nobody has looked. `why`:
    more to say in the audit of DDL."""
    content = claim.content
    if content is None:
        raise ProofError(f"Cannot publish batch {claim.batch_id} of {table.key}: state {claim.state} -> frozen or decided.")
    table = as_staged(table, content)
    undecided = claim.state != "decided"
    if undecided and _is_nothing(content) and current_table(edges, table) is None:
        edges.ledger.batches.commit_unchanged(claim, moves_watermark(claim.range), _files(claim), held_letters=letters)
        return ()
    why = f"batch {claim.object_name}{why}"
    shown = ensure_table(edges, table, content.schema, why=why, batch_id=claim.batch_id, retired=retired)
    if undecided and not _decide(table, claim, content, shown, edges, letters):
        return ()
    for _ in range(TRIES):
        names = edges.ledger.decisions.names_of(claim)
        decisions = edges.ledger.decisions.mark(table.key, names, claim.writer)
        _join_objects(table, claim, content, decisions, edges)
        project(table, decisions, edges)
        current, differing = against_catalog(table, names, edges)
        if differing:
            continue
        try:
            edges.ledger.batches.commit(
                claim,
                {name: d.epoch for name, d in current.items()},
                moves_watermark(claim.range),
                _files(claim),
                {
                    "target": table.name,
                    "partitions": sorted(names),
                    "rows": content.accounting.rows_written,
                    "fingerprint": content.fingerprint,
                },
            )
        except ConflictError:
            continue
        return tuple(sorted(names))
    raise ConflictError(
        f"Cannot publish {table.key}: overtaken {TRIES} times while projecting -> a quiet moment. The sweep finishes it."
    )


def _decide(table: TableSpec, claim: Claim, content: BatchContent, shown: CatalogTable, edges: Edges, letters: HeldLetters) -> bool:
    """False when there is nothing to decide (then the batch is committed as unchanged)."""
    schema = TableSchema(shown.columns)
    for _ in range(TRIES):
        plans = build(table, claim, content, schema, edges)
        if not plans:
            edges.ledger.batches.commit_unchanged(claim, moves_watermark(claim.range), _files(claim), held_letters=letters)
            return False
        refuse_foreign(table, {p.name: p.values for p in plans}, edges)
        try:
            edges.ledger.batches.decide(claim, plans, letters)
        except ConflictError:
            continue
        return True
    raise ConflictError(f"Cannot decide batch {claim.batch_id} of {table.key}: its base moved {TRIES} times -> a quiet moment.")


def _files(claim: Claim) -> tuple[FileIdentity, ...]:
    return claim.range.files if isinstance(claim.range, FileSet) else ()


def _is_nothing(content: BatchContent) -> bool:
    """Every row was discarded with its table (`contract.tables: discard_row`): no table may come of it."""
    return not content.partitions and not content.complete and not set(content.schema.names) - STANDARD_COLUMNS


def _join_objects(
    table: TableSpec, claim: Claim, content: BatchContent, decisions: Mapping[PartitionName, Decision], edges: Edges
) -> None:
    """Puts an append's object into the live directory, after the decision and only if it is not there (§5.5)."""
    if table.write.mode != "append":
        return
    for part in content.partitions:
        decision = decisions.get(part.name)
        if decision is None or decision.dropped or decision.location == part.directory:
            continue
        if (decision.batch_id, decision.generation) != (claim.batch_id, claim.generation):
            continue  # overtaken: whoever decided later built on this batch's decision, its object included
        for file in part.files:
            path = str(file["path"])
            edges.lake.link(path, f"{decision.location}/{path.rsplit('/', 1)[-1]}")


def project(table: TableSpec, decisions: Mapping[PartitionName, Decision], edges: Edges) -> None:
    """Writes the whole partition objects from the ledger's decisions, all in one call; takes away those that are dropped."""
    objects = [
        CatalogPartition(
            values=d.values,
            location=edges.lake.uri(d.location),
            columns=d.schema.columns,
            epoch=d.epoch,
            parameters={
                "dataops.epoch": str(d.epoch), "dataops.batch": f"{d.batch_id}-g{d.generation}",
                "dataops.rows": str(d.rows), "dataops.fingerprint": d.fingerprint,
            },
        )
        for d in decisions.values()
        if not d.dropped
    ]  # fmt: skip
    if objects:
        edges.catalog.put_partitions(table.database, table.table, objects)
    gone = [d.values for d in decisions.values() if d.dropped]
    if gone:
        edges.catalog.drop_partitions(table.database, table.table, gone)


def against_catalog(
    table: TableSpec, names: Collection[PartitionName], edges: Edges
) -> tuple[dict[PartitionName, Decision], list[Decision]]:
    """Reads the catalog, then the ledger, about these partitions, in that order and each once: what is decided now, and what of it
    the catalog does not show, but an older decision of ours, or none, or one that is dropped (a writer that woke up late, or we
    were overtaken): project again. An append decides the same place anew, so the place alone does not tell. ForeignChangeError
    when it was never ours."""
    asked = [tuple(value for _, value in parse_partition_name(name)) for name in names]
    shown = edges.catalog.get_partitions(table.database, table.table, asked)
    seen = {p.values: (p.location, p.epoch) for p in shown}
    latest = edges.ledger.decisions.latest(table.key, list(names))
    differing = [d for d in latest.values() if seen.get(d.values) != _shown(d, edges)]
    if differing:
        refuse_foreign(table, {d.name: d.values for d in differing}, edges)
    return latest, differing


def _shown(decision: Decision, edges: Edges) -> tuple[str, int] | None:
    """What a catalog that shows the decision has: the place and the epoch, or nothing."""
    return None if decision.dropped else (edges.lake.uri(decision.location), decision.epoch)


def refuse_foreign(table: TableSpec, names: Mapping[PartitionName, tuple[str | None, ...]], edges: Edges) -> None:
    """ForeignChangeError when the catalog shows one of these partitions at a place the ledger does not know as ours."""
    for partition in foreign_partitions(table, names, edges):
        raise ForeignChangeError(
            f"Cannot publish {table.name} partition {partition.values}: the catalog shows {partition.location} -> a directory "
            "of ours. Somebody else changed it. Nothing was changed; point it back, or drop the partition, then run again."
        )


def foreign_partitions(
    table: TableSpec, names: Mapping[PartitionName, tuple[str | None, ...]], edges: Edges
) -> tuple[CatalogPartition, ...]:
    """Those of these partitions that the catalog shows at a place the ledger does not know as ours."""
    shown = edges.catalog.get_partitions(table.database, table.table, list(names.values()))
    if not shown:
        return ()
    current = edges.ledger.decisions.current(table.key, list(names))
    expected = {edges.lake.uri(d.location) for d in current.values()}
    strange = [p for p in shown if p.location not in expected]
    if not strange:
        return ()
    ours = OurPlaces(table, edges)
    return tuple(p for p in strange if p.location not in ours)


class OurPlaces:
    """Every place that was ever ours, of one table: asked for when the first doubt comes."""

    def __init__(self, table: TableSpec, edges: Edges) -> None:
        self._table, self._edges = table, edges
        self._places: frozenset[str] | None = None

    def __contains__(self, location: object) -> bool:
        if self._places is None:
            known = self._edges.ledger.decisions.locations(self._table.key)
            self._places = frozenset(self._edges.lake.uri(place) for place in known)
        return isinstance(location, str) and any(place in self._places for place in _above(location))


def _above(location: str) -> Iterator[str]:
    """The location, and each folder that it lies in."""
    while location:
        yield location
        location = location.rpartition("/")[0]
