"""`airflow dataops …`: the same commands in Airflow's own command line, made from the same table. Imported on every `airflow`
call, so it imports nothing but the table; a command loads its code when it runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

from dag_factory.cli.commands import COMMANDS, GROUPS, Command, Parameter


def get_cli_commands() -> list[GroupCommand]:
    """What the provider adds to `airflow`: one group, with the groups of the table in it."""
    top = [_action(command, command.name) for command in COMMANDS if " " not in command.name]
    groups = [
        GroupCommand(name=group, help=_escaped(what), subcommands=[
            _action(command, command.name.partition(" ")[2]) for command in COMMANDS if command.name.startswith(f"{group} ")
        ])
        for group, what in GROUPS.items()
    ]  # fmt: skip
    return [GroupCommand(name="dataops", help="The inventory and its fleet of DAGs", subcommands=[*top, *groups])]


def _action(command: Command, name: str) -> ActionCommand:
    return ActionCommand(
        name=name, help=_escaped(command.help), func=_function(command), args=tuple(_arg(p) for p in command.parameters)
    )


def _function(command: Command) -> Callable[[Namespace], None]:
    return partial(_run, command)


def _run(command: Command, given: Namespace) -> None:
    """Airflow has parsed the words; they are said again to `dataops`, which answers and ends as it always does."""
    from dag_factory.cli import main

    sys.exit(main([*command.name.split(), *_words(command, vars(given))]))


def _words(command: Command, given: dict[str, Any]) -> list[str]:
    options: list[str] = []
    arguments: list[str] = []
    for parameter in command.parameters:
        value = given[parameter.name]
        if parameter.kind == "argument":
            arguments += [str(one) for one in (value if parameter.many else [value]) or () if one is not None]
        elif parameter.kind == "flag":
            options += [parameter.flag] if value else []
        else:
            values = value if parameter.many else [value]
            # In one word: a value may itself begin with a dash.
            options += [f"{parameter.flag}={one}" for one in values or () if one is not None]
    return [*options, "--", *arguments] if arguments else options


def _arg(parameter: Parameter) -> Arg:
    more: dict[str, Any] = {"help": _escaped(parameter.help)}
    if parameter.kind == "argument":
        several = {"nargs": "+"} if parameter.many else {} if parameter.required else {"nargs": "?"}
        return Arg((parameter.name,), **more, **several)
    if parameter.kind == "flag":
        return Arg((parameter.flag,), dest=parameter.name, action="store_true", **more)
    if parameter.many:
        more["action"] = "append"
    # Without a default: what is not given is not said, and `dataops` has its own.
    return Arg((parameter.flag,), dest=parameter.name, type=str, metavar=parameter.metavar, required=parameter.required, **more)


def _escaped(text: str) -> str:
    """argparse fills in what stands behind a percent sign, and Rich takes what stands in brackets for its own."""
    return text.replace("%", "%%").replace("[", "\\[")
