"""The `replay` step: dead letters go on, through the contract of now, into the partition that their batch was for.

The open letters of one batch become a batch of their own (`core.offset.Letters`), with the same order of effects as any
other: claim, stage, prove, freeze, decide, project, commit (DESIGN §5). Rows are added to what stands, or merged by key;
where a partition is overwritten as a whole, too: until its period is run again, which reads the records again.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from airflow_dataops.core.batch_id import batch_id
from airflow_dataops.core.errors import BusyError, DataOpsError, StaleError
from airflow_dataops.core.offset import Letters
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import NOT_LISTED, WHOLE_TABLE, Claim, ClaimRequest, LetterRecord
from airflow_dataops.steps.attempt import stage
from airflow_dataops.steps.held import known_table
from airflow_dataops.steps.letter_file import read_letters
from airflow_dataops.steps.publish import finish
from airflow_dataops.steps.run import Edges, Outcome, Progress, TableResult
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.target import current_table, table_root

log = logging.getLogger(__name__)

LETTERS_PER_BATCH = 5000
BYTES_PER_BATCH = 32 << 20
"""A replay holds its records in memory."""

UNFOLD_LETTERS = 1000
_NEVER = datetime.fromtimestamp(0, UTC)
MAX_PLANS = 100

PeriodOf = Callable[[str], Period]
"""A period by its key, in the row's schedule."""


@dataclass(frozen=True, slots=True)
class LetterChoice:
    """Which letters are meant: by number, or all open ones of the source that match table (a glob) and reason."""

    ids: tuple[int, ...] = ()
    table: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`batches`: one result per replay; its `rows_dead_lettered` are records that failed again. `left` letters were chosen and not
    tried: they hold no record that could be read again, or their batch is not published."""

    batches: tuple[TableResult, ...] = ()
    left: int = 0

    @property
    def failures(self) -> tuple[TableResult, ...]:
        return tuple(b for b in self.batches if b.outcome == "failed")

    @property
    def failed_again(self) -> int:
        return sum(b.accounting.rows_dead_lettered for b in self.batches)

    def to_json(self) -> dict[str, Any]:
        return {"batches": [b.to_json() for b in self.batches], "left": self.left, "failed_again": self.failed_again}


def replay(spec: PipelineSpec, edges: Edges, run: str, period_of: PeriodOf, choice: LetterChoice) -> ReplayResult:
    """Replays the chosen letters that are open. `run` is unique per call and says who replays: it stays with each letter. A failing
    batch never stops the others. What a replay that died has left frozen or decided is finished first."""
    results = list(_finished(spec, edges))
    chosen = _unfolded(spec, edges, choice)
    ready = [letter for letter in chosen if letter.can_replay and letter.batch_state == "committed"]
    for letters in _batches(ready):
        result = _replay_reported(spec, edges, run, period_of, letters)
        if result is not None:
            results.append(result)
    return ReplayResult(tuple(results), sum(letter.letters for letter in chosen) - len(ready))


def _finished(spec: PipelineSpec, edges: Edges) -> Iterator[TableResult]:
    """Sweeps the tables with letters under way; yields those where that failed."""
    under_way = {letter.table_key: letter for letter in edges.ledger.dead_letters.find(spec.id, states=("replaying",))}
    for letter in under_way.values():
        try:
            sweep_table(known_table(spec, letter), edges)
        except DataOpsError as error:
            log.warning("a replay of table %s could not be finished: %s", letter.target, error)
            yield TableResult.of_error(None, letter.source_table, error)


def choose(spec: PipelineSpec, edges: Edges, choice: LetterChoice) -> tuple[LetterRecord, ...]:
    """The open letters that are meant, oldest first."""
    found = edges.ledger.dead_letters.find(spec.id, ids=choice.ids, states=("open",), reason=choice.reason)
    glob = choice.table
    return tuple(e for e in reversed(found) if glob is None or fnmatch.fnmatchcase(e.source_table, glob))


def _unfolded(spec: PipelineSpec, edges: Edges, choice: LetterChoice) -> tuple[LetterRecord, ...]:
    """The chosen letters, each with an entry of its own. Before that nobody can tell what the reasons of its records are, so an
    entry that stands for many is always looked into."""
    ids = set(choice.ids)
    for entry in choose(spec, edges, replace(choice, reason=None)):
        if entry.reason != NOT_LISTED:
            continue
        _unfold(entry, edges)
        if ids:
            behind = range(entry.place, entry.place + entry.letters)
            known = edges.ledger.dead_letters.find(table_key=entry.table_key, states=("open",))
            ids |= {e.id for e in known if e.file == entry.file and e.place in behind}
    return choose(spec, edges, replace(choice, ids=tuple(sorted(ids))))


def _unfold(entry: LetterRecord, edges: Edges) -> None:
    left: LetterRecord | None = entry
    while left is not None:
        places = range(left.place, left.place + min(left.letters, UNFOLD_LETTERS))
        letters = read_letters(edges, left.file or "", places)
        edges.ledger.dead_letters.unfold(left, [letters[place] for place in places])
        left = next(iter(edges.ledger.dead_letters.find(ids=[entry.id], states=("open",))), None)


def _batches(letters: Sequence[LetterRecord]) -> Iterator[list[LetterRecord]]:
    """Those of one batch together, cut to what fits into memory."""

    def of(letter: LetterRecord) -> tuple[str, str, int]:
        return letter.table_key, letter.batch_id, letter.generation

    for _, some in groupby(sorted(letters, key=lambda e: (of(e), e.id)), of):
        part: list[LetterRecord] = []
        size = 0
        for letter in some:
            if part and (len(part) == LETTERS_PER_BATCH or size + letter.raw_bytes > BYTES_PER_BATCH):
                yield part
                part, size = [], 0
            part.append(letter)
            size += letter.raw_bytes
        yield part


def _replay_reported(
    spec: PipelineSpec, edges: Edges, run: str, period_of: PeriodOf, letters: Sequence[LetterRecord]
) -> TableResult | None:
    """One batch, whatever happens to it; None when others were faster with all of its letters."""
    table: TableSpec | None = None
    try:
        table = known_table(spec, letters[0])
        if table.write.mode == "overwrite_partition":
            table = replace(table, write=table.write.model_copy(update={"mode": "append"}))
        result = _replay(table, edges, run, _period(table, letters[0].period_key, period_of), letters)
    except DataOpsError as error:
        log.warning("dead letters of table %s could not be replayed: %s", letters[0].target, error)
        result = TableResult.of_error(table, letters[0].source_table, error)
    except Exception as error:
        log.exception("dead letters of table %s could not be replayed", letters[0].target)
        result = TableResult.of_error(table, letters[0].source_table, error)
    if result is not None:
        edges.progress(Progress(letters[0].source_table, result.outcome, result.accounting.rows_read))
    return result


def _period(table: TableSpec, key: str, period_of: PeriodOf) -> Period:
    """The period of the letters' batch; one without moments where no partition comes of it."""
    if any(p.column is None for p in table.target.partition_by):
        return period_of(key)
    return Period(key, _NEVER, _NEVER)


