"""Batch identity: a pure function of source table and range, so that every retry and every machine agree on it."""

from __future__ import annotations

import hashlib
import json

from airflow_dataops.core.offset import FileSet, OffsetRange, range_to_json


def batch_id(table_key: str, read: OffsetRange, scope: str = "", salt: str = "") -> str:
    """16 hex digits. `scope` is the partition for reads that have no range of their own (`full` into a period's
    partition). Files count by content where it is known: the same bytes under the same path are the same batch."""
    data = range_to_json(read)
    if isinstance(read, FileSet):
        data = {"kind": "files", "files": sorted([f.path, f.size, f.content or f.etag] for f in read.files)}
    text = json.dumps([table_key, data, scope, salt], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
