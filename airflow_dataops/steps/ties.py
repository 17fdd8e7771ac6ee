"""Rows that came after their cursor value was read: tied with the watermark, and nothing newer beside them (A10)."""

from __future__ import annotations

from dataclasses import replace

from airflow_dataops.core.approval import renames_of
from airflow_dataops.core.batch_id import batch_id
from airflow_dataops.core.conform import conform
from airflow_dataops.core.continued import privacy_under
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.core.privacy import apply_privacy, privacy_schema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import ClaimRequest
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.steps.continued_rows import continued
from airflow_dataops.steps.overlap import KnownRows, read_range, stored_since
from airflow_dataops.steps.ranges import overlap_low
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import current_table, refuse_hidden, staging_plan


def late_ties(table: TableSpec, request: ClaimRequest, edges: Edges) -> ClaimRequest | None:
    """The claim for rows in the re-read zone that the lake does not have, or None when it has them all. The claim's range
    (low, low] is empty, so it overlaps nothing; the batch id is salted with the new rows' fingerprint, so that each late
    group is a batch of its own."""
    claimed = request.range
    if not isinstance(claimed, CursorRange):
        return request
    zone = read_range(table, claimed)
    reading = edges.source.read(
        ReadRequest(table.source_table, zone, table.read.batch_rows, table.read.query, isolation=table.read.isolation)
    )
    try:
        approved = edges.ledger.holds.approvals(table.key)
        renames = renames_of(approved)
        reading = continued(reading, renames)
        actions = privacy_under(reading.schema.names, table.privacy, renames)
        refuse_hidden(table, actions)
        observed = privacy_schema(reading.schema, actions)
        drift, plan = staging_plan(table, current_table(edges, table), observed, approved)
        known: KnownRows | None = None
        fresh = Fingerprint.EMPTY
        for batch in reading:
            rows = conform(apply_privacy(batch.records, actions, edges.privacy_key), plan, table.contract).records
            prints = row_fingerprints(rows)
            if known is None:
                low = overlap_low(claimed, table)
                known = stored_since(table, claimed.cursor, low, plan, actions, edges, held=bool(drift.hold), renames=renames)
            fresh += Fingerprint.of(prints[known.sift(rows, prints)[0]])
        rest = known.rest()[0] if known is not None else None
        if rest is not None:
            fresh += Fingerprint.of(row_fingerprints(rest))
    finally:
        reading.close()
    if not fresh.rows:
        return None
    return replace(request, batch_id=batch_id(table.key, claimed, "", str(fresh)))
