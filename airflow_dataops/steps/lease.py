"""The lease of a claim, kept while its holder is at work (DESIGN §5.1: politeness; attempts are safety)."""

from __future__ import annotations

from airflow_dataops.ledger.base import Claim
from airflow_dataops.steps.run import Edges


class Lease:
    """Asked between two pieces of long work. A third of the lease is left to be late twice."""

    def __init__(self, claim: Claim, edges: Edges) -> None:
        self._claim, self._edges, self._renewed = claim, edges, edges.clock()

    def keep(self) -> None:
        """Prolongs the lease when a third of it is gone. FencedError when a later attempt has taken over."""
        now = self._edges.clock()
        if now - self._renewed > self._edges.lease_seconds / 3:
            self._edges.ledger.batches.renew(self._claim, self._edges.lease_seconds)
            self._renewed = now
