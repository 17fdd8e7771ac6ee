"""Many at once: threads in one process, and processes that open, claim and die."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from airflow_dataops.core.errors import BusyError, ConflictError, DataOpsError, FencedError
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import Ledger
from tests.ledger.actors import MONDAY, ORDERS, Clock, asking, commit, decide, freeze, plans_of, seen

T = TypeVar("T")
MANY = 8


def at_once(work: Callable[[int], T], workers: int = MANY) -> list[T | DataOpsError]:
    """Runs `work(0…)` in as many threads, all let go at the same moment; a product error is its result."""
    start = threading.Barrier(workers)

    def one(number: int) -> T | DataOpsError:
        start.wait()
        try:
            return work(number)
        except DataOpsError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(workers)))


def test_of_many_claimers_one_wins(ledger: Ledger) -> None:
    results = at_once(lambda i: ledger.batches.claim(asking(f"b{i}", f"r{i}")))
    assert sorted(type(r).__name__ for r in results) == ["BusyError"] * (MANY - 1) + ["Claim"]
    assert len(ledger.batches.history()) == 1


def test_of_many_retries_of_one_run_only_the_last_attempt_freezes(ledger: Ledger) -> None:
    claims = at_once(lambda i: ledger.batches.claim(asking(writer=f"w{i}", nonce=f"n{i}")))
    attempts = sorted(c.attempt for c in claims if not isinstance(c, DataOpsError))
    assert attempts == list(range(1, MANY + 1))
    frozen = at_once(lambda i: freeze(ledger, claims[i]))  # type: ignore[arg-type]
    assert sorted(type(r).__name__ for r in frozen) == ["Claim"] + ["FencedError"] * (MANY - 1)
    assert ledger.batches.unfinished()[0].attempt == MANY


def test_of_many_decisions_on_one_epoch_one_stands(ledger: Ledger) -> None:
    """Claims of other partitions that all touch one more (a cascade): the epoch decides."""
    claims = [
        freeze(ledger, ledger.batches.claim(asking(f"b{i}", f"r{i}", scope=f"dt={i}")), {f"dt={i}": 1, MONDAY: i + 1})
        for i in range(MANY)
    ]
    plans = [plans_of(ledger, claim) for claim in claims]
    results = at_once(lambda i: ledger.batches.decide(claims[i], plans[i]))
    assert sorted(type(r).__name__ for r in results) == ["ConflictError"] * (MANY - 1) + ["tuple"]
    winner = next(i for i, r in enumerate(results) if isinstance(r, tuple))
    assert ledger.decisions.current(ORDERS)[MONDAY].rows == winner + 1


def test_many_commits_of_one_batch_queue_one_event(ledger: Ledger) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking()))
    decisions = decide(ledger, claim)
    results = at_once(lambda _: commit(ledger, claim, decisions, (None, 2), asset={"rows": 2}))
    assert results == [None] * MANY
    assert len(ledger.outbox.pending_assets("sales.shop")) == 1 and ledger.offsets.watermark(ORDERS) == 2


def test_one_transition_gives_one_event(ledger: Ledger) -> None:
    ledger.drift.observe(seen("id int64", sequence=1))
    noticed = at_once(lambda _: ledger.drift.observe(seen("id int64, city string", sequence=2)))
    assert sorted(len(n.events) for n in noticed) == [0] * (MANY - 1) + [1]  # type: ignore[union-attr]
    assert len(ledger.drift.events()) == 1


def test_whoever_comes_finishes_and_all_loads_get_done(ledger: Ledger, clock: Clock) -> None:
    """A crowd that loads one partition, each finishing what stands in the way: every batch once, in order."""

    def load(number: int) -> int:
        request, tries = asking(f"b{number}", f"r{number}", lease_seconds=0), 0
        while True:
            tries += 1
            try:
                claim = ledger.batches.claim(request)
                if claim.state == "open":
                    claim = freeze(ledger, claim)
                if claim.state == "frozen":
                    ledger.batches.decide(claim, plans_of(ledger, claim))
                names = [p.name for p in claim.content.partitions] if claim.content else []
                seen = ledger.decisions.mark(ORDERS, names, claim.writer)
                ledger.batches.commit(claim, {n: d.epoch for n, d in seen.items()}, None)
                if claim.asked:
                    return tries
            except (BusyError, ConflictError, FencedError):
                if tries > 2000:
                    raise

    results = at_once(load, 4)
    assert all(isinstance(r, int) for r in results), results
    records = ledger.batches.history()
    assert sorted(r.batch_id for r in records if r.state == "committed") == ["b0", "b1", "b2", "b3"]
    assert ledger.decisions.current(ORDERS)[MONDAY].epoch == 4
    assert {r.batch_id for r in ledger.batches.unfinished()} == set()


PROCESS = """
import sys
from airflow_dataops.core.errors import BusyError
from airflow_dataops.ledger import open_ledger
from tests.ledger.actors import asking
print("ready", flush=True)
sys.stdin.readline()
ledger = open_ledger(sys.argv[1])
try:
    print(ledger.batches.claim(asking(sys.argv[2], sys.argv[2])).batch_id)
except BusyError:
    print("busy")
"""


@pytest.fixture(params=["sqlite", "postgres"])
def nothing_there(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/ledger.db"
    return str(request.getfixturevalue("postgres_server").new_database())


def test_processes_that_open_an_empty_database_at_once_make_one_ledger_and_one_claim(nothing_there: str) -> None:
    command = [sys.executable, "-c", PROCESS, nothing_there]
    pipe = subprocess.PIPE
    others = [
        subprocess.Popen([*command, f"b{i}"], stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=Path(__file__).parents[2])
        for i in range(4)
    ]
    for process in others:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    said = []
    for process in others:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in others:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said.append(out.strip())
    assert said.count("busy") == 3, said
    ledger = open_ledger(nothing_there)
    assert [r.batch_id for r in ledger.batches.history()] == [s for s in said if s != "busy"]
    ledger.close()


KILLED = """
import os, signal, sys
from airflow_dataops.ledger import open_ledger
from tests.ledger.actors import asking, freeze
ledger = open_ledger(sys.argv[1])
claim = freeze(ledger, ledger.batches.claim(asking()))
with ledger.batches._database.write() as connection:
    connection.exec_driver_sql("UPDATE dataops_batch SET state = 'committed'")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_inside_a_transaction_leaves_what_was_there_before(nothing_there: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILLED, nothing_there], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert process.returncode == -9, process.stderr
    ledger = open_ledger(nothing_there)
    retry = ledger.batches.claim(asking())
    assert (retry.state, retry.attempt) == ("frozen", 2)
    commit(ledger, retry, decide(ledger, retry))
    ledger.close()
