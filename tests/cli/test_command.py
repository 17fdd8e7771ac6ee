"""What holds for every command: help, exit codes, one JSON document, and what is not imported."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dag_factory.cli.commands import COMMANDS
from tests.cli.conftest import Dataops

ROOT = Path(__file__).parents[2]
HEAVY = ("airflow", "pyarrow", "pydantic", "sqlalchemy", "duckdb", "numpy", "yaml", "boto3", "alembic", "rich.table")
NAMES = [command.name for command in COMMANDS]


def test_the_commands_are_those_of_the_contract() -> None:
    assert [name for name in NAMES if " " not in name] == [
        "lint", "plan", "explain", "discover", "run", "status", "verify", "sql", "doctor", "import-csv",
    ]  # fmt: skip
    assert [name.removeprefix("fleet ") for name in NAMES if name.startswith("fleet ")] == [
        "status", "backfill", "pause", "unpause", "trigger", "cancel", "retry",
    ]  # fmt: skip
    assert [name.removeprefix("drift ") for name in NAMES if name.startswith("drift ")] == [
        "list", "show", "approve", "revoke", "reject", "events", "audit",
    ]  # fmt: skip


HELPS = [["--help"], *([*name.split(), "--help"] for name in (*NAMES, "fleet", "drift"))]


@pytest.mark.parametrize("arguments", HELPS, ids=lambda a: " ".join(a))
def test_help_is_instant(arguments: list[str]) -> None:
    """It imports nothing heavy: that is what makes it instant on any machine."""
    # Typer itself reads a command's parameters with pydantic; the list of commands has to do without.
    heavy = HEAVY if arguments == ["--help"] else tuple(name for name in HEAVY if name != "pydantic")
    code = (
        f"import sys; from dag_factory.cli import main; code = main({arguments!r}); "
        f"print('heavy:', [name for name in {heavy!r} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.rstrip().endswith("heavy: [] 0")
    assert "Usage: dataops" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_help_shows_every_parameter(command: object, dataops: Dataops) -> None:
    answer = dataops(*command.name.split(), "--help")  # type: ignore[attr-defined]
    for parameter in command.parameters:  # type: ignore[attr-defined]
        assert (parameter.flag if parameter.kind != "argument" else parameter.name) in answer.out
    assert "--json" in answer.out


GOOD = {
    "explain": ["explain", "shop.db"],
    "discover": ["discover", "shop.db"],
    "run": ["run", "shop.db"],
    "status": ["status"],
    "drift list": ["drift", "list"],
    "verify": ["verify", "shop.db"],
    "sql": ["sql", "select 1 as one"],
    "import-csv": ["import-csv", "sheet.csv"],
}


@pytest.mark.parametrize("name", GOOD)
def test_json_is_exactly_one_document(name: str, dataops: Dataops, home: Path) -> None:
    (home / "sheet.csv").write_text("name,kind,owner\na,files,me\n")
    answer = dataops(*GOOD[name], "--json")
    assert (answer.code, answer.document["schema"], answer.document["ok"], answer.document["problems"]) == (0, 1, True, [])
    assert answer.out.count("\n") == 1


WRONG_USE = [
    [], ["nonsense"], ["run"], ["run", "shop.db", "--nonsense"], ["run", "shop.nobody"], ["explain", "nobody"],
    ["status", "shop.nobody"],
    ["run", "shop.db", "--partition", "yesterday"], ["run", "shop.db", "--partition", "2999-01-01"],
    ["run", "shop.db", "--start", "2024-01-01"],
    ["run", "shop.db", "--partition", "2024-01-01", "--start", "2024-01-01", "--end", "2024-01-02"],
    ["run", "shop.db", "--start", "2024-01-02", "--end", "2024-01-01"], ["run", "shop.db", "--start", "x", "--end", "y"],
    ["run", "shop.db", "--table", "zz*"], ["verify", "shop.nobody"], ["sql", "drop table a.b"], ["sql", "select 1; select 2"],
    ["sql", "selec"], ["sql", "select * from nowhere.nothing"], ["sql", "select 1", "--max-rows", "0"], ["status", "--limit", "x"],
    ["fleet", "nonsense"], ["fleet", "status"], ["fleet", "pause"], ["fleet", "pause", "--select", ""],
    ["fleet", "status", "--select", "domain=nowhere"], ["fleet", "status", "--select", "colour=red"],
    ["fleet", "cancel", "--select", "state=sad"], ["fleet", "backfill", "--select", "all"],
    ["fleet", "backfill", "--select", "all", "--from", "2024-01-02", "--to", "2024-01-01"],
    ["fleet", "trigger", "--select", "all", "--label", "a b"], ["fleet", "retry", "--select", "all", "--max-active", "0"],
    ["plan", "--against", "nowhere"], ["plan", "--markdown", "--inventory", "nowhere"],
    ["import-csv", "nothing.csv"], ["lint", "--inventory", "nowhere"],
    ["run", "shop.db", "--partition", "9999-12-31"], ["status", "--limit", "9" * 20], ["sql", "select '\udcff'"],
    ["import-csv", "inventory/shop.yaml", "--out", "platform.yaml"],
    ["import-csv", "inventory/shop.yaml", "--out", "Big Name.yaml"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG_USE, ids=lambda a: " ".join(a) or "nothing")
def test_wrong_use_is_2_and_says_what_is_right(arguments: list[str], dataops: Dataops) -> None:
    plain = dataops(*arguments)
    assert plain.code == 2
    assert plain.err.strip()
    answer = dataops(*arguments, "--json")
    assert (answer.code, answer.document["ok"]) == (2, False)
    assert answer.document["problems"][0]["code"] == "usage"
    assert answer.document["problems"][0]["message"]


def test_the_json_of_a_bad_inventory(dataops: Dataops) -> None:
    answer = dataops("lint", "--json")
    assert answer.code == 1
    assert answer.document["problems"] == [{
        "severity": "error", "code": "inventory", "file": "inventory/shop.yaml", "line": 21, "row": "shop.typo", "field": "kind",
        "message": "found 'sqll', known are files, sql. Did you mean `sql`?",
    }]  # fmt: skip
    assert (answer.document["rows"], answer.document["bad_rows"]) == (3, 1)


def test_lint_says_file_line_field(dataops: Dataops) -> None:
    answer = dataops("lint")
    assert "inventory/shop.yaml:21 shop.typo.kind: found 'sqll', known are files, sql. Did you mean `sql`?" in answer.out


def test_a_good_inventory_is_0(dataops: Dataops, home: Path) -> None:
    text = (home / "inventory" / "shop.yaml").read_text()
    (home / "inventory" / "shop.yaml").write_text(text[: text.index("  - name: typo")])
    assert dataops("lint").code == 0
    assert dataops("lint", "--json").document["ok"] is True


def test_a_system_that_is_down_is_3_and_its_password_stays_secret(dataops: Dataops) -> None:
    for name in ("run", "discover"):
        answer = dataops(name, "shop.down", "--json")
        assert (answer.code, answer.document["ok"]) == (3, False)
        assert "XYZZY" not in answer.out + answer.err


def test_a_row_with_problems_is_not_run(dataops: Dataops) -> None:
    answer = dataops("run", "shop.typo", "--json")
    assert answer.code == 1
    assert "shop.yaml:21" in answer.document["problems"][0]["message"]


def test_explain_shows_a_bad_row_too(dataops: Dataops) -> None:
    answer = dataops("explain", "shop.typo", "--json")
    assert answer.code == 1
    assert {"field": "kind", "value": "sqll", "origin": "row", "file": "inventory/shop.yaml", "line": 21} in answer.document[
        "fields"
    ]


def test_the_settings_go_flag_then_environment(dataops: Dataops, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATAOPS__INVENTORY", "nowhere")
    assert dataops("lint").code == 2
    assert dataops("lint", "--inventory", str(home / "inventory")).code == 1


def test_import_csv_writes_a_new_file_only(dataops: Dataops, home: Path) -> None:
    (home / "sheet.csv").write_text("name,kind,owner,options.path\nparts,files,me,parts/*.csv\n")
    assert dataops("import-csv", "sheet.csv", "--out", "inventory/stock.yaml").code == 0
    assert dataops("explain", "stock.parts").code == 0
    again = dataops("import-csv", "sheet.csv", "--out", "inventory/stock.yaml")
    assert again.code == 2
    (home / "sheet.csv").write_text("name,kind,limits.retries\nparts,files,many\n")
    bad = dataops("import-csv", "sheet.csv", "--json")
    assert bad.code == 1
    assert (bad.document["problems"][0]["row"], bad.document["problems"][0]["column"]) == (2, "limits.retries")


def test_no_terminal_sequence_in_a_pipe(dataops: Dataops) -> None:
    for arguments in (["lint"], ["explain", "shop.db"], ["run", "shop.db"], ["status"]):
        answer = dataops(*arguments)
        assert "\x1b" not in answer.out + answer.err


def test_a_reader_that_goes_away_is_no_error(home: Path) -> None:
    """As in `dataops … | head -1`."""
    command = [sys.executable, "-c", "import sys; from dag_factory.cli import main; sys.exit(main(['explain', 'shop.db']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # type: ignore[union-attr]
        assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
        assert process.wait(60) == 0


HOSTILE = "Zo\u00eb \u001b[2J\udcff"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:surrogateescape"])
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_any_name_can_be_told_on_any_stream(encoding: str, more: list[str], home: Path) -> None:
    command = [sys.executable, "-m", "dag_factory.cli", "explain", HOSTILE, *more]
    environ = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environ)
    assert done.returncode == 2
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    (done.stdout + done.stderr).decode("utf-8")
    if more:
        assert "Zo\u00eb" in json.loads(done.stdout)["problems"][0]["message"]


def test_an_answer_that_cannot_be_written_is_3(home: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dag_factory.cli", "lint", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == "Cannot write the answer: No space left on device -> a stream that takes it.\n"


def test_what_a_source_calls_a_table_does_not_command_the_terminal(dataops: Dataops, home: Path) -> None:
    with sqlite3.connect(home / "shop.db") as database:
        database.execute('create table "\x1b[2J\x07" ("\x1b[31m" text)')
    for arguments in (["discover", "shop.db"], ["run", "shop.db"], ["status"], ["verify", "shop.db"]):
        answer = dataops(*arguments)
        assert not {"\x1b", "\x07"} & {*answer.out, *answer.err}
        assert "\u241b[2J" in answer.out


def test_an_error_nobody_expected_quotes_nothing_of_what_it_met(dataops: Dataops) -> None:
    """Here SQLAlchemy takes a password for a port, and says so."""
    for more in ([], ["--json"]):
        answer = dataops("status", "--ledger", "postgresql://me:XYZZY12345", *more)
        assert answer.code in (1, 3)
        assert "XYZZY" not in answer.out + answer.err
