"""A process of a storm: loads one table over and over, each time as a new run, and each run until it is done, as Airflow
would retry it. Ends between two runs when the storm is over.

python -m tests.steps.storm_runner NAME FIRST_RUN, and a JSON object on stdin: folder, ledger_url, row, day, backfill.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from airflow_dataops.core.errors import RetryError
from airflow_dataops.core.period import Period
from tests.steps.world import World, day

CALM = "calm"
"""The file in the world's folder that ends a storm."""
LEASE, GRACE = 0.5, 5.0
"""Seconds: short, so that a storm sees takeovers and deletions; the grace is far longer than a look of its reader takes."""
PATIENCE = 100.0
"""Longer than any ledger waits for somebody who was stopped inside a transaction."""


def world_of(told: dict[str, Any]) -> World:
    return World(Path(told["folder"]), lease_seconds=LEASE, grace_seconds=GRACE, ledger_url=told["ledger_url"])


def run_until_done(world: World, row: dict[str, Any], period: Period, run: str) -> str:
    """The outcome. RuntimeError for what no retry can help, or did not help in `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            result = world.load(world.spec(**row), "orders", period, run=run)
        except RetryError:  # the ledger did not even take the result, because somebody was stopped inside a transaction
            continue
        if result.error is None:
            return result.outcome
        if not result.retryable or result.error_code == "unexpected" or time.monotonic() > until:
            raise RuntimeError(f"{run}: {result.error_code}: {result.error}")
        time.sleep(0.02)


def main() -> None:
    name, first = sys.argv[1], int(sys.argv[2])
    told = json.loads(sys.stdin.readline())
    world, period = world_of(told), day(told["day"], backfill=told["backfill"])
    number = first
    while not (world.folder / CALM).exists():
        sys.stdout.write(f"{number}\n")  # which run its successor has to retry
        sys.stdout.flush()
        run_until_done(world, told["row"], period, f"{name}-{number}")
        number += 1


if __name__ == "__main__":
    main()
