"""PostgreSQL → lake: our run with everything on against bare ADBC → pyarrow → Parquet, one pinned core each, in turn.

    python -m benchmarks.database_to_lake [--rows 1000000] [--runs 5] [--peers] [--json]

The table is that of the published comparison (20 columns: 1 int, 5 bigint, 3 float8, 2 numeric(18,4), 5 text, timestamp,
date, bool, 1 all-NULL text). Every output is re-read: rows, distinct keys, a checksum per column; a run that lost rows or
precision is void. Times are of whole processes; `inner` is the loop without imports (ours: the table's own `seconds`,
from the claim to the commit).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CREATE = """
CREATE TABLE t AS SELECT
  i::int AS id, (i::bigint * 7919) AS b1, (i % 1000)::bigint AS b2, (i::bigint * 31 % 1000003) AS b3,
  (hashint8(i))::bigint AS b4, (i / 10)::bigint AS b5,
  (i * 0.37)::float8 AS f1, sqrt(i)::float8 AS f2, (hashint8(i + 7) / 1000.0)::float8 AS f3,
  (i * 1.2345)::numeric(18,4) AS n1, ((i % 100000) * 0.0101)::numeric(18,4) AS n2,
  ('customer-' || i % 50000) AS s1, md5(i::text) AS s2, (ARRAY['new','paid','sent','done'])[1 + i % 4] AS s3,
  repeat(chr(97 + i % 26), 5 + i % 20) AS s4, ('city ' || i % 300) AS s5,
  timestamp '2024-01-01' + i * interval '1 second' AS ts, date '2020-01-01' + (i % 1500) AS d, i % 3 = 0 AS flag,
  NULL::text AS nothing
FROM generate_series(1, {rows}) AS g(i)
"""

BARE = """
import sys, time
import adbc_driver_postgresql.dbapi as adbc, pyarrow as pa, pyarrow.parquet as pq
url, out = sys.argv[1:]
start = time.perf_counter()
with adbc.connect(url) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT * FROM public.t")
    reader = cursor.fetch_record_batch()
    with pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
print(f"inner {time.perf_counter() - start:.3f}")
"""

DLT = """
import os, sys, dlt
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
from dlt.sources.sql_database import sql_table
url, out = sys.argv[1:]
p = dlt.pipeline("bench", pipelines_dir=out + "/state", destination=dlt.destinations.filesystem("file://" + out), dataset_name="ds")
p.run(sql_table(credentials=url.replace("postgresql://", "postgresql+psycopg2://"), table="t", backend="connectorx",
      chunk_size=50_000, reflection_level="full_with_precision", backend_kwargs={"return_type": "arrow", "conn": url}),
      loader_file_format="parquet", write_disposition="append")
"""

INVENTORY = """
version: 1
domain: bench
sources:
  - {name: pg, kind: sql, conn_id: bench_pg, owner: bench, tables: [public.t]}
  - {name: first, kind: files, options: {path: first.csv}, owner: bench}
