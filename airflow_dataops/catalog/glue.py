"""The AWS Glue Data Catalog as the catalog: a metastore without Thrift, whose tables have versions.

Tables and partitions are the same objects as a Hive Metastore's, so everything that is done with them is `hive.py`'s;
`glue_calls.py` puts the metastore's calls to Glue. Tables are altered by compare-and-swap on their version. Partitions have none,
and Glue changes the partitions of one call one after the other: a reader may meet some before and some after it, each whole.
"""

from __future__ import annotations

import sys

from airflow_dataops.catalog.glue_calls import GlueCalls
from airflow_dataops.catalog.hive import HiveCatalog


class GlueCatalog(HiveCatalog):
    """Thread-safe; any number of processes."""

    kind = "glue"
    asked_blindly = sys.maxsize

    def __init__(self, calls: GlueCalls) -> None:
        super().__init__(calls)
        self._compares = True
