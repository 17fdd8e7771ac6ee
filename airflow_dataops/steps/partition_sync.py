"""The catalog against the ledger against the lake, partition by partition (docs/partitions.md).

The ledger decides, so what the catalog shows otherwise is put right from it. What was never ours is told and never touched. What
the lake has lost cannot be put right: a partition without its files is dropped, so that readers do not fail on it, but only on a
person's word and within limits, because a listing that comes back short looks just the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from airflow_dataops.catalog.base import CatalogPartition
from airflow_dataops.core.partition_name import partition_name
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import Decision, PartitionRecord
from airflow_dataops.steps.alone import Alone
from airflow_dataops.steps.drop_limits import DropLimits
from airflow_dataops.steps.held import known_table
from airflow_dataops.steps.publish import OurPlaces
from airflow_dataops.steps.retention import AT_ONCE, keeps_to
from airflow_dataops.steps.run import Edges, Progress
from airflow_dataops.steps.sweep import project_marked
from airflow_dataops.steps.verify import verify_partition

log = logging.getLogger(__name__)

State = Literal["shown", "busy", "dropped", "missing", "stale", "undropped", "foreign", "unknown", "gone", "changed", "differs"]
"""shown: as decided. busy: somebody is at work on it, so nothing is said. dropped: decided to be nothing, and it is.
The catalog: `missing` does not have it, `stale` shows an older decision, `undropped` one that is dropped, `foreign` a place that
was never ours, `unknown` a place of ours under a partition that was never decided. The lake: `gone` has no file of it, `changed`
not the bytes decided, `differs` not the rows decided (only where they were read)."""

SHOWN_ANEW = frozenset({"missing", "stale", "undropped"})
AT_REST = frozenset({"shown", "busy", "dropped"})
PAGE = 500


@dataclass(frozen=True, slots=True)
class PartitionFound:
    """One partition as it was found. `epoch` is the decision it was judged by (0: there is none), `place` where the catalog shows
    it, `detail` what is wrong."""

    partition: str
    state: State
    epoch: int = 0
    rows: int = 0
    bytes: int = 0
    place: str | None = None
    schema: str | None = None
    batch: str | None = None
    decided_at: float | None = None
    dropped: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionSyncPlan:
    """What is wrong, and what would be done. `standing`: partitions that the ledger says stand."""

    table: TableSpec
    standing: int
    busy: int
    wrong: tuple[PartitionFound, ...]

    @property
    def show(self) -> tuple[PartitionFound, ...]:
        """Those that the catalog is to be told anew."""
        return tuple(found for found in self.wrong if found.state in SHOWN_ANEW)

    @property
    def drop(self) -> tuple[PartitionFound, ...]:
        """Those that have lost their files. The one partition of an unpartitioned table is the table: it stays."""
        return tuple(found for found in self.wrong if found.state == "gone" and found.partition)


@dataclass(frozen=True, slots=True)
class PartitionSyncResult:
    """What was done: partitions `shown` anew and `dropped`, and what is `left` wrong."""

    target: str
    standing: int
    busy: int
    shown: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    left: tuple[PartitionFound, ...] = field(default=())
    error: str | None = None
    error_code: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def partition_sync(
    spec: PipelineSpec, edges: Edges, limits: DropLimits, tables: Sequence[str] | None = None, *, drop: bool = False,
    deep: bool = False,
) -> tuple[PartitionSyncResult, ...]:  # fmt: skip
    """The loaded tables of a row (or these source tables), one after the other. One that fails never stops the others."""
    results = []
    for known in edges.ledger.tables.of_source(spec.id):
        if not keeps_to(spec, known) or (tables is not None and known.source_table not in tables):
            continue
        with Alone(log, f"partitions of {known.target} could not be repaired") as failed:
            plan = plan_partition_sync(known_table(spec, known), edges, deep=deep)
            check_partition_sync(plan, limits)
            results.append(apply_partition_sync(plan, edges, drop=drop))
            continue
        results.append(PartitionSyncResult(known.target, 0, 0, **failed.why))
    return tuple(results)


def list_partitions(
    table: TableSpec, edges: Edges, after: str | None = None, limit: int = PAGE, *, with_files: bool = False
) -> Iterator[PartitionFound]:
    """Every partition of which the ledger has a decision, in order of name, page by page. `with_files`: the lake is asked, too."""
    ours = OurPlaces(table, edges)
    left = limit
    while left > 0:
        page = edges.ledger.partitions.page(table.key, after, min(PAGE, left))
        yield from _judged(table, page, edges, ours, with_files)
        if len(page) < min(PAGE, left):
            return
        left, after = left - len(page), page[-1].decision.name


def _judged(
    table: TableSpec, page: tuple[PartitionRecord, ...], edges: Edges, ours: OurPlaces, with_files: bool
) -> Iterator[PartitionFound]:
    if not page:
        return
    shown = {p.values: p for p in edges.catalog.get_partitions(table.database, table.table, [r.decision.values for r in page])}
    # In this order (DESIGN §5.7): what was decided since the page was read is what the catalog may show already.
    names = [record.decision.name for record in page]
    latest = edges.ledger.decisions.latest(table.key, names)
    for record in page:
        decision = latest[record.decision.name]
        busy = record.marked or decision.epoch != record.decision.epoch
        yield judge(record, decision, shown.get(decision.values), edges.lake.uri(decision.location), busy, ours, edges, with_files)


def judge(
    record: PartitionRecord, decision: Decision, shown: CatalogPartition | None, expected: str, busy: bool, ours: OurPlaces,
    edges: Edges, with_files: bool,
) -> PartitionFound:  # fmt: skip
    """One partition. The files are looked at only where the catalog is right: else there is more to do first."""
    state, detail = _catalog_state(decision, shown, expected, ours)
    if busy:
        state, detail = "busy", None
    elif state == "shown" and with_files:
        state, detail = _lake_state(decision, edges)
    return PartitionFound(
        decision.name, state, decision.epoch, decision.rows, decision.bytes, shown.location if shown else None,
        decision.schema.fingerprint, f"{decision.batch_id}-g{decision.generation}" if decision.batch_id else None,
        record.decided_at, decision.dropped, detail,
    )  # fmt: skip


def _catalog_state(decision: Decision, shown: CatalogPartition | None, expected: str, ours: OurPlaces) -> tuple[State, str | None]:
    if shown is None:
        return ("dropped", None) if decision.dropped else ("missing", "the catalog does not have it")
    if not decision.dropped and shown.location == expected:
        if shown.epoch == decision.epoch:
            return "shown", None
        return "stale", f"the catalog shows epoch {shown.epoch} of it -> {decision.epoch}"
    if shown.location not in ours:
        return "foreign", f"the catalog shows {shown.location} -> a directory of ours"
    if decision.dropped:
        return "undropped", f"the catalog shows {shown.location} -> nothing"
    return "stale", f"the catalog shows {shown.location} -> {expected}"


def _lake_state(decision: Decision, edges: Edges) -> tuple[State, str | None]:
    if not decision.rows:
        return "shown", None
    files = edges.lake.list(decision.location)
    found = sum(entry.bytes for entry in files)
    if not files:
        return "gone", f"no file in {edges.lake.uri(decision.location)} -> {decision.rows} rows"
    if found != decision.bytes:
        return "changed", f"{found} bytes in {edges.lake.uri(decision.location)} -> {decision.bytes}"
    return "shown", None


def plan_partition_sync(table: TableSpec, edges: Edges, *, deep: bool = False) -> PartitionSyncPlan:
    """Looks at everything, page by page, and changes nothing. `deep`: every row is read and proved. Whatever cannot be listed is an
    error, never an absence."""
    standing = busy = 0
    wrong: list[PartitionFound] = []
    for found in list_partitions(table, edges, limit=1 << 62, with_files=True):
        standing += found.dropped is None
        busy += found.state == "busy"
        if found.state not in AT_REST:
            wrong.append(found)
        elif deep and found.state == "shown":
            wrong += _differing(table, found, edges)
        edges.progress(Progress(table.source_table, "partitions", standing))
    wrong += _undecided(table, edges)
    return PartitionSyncPlan(table, standing, busy, tuple(wrong))


def _differing(table: TableSpec, found: PartitionFound, edges: Edges) -> list[PartitionFound]:
    decision = edges.ledger.decisions.current(table.key, [found.partition]).get(found.partition)
    if decision is None or decision.epoch != found.epoch:
        return []  # it moved on meanwhile
    problem = verify_partition(table, decision, edges).problem
    return [] if problem is None else [replace(found, state="differs", detail=problem)]


def _undecided(table: TableSpec, edges: Edges) -> Iterator[PartitionFound]:
    """What the catalog shows and the ledger has no decision of."""
    columns = [p.name for p in table.target.partition_by]
    ours = OurPlaces(table, edges)
    after = None
    while page := edges.catalog.page_partitions(table.database, table.table, after, PAGE):
        names = {partition_name(columns, p.values): p for p in page}
        decided = edges.ledger.decisions.latest(table.key, list(names))
        for name, shown in names.items():
            if name not in decided:
                state: State = "unknown" if shown.location in ours else "foreign"
                yield PartitionFound(name, state, place=shown.location, detail="the ledger has no decision of it")
        if len(page) < PAGE:
            return
        after = page[-1].values


def check_partition_sync(plan: PartitionSyncPlan, limits: DropLimits) -> None:
    """LimitError when so many partitions have lost their files that the listing itself is to be doubted."""
    limits.check(
        f"repair partitions of {plan.table.name}",
        len(plan.drop),
        plan.standing,
        "They have no files: a listing that came back short, or a lake that is not mounted, looks just like this. Look at the "
        "lake; raise `--most-percent` when the files are really gone.",
    )


def apply_partition_sync(plan: PartitionSyncPlan, edges: Edges, *, drop: bool = False) -> PartitionSyncResult:
    """Shows readers what is decided. `drop`: takes away the partitions whose files are gone, each looked for once more."""
    table = plan.table
    shown = _show(table, [found.partition for found in plan.show], edges)
    dropped = _drop(table, {found.partition: found.epoch for found in plan.drop}, edges) if drop else ()
    done = {*shown, *dropped}
    left = tuple(found for found in plan.wrong if found.partition not in done)
    return PartitionSyncResult(table.name, plan.standing, plan.busy, shown, dropped, left)


def _show(table: TableSpec, names: list[str], edges: Edges) -> tuple[str, ...]:
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        edges.ledger.drift.record_ddl(_audit(table, "show_partitions", edges) | {"why": "repair", "after": some})
        edges.ledger.decisions.mark(table.key, some, edges.writer)
        project_marked(table, edges)
    return tuple(names)


def _drop(table: TableSpec, built_on: Mapping[str, int], edges: Edges) -> tuple[str, ...]:
    dropped: list[str] = []
    names = list(built_on)
    for start in range(0, len(names), AT_ONCE):
        some = edges.ledger.decisions.current(table.key, names[start : start + AT_ONCE])
        still = {name: built_on[name] for name, d in some.items() if not edges.lake.list(d.location)}
        audit = _audit(table, "drop_partitions", edges)
        dropped += [d.name for d in edges.ledger.partitions.drop(table.key, still, "gone", edges.writer, audit)]
        project_marked(table, edges)
    return tuple(dropped)


def _audit(table: TableSpec, statement: str, edges: Edges) -> dict[str, Any]:
    return {"table_key": table.key, "target": table.name, "statement": statement, "who": edges.writer}