"""


def timed(command: list[str], environment: dict[str, str], pin: bool) -> dict[str, Any]:
    """Runs a command under GNU time, on core 0 when `pin`; wall seconds, CPU seconds, peak MB, the `inner` it printed."""
    line = ["/usr/bin/time", "-f", "TIME %e %U %S %M", *command]
    run = subprocess.run(["taskset", "-c", "0", *line] if pin else line, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{command[:3]} failed ({run.returncode}):\n{run.stdout[-2000:]}\n{run.stderr[-3000:]}")
    wall, user, system, peak = (float(x) for x in re.findall(r"TIME (\S+) (\S+) (\S+) (\S+)", run.stderr)[-1])
    inner = re.findall(r"inner (\S+)", run.stdout) or re.findall(r'"seconds": ([0-9.]+)', run.stdout)
    return {"wall": wall, "cpu": user + system, "peak_mb": peak / 1024, "inner": float(inner[-1]) if inner else wall}


def contents(files: list[Path]) -> dict[str, Any]:
    """Rows, distinct ids and exact sums: enough to see a lost row, a doubled one, or lost precision."""
    import duckdb

    relation = f"read_parquet({[str(f) for f in files]!r}, union_by_name=true, hive_partitioning=false)"
    return dict(
        zip(
            ("rows", "ids", "b1", "n1", "n2", "f1", "s", "flag", "nothing"),
            duckdb.sql(
                "SELECT count(*), count(DISTINCT id), sum(b1)::varchar, sum(n1::decimal(38,4))::varchar,"
                " sum(n2::decimal(38,4))::varchar,"
                " round(sum(f1), 3), sum(length(s1) + length(s2) + length(s3) + length(s4) + length(s5))::varchar,"
                f" count(*) FILTER (flag), count(nothing) FROM {relation}"
            ).fetchall()[0],
            strict=True,
        )
    )


def ours(url: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    (folder / "inventory").mkdir(parents=True)
    (folder / "inventory" / "bench.yaml").write_text(INVENTORY)
    (folder / "first.csv").write_text("id\n1\n")
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder), "AIRFLOW__DATAOPS__INVENTORY": str(folder / "inventory"),
        "AIRFLOW__DATAOPS__LAKE": f"file://{folder}/lake", "AIRFLOW__DATAOPS__LEDGER": f"sqlite:///{folder}/ledger.db",
        "AIRFLOW_CONN_BENCH_PG": url.replace("postgresql://", "postgres://"),
    }  # fmt: skip
    return [str(Path(sys.executable).parent / "dataops"), "run", "bench.pg", "--json"], environment


def measure(url: str, runs: int, pin: bool, peers: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """All contenders in turn, `runs` times after one warm-up, each into a folder of its own, each output re-read."""
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(runs + 1):
        for name in ("bare", "ours", *peers):
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                environment: dict[str, str] = dict(os.environ)
                if name == "bare":
                    command = [sys.executable, "-c", BARE, url, str(folder / "bare.parquet")]
                elif name == "ours":
                    command, environment = ours(url, folder)
                    # Ledger and catalog are made once for an installation, not per run.
                    subprocess.run([command[0], "run", "bench.first"], env=environment, check=True, capture_output=True)
                elif name == "dlt":
                    command = [f"{peers['dlt']}/bin/python", "-c", DLT, url, str(folder)]
                else:
                    environment |= {"DISABLE_TELEMETRY": "true"}
                    command = [
                        f"{peers['ingestr']}/bin/ingestr", "ingest", "--yes", "--progress", "log",
                        "--source-uri", url + "?sslmode=disable",
                        "--source-table", "public.t", "--dest-uri", f"parquet://{folder}/out.parquet", "--dest-table", "t",
                    ]  # fmt: skip
                figures = timed(command, environment, pin)
                beside = ("_dlt", "/state/", "/bench/first/")  # dlt about itself, the copies it keeps; the row that made our ledger
                files = [f for f in folder.rglob("*.parquet") if not any(mark in str(f) for mark in beside)]
                figures["contents"] = contents(files)
                if number:
                    found.setdefault(name, []).append(figures)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--free", action="store_true", help="use the whole machine instead of one pinned core")
    parser.add_argument("--dlt", help="a virtualenv with dlt[parquet,sql_database,filesystem]==1.31.0, connectorx, psycopg2-binary")
    parser.add_argument("--ingestr", help="a virtualenv with ingestr==1.1.22")
    options = parser.parse_args()
    from tests.servers.postgres import PostgresServer

    peers = {name: path for name, path in (("dlt", options.dlt), ("ingestr", options.ingestr)) if path}
    with PostgresServer.start() as server:
        url = server.new_database()
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(CREATE.format(rows=options.rows))
            connection.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
            connection.execute("VACUUM ANALYZE t")
        truth = None
        started = time.time()
        found = measure(url, options.runs, not options.free, peers)
    truth = found["bare"][0]["contents"]
    report: dict[str, Any] = {"rows": options.rows, "pinned": not options.free, "seconds": round(time.time() - started)}
    for name, runs in found.items():
        void = [r["contents"] for r in runs if r["contents"] != truth]
        report[name] = {
            "wall": statistics.median(r["wall"] for r in runs),
            "inner": statistics.median(r["inner"] for r in runs),
            "cpu": statistics.median(r["cpu"] for r in runs),
            "peak_mb": max(r["peak_mb"] for r in runs),
            "void": void[:1],
            "speed_against_bare": statistics.median(b["wall"] / r["wall"] for b, r in zip(found["bare"], runs, strict=True)),
            "inner_speed_against_bare": statistics.median(
                b["inner"] / r["inner"] for b, r in zip(found["bare"], runs, strict=True)
            ),
            "cpu_against_bare": statistics.median(b["cpu"] / r["cpu"] for b, r in zip(found["bare"], runs, strict=True)),
        }
    print(json.dumps(report, indent=1, default=str))


if __name__ == "__main__":
    if shutil.which("taskset") is None:
        raise SystemExit("taskset (util-linux) is needed to pin a core.")
    main()
