"""Fields that the contract of a row knows and no released step honours yet: accepted by the model, refused here.

A field that is silently ignored would be a promise broken in secret. Delete an entry when its feature lands.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from airflow_dataops.core.spec import PipelineSpec, TableEntry
from dag_factory.inventory.problem import Finding

NOT_YET: dict[str, tuple[Any, str]] = {
    "transport": ("direct", "loading through Kafka. Use `direct`"),
    "lane": (None, "lanes of Kafka. Remove it"),
    "read.mode": (("full", "window", "watermark", "new_files"), "reading a change log. Use `watermark`, or `full`"),
    "write.deletes": ("ignore", "carrying over deletions. Use `ignore`; a `full` snapshot shows deletions too"),
    "target.format": ("parquet", "Avro files in the lake. Use `parquet`"),
    "target.late": (("merge", "reject"), "a partition of their own for late rows. Use `merge` or `reject`"),
    "privacy.mode": ("off", "masking of unclassified columns. Use `off` and explicit `privacy.columns`"),
    "limits.bytes_per_second": (None, "throttling of reads. Remove it"),
    "rules": ((), "row rules. Remove it, or filter in `read.query`"),
}
"""Field → (the one value, or the values, that work today; what is missing and what to do instead)."""


_values = operator.attrgetter(*NOT_YET)


def refusals(spec: PipelineSpec) -> Iterator[Finding]:
    """A finding for each field that is set to something no step honours, of the row and of its `tables` entries."""
    entries = [(index, entry) for index, entry in enumerate(spec.tables) if isinstance(entry, TableEntry)]
    for (path, (works, instead)), value in zip(NOT_YET.items(), _values(spec), strict=True):
        if value != works and not _works(value, works):
            yield Finding(path, _message(value, instead))
        if not entries:
            continue
        owner, _, name = path.rpartition(".")
        for index, entry in entries if owner else ():
            over = getattr(entry, owner, None)
            if over and name in over and over[name] is not None and not _works(over[name], works):
                yield Finding(f"tables[{index}].{path}", _message(over[name], instead))


def _works(value: Any, works: Any) -> bool:
    if isinstance(works, tuple) and works:
        return value in works
    return bool(value == works) or (works == () and not value)


def _message(value: Any, instead: str) -> str:
    what = f"`{value}` is" if isinstance(value, str) else "is"
    return f"{what} not available yet: {instead}"
