"""The tasks of `dataops_onboard`: a form becomes a checked row, a proposal, an answer, a line in the inventory, a first run.

Nothing travels between them but the request in the ledger, which also says who asked, who approved, and when it was built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException, DagRunTriggerException

from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.edges import EdgesHook
from airflow_dataops.operators.errors import airflow_errors
from airflow_dataops.operators.step import ProductOperator
from airflow_dataops.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dataops.ledger.requests import Request, SqlRequests
    from airflow_dataops.sources.base import SourceTable

BUILD, DISCARD = "Build", "Discard"
UNDER_WAY = ["queued", "running"]
APPEAR_SECONDS = 120
"""How long a task looks for the new DAG before it gives its worker back and tries again later."""


class Desk(Protocol):
    """What knows the form and the inventory. `typed` is what was submitted, by field; every method raises InventoryError with
    what is wrong of it. A proposal is plain data: `source_id`, `dag_id`, `row`, `fingerprint` of the resolved row, `review`,
    `approvers`, `report` (Markdown)."""

    def source_id(self, typed: Mapping[str, Any]) -> str:
        """The source that is asked for. Asks nobody."""
        ...

    def check(self, typed: Mapping[str, Any]) -> tuple[PipelineSpec, PlatformSpec]:
        """The row with what it inherits, checked as part of the inventory."""
        ...

    def propose(self, typed: Mapping[str, Any], tables: Sequence[SourceTable]) -> Mapping[str, Any]:
        """What would be built, given the source's tables."""
        ...

    def build(self, proposal: Mapping[str, Any], who: str) -> str:
        """Writes the row into the inventory and returns into which file. Again: finds it there. `who` is for the history."""
        ...

    def close(self) -> None: ...


