"""Held drift in Airflow's face: one run of the DAG `dataops_approvals` per question, started by the maintenance.

What is asked, and what was answered, is the ledger's to know; nothing travels between the tasks. The id of a run is that of its
drift.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.edges import EdgesHook
from airflow_dataops.operators.errors import airflow_errors, to_airflow
from airflow_dataops.operators.fleet import Fleet, FleetOperator
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.ledger.base import Hold, Ledger

ANSWERS = {"Approve": "approve", "Approve as new column": "new_column", "Approve as rename": "rename", "Reject": "reject"}
"""Option → the word of `core.approval`, which a DAG file cannot import: it needs Arrow."""
ASK = "ask"
OVER = ("success", "failed", "upstream_failed", "skipped", "removed")
WAITING = "awaiting_input"
MOST_CHARACTERS = 2000


class StartQuestionsOperator(FleetOperator):
    """Starts a run of the DAG of approvals for every question of the inventory's rows that nobody was asked yet; its run id is the
    drift's, so that twice is refused. A run that still waits though the ledger has an answer, given by `dataops drift`, is cleared:
    its task finds the answer and ends.

    What cannot be started is tried again by the next run, and fails this one. A question without a good row is left alone:
    nobody could answer it.
    """

    def __init__(
        self, *, fleet: Callable[[], Fleet], approvals_dag_id: str, settings: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(fleet=fleet, settings=settings, **kwargs)
        self.approvals_dag_id = approvals_dag_id

    def run_step(self, context: Context) -> None:
        mine = {spec.id for spec in self.fleet().rows}
        failed: list[str] = []
        with _ledger(self.settings) as ledger:
            for hold in ledger.holds.unasked():
                if hold.source_id not in mine:
                    self.log.warning("nobody is asked about drift %s: no good row of %s", hold.hold_id, hold.source_id)
                elif self._started(hold, failed):
                    ledger.holds.asked(hold.hold_id)
            for hold in ledger.holds.answered():
                if hold.source_id in mine and self._closed(hold, context, failed):
                    ledger.holds.closed(hold.hold_id)
        if failed:
            raise to_airflow(
                f"Cannot tell {self.approvals_dag_id} of {len(failed)} drifts: {'; '.join(failed[:5])} -> a run for each. "
                "Until then only `dataops drift` asks for an answer. Look whether Airflow has this DAG; the next run tries again.",
                retryable=True,
            )

    def _started(self, hold: Hold, failed: list[str]) -> bool:
        try:
            new = start_run(self.approvals_dag_id, hold.hold_id)
        except AirflowRuntimeError as error:
            failed.append(f"{hold.hold_id} ({_what_airflow_says(error)})")
            return False
        self.log.info("drift %s of %s: %s", hold.hold_id, hold.target, "a person is asked" if new else "its run is there already")
        return True

    def _closed(self, hold: Hold, context: Context, failed: list[str]) -> bool:
        """Whether nobody is asked any more. A run that is about to ask, or whose task is under way, is looked at next time."""
        try:
            states = context["ti"].get_task_states(dag_id=self.approvals_dag_id, task_ids=[ASK], run_ids=[hold.hold_id])
            state = states[hold.hold_id].get(ASK) if hold.hold_id in states else "removed"
            if state != WAITING:
                return state in OVER
            start_run(self.approvals_dag_id, hold.hold_id, clear=True)
        except AirflowRuntimeError as error:
            failed.append(f"{hold.hold_id} ({_what_airflow_says(error)})")
            return False
        self.log.info("drift %s of %s was answered elsewhere: its run goes on", hold.hold_id, hold.target)
        return False  # the next look sees whether it did


class AskOperator(HITLOperator):
    """Asks what becomes of held drift, and waits without a worker. With `approvers` in the row only they can answer. It offers what
    can be approved, and says why of the rest. Ends at once when the ledger has an answer.

    The answer goes into the ledger as it comes: what is passed between tasks could be edited by others. Somebody else's earlier one
    stands, and is told. Nothing is templated: what the question shows is data of the source.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, fleet: Callable[[], Fleet], settings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(subject="What becomes of held drift?", options=list(ANSWERS), **kwargs)
        self.fleet = fleet
        self.settings = settings

    def execute(self, context: Context) -> None:
        from airflow_dataops.steps.held import known_table, refusals

        with airflow_errors(), _ledger(self.settings) as ledger:
            hold = _hold(ledger, context)
            if hold.decision is not None:
                self.log.info("drift %s: %s", hold.hold_id, _answered(hold))
                return
            spec = _row(self.fleet(), hold)
            refused = refusals(known_table(spec, hold), hold, ledger)
        self.options = [option for option, given in ANSWERS.items() if given not in refused]
        what = "Suggested rename" if hold.is_suggestion else "Held drift"
        self.subject = f"{what} of {hold.target}, source {hold.source_id}"
        self.body = question(hold, refused)
        self.assigned_users = [{"id": name, "name": name} for name in spec.approvers] or None
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Records the answer, by whom and when, in the ledger."""
        from airflow_dataops.steps.held import answer, known_table, refuse_stranger

        given = super().execute_complete(context, event)
        user = given["responded_by_user"] or {}
        who = user.get("name") or user.get("id") or "unknown"
        at = given["responded_at"].timestamp()
        with airflow_errors(), _ledger(self.settings) as ledger:
            hold = _hold(ledger, context)
            if hold.decision is None:
                spec = _row(self.fleet(), hold)
                # Airflow knows them by id, and it has let this one answer; the row may name others by now.
                refuse_stranger(spec, hold, user["id"] if user.get("id") in spec.approvers else who)
                (chosen,) = given["chosen_options"]
                try:
                    hold = answer(known_table(spec, hold), hold, ANSWERS[chosen], who, ledger, at)
                except ConflictError as error:
                    self.log.warning("%s", error)
                    return
            self.log.info("drift %s: %s", hold.hold_id, _answered(hold))


class AnswerOperator(FleetOperator):
    """Carries out the answer that the ledger has: publishes what was held, or writes it to the dead letters."""

    def run_step(self, context: Context) -> None:
        from airflow_dataops.steps.held import known_table, let_go

        with _ledger(self.settings) as ledger:
            hold = _hold(ledger, context)
        if hold.decision is None:
            raise InventoryError(
                f"Cannot carry out drift {hold.hold_id}: the ledger has no answer -> approve or reject. A task marked by hand "
                f"answers nothing. Clear the task `{ASK}` and answer its question, or use `dataops drift`."
            )
        fleet, ti = self.fleet(), context["ti"]
        spec = _row(fleet, hold)
        writer = f"airflow:{ti.id}:{ti.try_number}:{secrets.token_hex(4)}"
        with EdgesHook(spec, fleet.platform, self.settings).open(writer=writer, with_source=False) as edges:
            done = let_go(known_table(spec, hold), edges)
        self.log.info(
            "table %s, drift %s: %s. %s batches published, %s rejected, %s need another answer, %s partitions under the old name",
            hold.target, hold.hold_id, _answered(hold), len(done.published), len(done.rejected), len(done.asked), len(done.moved),
        )  # fmt: skip
        if done.error:
            raise to_airflow(
                f"Cannot let go everything that waits of {hold.target}: {done.error} -> all published or rejected. "
                "The answer stands. This task, the next run of the table and the maintenance try again.",
                retryable=True,
            )


def question(hold: Hold, refused: Mapping[str, str], now: float | None = None) -> str:
    """What the person sees, as Markdown. Names are the source's: none of them may become markup."""
    age = (time.time() if now is None else now) - (hold.opened_at if hold.oldest_at is None else hold.oldest_at)
    facts = {
        "source": hold.source_id, "source table": hold.source_table, "table": hold.target, "what changed": hold.why,
        "first batch": hold.batch_id, "since": datetime.fromtimestamp(hold.opened_at, UTC).isoformat(timespec="seconds"),
        "drift": hold.hold_id,
    }  # fmt: skip
    lines = [f"- {name}: {_code(text)}" for name, text in facts.items()]
    lines += [
        f"- waits: {hold.batches:,} batches, {hold.rows:,} rows, the oldest for {max(0, age) / 3600:,.1f} hours", "",
        "**Approve**: the table takes the change, and what was held is published. **Approve as new column**: values of another "
        "type go as text into a column beside it. **Approve as rename**: the new column is the old one from now on, also of what "
        "landed since. **Reject**: the table stays as it is, and what was held becomes dead letters.",
    ]  # fmt: skip
    if hold.is_suggestion:
        lines += ["", "Nothing waits for this answer. Until then, and after **Reject**, both columns are beside each other."]
    lines += ["", *(f"- rename: {_code(str(one))}" for one in hold.renames)] if hold.renames else []
    meant = {"rename"} if hold.is_suggestion else {"approve", "new_column", *(["rename"] if hold.renames else [])}
    for option, given in ANSWERS.items():
        if given in refused and given in meant:
            lines += ["", f"*{option}* is not possible: {_code(refused[given])}"]
    return "\n".join(lines) + "\n"


