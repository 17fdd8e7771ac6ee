"""Processes that run the order of effects (DESIGN §5) over a real ledger, a lake of names and a catalog without
compare-and-swap: hypothesis interleaves, crashes, stops and wakes them, sweeps, expires, and lets time go by.

What must hold after every step is what the model checks: nothing visible or decided is ever deleted, a catalog that
differs from the decision is known (marked), an older batch never follows a newer one, and the watermark is never ahead.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from airflow_dataops.core.errors import BusyError, ConflictError, FencedError, HoldError
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import WHOLE_TABLE, Claim, Decision, DecisionPlan
from airflow_dataops.ledger.sql_ledger import SqlLedger
from tests.ledger.actors import MONDAY, SCHEMA, TUESDAY, Clock, asking, staged

LEASE, GRACE, DEAD = 60.0, 500.0, 2000.0
SCOPES = (MONDAY, TUESDAY, WHOLE_TABLE)
_numbers = itertools.count()
_clock = Clock()
_ledger: list[SqlLedger] = []


def shared_ledger() -> SqlLedger:
    """One ledger in memory for all examples; each has a table of its own."""
    if not _ledger:
        _ledger.append(open_ledger("sqlite://", clock=_clock))
    return _ledger[0]


@dataclass
class Process:
    """One process attempt: where it is, and what it carries in its memory (perhaps outdated)."""

    writer: str
    started: float
    claim: Claim
    at: str
    carried: dict[str, Decision] = field(default_factory=dict)


class Fleet(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.ledger, self.clock = shared_ledger(), _clock
        self.source = f"sales.s{next(_numbers)}"
        self.table = f"{self.source}:orders"
        self.contents: dict[tuple[str, int], set[str]] = {}
        self.processes: list[Process] = []
        self.catalog: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.decided_sequence: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.watermark: int | None = None
        self.held: set[tuple[str, int]] = set()

    @rule(batch=st.integers(0, 4), run=st.integers(0, 5))
    def start(self, batch: int, run: int) -> None:
        writer = f"w{next(_numbers)}"
        low = batch or None
        request = asking(
            f"b{batch}", f"r{run}", table_key=self.table, source_id=self.source, root=self.table.replace(":", "/"),
            scope=SCOPES[batch % 3], writer=writer, nonce=writer, lease_seconds=LEASE, read=CursorRange("id", low, batch + 1), exclusive=True,
        )  # fmt: skip
        try:
            claim = self.ledger.batches.claim(request)
        except BusyError:
            return
        if claim.state in ("open", "frozen", "decided"):
            self.processes.append(Process(writer, self.clock(), claim, "stage" if claim.state == "open" else "decide"))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99), rows=st.integers(1, 3), hold=st.integers(0, 9), steps=st.integers(1, 6))
    def go_on(self, which: int, rows: int, hold: int, steps: int) -> None:
        process = self.processes[which % len(self.processes)]
        for _ in range(steps):
            if process in self.processes:
                self._step(process, rows, hold == 0)

    def _step(self, process: Process, rows: int, hold: bool) -> None:
        try:
            getattr(self, f"_{process.at}")(process, rows, hold)
        except ConflictError:
            process.at = {"decide": "decide", "commit": "mark"}[process.at]
        except HoldError:
            self._hold(process)
        except (FencedError, BusyError):
            self.processes.remove(process)

    def _stage(self, process: Process, rows: int, _: bool) -> None:
        names = {MONDAY: rows, TUESDAY: rows} if process.claim.scope == WHOLE_TABLE else {process.claim.scope: rows}
        process.claim = self.ledger.batches.freeze(process.claim, staged(process.claim, names), ())
        places = {part.directory for part in process.claim.content.partitions} if process.claim.content else set()
        self.contents[process.claim.batch_id, process.claim.generation] = places
        process.at = "decide"

    def _decide(self, process: Process, _: int, hold: bool) -> None:
        if process.claim.state == "frozen" and hold:
            return self._hold(process)
        plans = self._plans(process.claim)
        before = self._state(process.claim)
        found = self.ledger.batches.decide(process.claim, plans)
        if before == "frozen":
            for decision in found:
                assert process.claim.sequence > self.decided_sequence.get(decision.name, 0), "an older batch followed a newer one"
                self.decided_sequence[decision.name] = process.claim.sequence
                self.epochs[decision.name] = self.epochs.get(decision.name, 0) + 1
        process.at = "mark"
        return None

    def _hold(self, process: Process) -> None:
        self.processes.remove(process)
        try:
            self.ledger.batches.hold(process.claim, {"reason": "drift"})
        except FencedError:
            return
        self.held.add((process.claim.batch_id, process.claim.generation))
        self._moved(process.claim)

    def _mark(self, process: Process, _: int, __: bool) -> None:
        names = [p.name for p in process.claim.content.partitions] if process.claim.content else []
        process.carried = self.ledger.decisions.mark(self.table, names, process.writer)
        process.at = "project"

    def _project(self, process: Process, _: int, __: bool) -> None:
        self.catalog |= {name: decision.location for name, decision in process.carried.items()}
        process.at = "verify"

    def _verify(self, process: Process, _: int, __: bool) -> None:
        same = all(self.catalog[n] == d.location for n, d in process.carried.items())
        process.at = "commit" if same else "mark"

    def _commit(self, process: Process, _: int, __: bool) -> None:
        before = self._state(process.claim)
        low, high = process.claim.range.low, process.claim.range.high  # type: ignore[union-attr]
        verified = {name: decision.epoch for name, decision in process.carried.items()}
        self.ledger.batches.commit(process.claim, verified, (low, high), asset={"batch": process.claim.object_name})  # type: ignore[arg-type]
        if before == "decided":
            self._moved(process.claim)
        if all(verified[n] == d.epoch for n, d in self.ledger.decisions.current(self.table, list(verified)).items()):
            self.processes.remove(process)
        else:
            process.at = "mark"  # committed by another, but our mark still stands: show what stands now

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99))
    def crash(self, which: int) -> None:
        self.processes.pop(which % len(self.processes))

    @rule(seconds=st.sampled_from([1.0, LEASE, GRACE, DEAD]))
    def wait(self, seconds: float) -> None:
        self.clock.wait(seconds)
        # Assumed by the design: no task or call outlives `dead_after_seconds`.
        self.processes = [p for p in self.processes if self.clock() - p.started < DEAD]

    @rule()
    def sweep(self) -> None:
        writer = f"sweep{next(_numbers)}"
        for record in self.ledger.batches.unfinished(self.table):
            claim = self.ledger.batches.adopt(self.table, record.batch_id, record.generation, writer, writer)
            if claim is None:
                continue
            process = Process(writer, self.clock(), claim, "decide")
            self.processes.append(process)
            for _ in range(30):
                if process in self.processes:
                    self._step(process, 1, False)
        names = sorted({name for _, name, _, _ in self.ledger.decisions.marked(self.table)})
        found = self.ledger.decisions.mark(self.table, names, writer)
        self.catalog |= {name: decision.location for name, decision in found.items()}
        verified = {name: decision.epoch for name, decision in found.items()}
        self.ledger.decisions.clear_marks(self.table, writer, verified)
        self.ledger.decisions.clear_stale_marks(self.table, DEAD, verified)
        assert self.ledger.batches.unfinished(self.table) == ()
        current = self.ledger.decisions.current(self.table)
        assert self.catalog == {name: decision.location for name, decision in current.items()}

    @rule()
    def expire(self) -> None:
        for directory in self.ledger.directories.expirable(self.table, GRACE, DEAD):
            assert directory not in self.deleted
            self.deleted.add(directory)
            self.ledger.directories.forget(self.table, directory)

    @invariant()
    def nothing_in_use_is_deleted(self) -> None:
        current = self.ledger.decisions.current(self.table)
        used = {d.location for d in current.values()} | set(self.catalog.values())
        used |= {d.location for p in self.processes for d in p.carried.values()}
        for record in self.ledger.batches.unfinished(self.table):
            used |= self.contents[record.batch_id, record.generation]
        for key in self.held:
            used |= self.contents[key]
        for process in self.processes:
            if self._state(process.claim) == "open" and self._attempt(process.claim) == process.claim.attempt:
                used.add(process.claim.directory)
        gone = [u for u in used if any(u == d or u.startswith(f"{d}/") for d in self.deleted)]
        assert not gone, gone

    @invariant()
    def a_catalog_that_differs_is_known(self) -> None:
        marked = {name for _, name, _, _ in self.ledger.decisions.marked(self.table)}
        for name, decision in self.ledger.decisions.current(self.table).items():
            assert self.catalog.get(name) == decision.location or name in marked, f"{name} differs and nobody knows"
            assert decision.epoch == self.epochs[name]

    @invariant()
    def the_watermark_is_where_commits_and_holds_took_it(self) -> None:
        assert self.ledger.offsets.watermark(self.table) == self.watermark

    @invariant()
    def one_unfinished_batch_per_partition_and_one_event_per_commit(self) -> None:
        records = self.ledger.batches.history(table_key=self.table, limit=1000)
        scopes = [r.scope for r in records if r.state in ("open", "frozen", "decided")]
        assert len(scopes) == len(set(scopes)) and (WHOLE_TABLE not in scopes or len(scopes) == 1)
        told = [event["batch"] for _, event in self.ledger.outbox.pending_assets(self.source)]
        assert sorted(told) == sorted(f"{r.batch_id}-g{r.generation}" for r in records if r.state == "committed")

    def _plans(self, claim: Claim) -> Any:
        now = self.ledger.decisions.current(self.table)
        return [
            DecisionPlan(p.name, p.values, now[p.name].epoch if p.name in now else 0, p.directory, p.rows, 1, p.fingerprint, SCHEMA)
            for p in (claim.content.partitions if claim.content else ())
        ]

    def _record(self, claim: Claim) -> Any:
        records = self.ledger.batches.history(table_key=self.table, limit=1000)
        return next(r for r in records if (r.batch_id, r.generation) == (claim.batch_id, claim.generation))

    def _state(self, claim: Claim) -> str:
        return str(self._record(claim).state)

    def _attempt(self, claim: Claim) -> int:
        return int(self._record(claim).attempt)

    def _moved(self, claim: Claim) -> None:
        read = claim.range
        if isinstance(read, CursorRange) and read.low == self.watermark:
            self.watermark = read.high  # type: ignore[assignment]


def test_interleaved_processes_keep_the_order_of_effects() -> None:
    run_state_machine_as_test(Fleet, settings=settings(max_examples=25, stateful_step_count=30))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_interleaved_processes_for_long() -> None:
    run_state_machine_as_test(Fleet, settings=settings(max_examples=3000, stateful_step_count=80))
