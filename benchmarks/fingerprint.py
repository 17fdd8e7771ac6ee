"""Cost of row fingerprints, compiled and with numpy, beside writing and reading the same batches as Parquet, one thread.

    taskset -c 0 .venv/bin/python benchmarks/fingerprint.py [--rows 1000000] [--rounds 5]

The table is that of the database comparison: 1 int32, 5 int64, 3 float64, 2 decimal(18,4), 5 texts (code, e-mail,
name, city, note), timestamp, date, bool, 1 all-NULL text. Batches of 65,536 rows, in memory; the best and the median
of the rounds, in seconds of processor time (a busy machine makes wall time mean nothing). Parquet is a floor: a run
against a database also reads the database, and costs more.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_dataops.core import fingerprint_native
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints

BATCH_ROWS = 65_536


def table(rows: int, seed: int = 7) -> pa.Table:
    """The 20 columns of the comparison, with about 3 % NULLs in two of them."""
    random = np.random.default_rng(seed)
    number = np.arange(rows)
    cities = pa.array([f"City of {name}" for name in ("Aachen", "Bergen", "Cork", "Delft", "Evora", "Faro", "Graz")])
    unscaled = np.zeros((rows, 2), "<i8")

    def text(template: str, low: int, high: int) -> pa.Array:
        return pa.array([template.format(value) for value in random.integers(low, high, rows).tolist()])

    def decimal() -> pa.Array:
        unscaled[:, 0] = random.integers(0, 10**10, rows)
        return pa.Array.from_buffers(pa.decimal128(18, 4), rows, [None, pa.py_buffer(unscaled.tobytes())])

    def with_nulls(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=random.random(rows) < 0.03)

    note = "order {0} was packed, weighed and sent on day {0}"
    return pa.table(
        {
            "id": pa.array(number.astype(np.int32)),
            **{f"b{k}": pa.array(random.integers(0, 10 ** (3 * k), rows)) for k in range(1, 5)},
            "b5": with_nulls(random.integers(0, 1000, rows)),
            **{f"f{k}": pa.array(random.normal(100, 20 * k, rows)) for k in range(1, 3)},
            "f3": with_nulls(random.random(rows)),
            "price": decimal(),
            "tax": decimal(),
            "code": text("C{:06d}", 0, 10**6),
            "email": text("user{}@example.com", 0, 10**8),
            "name": text("Name {} Surname", 0, 10**5),
            "city": cities.take(pa.array(random.integers(0, 7, rows))),
            "note": text(note, 0, 10**7),
            "at": pa.array(number * 1_000_000 + 1_600_000_000_000_000, pa.timestamp("us")),
            "on": pa.array((number % 9000).astype(np.int32), pa.int32()).cast(pa.date32()),
            "flag": pa.array(number % 3 == 0),
            "empty": pa.nulls(rows, pa.string()),
        }
    )


def seconds_of(action: Callable[[], object], rounds: int) -> list[float]:
    action()  # warm
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        taken.append(time.process_time() - start)
    return taken


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--columns", action="store_true", help="also each column on its own")
    told = options.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    data = table(told.rows)
    batches = data.combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
    file = io.BytesIO()

    def fingerprint() -> Fingerprint:
        return sum((Fingerprint.of(row_fingerprints(batch)) for batch in batches), Fingerprint.EMPTY)

    kernel = fingerprint_native.KERNEL

    def fingerprint_numpy() -> Fingerprint:
        fingerprint_native.KERNEL = None
        try:
            return fingerprint()
        finally:
            fingerprint_native.KERNEL = kernel

    def write() -> None:
        file.seek(0)
        file.truncate()
        with pq.ParquetWriter(file, data.schema, compression="zstd", use_dictionary=["city"]) as writer:
            for batch in batches:
                writer.write_batch(batch)

    def read() -> pa.Table:
        return pq.read_table(pa.BufferReader(file.getvalue()), use_threads=False)

    taken = {action.__name__: seconds_of(action, told.rounds) for action in (fingerprint, fingerprint_numpy, write, read)}
    if (
        not fingerprint()
        == fingerprint_numpy()
        == sum((Fingerprint.of(row_fingerprints(b)) for b in read().to_batches()), Fingerprint.EMPTY)
    ):
        raise SystemExit("the fingerprints of what was read, of what was written, compiled and with numpy are not one")
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    result: dict[str, object] = {
        "rows": told.rows,
        "columns": data.num_columns,
        "arrow_bytes": data.nbytes,
        "kernel": "compiled" if kernel else "numpy",
        "seconds": {name: {"best": round(min(taken[name]), 3), "median": round(median[name], 3)} for name in taken},
        "percent_of_write": round(100 * median["fingerprint"] / median["write"], 1),
        "percent_of_read_and_write": round(100 * median["fingerprint"] / (median["read"] + median["write"]), 1),
        "fingerprint": str(fingerprint()),
    }
    if told.columns:
        ones = {name: [batch.select([name]) for batch in batches] for name in data.column_names}
        result["milliseconds_of_column"] = {
            name: round(1000 * min(seconds_of(lambda one=one: [row_fingerprints(b) for b in one], told.rounds)), 1)
            for name, one in ones.items()
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
