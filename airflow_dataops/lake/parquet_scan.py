"""Every row of many Parquet files, once, by two threads where there are two cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from airflow_dataops.core.errors import ProofError
from airflow_dataops.lake.parquet_file import cores

T = TypeVar("T")

MAX_THREADS = 2
"""Each decodes a row group of its own, which takes about 35 MB for 20 columns whatever the size of the table. Two stay within what
loading took before them; four took 100 MB more."""

SCAN_ROWS = 16_384


def scan(
    filesystem: pafs.FileSystem, addresses: Iterable[str], buffer_bytes: int, work: Callable[[pa.RecordBatch], T]
) -> Iterator[T]:
    """What `work` makes of the batches of the files, each file under its own schema, in order of row groups. `work` is called
    in threads. Each file is opened once and its footer read once. Raises what reading raises, and what `work` raises; ProofError
    when a row group has not as many rows as the footer says."""

    def of_group(handle: pa.NativeFile, footer: pq.FileMetaData, group: int) -> list[T]:
        file = pq.ParquetFile(handle, metadata=footer, buffer_size=buffer_bytes, pre_buffer=False)
        found, result = 0, []
        for rows in file.iter_batches(SCAN_ROWS, row_groups=[group], use_threads=False):
            found += rows.num_rows
            if rows.num_rows:
                result.append(work(rows))
        told = footer.row_group(group).num_rows
        if found != told:  # pyarrow takes the end of a file that was cut meanwhile for the end of its rows
            raise ProofError(
                f"Cannot read lake files to the end: {found} rows in row group {group} of one -> {told}, as its footer says. It "
                "was cut or replaced while it was read. Data files are never changed: find out who did."
            )
        return result

    threads = min(cores(), MAX_THREADS)
    under_way: deque[Future[list[T]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="dataops-scan") as pool:
        try:
            for address in addresses:
                handle = filesystem.open_input_file(address)
                footer = pq.read_metadata(handle)
                for group in range(footer.num_row_groups):
                    if len(under_way) > threads:  # so that no more files are open than are worked on
                        yield from under_way.popleft().result()
                    under_way.append(pool.submit(of_group, handle, footer, group))
            while under_way:
                yield from under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
