"""Rules about the age of partitions: `target.retention_days` and `target.late` need a partition that tells the time."""

from __future__ import annotations

from collections.abc import Iterator

from dag_factory.inventory.narrow import Combination
from dag_factory.inventory.problem import Finding


def age_findings(use: Combination) -> Iterator[Finding]:
    """What cannot be honoured in one combination. Types of columns are known at run time only: a partition column that turns out to
    be no date or timestamp stops its table then."""
    target = use.target
    if target.retention_days is not None and not target.partition_by:
        yield Finding(
            use.field_of("target.retention_days", "target.partition_by"),
            "needs `target.partition_by`: partitions expire, not rows. Partition by the period or by a date, or remove it",
        )
    if target.late != "reject":
        return
    if use.read.mode not in ("window", "watermark"):
        yield Finding(
            use.field("target.late"),
            f"`reject` does not go with `read.mode: {use.read.mode}`: without a cursor nothing tells which partitions the reading "
            "has gone past. Use `merge`, or `read.mode: window` or `watermark`",
        )
    elif all(part.column is None for part in target.partition_by):
        yield Finding(
            use.field("target.late"),
            "`reject` has no effect: no partition comes from a data column, so every row lands in the partition of its run. "
            "Remove it, or partition by a date or timestamp of the data",
        )
