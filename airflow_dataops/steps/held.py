"""Held drift (DESIGN §5): answers are recorded once, and what they let go is published, or becomes dead letters, in order.

A run of a table, the maintenance and whoever answers drain the same queue: each batch is claimed with an attempt of its own,
planned again under all that was approved, shaped from its frozen files, proved, and decided in one transaction of the ledger.
Killed anywhere, the next one begins that batch anew or finishes what was decided.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from airflow_dataops.core.approval import ANSWERS, REJECT, RENAME, Approval, TableNow, plan_approval, plan_renames, renames_of
from airflow_dataops.core.continued import Rename, lake_columns
from airflow_dataops.core.drift import change_of_json
from airflow_dataops.core.errors import DataOpsError, FencedError, InventoryError, ProofError, told
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.offset import Letters
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import TableSpec, table_spec
from airflow_dataops.ledger.base import Hold, KnownTable, Ledger, LetterRecord, Release
from airflow_dataops.steps.continue_renamed import continue_renamed
from airflow_dataops.steps.publish import publish
from airflow_dataops.steps.reshape import plan_held, reject, reshape
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.staged_as import as_staged, drift_reason
from airflow_dataops.steps.target import at_work, fixed_columns

log = logging.getLogger(__name__)


Pairs = Collection[tuple[str, str]]


@dataclass(slots=True)
class Drained:
    """Batch ids by what became of them; `asked`: ids of questions that arose. `error` is of the first batch that could not go on;
    it keeps its place, and so do those behind it. `moved`: partitions whose values of a renamed column are in the old one now;
    `left`: how many are left to the maintenance, because a batch is at work on them."""

    published: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    error: str | None = None
    error_code: str | None = None
    moved: tuple[str, ...] = ()
    left: int = 0


def known_table(spec: PipelineSpec, known: KnownTable | LetterRecord | Hold) -> TableSpec:
    """The row narrowed to the table, at the target that the ledger knows: the row may name another one by now."""
    database, _, name = known.target.partition(".")
    state_id = known.table_key.partition(":")[0]
    return replace(table_spec(spec, known.source_table, state_id), database=database, table=name)


def refuse_stranger(spec: PipelineSpec, hold: Hold, by: str) -> None:
    """InventoryError unless this person may decide: anybody may, or only those whom the row names."""
    if spec.approvers and by not in spec.approvers:
        raise InventoryError(
            f"Cannot decide drift {hold.hold_id} of {hold.target}: {by!r} answers -> one of {', '.join(spec.approvers)} "
            "(`approvers` of the row). Ask one of them, or change the row."
        )


def settle(
    spec: PipelineSpec, hold: Hold, given: str, by: str, edges: Edges, at: float | None = None, pairs: Pairs | None = None
) -> tuple[Hold, Drained]:
    """`answer`, and at once what it lets go."""
    refuse_stranger(spec, hold, by)
    table = known_table(spec, hold)
    decided = answer(table, hold, given, by, edges.ledger, at, pairs)
    return decided, let_go(table, edges)


def let_go(table: TableSpec, edges: Edges) -> Drained:
    """What waited, and what landed in columns that are others by now."""
    done = drain(table, edges)
    moved = continue_renamed(table, edges)
    done.moved, done.left = moved.partitions, moved.left
    if done.error is None:
        done.error, done.error_code = moved.error, moved.error_code
    return done


def answer(
    table: TableSpec, hold: Hold, given: str, by: str, ledger: Ledger, at: float | None = None, pairs: Pairs | None = None
) -> Hold:
    """Records what somebody decided about a drift: `approve`, `new_column`, `rename` or `reject`. InventoryError for what cannot be
    approved, with the reason; ConflictError when somebody else was first. `pairs`: those of the suggested renames that are meant
    (old and new lake name); None: all."""
    approvals = () if given == REJECT or hold.decision is not None else plan_answer(table, hold, given, ledger, pairs)
    return ledger.holds.decide(hold.hold_id, given, by, approvals, at)


def plan_answer(
    table: TableSpec, hold: Hold, given: str, ledger: Ledger, pairs: Pairs | None = None
) -> tuple[Approval, ...]:  # fmt: skip
    """What any answer but `reject` would approve. InventoryError for what cannot be approved, with the reason. What waits is
    published by the write rules under which it was staged, so these count beside those of the row."""
    used, changes = at_work(table), [change_of_json(change) for change in hold.changes]
    for content in ledger.batches.held(table.key):
        used |= at_work(as_staged(table, content))
    if given == RENAME:
        standing = renames_of(ledger.holds.approvals(table.key))
        last = ledger.drift.schema(table.key) or TableSchema()
        now = TableNow(standing, lake_columns({sanitise(c.name): "" for c in last}, standing), used, fixed_columns(table))
        return plan_renames(changes, _meant(hold, pairs), now)
    if hold.is_suggestion:
        raise InventoryError(
            f"Cannot {given.replace('_', ' ')} drift {hold.hold_id}: {hold.why} -> the answer rename, or reject. Nothing waits for "
            "it: the new column is loaded beside the old one, by contract."
        )
    return plan_approval(changes, given, used)


def _meant(hold: Hold, pairs: Pairs | None) -> list[Rename]:
    suggested = {(one.before, one.after): one.rename for one in hold.renames}
    strange = [f"{before}={after}" for before, after in pairs or () if (before, after) not in suggested]
    if strange:
        known = ", ".join(f"{before}={after}" for before, after in suggested) or "none"
        raise InventoryError(
            f"Cannot rename {', '.join(strange)} of {hold.target}: no evidence of that -> one of the suggested renames ({known}). "
            "Give the column its old name in `read.query`."
        )
    return [suggested[pair] for pair in (suggested if pairs is None else pairs)]


def refusals(table: TableSpec, hold: Hold, ledger: Ledger) -> dict[str, str]:
    """The answers that cannot be given to this question, each with why. `reject` always can."""
    refused = {}
    for given in ANSWERS:
        try:
            if given != REJECT:
                plan_answer(table, hold, given, ledger)
        except InventoryError as error:
            refused[given] = str(error)
    return refused


def drain(table: TableSpec, edges: Edges) -> Drained:
    """Everything of the table's queue that may go on, in order of sequence."""
    done, tried = Drained(), set[tuple[str, int]]()
    while True:
        release = edges.ledger.holds.take(table.key, edges.writer, edges.nonce(), edges.lease_seconds, tried)
        if release is None:
            return done
        claim = release.claim
        tried.add((claim.batch_id, claim.generation))
        try:
            _let_go(table, release, edges, done)
        except FencedError as error:
            log.info("a held batch of table %s went on without this attempt: %s", table.name, error)
        except DataOpsError as error:
            _could_not(table, release, edges, done, error)
        except Exception as error:
            log.exception("a held batch of table %s could not go on", table.name)
            _could_not(table, release, edges, done, error)


