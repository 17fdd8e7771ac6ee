"""What of the docs is made from code: the pages of errors and of commands, and the table of commands in README.md.

python -m dag_factory.reference_pages           write them
python -m dag_factory.reference_pages --check   1 when a file is not what would be written
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from airflow_dataops.core import errors
from dag_factory.cli.commands import COMMANDS, SETTINGS

ERRORS_FILE, README_FILE = Path("docs/reference/errors.md"), Path("README.md")
COMMANDS_FILE = Path("docs/reference/commands.md")
COMMANDS_BEGIN, COMMANDS_END = "<!-- commands -->", "<!-- /commands -->"
WHAT_TO_DO: dict[type[errors.DataOpsError], str] = {
    errors.RetryError: "Nothing. The task is tried again, after a growing delay.",
    errors.RecordError: "Nothing at once. The record is a dead letter, its neighbours go on; look at the dead letters.",
    errors.HoldError: "Decide. The table's new batches queue in order, the source's other tables go on.",
    errors.InventoryError: "Correct the row, the connection or the setting it names.",
    errors.StopError: "Look before anything else runs. Going on could have lost or doubled rows, so the step went no further.",
}
"""Group → what a person has to do when the message arrives."""


def errors_page() -> str:
    """The whole page of errors."""
    lines = [
        "# Errors",
        "",
        "Made from `airflow_dataops/core/errors.py` by `python -m dag_factory.reference_pages`; do not edit. Errors are grouped by",
        "what the caller should do. `code` is stable: it is in the ledger, in `--json` documents and in log lines.",
        "",
        "Every message reads: *Cannot ⟨verb⟩ ⟨object⟩ ⟨name⟩: ⟨found⟩ -> ⟨expected⟩. ⟨Why⟩. ⟨What to do⟩.*",
    ]
    for group, todo in WHAT_TO_DO.items():
        retried = "Airflow tries the task again." if group.retryable else "Airflow does not try again by itself."
        lines += ["", f"## {group.__name__}", "", f"{_meaning(group)} {retried} **What to do:** {todo}", ""]
        lines += ["| error | code | meaning |", "|---|---|---|"]
        lines += [f"| `{kind.__name__}` | `{kind.code}` | {_meaning(kind)} |" for kind in (group, *_below(group))]
    return "\n".join(lines) + "\n"


def _below(kind: type[errors.DataOpsError]) -> Iterator[type[errors.DataOpsError]]:
    """All errors under this one that `core/errors.py` itself defines, in the order of the file."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _below(child)


def _meaning(kind: type[errors.DataOpsError]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


def commands_table() -> str:
    """The commands and what they take, as a Markdown table."""
    lines = ["| command | does |", "|---|---|"]
    for command in COMMANDS:
        words = [command.name]
        for parameter in command.parameters:
            if parameter.kind == "argument":
                words.append(parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]")
            elif parameter.name not in ("json", *SETTINGS):
                words.append(f"[{parameter.flag} {parameter.metavar or ''}".rstrip() + "]")
        lines.append(f"| `dataops {' '.join(words)}` | {command.help} |")
    return "\n".join(lines)


def commands_page() -> str:
    """The whole page of commands: what each takes."""
    lines = [
        "# Commands",
        "",
        "Made from `dag_factory/cli/commands.py` by `python -m dag_factory.reference_pages`; do not edit. All of them are",
        "`airflow dataops …` too. Exit codes: 0 good, 1 problems found, 2 wrong use, 3 could not be done (a system is down),",
        "4 stopped by a limit, 130 stopped by ctrl-C. With `--json` stdout is exactly one document:",
        '`{"schema": 1, "ok": …, "problems": […], …}`.',
    ]
    for command in COMMANDS:
        lines += ["", f"## `dataops {command.name}`", "", command.help, "", "| parameter | meaning |", "|---|---|"]
        for parameter in command.parameters:
            flag = f"{parameter.flag} {parameter.metavar or ''}".rstrip()
            name = parameter.name.upper() if parameter.kind == "argument" else flag
            more = ", several times if need be" if parameter.many else ""
            more += "" if parameter.default in (None, False, ()) else f"; {parameter.default} unless set"
            lines.append(f"| `{name}` | {parameter.help.replace('|', chr(92) + '|')}{more} |")
    return "\n".join(lines) + "\n"


def with_commands(readme: str) -> str:
    """README.md with its table of commands replaced. ValueError when the marks of the table are gone."""
    begin, end = readme.index(COMMANDS_BEGIN) + len(COMMANDS_BEGIN), readme.index(COMMANDS_END)
    return f"{readme[:begin]}\n{commands_table()}\n{readme[end:]}"


def pages(root: Path) -> dict[Path, str]:
    """Each file and the text it should have."""
    readme = root / README_FILE
    made = {root / ERRORS_FILE: errors_page(), root / COMMANDS_FILE: commands_page()}
    return made | {readme: with_commands(readme.read_text(encoding="utf-8"))}


def main() -> int:
    """The command; returns its exit code."""
    stale = 0
    for file, text in pages(Path(__file__).resolve().parents[1]).items():
        if "--check" in sys.argv[1:]:
            stale += not file.exists() or file.read_text(encoding="utf-8") != text
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return int(stale > 0)


if __name__ == "__main__":
    sys.exit(main())
