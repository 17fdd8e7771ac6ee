"""Processes that run the order of effects (DESIGN §5) over a real ledger, a lake of names and a catalog without
compare-and-swap: a seeded dice interleaves, crashes, stops and wakes them, sweeps, expires, and lets time go by.

What must hold after every step is what the model checks: nothing visible or decided is ever deleted, a catalog that
differs from the decision is known (marked), an older batch never follows a newer one, the watermark is where commits and
holds took it, and each commit is told once. (Plain seeds, not hypothesis: its choice of rules hardly ever brought a batch
to its commit. What these seeds find when a rule of the ledger is taken out is listed in docs/adr/0003-ledger.md.)
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from airflow_dataops.core.errors import BusyError, ConflictError, FencedError, HoldError
from airflow_dataops.core.offset import CursorRange
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import WHOLE_TABLE, BatchRecord, Claim, Decision, DecisionPlan, Ledger
from tests import soak
from tests.ledger.actors import MONDAY, SCHEMA, TUESDAY, Clock, asking, staged

LEASE, GRACE, DEAD = 60.0, 500.0, 2000.0
SCOPES = (MONDAY, TUESDAY, WHOLE_TABLE)
ACTIONS = {"start": 40, "go_on": 100, "crash": 5, "wait": 20, "sweep": 5, "plan_a_query": 12, "expire": 18}
WAITS = {1.0: 4, LEASE: 5, GRACE - 1: 3, GRACE: 3, DEAD: 3}


@dataclass
class Process:
    """One process attempt: where it is, and what it carries in its memory (perhaps outdated)."""

    writer: str
    started: float
    claim: Claim
    at: str
    carried: dict[str, Decision] = field(default_factory=dict)


class Fleet:
    """All processes of one table, and the world they act on. `told` is the trace, for whoever has to read a failure."""

    def __init__(self, ledger: Ledger, clock: Clock, seed: int) -> None:
        self.ledger, self.clock, self.dice = ledger, clock, random.Random(seed)
        self.source = f"sales.s{seed}"
        self.table = f"{self.source}:orders"
        self.processes: list[Process] = []
        self.catalog: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.contents: dict[tuple[str, int], set[str]] = {}
        self.held: dict[tuple[str, int], Claim] = {}
        self.queries: list[tuple[float, str]] = []
        self.sequences: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.watermark: int | None = None
        self.writers = 0
        self.told: list[str] = []
        self.holds = 0.06 if seed % 4 == 0 else 0.0  # a hold stops its partition for good

    def act(self) -> None:
        (name,) = self.dice.choices(list(ACTIONS), list(ACTIONS.values()))
        getattr(self, name)()
        self.check()

    def tell(self, who: str, what: str) -> None:
        self.told.append(f"{who} {what}")

    def new_writer(self) -> str:
        self.writers += 1
        return f"w{self.writers}"

    def start(self) -> None:
        batch, run, writer = self.dice.randrange(4), self.dice.randrange(5), self.new_writer()
        request = asking(
            f"b{batch}", f"r{run}", table_key=self.table, source_id=self.source, root=f"lake/{self.source}",
            scope=SCOPES[batch % 3], writer=writer, nonce=writer, lease_seconds=LEASE, exclusive=True,
            read=CursorRange("id", batch or None, batch + 1),
        )  # fmt: skip
        try:
            claim = self.ledger.batches.claim(request)
        except BusyError:
            return
        self.tell(writer, f"claims b{batch} for r{run}: {claim.object_name} attempt {claim.attempt} {claim.state}")
        if claim.state in ("open", "frozen", "decided"):
            self.processes.append(Process(writer, self.clock(), claim, "stage" if claim.state == "open" else "decide"))

    def go_on(self) -> None:
        if self.processes:
            process = self.dice.choice(self.processes)
            for _ in range(self.dice.randint(1, 3)):
                if process in self.processes:
                    self.step(process)

    def step(self, process: Process) -> None:
        self.tell(process.writer, process.at)
        try:
            getattr(self, f"_{process.at}")(process)
        except ConflictError:
            self.tell(process.writer, "conflict")
            process.at = {"decide": "decide", "commit": "mark"}[process.at]
        except HoldError:
            self._hold(process)
        except (FencedError, BusyError) as error:
            self.tell(process.writer, type(error).__name__)
            self.processes.remove(process)

    def _stage(self, process: Process) -> None:
        rows = self.dice.randint(1, 3)
        names = {MONDAY: rows, TUESDAY: rows} if process.claim.scope == WHOLE_TABLE else {process.claim.scope: rows}
        process.claim = self.ledger.batches.freeze(process.claim, staged(process.claim, names), ())
        parts = process.claim.content.partitions if process.claim.content else ()
        self.contents[process.claim.batch_id, process.claim.generation] = {part.directory for part in parts}
        process.at = "decide"
        if self.dice.random() < self.holds:
            self._hold(process)

    def _decide(self, process: Process) -> None:
        plans = self._plans(process.claim)
        before = self._record(process.claim).state
        for decision in self.ledger.batches.decide(process.claim, plans):
            if before == "frozen":
                assert process.claim.sequence > self.sequences.get(decision.name, 0), "an older batch followed a newer one"
                assert not self._ahead(process.claim), "decided before a held batch that came first"
                self.sequences[decision.name] = process.claim.sequence
                self.epochs[decision.name] = self.epochs.get(decision.name, 0) + 1
        process.at = "mark"

    def _hold(self, process: Process) -> None:
        self.processes.remove(process)
        try:
            self.ledger.batches.hold(process.claim, {"reason": "drift"})
        except FencedError:
            return
        self.tell(process.writer, "holds")
        self.held[process.claim.batch_id, process.claim.generation] = process.claim
        self._moved(process.claim)

    def _mark(self, process: Process) -> None:
        names = [p.name for p in process.claim.content.partitions] if process.claim.content else []
        process.carried = self.ledger.decisions.mark(self.table, names, process.writer)
        process.at = "project"

    def _project(self, process: Process) -> None:
        self.catalog |= {name: decision.location for name, decision in process.carried.items()}
        process.at = "verify"

    def _verify(self, process: Process) -> None:
        same = all(self.catalog[name] == decision.location for name, decision in process.carried.items())
        process.at = "commit" if same else "mark"

    def _commit(self, process: Process) -> None:
        before = self._record(process.claim).state
        verified = {name: decision.epoch for name, decision in process.carried.items()}
        read = process.claim.range
        moved = (read.low, read.high) if isinstance(read, CursorRange) and read.high is not None else None
        self.ledger.batches.commit(process.claim, verified, moved, asset={"batch": process.claim.object_name})
        if before == "decided":
            self._moved(process.claim)
        if all(verified[n] == d.epoch for n, d in self.ledger.decisions.current(self.table, list(verified)).items()):
            self.processes.remove(process)
        else:
            process.at = "mark"  # committed by another, overtaken since, and our mark stands: show what stands now

    def crash(self) -> None:
        if self.processes:
            process = self.processes.pop(self.dice.randrange(len(self.processes)))
            self.tell(process.writer, f"CRASH before {process.at}")

    def wait(self) -> None:
        (seconds,) = self.dice.choices(list(WAITS), list(WAITS.values()))
        self.tell("time", f"+{seconds:.0f}")
        self.clock.wait(seconds)
        # Assumed by the design: no task or call outlives `dead_after_seconds`.
        self.processes = [p for p in self.processes if self.clock() - p.started < DEAD]

    def sweep(self) -> None:
        """Finishes what is frozen or decided, then projects what is marked: all at one moment."""
        writer = self.new_writer()
        self.tell(writer, "sweeps")
        for record in self.ledger.batches.unfinished(self.table):
            claim = self.ledger.batches.adopt(self.table, record.batch_id, record.generation, writer, writer)
            if claim is not None:
                process = Process(writer, self.clock(), claim, "decide")
                self.processes.append(process)
                while process in self.processes:
                    self.step(process)
        names = sorted({name for _, name, _, _ in self.ledger.decisions.marked(self.table)})
        found = self.ledger.decisions.mark(self.table, names, writer)
        self.catalog |= {name: decision.location for name, decision in found.items()}
        verified = {name: decision.epoch for name, decision in found.items()}
        self.ledger.decisions.clear_marks(self.table, writer, verified)
        self.ledger.decisions.clear_stale_marks(self.table, DEAD, verified)
        assert self.ledger.batches.unfinished(self.table) == ()
        current = self.ledger.decisions.current(self.table)
        assert self.catalog == {name: decision.location for name, decision in current.items()}

    def plan_a_query(self) -> None:
        """A reader lists the partitions now and reads their files within the grace."""
        self.queries += [(self.clock(), location) for location in self.catalog.values()]

    def expire(self) -> None:
        for directory in self.ledger.directories.expirable(self.table, GRACE, DEAD):
            self.tell("expiry", directory)
            assert directory not in self.deleted
            self.deleted.add(directory)
            self.ledger.directories.forget(self.table, directory)

    def check(self) -> None:
        current = self.ledger.decisions.current(self.table)
        records = self.ledger.batches.history(table_key=self.table, limit=1000)
        marked = {name for _, name, _, _ in self.ledger.decisions.marked(self.table)}
        for name, decision in current.items():
            assert self.catalog.get(name) == decision.location or name in marked, f"{name} differs and nobody knows"
            assert decision.epoch == self.epochs[name]
        gone = [place for place in self._used(current, records) if self._is_deleted(place)]
        assert not gone, f"deleted, but in use: {gone}"
        assert self.ledger.offsets.watermark(self.table) == self.watermark
        scopes = [r.scope for r in records if r.state in ("open", "frozen", "decided")]
        assert len(scopes) == len(set(scopes)) and (WHOLE_TABLE not in scopes or len(scopes) == 1)
        committed = sorted(f"{r.batch_id}-g{r.generation}" for r in records if r.state == "committed")
        assert sorted(event["batch"] for _, event in self.ledger.outbox.pending_assets(self.source)) == committed

    def _used(self, current: dict[str, Decision], records: tuple[BatchRecord, ...]) -> Iterator[str]:
        """Every place that a reader may see, or that somebody may still publish."""
        yield from self.catalog.values()
        self.queries = [(at, location) for at, location in self.queries if self.clock() - at < GRACE]
        yield from (location for _, location in self.queries)
        yield from (decision.location for decision in current.values())
        attempts = {(r.batch_id, r.generation): r.attempt for r in records if r.state == "open"}
        for process in self.processes:
            yield from (decision.location for decision in process.carried.values())
            if attempts.get((process.claim.batch_id, process.claim.generation)) == process.claim.attempt:
                yield process.claim.directory
        for record in records:
            if record.state in ("frozen", "decided"):
                yield from self.contents[record.batch_id, record.generation]
        for key in self.held:
            yield from self.contents[key]

    def _ahead(self, claim: Claim) -> bool:
        waiting = [held for held in self.held.values() if held.sequence < claim.sequence]
        return any(WHOLE_TABLE in (held.scope, claim.scope) or held.scope == claim.scope for held in waiting)

    def _is_deleted(self, place: str) -> bool:
        return any(place == directory or place.startswith(f"{directory}/") for directory in self.deleted)

    def _plans(self, claim: Claim) -> list[DecisionPlan]:
        now = self.ledger.decisions.current(self.table)
        return [
            DecisionPlan(p.name, p.values, now[p.name].epoch if p.name in now else 0, p.directory, p.rows, 1, p.fingerprint, SCHEMA)
            for p in (claim.content.partitions if claim.content else ())
        ]

    def _record(self, claim: Claim) -> BatchRecord:
        records = self.ledger.batches.history(table_key=self.table, limit=1000)
        return next(r for r in records if (r.batch_id, r.generation) == (claim.batch_id, claim.generation))

    def _moved(self, claim: Claim) -> None:
        read = claim.range
        if isinstance(read, CursorRange) and read.low == self.watermark:
            self.watermark = read.high  # type: ignore[assignment]


def run(seeds: range, actions: int) -> None:
    clock = Clock()
    ledger = open_ledger("sqlite://", clock=clock)
    seen: Counter[str] = Counter()
    for seed in seeds:
        fleet = Fleet(ledger, clock, seed)
        for _ in range(actions):
            try:
                fleet.act()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(fleet.told)) from error
        seen.update(r.state for r in ledger.batches.history(table_key=fleet.table, limit=1000))
        seen["deleted"] += len(fleet.deleted)
    ledger.close()
    # What never happened proves nothing.
    assert seen["committed"] > 3 * len(seeds) and seen["deleted"] > 3 * len(seeds) and seen["held"], seen


def test_interleaved_processes_keep_the_order_of_effects() -> None:
    run(range(10), 120)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_interleaved_processes_for_long(part: int, record_property: Callable[[str, object], None]) -> None:
    first, count = 10_000 * soak.seed() + 1_000 + 40 * part, 40
    record_property("rounds", count)
    run(range(first, first + count), 120)