def _could_not(table: TableSpec, release: Release, edges: Edges, done: Drained, error: Exception) -> None:
    text, code = told(error)
    log.warning("batch %s of table %s stays held: %s", release.claim.object_name, table.name, text)
    edges.ledger.holds.failed(release.claim, text)
    if done.error is None:
        done.error, done.error_code = text, code


def _let_go(table: TableSpec, release: Release, edges: Edges, done: Drained) -> None:
    claim, hold, content = release.claim, release.hold, release.claim.content
    if content is None:
        raise ProofError(f"Cannot release batch {claim.object_name} of {table.key}: no content -> frozen content. A defect.")
    table = as_staged(table, content)
    if hold is not None and hold.decision == REJECT:
        accounting, letters, file = reject(table, claim, content, hold.why, edges)
        edges.ledger.holds.reject(claim, accounting, letters, file)
        done.rejected += (claim.batch_id,)
        return
    approved = edges.ledger.holds.approvals(table.key)
    plan = plan_held(table, content, approved, edges)
    if plan.hold:
        asked = edges.ledger.holds.ask(claim, drift_reason(plan))
        log.info("batch %s of table %s needs another answer: %s", claim.object_name, table.name, asked)
        done.asked += (asked,)
        return
    shaped = reshape(table, claim, content, plan, renames_of(approved), edges)
    fail = shaped.content.accounting.rows_dead_lettered - content.accounting.rows_dead_lettered
    if isinstance(claim.range, Letters) and fail:
        # Which letter a row came from was known when it was read: as a new letter it would outlive a rerun of its batch.
        accounting, letters, file = reject(table, claim, content, f"{fail} rows that do not fit the table any more", edges)
        edges.ledger.holds.reject(claim, accounting, letters, file)
        done.rejected += (claim.batch_id,)
        return
    why = f", drift {hold.hold_id}: {hold.decision} by {hold.decided_by}" if hold is not None else ""
    publish(table, replace(claim, content=shaped.content), edges, None, (shaped.dead_letters, shaped.letter_file), why=why)
    done.published += (claim.batch_id,)