def _replay(table: TableSpec, edges: Edges, run: str, period: Period, letters: Sequence[LetterRecord]) -> TableResult | None:
    sweep_table(table, edges)
    for _ in range(MAX_PLANS):
        try:
            claim = edges.ledger.batches.claim(_request(table, edges, run, letters))
            if not claim.asked:
                finish(table, claim, edges)
                continue
            return _perform(table, claim, period, edges)
        except StaleError as error:
            log.info("dead letters of table %s are chosen anew: %s", table.source_table, error)
        letters = _still_open(edges, [letter.id for letter in letters])
        if not letters:
            return None
    raise BusyError(f"Cannot claim {table.key}: other runs were faster {MAX_PLANS} times -> its turn. Try again later.")


def _still_open(edges: Edges, ids: Collection[int]) -> tuple[LetterRecord, ...]:
    return tuple(reversed(edges.ledger.dead_letters.find(ids=ids, states=("open",))))


def _request(table: TableSpec, edges: Edges, run: str, letters: Sequence[LetterRecord]) -> ClaimRequest:
    first = letters[0]
    read = Letters(first.batch_id, first.generation, tuple((letter.id, letter.attempts) for letter in letters))
    return ClaimRequest(
        table_key=table.key, source_id=table.source_id, source_table=table.source_table, target=table.name,
        batch_id=batch_id(table.key, read), scope=WHOLE_TABLE, range=read, period_key=first.period_key, run=run,
        writer=edges.writer, nonce=edges.nonce(), lease_seconds=edges.lease_seconds,
        root=edges.ledger.batches.root(table.key) or table_root(table, current_table(edges, table), edges),
    )  # fmt: skip


def _perform(table: TableSpec, claim: Claim, period: Period, edges: Edges) -> TableResult:
    if claim.state == "open":
        try:
            staged = stage(table, claim, period, edges)
            claim = edges.ledger.batches.freeze(claim, staged.content, staged.dead_letters, edges.lease_seconds, staged.letter_file)
        except BaseException:
            edges.ledger.batches.abandon(claim)
            raise
    partitions = finish(table, claim, edges) if claim.state in ("frozen", "decided") else ()
    counts = claim.content.accounting if claim.content else None
    fingerprint = claim.content.fingerprint if claim.content else None
    outcome: Outcome = "held" if partitions is None else "loaded" if partitions else "unchanged"
    told = TableResult(table.source_table, table.name, outcome, batch_id=claim.batch_id, generation=claim.generation)
    return replace(told, fingerprint=fingerprint, partitions=partitions or (), accounting=counts or told.accounting)
