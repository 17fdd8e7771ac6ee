"""A process to be killed: runs one load, and asks on stdin before each effect whether it may go on.

python -m tests.steps.victim FOLDER ROW_JSON TABLE DAY RUN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.steps.effects import Stage
from tests.steps.world import World


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def ask(number: int, name: str) -> None:
    tell(f"{number} {name}")
    sys.stdin.readline()


def main() -> None:
    folder, row, table, day, run = sys.argv[1:]
    world = World(Path(folder), wrap=Stage(ask).wrap, lease_seconds=600)  # no renewals: they hang on the machine's speed
    result = world.load(world.spec(**json.loads(row)), table, day, run=run)
    tell("result " + json.dumps(result.to_json()))


if __name__ == "__main__":
    main()
