"""How fast a table of 1,000,000 rows × 20 columns is read (reference 1.2), and whether memory stays flat.

    python -m benchmarks.sql_read [--rows N] [--kinds postgres,sqlite,mariadb] [--runs N]

Starts its own servers, makes the table once, and prints one line per reader: seconds of the read (median), seconds of
processor time (which other programs on the machine disturb least), rows/s, peak memory. Each reader runs in a process of
its own and reads one row first, so that imports and connecting are not in the figures; `bare` is the driver without this
project. Every run counts its rows and sums a column.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

CREATE = """CREATE TABLE t (
    i0 integer NOT NULL, b1 bigint, b2 bigint, b3 bigint, b4 bigint, b5 bigint,
    f1 double precision, f2 double precision, f3 double precision, n1 decimal(18,4), n2 decimal(18,4),
    t1 varchar(40), t2 varchar(40), t3 varchar(40), t4 varchar(40), t5 varchar(40),
    ts {moment}, d date, b boolean, nn varchar(40))"""
COLUMNS = 20


def make_postgres(url: str, rows: int) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as client:
        client.execute(CREATE.format(moment="timestamp").encode())
        client.execute(
            f"""INSERT INTO t SELECT i, i * 7, i * 11, i, -i, i, i / 7.0, i / 3.0, random(), i * 1.25, i * 3.1, md5(i::text),
            md5((i + 1)::text), 'category ' || i % 10, 'x', repeat('y', 20), timestamp '2020-01-01' + i * interval '1 second',
            date '2020-01-01' + i % 1000, i % 2 = 0, NULL FROM generate_series(1, {rows}) i""".encode()
        )
        client.execute("VACUUM ANALYZE t")


def make_mariadb(url: str, rows: int) -> None:
    from tests.sources.sql_databases import mysql_client

    client = mysql_client(url)
    client.cursor().execute(CREATE.format(moment="datetime(6)"))
    client.cursor().execute(
        f"""INSERT INTO t SELECT seq, seq * 7, seq * 11, seq, -seq, seq, seq / 7, seq / 3, rand(), seq * 1.25, seq * 3.1, md5(seq),
        md5(seq + 1), concat('category ', seq % 10), 'x', repeat('y', 20), timestamp '2020-01-01 00:00:00' + interval seq second,
        date '2020-01-01' + interval (seq % 1000) day, seq % 2, NULL FROM seq_1_to_{rows}"""
    )
    client.close()


def make_sqlite(url: str, rows: int) -> None:
    client = sqlite3.connect(urlsplit(url).path)
    client.execute(CREATE.format(moment="timestamp"))
    client.execute(
        f"""WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows})
        INSERT INTO t SELECT i, i * 7, i * 11, i, -i, i, i / 7.0, i / 3.0, i * 0.1, i * 1.25, i / 4.0, hex(i * 1234567890123456789),
        hex(i * 987654321987654321), 'category ' || i % 10, 'x', 'yyyyyyyyyyyyyyyyyyyy', datetime(1577836800 + i, 'unixepoch'),
        date(1577836800 + i % 1000 * 86400, 'unixepoch'), i % 2, NULL FROM s"""
    )
    client.commit()
    client.close()


def read_ours(url: str, driver: str, query: str | None) -> tuple[int, int]:
    import pyarrow.compute as pc

    from airflow_dataops.core.offset import Everything
    from airflow_dataops.sources.base import ReadRequest
    from tests.sources.sql_databases import connection_of, source_of

    source = source_of(connection_of(url), driver=driver)
    table = "public.t" if url.startswith("postgres") else "t"
    rows = total = 0
    for batch in source.read(ReadRequest(table, Everything(), query=query)):
        rows += batch.records.num_rows
        total += pc.sum(batch.records.column("b1")).as_py()
    source.close()
    return rows, total


def read_bare(url: str, driver: str, query: str | None) -> tuple[int, int]:
    """The driver alone, its rows as Arrow in whatever types it gives."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = total = 0
    if driver == "adbc":
        if url.startswith("postgres"):
            import adbc_driver_postgresql.dbapi as adbc

            client = adbc.connect(url)
        else:
            import adbc_driver_sqlite.dbapi as adbc_sqlite

            client = adbc_sqlite.connect(urlsplit(url).path)
        cursor = client.cursor()
        cursor.execute(query or "SELECT * FROM t")
        for batch in cursor.fetch_record_batch():
            rows += batch.num_rows
            total += pc.sum(batch.column(1)).as_py()
        cursor.close()
        client.close()
        return rows, total
    if url.startswith("mysql"):
        import pymysql.cursors

        from tests.sources.sql_databases import mysql_client

        cursor = mysql_client(url).cursor(pymysql.cursors.SSCursor)
        cursor.execute(query or "SELECT * FROM t")
    elif url.startswith("sqlite"):
        cursor = sqlite3.connect(urlsplit(url).path).execute(query or "SELECT * FROM t")
    else:
        import psycopg

        cursor = psycopg.connect(url).cursor(name="bench")
        cursor.execute(query or "SELECT * FROM t")
    while found := cursor.fetchmany(16384):
        arrays = [pa.array(column) for column in zip(*found, strict=True)]
        rows += len(found)
        total += pc.sum(arrays[1]).as_py()
    return rows, total


