"""The Typer app, made from the table of commands, and what surrounds every command: settings, JSON, exit codes."""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from dag_factory.cli.commands import COMMANDS, GROUPS, SETTINGS, Command, Parameter

if TYPE_CHECKING:
    from rich.console import Console

    from dag_factory.cli.report import Report

_CLICK_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Typer carries its own Click, whose base of usage errors has no public name."""

_WIDTH_WITHOUT_TERMINAL = 200

_CONTROLS = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
)
"""Control characters, as pictures of them: a name in a source must not command the terminal that shows it."""


class _Answered(Exception):
    """Carries a report out of Typer, which would take a reader that went away for an error of its own. No error."""

    def __init__(self, report: Report, wants_json: bool) -> None:
        self.report = report
        self.wants_json = wants_json


def build_app() -> typer.Typer:
    """The app with one command per entry of the table."""
    app = typer.Typer(
        name="dataops",
        help="An inventory of data sources becomes a fleet of DAGs; every row read is accounted for.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    groups = {"": app}
    for group, what in GROUPS.items():
        groups[group] = typer.Typer(help=what, no_args_is_help=True, rich_markup_mode=None)
        app.add_typer(groups[group], name=group)
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        groups[group].command(name, help=command.help, short_help=command.help)(_callback(command))
    return app


def run(arguments: list[str]) -> int:
    """Parses, runs and answers; returns the exit code (130 when somebody stopped it)."""
    _take_any_text()
    try:
        return _parsed(arguments)
    except BrokenPipeError:  # `dataops … | head`: nobody reads on, and nothing is wrong with that
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # of writing the answer: what a command itself meets has become its report
        print(f"Cannot write the answer: {error.strerror} -> a stream that takes it.", file=sys.stderr)  # noqa: T201
        return 3
    except (KeyboardInterrupt, typer.Abort):
        print("Stopped.", file=sys.stderr)  # noqa: T201
        return 130


def _take_any_text() -> None:
    """A name from a source may hold what the terminal's encoding does not: it is shown escaped, and nothing fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parsed(arguments: list[str]) -> int:
    wants_json = "--json" in arguments
    try:
        result = typer.main.get_command(build_app()).main(args=arguments, prog_name="dataops", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except _Answered as answered:
        return _answer(answered.report, answered.wants_json)
    except typer.Exit as stop:
        return stop.exit_code
    except _CLICK_ERROR as error:
        return _wrong_use(error, wants_json)


def _wrong_use(error: Any, wants_json: bool) -> int:
    from dag_factory.cli.report import UsageError, report_of

    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is the message
        if not wants_json:
            print(message, file=sys.stderr)  # noqa: T201
            return 2
        message = "no command given. See `dataops --help`"
    report: Report = report_of(UsageError(message))
    if not wants_json:
        context = getattr(error, "ctx", None)
        if context is not None:
            print(context.get_usage(), file=sys.stderr)  # noqa: T201
    return _answer(report, wants_json)


def _callback(command: Command) -> Any:
    """A function with the signature Typer reads, so that the table is the only place where parameters are named."""

    def call(**given: Any) -> None:
        raise _Answered(*_call(command, given))

    call.__name__ = command.name.replace("-", "_").replace(" ", "_")
    call.__annotations__ = {p.name: _annotation(p) for p in command.parameters}
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(p.name, inspect.Parameter.KEYWORD_ONLY, default=_default(p), annotation=_annotation(p))
            for p in command.parameters
        ]
    )
    return call


def _annotation(parameter: Parameter) -> Any:
    if parameter.kind == "flag":
        return bool
    if parameter.many:
        return list[str]
    return parameter.of if parameter.required or parameter.default is not None else parameter.of | None


def _default(parameter: Parameter) -> Any:
    default = ... if parameter.required else list(parameter.default) if parameter.many else parameter.default
    if parameter.kind == "argument":
        return typer.Argument(default, help=parameter.help, metavar=parameter.metavar)
    return typer.Option(default, parameter.flag, help=parameter.help, metavar=parameter.metavar, show_default=False)


def _call(command: Command, given: dict[str, Any]) -> tuple[Report, bool]:
    from airflow_dataops.core.errors import DataOpsError
    from airflow_dataops.settings import load_settings
    from dag_factory.cli.report import Context, UsageError, report_of

    wants_json = bool(given.pop("json", False))
    try:
        settings = load_settings({name: given.pop(name, None) for name in SETTINGS})
        context = Context(settings, _console(stderr=True), wants_json)
        report: Report = command.load()(context, **given)
    except (DataOpsError, UsageError) as error:
        report = report_of(error)
    except Exception as error:
        if os.environ.get("DATAOPS_TRACEBACK"):
            raise
        report = report_of(error)
    return report, wants_json


def _answer(report: Report, wants_json: bool) -> int:
    if wants_json:
        sys.stdout.write(_json(report.document()) + "\n")
        sys.stdout.flush()
        return int(report.code)
    if report.show is not None:
        report.show(_console(stderr=False))
    elif report.problems:
        from rich.text import Text

        console = _console(stderr=True)
        for problem in report.problems:
            console.print(Text(str(problem["message"]), style="red"))
    return int(report.code)


def _json(document: dict[str, Any]) -> str:
    """One line; in plain ASCII where the stream (or UTF-8 itself) could not hold its text as it is."""
    import json

    text = json.dumps(document, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(document, default=str)
    return text


def _console(*, stderr: bool) -> Console:
    from rich.console import Console
    from rich.segment import Segment

    class Careful(Console):
        def on_broken_pipe(self) -> None:
            raise

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=segment.text.translate(_CONTROLS))

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Careful(stderr=stderr, highlight=False, soft_wrap=False, width=width)
