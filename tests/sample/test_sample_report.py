"""What the sample shows, and how it names what failed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from airflow_dataops.core.fingerprint import Fingerprint
from dag_factory.sample import Progress, Stopped, board, last_error, main, stopped_by_signals
from dag_factory.sample_report import as_table, count_query, table_report

RESULT = {"target": "nyc.flights", "outcome": "unchanged", "rows_dead_lettered": 3, "error": None}


def test_a_table_is_the_sum_of_its_partitions() -> None:
    one, two = Fingerprint(2, 1, (1 << 64) - 1), Fingerprint(3, 0, 1)
    report = table_report("nyc.flights", RESULT, [(2, str(one)), (3, str(two))])
    assert (report.rows, report.partitions, report.dead_letters) == (5, 2, 3)
    assert report.fingerprint == str(one + two) == "f1:5:00000000000000020000000000000000"


def test_counting_takes_names_as_names() -> None:
    with duckdb.connect(":memory:") as database:
        database.execute("""CREATE SCHEMA "s'x"; CREATE TABLE "s'x"."t""; DROP" AS SELECT 1 AS a UNION ALL SELECT 2""")
        database.execute("CREATE SCHEMA nyc; CREATE TABLE nyc.flights AS SELECT 1 AS a")
        rows = database.execute(count_query(["s'x.t\"; DROP", "nyc.flights"])).fetchall()
    assert rows == [("s'x.t\"; DROP", 2), ("nyc.flights", 1)]


def test_values_are_shown_as_they_are() -> None:
    console = Console(width=60, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(as_table([{"name": "[red]x[/]", "n": None}, {"name": "y", "n": 2}]))
    assert "[red]x[/]" in console.export_text()
    assert as_table([]).row_count == 0


def test_a_failed_run_names_its_first_failed_task_and_what_it_said(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "dag_id=d" / "run_id=r" / "task_id=load" / "map_index=0"
    folder.mkdir(parents=True)
    lines = [
        {"event": "start"},
        {
            "event": "failed",
            "error_detail": [{"exc_type": "Cause", "exc_value": "x"}, {"exc_type": "AirflowException", "exc_value": "no"}],
        },
        {"event": "end"},
    ]
    (folder / "attempt=1.log").write_text("not JSON\n" + "".join(json.dumps(line) + "\n" for line in lines))
    run = Progress("d", "r", "failed", {"verify": ["failed"], "load": ["success", "failed"], "discover": ["success"]})
    assert run.reason(tmp_path).startswith("task load: AirflowException: no. Its log: ")
    assert "it left no error" in Progress("d", "r", "failed", {"verify": ["failed"]}).reason(tmp_path)
    (folder / "empty.log").write_text("")
    assert last_error(folder / "empty.log") == ""


def test_the_display_has_a_line_per_dag_and_counts_mapped_tasks() -> None:
    runs = [Progress("ingest__a__b", "r", tasks={"discover": ["success"], "load": ["success", "failed", None]})]
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(board(runs))
    shown = console.export_text()
    assert "ingest__a__b" in shown and "1/3 done, 1 failed" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_once_and_never_the_cleaning_up(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    cleaned = []
    with pytest.raises(Stopped) as stopped, stopped_by_signals():
        try:
            os.kill(os.getpid(), number)
            pytest.fail("went on")
        finally:
            os.kill(os.getpid(), number)  # a second ctrl-C while stopping
            cleaned.append(True)
    assert stopped.value.signal == number and cleaned == [True]
    assert signal.getsignal(number) is before


def test_an_inventory_without_rows_is_said_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "home" / "sample").mkdir(parents=True)
    from dag_factory.sample_data import VERSION

    (tmp_path / "home" / "sample" / "version").write_text(str(VERSION))
    assert main(["run", "--once", "--home", str(tmp_path / "home"), "--project", str(tmp_path)]) == 2
    assert "no good row" in capsys.readouterr().out
    assert not (tmp_path / "home" / "airflow.cfg").exists()
