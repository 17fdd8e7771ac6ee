"""The `dataops` command. Nothing is imported until it runs: `dataops --help` has to be instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `dataops` with these arguments (default: the process's own) and returns the exit code:
    0 good, 1 problems found, 2 wrong use, 3 could not be done, 4 stopped by a limit."""
    from dag_factory.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