def start_run(dag_id: str, run_id: str, *, clear: bool = False) -> bool:
    """Has Airflow start a run, as the TriggerDagRunOperator does: by the task's own supervisor, without a login. False when there
    is one of that id; with `clear` that one starts anew. AirflowRuntimeError when Airflow cannot."""
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

    message = TriggerDagRun(dag_id=dag_id, run_id=run_id, reset_dag_run=clear)
    reply = task_runner.SUPERVISOR_COMMS.send(message)
    if not isinstance(reply, ErrorResponse):
        return True
    if reply.error == ErrorType.DAGRUN_ALREADY_EXISTS:
        return False
    raise AirflowRuntimeError(reply)


@contextmanager
def _ledger(settings: Mapping[str, str] | None) -> Iterator[Ledger]:
    from airflow_dataops.ledger import open_ledger

    ledger = open_ledger(load_settings(settings).ledger)
    try:
        yield ledger
    finally:
        ledger.close()


def _hold(ledger: Ledger, context: Context) -> Hold:
    """The question that this run is about."""
    run_id = context["dag_run"].run_id
    found = ledger.holds.get(run_id)
    if found is None:
        raise InventoryError(
            f"Cannot ask about drift {run_id!r}: nobody knows it -> the id of held drift as the run's. The maintenance "
            "starts these runs. `dataops drift list` shows the ids."
        )
    return found


def _row(fleet: Fleet, hold: Hold) -> PipelineSpec:
    found = next((spec for spec in fleet.rows if spec.id == hold.source_id), None)
    if found is None:
        raise InventoryError(
            f"Cannot decide drift {hold.hold_id} of {hold.target}: no good row of {hold.source_id} -> one. The row says where the "
            "lake is, and how the table is written. Correct the inventory, and clear this task."
        )
    return found


def _answered(hold: Hold) -> str:
    return f"{hold.decision} by {hold.decided_by}"


def _what_airflow_says(error: AirflowRuntimeError) -> str:
    return f"{error.error.error.value}: {(error.error.detail or {}).get('detail') or error.error.detail}"


def _code(text: str) -> str:
    """A code span: nothing in it is markup, and nothing ends it."""
    shown = "".join(c if c.isprintable() else "�" for c in text[:MOST_CHARACTERS]).replace("`", "'")
    return f"`{shown or ' '}`"
