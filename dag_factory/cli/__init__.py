"""The `dataops` command. Nothing is imported until it runs: `dataops --help` has to be instant."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

YOUNG_OBJECTS = 500_000
"""How many new objects Python waits for before it looks for cycles among them. Almost all that a start makes stays: looking
as often as Python does by itself costs 0.2 s of it, and letting go of each at the end 0.3 s more (measured)."""


def program() -> int:
    """`main` for a process of its own: what the process need not do to start and to end is left out."""
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads for matrices spin, and nothing here multiplies any
    try:
        return main()
    finally:
        if "duckdb" not in sys.modules:  # it counts what was not let go of, and prints it
            gc.freeze()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `dataops` with these arguments (default: the process's own) and returns the exit code:
    0 good, 1 problems found, 2 wrong use, 3 could not be done, 4 stopped by a limit."""
    from dag_factory.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
