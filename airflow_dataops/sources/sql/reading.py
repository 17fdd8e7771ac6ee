"""One read of one table in progress."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_dataops.core.schema import TableSchema
from airflow_dataops.sources.base import Batch
from airflow_dataops.sources.prefetch import Prefetch
from airflow_dataops.sources.sql.database import RowStream
from airflow_dataops.sources.sql.decode import Decoder


class SqlReading:
    """Batches in source names and declared types; fetching and decoding run ahead in a thread.

    Iterate once. `close` (also implicit at the end) ends the transaction without waiting for unread rows.
    """

    def __init__(self, schema: TableSchema, traits: dict[str, str], stream: RowStream, decoder: Decoder) -> None:
        self.schema, self.traits = schema, traits
        self._stream = stream
        self._ahead: Prefetch[Batch] | None = Prefetch((decoder(raw) for raw in stream), stream.cancel)

    def __iter__(self) -> Iterator[Batch]:
        if self._ahead is None:
            return
        try:
            yield from self._ahead
        finally:
            self.close()

    def close(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()
            self._stream.close()
