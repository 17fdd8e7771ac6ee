"""The re-read zone of a watermark read: rows tied with (or shortly below) the watermark that the lake already has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.fingerprint import row_fingerprints
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.offset import CursorRange, Scalar
from airflow_dataops.core.privacy import Action, apply_privacy
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import AtLeast
from airflow_dataops.ledger.base import Claim
from airflow_dataops.steps.ranges import overlap_low
from airflow_dataops.steps.run import Edges


def read_range(table: TableSpec, claimed: CursorRange) -> CursorRange:
    """What is really read for the claimed (low, high]: from the watermark on, itself included, because a row with the
    same cursor value may have come after it was read (A10), or from `overlap_seconds` before it."""
    if table.read.mode != "watermark" or claimed.low is None or claimed.low_inclusive:
        return claimed
    return CursorRange(claimed.cursor, overlap_low(claimed, table), claimed.high, True, claimed.high_inclusive)


def known_rows(table: TableSpec, claim: Claim, plan: DriftPlan, actions: Mapping[str, Action], edges: Edges) -> Counter[bytes]:
    """Fingerprints (16 native bytes) of stored rows at or above the zone's low end, with how often each is there."""
    claimed = claim.range
    if table.read.mode != "watermark" or not isinstance(claimed, CursorRange) or claimed.low is None or claimed.low_inclusive:
        return Counter()
    return stored_since(table, claimed.cursor, overlap_low(claimed, table), plan, actions, edges, but_batch=claim.batch_id)


def stored_since(
    table: TableSpec, cursor: str, low: Scalar | None, plan: DriftPlan, actions: Mapping[str, Action], edges: Edges,
    but_batch: str | None = None,
) -> Counter[bytes]:  # fmt: skip
    """Fingerprints of the stored rows whose cursor (source name) is at or above `low`; not those of `but_batch`: an earlier
    generation of the batch at work is about to be replaced, its rows are no reason to leave rows out. Rows that were
    stored before a privacy rule came are known under it, too (`actions`: by source name)."""
    known: Counter[bytes] = Counter()
    column = plan.names.get(cursor, cursor)
    schema = plan.schema.to_arrow()
    hidden: dict[str, Action] = {plan.names.get(n, sanitise(n)): a for n, a in actions.items() if a != "keep"}
    if low is None or column not in schema.names:
        return known
    for decision in edges.ledger.decisions.current(table.key).values():
        paths = [e.path for e in edges.lake.list(decision.location) if not _is_of(e.path, but_batch)]
        for batch in edges.lake.read(paths, schema, where=AtLeast(column, low)):
            prints = row_fingerprints(batch)
            known.update(p.tobytes() for p in prints)
            if hidden:
                rules: dict[str, Action] = {name: hidden.get(name, "keep") for name in batch.schema.names}
                later = row_fingerprints(apply_privacy(batch, rules, edges.privacy_key))
                known.update(p.tobytes() for p in later[(later != prints).any(axis=1)])
    return known


def _is_of(path: str, batch_id: str | None) -> bool:
    return batch_id is not None and path.rsplit("/", 1)[-1].startswith(f"{batch_id}-g")
