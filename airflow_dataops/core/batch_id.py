"""Batch identity: a pure function of source table and range, so that every retry and every machine agree on it."""

from __future__ import annotations

import hashlib
import json

from airflow_dataops.core.offset import FileSet, Letters, OffsetRange, range_to_json


def batch_id(table_key: str, read: OffsetRange, scope: str = "", salt: str = "") -> str:
    """16 hex digits. `scope` is the partition for reads that have no range of their own (`full` into a period's
    partition). A replay of dead letters begins with the name of the batch they are of (`origin_of`). Files count by content
    where it is known: the same bytes under the same path are the same batch."""
    data = range_to_json(read)
    if isinstance(read, FileSet):
        data = {"kind": "files", "files": sorted([f.path, f.size, f.content or f.etag] for f in read.files)}
    text = json.dumps([table_key, data, scope, salt], sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{read.batch_id}-g{read.generation}-r{digest[:12]}" if isinstance(read, Letters) else digest


def origin_of(name: str) -> str:
    """The batch that first read the rows of a batch (or of the data file of that name): its own id, or, for a replay of dead
    letters, the id of the batch whose letters they were. So whoever runs a batch again finds, and replaces, what was
    replayed of it."""
    return name.partition("-g")[0]
