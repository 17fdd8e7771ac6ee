"""The docs say what is so: generated parts are fresh, links lead somewhere, commands exist. That the README's commands
work is shown by running them (tests/sample/test_newcomer.py)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dag_factory.cli.commands import COMMANDS
from dag_factory.reference_pages import commands_table, errors_page, pages, with_commands

ROOT = Path(__file__).resolve().parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_generated_parts_are_fresh() -> None:
    stale = [name(file) for file, text in pages(ROOT).items() if file.read_text("utf-8") != text]
    assert not stale, f"run: python -m dag_factory.reference_pages ({stale})"


def test_the_page_of_errors_names_every_error_once() -> None:
    from airflow_dataops.core import errors

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.DataOpsError)]
    page = errors_page()
    assert {kind.__name__: page.count(f"| `{kind.__name__}` | `{kind.code}` |") for kind in kinds} == {
        kind.__name__: kind is not errors.DataOpsError for kind in kinds
    }


def test_the_table_of_commands_is_put_between_its_marks() -> None:
    text = with_commands("before\n<!-- commands -->\nold\n<!-- /commands -->\nafter\n")
    assert text == f"before\n<!-- commands -->\n{commands_table()}\n<!-- /commands -->\nafter\n"
    with pytest.raises(ValueError, match="substring"):
        with_commands("no marks")


@pytest.mark.parametrize("text", TEXTS, ids=name)
def test_every_link_leads_to_a_file(text: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", text.read_text("utf-8"))):
        path, _, _ = target.partition("#")
        if not re.match(r"[a-z]+:", target) and path and not (text.parent / path).exists():
            broken.append(target)
    assert not broken, f"{name(text)}: {broken}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = (target.partition("#")[0] for target in LINK.findall(page.read_text("utf-8")) if ":" not in target)
        todo += [place for target in targets if target for place in [(page.parent / target).resolve()] if place.is_file()]
    records = {text for text in TEXTS if text.parent.name == "adr"}  # a folder that one reads in its own order
    assert not [name(text) for text in set(TEXTS) - seen - records]


@pytest.mark.parametrize("text", TEXTS, ids=name)
def test_every_command_in_a_code_block_exists(text: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    commands = {command.name for command in COMMANDS}
    groups = {name.partition(" ")[0] for name in commands if " " in name}
    unknown = []
    for language, block in FENCE.findall(text.read_text("utf-8")):
        if language not in ("sh", "console"):
            continue
        for first, second in re.findall(r"^(?:\$ )?dataops ([a-z][\w-]*)(?: +([a-z][\w-]*))?", block, re.MULTILINE):
            word = f"{first} {second}" if first in groups else first
            unknown += [] if word in commands else [word]
        unknown += [
            word for word in re.findall(r"^(?:\$ )?(?:[A-Z]+=\S+ )?make ([a-z]+)", block, re.MULTILINE) if word not in targets
        ]
    assert not unknown, f"{name(text)}: {unknown}"


def test_shell_blocks_are_valid_shell() -> None:
    for text in TEXTS:
        for language, block in FENCE.findall(text.read_text("utf-8")):
            if language == "sh":
                checked = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
                assert checked.returncode == 0, f"{name(text)}: {checked.stderr}\n{block}"


def test_the_changelog_is_about_the_version_of_the_project() -> None:
    version = re.search(r'^version = "([\d.]+?)(?:\.dev\d+)?"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    assert re.search(rf"^## {re.escape(version[1])}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
