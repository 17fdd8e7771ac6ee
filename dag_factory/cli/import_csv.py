"""`dataops import-csv`: a spreadsheet becomes a domain file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.import_csv import import_csv as read_csv
from dag_factory.import_csv import to_yaml
from dag_factory.inventory.reader import DEFAULTS, PLATFORM
from dag_factory.inventory.row import is_id

if TYPE_CHECKING:
    from rich.console import Console


def import_csv(context: Context, file: str, out: str | None) -> Report:
    """YAML on stdout, or in a new file. Exit code 1 when a cell is bad: then nothing is written."""
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror} -> a CSV file. Correct the path.") from None
    target = Path(out) if out is not None else None
    domain = _domain(Path(file)) if target is None else _domain_of_new(target)
    found = read_csv(data)
    problems = tuple(
        problem(f"{file}: {cell}", "cell", file=file, line=cell.row, row=cell.row, column=cell.column) for cell in found.bad
    )
    text = to_yaml(domain, found.rows)
    if not problems and target is not None:
        _write(target, text)

    def show(console: Console) -> None:
        if problems:
            for p in problems:
                context.progress.print(p["message"], style="red", markup=False, soft_wrap=True)
        elif target is None:
            console.print(text, end="", markup=False, soft_wrap=True, emoji=False)
        else:
            console.print(f"{target}: {len(found.rows)} rows. Next: dataops lint", markup=False, soft_wrap=True)

    return Report(
        data={"domain": domain, "rows": len(found.rows), "yaml": None if problems else text, "out": out},
        problems=problems,
        code=Code.PROBLEMS if problems else Code.GOOD,
        show=show,
    )


def _domain(path: Path) -> str:
    """The domain that the file's name gives, made an id."""
    stem = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")
    if not is_id(stem):
        raise UsageError(f"Cannot make a domain of the file name {path.name!r} -> letters first. Name the file with `--out`.")
    return stem


def _domain_of_new(target: Path) -> str:
    """The domain whose file this will be. UsageError for a name under which the inventory would not read it as one."""
    if target.suffix != ".yaml" or not is_id(target.stem) or target.name in (DEFAULTS, PLATFORM):
        raise UsageError(
            f"Cannot write {target}: {target.name!r} -> <domain>.yaml, where the domain is a lower-case letter, then lower-case "
            "letters, digits and single `_` (`defaults` and `platform` are taken). The inventory reads no other. Rename it."
        )
    return target.stem


def _write(target: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise UsageError(f"Cannot write {target}: it exists -> a new file. Choose another name, or remove it.") from None
    except OSError as error:
        raise UsageError(f"Cannot write {target}: {error.strerror} -> a place that can be written. Correct `--out`.") from None
