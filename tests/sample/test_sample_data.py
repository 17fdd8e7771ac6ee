"""The sample's sources: real, typed, deterministic, and with the dialects the inventory says they have."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dag_factory.sample_data import VERSION, build_sources


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    assert build_sources(folder)
    return folder


def ask(folder: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(folder / "flights.db")) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("table", "rows"), [("flights", 336_776), ("weather", 26_115), ("planes", 3_322), ("airports", 1_458), ("airlines", 16)]
)
def test_every_row_of_the_package_is_there(folder: Path, table: str, rows: int) -> None:
    assert ask(folder, f"SELECT count(*) FROM {table}") == [(rows,)]


def test_numbers_are_numbers_and_what_the_package_calls_na_is_null(folder: Path) -> None:
    types = ask(folder, "SELECT DISTINCT typeof(dep_time), typeof(flight), typeof(time_hour) FROM flights ORDER BY 1")
    assert types == [("integer", "integer", "text"), ("null", "integer", "text")]
    assert ask(folder, "SELECT count(*) FROM flights WHERE dep_time IS NULL") == [(8255,)]
    assert ask(folder, "SELECT DISTINCT typeof(wind_gust) FROM weather ORDER BY 1") == [("null",), ("real",)]
    assert ask(folder, "SELECT count(*) FROM airports WHERE tzone IS NULL") == [(3,)]
    # The package's own digits, not a rounded neighbour.
    assert ask(folder, "SELECT count(*) FROM weather WHERE wind_speed = 10.357019999999999") > [(0,)]


def test_keys_are_true_and_times_are_as_sqlite_writes_them(folder: Path) -> None:
    keys = {t: [c[1] for c in ask(folder, f"PRAGMA table_info({t})") if c[5]] for t in ("flights", "weather", "planes")}
    assert keys == {"flights": ["carrier", "flight", "time_hour"], "weather": ["origin", "time_hour"], "planes": ["tailnum"]}
    assert ask(folder, "SELECT min(time_hour), max(time_hour) FROM flights") == [("2013-01-01 10:00:00", "2014-01-01 04:00:00")]
    assert ask(folder, "SELECT count(*) FROM flights WHERE time_hour IS NOT datetime(time_hour)") == [(0,)]


def test_the_files_have_the_dialects_they_are_said_to_have(folder: Path) -> None:
    partners = folder / "landing" / "partners"
    french = (partners / "destinations.csv").read_bytes()
    with pytest.raises(UnicodeDecodeError):
        french.decode("utf-8")
    assert french.count(b"\r\n") == 106 and "août" in french.decode("cp1252")
    times = list(csv.reader((partners / "timetable.tsv").read_text("utf-8").splitlines(), delimiter="\t"))
    assert len(times) == 777 and {len(r) for r in times} == {6} and times[2][4] == "0515"
    assert len(json.loads((partners / "routes.json").read_bytes())) == 224


def test_three_lines_of_a_thousand_are_broken_each_in_its_own_way(folder: Path) -> None:
    data = (folder / "landing" / "partners" / "long_delays.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    lines = data.splitlines()
    assert len(lines) == 1 + 1000 + 3
    odd = [n for n, line in enumerate(lines, 1) if line.count(b",") != 6 or b"\xff" in line]
    assert odd == [102, 503, 804]


def test_events_are_all_departures_of_three_days(folder: Path) -> None:
    events = folder / "landing" / "events"
    packed = [gzip.decompress(f.read_bytes()) for f in sorted(events.glob("*.gz"))]
    texts = [*packed, *(f.read_bytes() for f in sorted(events.glob("*.ndjson")))]
    days = [[json.loads(line) for line in text.splitlines()] for text in texts]
    expected = ask(folder, "SELECT count(*) FROM flights WHERE month = 12 AND day >= 29 GROUP BY day ORDER BY day")
    assert [(len(day),) for day in days] == expected
    assert {event["event"] for day in days for event in day} == {"departed", "cancelled"}


def test_a_second_build_keeps_what_is_there_and_another_version_replaces_it(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder / "flights.db")) as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert not build_sources(folder)
    assert ask(folder, "SELECT count(*) FROM mine") == [(0,)]
    before = {f.name: hashlib.sha256(f.read_bytes()).digest() for f in (folder / "landing").rglob("*") if f.is_file()}
    (folder / "landing" / "partners" / "routes.json").write_text("[]")
    assert build_sources(folder, VERSION + 1)
    assert ask(folder, "SELECT count(*) FROM sqlite_master WHERE name = 'mine'") == [(0,)]
    after = {f.name: hashlib.sha256(f.read_bytes()).digest() for f in (folder / "landing").rglob("*") if f.is_file()}
    assert after == before
