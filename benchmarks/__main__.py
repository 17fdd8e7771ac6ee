"""Runs the measurements of this folder and shows what each of them found: `python -m benchmarks [NAME …] [--write]`.

A measurement is a file here whose `main` prints one JSON object; it runs in a process of its own, one after the other, so
that none warms up for the next. `--write` puts the figures, the date and the machine into docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- measured: written by `python -m benchmarks --write` -->", "<!-- /measured -->"


def measurements() -> list[str]:
    """The names of the measurements: every module here that prints its figures."""
    return sorted(f.stem for f in HERE.glob("*.py") if not f.stem.startswith("_") and "json.dumps(" in f.read_text("utf-8"))


def measure(name: str) -> dict[str, Any]:
    """Runs one and reads its figures. RuntimeError when it fails or prints none."""
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"Cannot measure {name}: it ended with {ended.returncode} -> 0. Its own message is above.")
    return figures(name, ended.stdout)


def figures(name: str, printed: str) -> dict[str, Any]:
    """The JSON object that ends what a measurement printed."""
    start = 0 if printed.startswith("{") else printed.find("\n{") + 1
    try:
        found = json.loads(printed[start:])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RuntimeError(f"Cannot measure {name}: it printed {printed[-200:]!r} -> one JSON object at the end.")
    return found


def flat(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Figures as (dotted name, text), in their own order."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield above + key, f"{value:,.4g}" if isinstance(value, float) else json.dumps(value)


def machine() -> str:
    """What was measured on, without anything that names the machine."""
    cpu = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        names = [line.partition(":")[2].strip() for line in listed.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    packages = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "numpy"))
    return f"{os.cpu_count()} × {cpu}, Python {platform.python_version()}, {packages}"


def written(page: str, results: Mapping[str, Mapping[str, Any]], today: dt.date) -> str:
    """The page with its measured part replaced (added when it has none); the rest stays as somebody wrote it."""
    lines = [BEGIN, "", f"Measured on {today.isoformat()}: {machine()}."]
    for name, found in results.items():
        lines += ["", f"### {name}", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in flat(found)]
    block = "\n".join([*lines, "", END])
    if BEGIN in page and END in page:
        return page[: page.index(BEGIN)] + block + page[page.index(END) + len(END) :]
    return page.rstrip() + ("\n\n" if page.strip() else "# Performance\n\n") + block + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and show what was found.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(measurements())}; all of them without")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(measurements()))
    if unknown:
        parser.error(f"no measurement is called {unknown[0]!r}; known are {', '.join(measurements())}")
    console, results, failed = Console(), {}, []
    for name in given.names or measurements():
        try:
            results[name] = measure(name)
        except RuntimeError as error:
            failed.append(str(error))
            continue
        table = Table(title=name, title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for key, value in flat(results[name]):
            table.add_row(key, value)
        console.print(table)
    if given.write and results:
        page = PAGE.read_text("utf-8") if PAGE.exists() else ""
        PAGE.write_text(written(page, results, dt.datetime.now(dt.UTC).date()), "utf-8")
        console.print(f"written: {PAGE.relative_to(HERE.parent)}")
    for message in failed:
        console.print(message, style="red", markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