class OnboardOperator(ProductOperator):
    """One step of a request. `desk` is called in the task, with the DAG bundle it runs in, never while the file is parsed.
    `settings` are flags over the `[dataops]` settings.
    """

    def __init__(self, *, desk: Callable[[Any], Desk], settings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.desk = desk

    @contextmanager
    def opened(self, context: Context) -> Iterator[Desk]:
        with closing(self.desk(getattr(context["ti"], "bundle_instance", None))) as desk:
            yield desk


class CheckRequestOperator(OnboardOperator):
    """Refuses a form that gives no good row, with every problem lint would tell; else the request is in the ledger, and has the
    name until it is built, rejected, or its run is over."""

    def run_step(self, context: Context) -> None:
        typed, mine = _typed(context), _request_id(context)
        who = context["dag_run"].triggering_user_name or "unknown"
        with self.opened(context) as desk:
            source_id = desk.source_id(typed)
            with _requests(self.settings) as requests:
                standing = requests.open_of(source_id)
                over = standing is not None and standing.request_id != mine and not _under_way(context, standing.request_id)
                # The name first, the inventory then: whoever had the name before has written by now.
                requests.open(mine, source_id, who, standing.request_id if standing is not None and over else None)
            spec, _ = desk.check(typed)
        self.log.info("%s, asked for by %s, is a good row: kind %s, connection %s", source_id, who, spec.kind, spec.conn_id)


class ProposeOperator(OnboardOperator):
    """Opens the connection, looks at the source's tables (no data; of files their heads), and puts the proposal into the ledger
    and the log: the row as `dataops discover` proposes it, the lake tables, the plan."""

    def run_step(self, context: Context) -> None:
        typed = _typed(context)
        with self.opened(context) as desk:
            spec, platform = desk.check(typed)
            with EdgesHook(spec, platform, self.settings).open(writer=f"airflow:{context['ti'].id}") as edges:
                tables = edges.source.discover()
            proposal = desk.propose(typed, tables)
        with _requests(self.settings) as requests:
            requests.propose(_request_id(context), proposal)
        self.log.info("%s", proposal["report"])


class ApproveOperator(HITLOperator):
    """Asks for the answer *Build*, when the form or the `approvers` of the domain's defaults want one; waits for it without a
    worker. With approvers only they can answer. *Discard* ends the request, and what follows is skipped.

    Nothing is templated: what the question shows is data of the source and of the form.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, settings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(subject="Build a new source?", options=[BUILD, DISCARD], **kwargs)
        self.settings = settings

    def execute(self, context: Context) -> None:
        """Records the approval when nobody has to be asked, else asks."""
        with airflow_errors(), _requests(self.settings) as requests:
            answered = requests.get(_request_id(context))
            if answered is not None and answered.state == "rejected":  # by an earlier try that Airflow took for killed
                raise _discarded(answered)
            found = requests.show(_request_id(context))
            proposal = _proposal(found)
            approvers = proposal["approvers"]
            if found.state == "approved":
                self.log.info("%s was approved by %s", found.source_id, found.decided_by)
                return
            if not approvers and not proposal["review"]:
                requests.decide(found.request_id, approved=True, by=found.requested_by)
                self.log.info("%s: nobody has to be asked", found.source_id)
                return
        self.subject = f"Build source {found.source_id}, asked for by {found.requested_by}?"
        self.body = proposal["report"]
        self.assigned_users = [{"id": name, "name": name} for name in approvers] or None
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Records the answer, by whom and when, in the ledger."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"] or {}
        who = user.get("name") or user.get("id") or "unknown"
        approved = answer["chosen_options"] == [BUILD]
        with airflow_errors(), _requests(self.settings) as requests:
            found = requests.decide(_request_id(context), approved=approved, by=who, at=answer["responded_at"].timestamp())
        self.log.info("%s: %s by %s", found.source_id, found.state, who)
        if not approved:
            raise _discarded(found)


class BuildOperator(OnboardOperator):
    """Writes the approved row into the inventory, once, and records that in the ledger."""

    def run_step(self, context: Context) -> None:
        with _requests(self.settings) as requests:
            found = requests.get(_request_id(context))
            if found is None or found.state not in ("approved", "built"):
                state = "nothing is asked for" if found is None else f"{found.source_id} is {found.state}"
                raise InventoryError(
                    f"Cannot build the request: {state} in the ledger -> approved. A task marked by hand approves nothing. Answer "
                    "the question of the task `approve`."
                )
            if found.state == "built":
                self.log.info("%s is built already", found.source_id)
                return
            who = f"Requested by {found.requested_by}, approved by {found.decided_by}, run {found.request_id}"
            with self.opened(context) as desk:
                file = desk.build(_proposal(found), who)
            requests.built(found.request_id)
        self.log.info("%s is in %s", found.source_id, file)


class FirstRunOperator(ProductOperator):
    """Waits until Airflow has the new DAG, and triggers a run, unless its schedule has made one already."""

    def __init__(self, *, settings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings

    def run_step(self, context: Context) -> None:
        with _requests(self.settings) as requests:
            found = requests.get(_request_id(context))
        if found is None:
            raise InventoryError("Cannot start the first run: no request in the ledger -> one that was built. Submit anew.")
        dag_id = str(_proposal(found)["dag_id"])
        deadline = time.monotonic() + APPEAR_SECONDS
        while not _is_there(context, dag_id):
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"Cannot start the first run of {found.source_id}: no DAG {dag_id} after {APPEAR_SECONDS} seconds -> it is in "
                    "Airflow. The inventory is read at intervals. Look at Airflow's import errors and at the DAG processor; it "
                    "is tried again."
                )
            time.sleep(0.5)
        if context["ti"].get_dr_count(dag_id):
            self.log.info("DAG %s has its first run", dag_id)
            return
        raise DagRunTriggerException(
            trigger_dag_id=dag_id, dag_run_id=f"onboard__{context['dag_run'].run_id}"[:250], conf=None, logical_date=None,
            reset_dag_run=False, skip_when_already_exists=True, wait_for_completion=False, allowed_states=[], failed_states=[],
            poke_interval=1, deferrable=False,
        )  # fmt: skip


@contextmanager
def _requests(settings: Mapping[str, str] | None) -> Iterator[SqlRequests]:
    from airflow_dataops.ledger import open_ledger

    ledger = open_ledger(load_settings(settings).ledger)
    try:
        yield ledger.requests
    finally:
        ledger.close()


def _discarded(found: Request) -> AirflowSkipException:
    return AirflowSkipException(f"{found.source_id} is not built: {found.decided_by} discarded it.")


def _typed(context: Context) -> dict[str, Any]:
    """The form's defaults below what was submitted, whatever Airflow is configured to make of that."""
    return {**dict(context["params"]), **(context["dag_run"].conf or {})}


def _request_id(context: Context) -> str:
    return f"{context['dag_run'].dag_id}/{context['dag_run'].run_id}"


def _proposal(found: Request) -> Mapping[str, Any]:
    if found.proposal is None:
        raise InventoryError(f"Cannot go on with {found.source_id}: nothing proposed -> a proposal. Run the task `propose` first.")
    return found.proposal


def _under_way(context: Context, request_id: str) -> bool:
    """Whether the run of another request can still go on."""
    dag_id, _, run_id = request_id.partition("/")
    return bool(context["ti"].get_dr_count(dag_id, run_ids=[run_id], states=UNDER_WAY))


def _is_there(context: Context, dag_id: str) -> bool:
    try:
        context["ti"].get_dag(dag_id)
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True
