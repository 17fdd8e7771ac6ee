"""Desired state: what the inventory means becomes true in the ledger first, then in the bundle's files, then in Airflow.

Every step is done again as long as it is not seen to be done, so a crash between two of them, or a system that is down, costs
time only. What is retired stands in the ledger: a lost folder or snapshot store loses none of it, and two DAG processors agree.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Set
from dataclasses import replace

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.ledger.sources_base import SourceRecord
from airflow_dataops.settings import load_settings
from dag_factory.bundle.compiled import CompiledFleet
from dag_factory.bundle.retirement import Limits, dag_id_of, is_over, plan_retirement, with_retired, without
from dag_factory.bundle.server import is_server

DELETED_AT_ONCE = 20
"""DAGs per look: deleting one takes Airflow a moment, and edits wait meanwhile."""

log = logging.getLogger(__name__)


class DesiredState:
    """The retired rows and the names of one bundle. The ledger of the settings is opened when it is first needed."""

    def __init__(self, bundle: str, clock: Callable[[], float] = time.time, ledger: Ledger | None = None) -> None:
        self.bundle, self._clock, self._ledger = bundle, clock, ledger
        self._known: dict[str, str] | None = None
        self._awaited: frozenset[str] = frozenset()  # good rows whose DAG another bundle gives, and does not mean to give up
        self._leaving: tuple[SourceRecord, ...] = ()
        self._shown: frozenset[tuple[str, str | None]] | None = None
        self._fleet: CompiledFleet | None = None
        self._rested: set[str] = set()  # retired sources whose DAG needs no pause any more

    def is_shown(self) -> bool:
        """Whether the retired rows are those of the last `take` (another processor may have retired some, and grace ends), and no
        other bundle has given up a row that stands here."""
        self._leaving = self._opened().sources.leaving(self.bundle)
        return self._shown == self._to_show() and not (self._awaited and self._awaited & self._given_up())

    def take(self, fleet: CompiledFleet, elsewhere: Set[str]) -> CompiledFleet:
        """Writes down what the fleet means, and returns it with the retired rows and without those whose name cannot be.
        `elsewhere` are DAG ids that another bundle gives. TooManyGoneError when an edit takes away too much at once;
        nothing is written then."""
        sources, now, settings = self._opened().sources, self._clock(), load_settings()
        known = self._known if self._known is not None else sources.known(self.bundle)
        leaving = sources.leaving(self.bundle)
        for record in leaving:
            if record.state == "retired":  # by another processor: it is not gone once more
                known.pop(record.source_id, None)
        limits = Limits(settings.retire_most_rows, settings.retire_most_percent)
        plan = plan_retirement(fleet, known, leaving, limits, now)
        misnamed = self._misnamed(fleet, plan.renames)
        gone = [replace(one, renamed_to=None) if one.renamed_to in misnamed else one for one in plan.gone]
        self._fleet = fleet = without(fleet, misnamed)
        good = {row.id: row.dag_id for row in fleet.rows.values()} if plan.shown else {}
        # A row that moved here from another bundle is taken over once that one only shows it as retired.
        taken = {name for name, dag_id in good.items() if dag_id in elsewhere}
        self._awaited = frozenset(taken - self._given_up() if taken else ())
        shown = {name: text for name, text in plan.shown.items() if name in good and name not in self._awaited}
        self._known = None  # nothing is known of it if this fails
        if shown or gone:
            sources.apply(self.bundle, shown, gone)
        known.update(shown)
        self._known = known
        for one in gone:
            known.pop(one.source_id, None)
            log.info("Source %s is retired%s", one.source_id, f": it is {one.renamed_to} now" if one.renamed_to else "")
        self._leaving = sources.leaving(self.bundle)
        self._shown = self._to_show()
        return with_retired(fleet, self._leaving, elsewhere, now)

    def settle(self) -> None:
        """Makes Airflow's database agree: retired DAGs paused once their runs have ended, restored ones unpaused if it was us
        who paused them, those whose grace is over deleted. Nothing outside of a server component."""
        self._rested &= {r.source_id for r in self._leaving if r.state == "retired"}
        if not self._leaving or not is_server():
            return
        from dag_factory.bundle.airflow_dags import dag_states, forget_dag, set_paused

        sources, now = self._opened().sources, self._clock()
        restored = [r for r in self._leaving if r.state == "restored"]
        over = [r for r in self._leaving if r.state == "retired" and is_over(r, now) and self._is_absent(r)][:DELETED_AT_ONCE]
        resting = [r for r in self._leaving if r.state == "retired" and not is_over(r, now) and r.source_id not in self._rested]
        states = dag_states([dag_id_of(r.source_id) for r in (*restored, *over, *resting)]) if restored or over or resting else {}
        back = {r.source_id: states.get(dag_id_of(r.source_id)) for r in restored}
        ready = [name for name, state in back.items() if state is None or state.bundle == self.bundle]
        if ready:
            set_paused([dag_id_of(name) for name in ready], self.bundle, False)
            sources.settled(ready)
        to_pause = []
        for record in resting:
            state = states.get(dag_id_of(record.source_id))
            if state is None or state.paused or state.bundle != self.bundle:
                self._rested.add(record.source_id)
            elif not state.running:  # a paused DAG's run would stop half-way
                to_pause.append(record.source_id)
        if to_pause:
            sources.paused(to_pause)  # first: what the product paused is the product's to unpause
            set_paused([dag_id_of(name) for name in to_pause], self.bundle, True)
            self._rested |= {*to_pause}
        for record in over:
            state = states.get(dag_id_of(record.source_id))
            ours = state is not None and state.bundle == self.bundle
            # Not before Airflow has seen that no file gives it: a parse under way would make it anew.
            if not ours or (state is not None and state.gone and forget_dag(dag_id_of(record.source_id))):
                sources.deleted([record.source_id])
                log.info("Airflow has nothing of retired source %s any more; its tables stay", record.source_id)

    def _misnamed(self, fleet: CompiledFleet, renames: tuple[tuple[str, str], ...]) -> dict[str, str]:
        """Carries state over to new names; returns what cannot be, by source."""
        sources, wrong = self._opened().sources, {}
        names = sources.former_ids()
        for source_id, former in renames:
            if names.get(former) != source_id:
                try:
                    sources.carry(source_id, former)
                except InventoryError as error:
                    wrong[source_id] = str(error)
        claimed = {source_id for source_id, _ in renames}
        names = sources.former_ids()
        for former in sorted(names):
            current = names.get(former)
            if current is None or former not in fleet.named or former in claimed:
                continue
            if current in fleet.named or current.partition(".")[0] in fleet.doubtful:
                wrong[former] = f"was renamed to {current}, which has its tables and its progress. Choose another name"
            else:  # the new name is gone, and the old one is back
                sources.carry(former, current)
                names = sources.former_ids()  # it is the name of now of all the others
        return wrong

    def _given_up(self) -> frozenset[str]:
        """The sources that some bundle only shows as retired."""
        return frozenset(r.source_id for r in self._opened().sources.records() if r.state == "retired")

    def _is_absent(self, record: SourceRecord) -> bool:
        """A row that is back with an error still is a row, and its DAG's history stays."""
        return (
            self._fleet is not None
            and record.source_id not in self._fleet.named
            and (record.source_id.partition(".")[0] not in self._fleet.doubtful)
        )

    def _to_show(self) -> frozenset[tuple[str, str | None]]:
        now = self._clock()
        return frozenset((r.source_id, r.renamed_to) for r in self._leaving if r.state == "retired" and not is_over(r, now))

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = open_ledger(load_settings().ledger)
        return self._ledger
