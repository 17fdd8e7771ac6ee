"""Which tables of a row are older than it allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataops.core.spec import PipelineSpec

if TYPE_CHECKING:
    from airflow_dataops.ledger.base import Ledger

HISTORY_ROWS = 10_000


def stale_tables(spec: PipelineSpec, ledger: Ledger, now: float) -> dict[str, int]:
    """Target table → seconds since its last commit, for those over `freshness_seconds`. `now` in POSIX seconds."""
    if spec.freshness_seconds is None:
        return {}
    newest: dict[str, float] = {}
    for batch in ledger.batches.history(source_id=spec.id, limit=HISTORY_ROWS):
        if batch.committed_at is not None:
            newest[batch.target] = max(newest.get(batch.target, 0.0), batch.committed_at)
    ages = {target: int(now - at) for target, at in newest.items()}
    return {target: age for target, age in sorted(ages.items()) if age > spec.freshness_seconds}