READERS = {
    "postgres": [("bare", "adbc"), ("ours", "adbc"), ("bare", "dbapi"), ("ours", "dbapi")],
    "sqlite": [("bare", "adbc"), ("bare", "dbapi"), ("ours", "auto")],
    "mariadb": [("bare", "dbapi"), ("ours", "dbapi")],
}


def measure(who: str, driver: str, url: str) -> dict[str, float]:
    reader = read_ours if who == "ours" else read_bare
    reader(url, driver, "SELECT b1, b1 AS b FROM t WHERE i0 = 1")
    started, used = time.perf_counter(), time.process_time()
    rows, total = reader(url, driver, None)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "rows": rows, "total": total, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kinds", default="postgres,sqlite,mariadb")
    parser.add_argument("--one-core", action="store_true", help="pin the reader (not the server) to one core")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(*given.child)))
        return
    from tests.servers.mariadb import MariaDBServer
    from tests.servers.postgres import PostgresServer

    for kind in given.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            server = {"postgres": PostgresServer, "mariadb": MariaDBServer}.get(kind)
            running = server.start() if server else None
            try:
                url = running.new_database() if running else f"sqlite://{Path(folder) / 'bench.db'}"
                {"postgres": make_postgres, "mariadb": make_mariadb, "sqlite": make_sqlite}[kind](url, given.rows)
                for who, driver in READERS[kind]:
                    report(kind, who, driver, url, given)
            finally:
                if running:
                    running.stop()


def report(kind: str, who: str, driver: str, url: str, given: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "benchmarks.sql_read", "--child", who, driver, url]
    pin = (lambda: os.sched_setaffinity(0, {0})) if given.one_core else None
    runs = []
    for _ in range(given.runs + 1):  # the first warms up
        done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=pin)
        runs.append(json.loads(done.stdout))
    seconds = statistics.median(run["seconds"] for run in runs[1:])
    wrong = [run for run in runs if run["rows"] != given.rows or run["total"] != 7 * given.rows * (given.rows + 1) // 2]
    cpu = statistics.median(run["cpu"] for run in runs[1:])
    verdict = "VOID: rows or values lost" if wrong else "complete"
    peak = max(run["peak_mb"] for run in runs)
    rate = given.rows / seconds
    line = f"{kind:9} {who:5} {driver:6} {seconds:6.2f} s {cpu:6.2f} s cpu {rate:9,.0f} rows/s {peak:5.0f} MB  {verdict}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
