"""How many partitions may be dropped at once before a person has to say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_dataops.core.errors import LimitError

FREE_DROPS = 10
"""A share says nothing about a handful: this many are always within it."""


@dataclass(frozen=True, slots=True)
class DropLimits:
    """At most so many partitions, and at most this share (percent) of those that stand."""

    most_partitions: int
    most_percent: int

    def allowed(self, standing: int) -> int:
        return min(self.most_partitions, max(FREE_DROPS, math.floor(standing * self.most_percent / 100)))

    def check(self, doing: str, dropped: int, standing: int, why: str) -> None:
        """LimitError when more would be dropped. `doing`: `expire partitions of d.orders`; `why`: the last two sentences."""
        allowed = self.allowed(standing)
        if dropped > allowed:
            raise LimitError(
                f"Cannot {doing}: {dropped} of {standing} would be dropped -> at most {allowed} ({self.most_partitions}, "
                f"{self.most_percent} %). Nothing was changed. {why}"
            )
