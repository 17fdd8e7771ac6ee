"""Rows that came after their cursor value was read: tied with the watermark, and nothing newer beside them (A10)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from airflow_dataops.core.batch_id import batch_id
from airflow_dataops.core.conform import conform
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.core.privacy import apply_privacy, plan_privacy, privacy_schema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import ClaimRequest
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.steps.overlap import read_range, stored_since
from airflow_dataops.steps.ranges import overlap_low
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.target import current_table, plan_table, refuse_hidden


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
        actions = plan_privacy(reading.schema.names, table.privacy)
        refuse_hidden(table, actions)
        plan = plan_table(table, current_table(edges, table), privacy_schema(reading.schema, actions))
        if plan.hold:  # whether a row is known cannot be told before a person decides; the zone is read again then
            return None
        known: Counter[bytes] | None = None
        fresh = Fingerprint.EMPTY
        for batch in reading:
            rows = apply_privacy(batch.records, actions, edges.privacy_key)
            prints = row_fingerprints(conform(rows, plan, table.contract).records)
            if known is None:
                known = stored_since(table, claimed.cursor, overlap_low(claimed, table), plan, actions, edges)
            for print_ in prints:
                identity = print_.tobytes()
                if known[identity] > 0:
                    known[identity] -= 1
                else:
                    fresh += Fingerprint.of(print_.reshape(1, 2))
    finally:
        reading.close()
    if not fresh.rows:
        return None
    return replace(request, batch_id=batch_id(table.key, claimed, "", str(fresh)))
