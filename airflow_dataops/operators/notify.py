"""Messages to the people a row names in `notify`: a failed run, held drift, missed freshness.

Each entry is an Airflow connection: `http` gets the message as JSON by POST, `smtp` (or `email`) as a mail. A message holds
names, counts and our own error texts; never a value of a record, and no text of foreign exceptions.
"""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.hooks.task_connection import resolve_in_task

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10
TEXT_CHARACTERS = 2000


class DataOpsNotifier(BaseNotifier):
    """A task callback (`on_failure_callback`) that tells every connection of `conn_ids` that the task failed."""

    template_fields: Sequence[str] = ()

    def __init__(self, conn_ids: Sequence[str], source: str) -> None:
        super().__init__()
        self.conn_ids = tuple(conn_ids)
        self.source = source

    def notify(self, context: Context) -> None:
        """Sends the message. A place that cannot be reached is logged; the others are told all the same."""
        error = context.get("exception")
        known = isinstance(error, DataOpsError | AirflowException)
        text = str(error) if known else type(error).__name__
        tell(self.conn_ids, _message("run_failed", self.source, context, f"Task failed: {text}"))


def notify_held(spec: PipelineSpec, context: Context, targets: Sequence[str], when: str) -> None:
    """Tells that breaking drift holds these tables, if it does. `when`: in which run, for a person."""
    if targets and spec.notify:
        text = f"Held by breaking drift {when}: {', '.join(targets)}. A person has to decide."
        tell(spec.notify, {**_message("drift_held", spec.id, context, text), "tables": list(targets)})


def notify_limit(spec: PipelineSpec, context: Context, reached: Mapping[str, str]) -> None:
    """Tells that tables failed by a limit of their row (dead letters above all), and why: target → our own error text."""
    if reached and spec.notify:
        text = " ".join(f"{target}: {why}" for target, why in reached.items())
        tell(spec.notify, {**_message("limit_reached", spec.id, context, text), "tables": list(reached)})


def notify_expired(spec: PipelineSpec, context: Context, letters: int) -> None:
    """Tells that the retention of dead letters is over which nobody had replayed or discarded."""
    if letters and spec.notify:
        text = f"{letters} dead letters expired that nobody had replayed or discarded. Their records are deleted."
        tell(spec.notify, _message("dead_letters_expired", spec.id, context, text))


def notify_waiting(spec: PipelineSpec, context: Context, waiting: Mapping[str, str]) -> bool:
    """Logs drift (id → target table) that waits for an answer for too long, and tells it. False when nobody could be reached."""
    listed = ", ".join(f"{target} ({drift})" for drift, target in waiting.items())
    log.warning("held drift of %s still waits for an answer: %s", spec.id, listed)
    if not spec.notify:
        return True
    text = f"Held drift still waits for an answer: {listed}. New batches of these tables queue behind it."
    return tell(spec.notify, {**_message("drift_waits", spec.id, context, text), "tables": list(waiting.values())})


def notify_late(spec: PipelineSpec, context: Context, ages: Mapping[str, int]) -> bool:
    """Logs tables that are older than `freshness_seconds` (name → age), and tells it. False when nobody could be reached."""
    for target, age in ages.items():
        log.warning("table %s of %s: last commit %s seconds ago -> at most %s", target, spec.id, age, spec.freshness_seconds)
    if not ages or not spec.notify:
        return True
    listed = ", ".join(f"{target} ({age} s)" for target, age in ages.items())
    text = f"Older than {spec.freshness_seconds} s: {listed}."
    return tell(spec.notify, {**_message("freshness_missed", spec.id, context, text), "tables": list(ages)})


def tell(conn_ids: Sequence[str], message: Mapping[str, Any]) -> bool:
    """Sends the message to every connection; whether one took it. Failing to tell never fails the work that is told of: it is
    logged."""
    reached = False
    for conn_id in conn_ids:
        try:
            _send(resolve_in_task(conn_id), message)
            reached = True
        except (DataOpsError, OSError, smtplib.SMTPException) as error:
            shown = str(error) if isinstance(error, DataOpsError) else type(error).__name__
            log.error("Cannot notify connection %r of %s: %s", conn_id, message["event"], shown)
    return reached


def _message(event: str, source: str, context: Context, text: str) -> dict[str, Any]:
    dag_run, ti = context["dag_run"], context["ti"]
    return {
        "event": event,
        "source": source,
        "dag_id": dag_run.dag_id,
        "run_id": dag_run.run_id,
        "partition_key": dag_run.partition_key,
        "task_id": ti.task_id,
        "text": text[:TEXT_CHARACTERS],
    }


def _send(connection: Connection, message: Mapping[str, Any]) -> None:
    if connection.conn_type in ("http", "https"):
        _post(connection, message)
    elif connection.conn_type in ("smtp", "email"):
        _mail(connection, message)
    else:
        raise InventoryError(
            f"Cannot notify connection {connection.conn_id!r}: type {connection.conn_type!r} -> http or smtp. Other kinds "
            "are not known here. Put a connection of one of these types into `notify`."
        )


def _post(connection: Connection, message: Mapping[str, Any]) -> None:
    host = connection.host or ""
    if "://" not in host:
        scheme = connection.schema if connection.schema in ("http", "https") else connection.conn_type
        host = f"{scheme}://{host}"
    if not host.startswith(("http://", "https://")):
        raise InventoryError(
            f"Cannot notify connection {connection.conn_id!r}: its host is no web address -> http:// or https://. "
            "Messages are only ever posted to one. Correct the host."
        )
    if connection.port:
        head, slash, path = host.partition("://")[2].partition("/")
        host = f"{host.partition('://')[0]}://{head}:{connection.port}{slash}{path}"
    address = host + str(connection.extra.get("endpoint", ""))
    headers = {"Content-Type": "application/json"}
    if connection.password:
        headers["Authorization"] = f"Bearer {connection.password}"
    request = urllib.request.Request(address, json.dumps(message).encode(), headers, method="POST")  # noqa: S310
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS):
        log.info("notified %s of %s", connection.conn_id, message["event"])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The message and its token are for the named place only: being sent elsewhere is an error."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _mail(connection: Connection, message: Mapping[str, Any]) -> None:
    extra = connection.extra
    mail = EmailMessage()
    mail["Subject"] = f"[dataops] {message['source']}: {message['event']}"
    mail["From"] = str(extra.get("from_email") or connection.login or "dataops@localhost")
    mail["To"] = str(extra.get("to_email") or mail["From"])
    mail.set_content("\n".join(f"{name}: {value}" for name, value in message.items()))
    port, tls = connection.port or 587, ssl.create_default_context()
    if port == 465:
        server: smtplib.SMTP = smtplib.SMTP_SSL(connection.host or "", port, timeout=TIMEOUT_SECONDS, context=tls)
    else:
        server = smtplib.SMTP(connection.host or "", port, timeout=TIMEOUT_SECONDS)
    with server:
        if port != 465 and not extra.get("disable_tls"):
            server.starttls(context=tls)
        if connection.login and connection.password:
            server.login(connection.login, connection.password)
        server.send_message(mail)
    log.info("notified %s of %s", connection.conn_id, message["event"])
