"""`airflow dataops` takes exactly what `dataops` takes: both are made from one table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dag_factory.cli.app import build_app
from dag_factory.cli.commands import COMMANDS, Command, Parameter
from dag_factory.cli.under_airflow import _words, get_cli_commands

SAMPLES = {
    "what": ["shop.db", "7"],
    "query": "select '--json' as x", "start": "2024-01-01", "select": ["a b", "-x", "--json"], "limit": "7", "max_rows": "9",
    "against": "-odd",
}  # fmt: skip


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    from airflow.cli.cli_parser import _add_command

    parser = argparse.ArgumentParser(prog="airflow")
    added = parser.add_subparsers(dest="subcommand")
    for command in get_cli_commands():
        _add_command(added, command)
    return parser


def spoken(parameter: Parameter) -> list[str]:
    value = SAMPLES.get(parameter.name, f"some-{parameter.name}" if parameter.of is str else "5")
    if parameter.kind == "argument":
        return value if isinstance(value, list) else [str(value)]
    if parameter.kind == "flag":
        return [parameter.flag]
    return [f"{parameter.flag}={one}" for one in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_parameter_arrives(command: Command, parser: argparse.ArgumentParser) -> None:
    said = [word for parameter in command.parameters for word in spoken(parameter)]
    given = parser.parse_args(["dataops", *command.name.split(), *said])
    assert sorted(word for word in _words(command, vars(given)) if word != "--") == sorted(said)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_what_is_not_said_is_left_to_dataops(command: Command, parser: argparse.ArgumentParser) -> None:
    required = [word for parameter in command.parameters if parameter.required for word in spoken(parameter)]
    given = parser.parse_args(["dataops", *command.name.split(), *required])
    assert [word for word in _words(command, vars(given)) if word != "--"] == required


def test_both_have_the_same_commands(parser: argparse.ArgumentParser) -> None:
    import typer

    mine = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    (group,) = get_cli_commands()
    theirs = {command.name for command in group.subcommands}
    assert theirs == set(mine)
    assert {c.name for g in group.subcommands if g.name == "fleet" for c in g.subcommands} == set(mine["fleet"].commands)


def test_as_a_program(tmp_path: Path) -> None:
    """Found by the provider; one document on stdout; the exit code is that of the command."""
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "shop.yaml").write_text("version: 1\nsources: [{name: a, kind: files, owner: ann}]\n")
    command = [sys.executable, "-m", "airflow", "dataops", "lint", "--json", "--inventory", str(tmp_path / "inventory")]
    environ = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["problems"][0]["row"] == "shop.a"
