"""The operators over real edges (SQLite, a local lake), with a context as Airflow gives one; no Airflow is running."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_dataops.core.errors import (
    BusyError,
    ConflictError,
    DataOpsError,
    DriftHeldError,
    ForeignChangeError,
    InventoryError,
    ProofError,
    UnavailableError,
)
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.operators.errors import airflow_errors
from airflow_dataops.operators.run import period_of, run_of
from airflow_dataops.operators.verify import FingerprintOperator
from dag_factory.render import render

NOW = datetime(2024, 5, 3, 9, tzinfo=UTC)


def _spec(**fields: Any) -> PipelineSpec:
    row: dict[str, Any] = {"domain": "shop", "name": "orders_db", "kind": "sql", "conn_id": "shop_db", "owner": "o"}
    return PipelineSpec.model_validate({**row, **fields})


@dataclass
class AirflowRun:
    """Airflow's side of a run: the DAG run's fields as its API serves them."""

    dag_id: str = "ingest__shop__orders_db"
    run_id: str = "manual__1"
    run_type: str = "manual"
    clear_number: int = 0
    partition_key: str | None = None
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    start_date: datetime | None = NOW
    run_after: datetime = NOW
    states: dict[str, str] = field(default_factory=dict)

    def context(self, task: Any) -> Any:
        ti = SimpleNamespace(
            id="0190", try_number=1, task_id=task.task_id,
            get_task_states=lambda **_: {self.run_id: dict(self.states)},
        )  # fmt: skip
        return {"dag_run": self, "ti": ti, "outlet_events": OutletEventAccessors(), "task": task}


def test_the_token_survives_retries_and_not_a_clear() -> None:
    spec, run = _spec(), AirflowRun()
    first = run_of(spec, run)
    assert run_of(spec, run).token == first.token
    run.clear_number = 1
    assert run_of(spec, run).token != first.token
    assert run_of(spec, AirflowRun(run_id="manual__2")).token != first.token


def test_partition_key_before_data_interval_before_neither() -> None:
    spec = _spec(read={"mode": "window", "cursor": "c"})
    interval = {"data_interval_start": NOW - timedelta(hours=5), "data_interval_end": NOW}
    assert period_of(spec, AirflowRun(partition_key="2024-05-01", **interval)).key == "2024-05-01"
    found = period_of(spec, AirflowRun(**interval))
    assert (found.start, found.end, found.given) == (NOW - timedelta(hours=5), NOW, "interval")
    assert period_of(spec, AirflowRun()).key == "2024-05-02"
    assert period_of(_spec(), AirflowRun()).key == "2024-05-03"
    # A click with a logical date: Airflow gives an interval without length.
    assert period_of(spec, AirflowRun(data_interval_start=NOW, data_interval_end=NOW)).given == "now"


def test_what_counts_as_a_backfill() -> None:
    spec = _spec()
    assert period_of(spec, AirflowRun(run_type="backfill", partition_key="2024-05-02")).backfill
    assert period_of(spec, AirflowRun(partition_key="2024-04-01")).backfill
    assert not period_of(spec, AirflowRun(partition_key="2024-05-02")).backfill
    assert not period_of(spec, AirflowRun(run_type="scheduled", partition_key="2024-04-01")).backfill


@pytest.mark.parametrize("key", ["", "2024-5-1", "tomorrow", "2024-05-04"])
def test_a_wrong_key_fails_without_retry(key: str) -> None:
    with pytest.raises(AirflowFailException), airflow_errors():
        period_of(_spec(), AirflowRun(partition_key=key))


@pytest.mark.parametrize("kind", [UnavailableError, ConflictError, BusyError])
def test_retryable_errors_use_a_retry(kind: type[DataOpsError]) -> None:
    with pytest.raises(AirflowException, match="message") as caught, airflow_errors():
        raise kind("message")
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("kind", [InventoryError, ForeignChangeError, ProofError, DriftHeldError])
def test_other_errors_fail_at_once(kind: type[DataOpsError]) -> None:
    with pytest.raises(AirflowFailException, match="message"), airflow_errors():
        raise kind("message")


def test_foreign_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), airflow_errors():
        raise ZeroDivisionError


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with two tables, and everything of ours below one folder."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as db:
        for table in ("orders", "customers"):
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")
            db.executemany(f"INSERT INTO {table} (name) VALUES (?)", [(f"{table} {n}",) for n in range(5)])
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    for name, value in {
        "LAKE": f"file://{tmp_path}/lake",
        "LEDGER": f"sqlite:///{tmp_path}/ledger.db",
        "DEAD_LETTERS": f"file://{tmp_path}/dead",
        "INVENTORY": f"{tmp_path}/inventory",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__DATAOPS__{name}", value)
    return path


def _task(dag: Any, task_id: str, **mapped: Any) -> Any:
    """The task as a worker has it: a mapped one is unmapped with its own argument."""
    task = dag.get_task(task_id)
    return task.unmap({**task.partial_kwargs, **mapped}) if mapped else task


def _run(dag: Any, run: AirflowRun) -> dict[str, Any]:
    """All tasks in order, as one run; returns the contexts."""
    contexts: dict[str, Any] = {}
    packs = _execute(dag, "discover", run, contexts)
    _execute(dag, "drift_sync", run, contexts)
    for index, pack in enumerate(packs):
        _execute(dag, "load", run, contexts, pack=pack)
        run.states[f"load_{index}"] = "success"
    _execute(dag, "verify", run, contexts)
    return contexts


def _execute(dag: Any, task_id: str, run: AirflowRun, contexts: dict[str, Any], **mapped: Any) -> Any:
    task = _task(dag, task_id, **mapped)
    contexts[task_id] = run.context(task)
    found = task.execute(contexts[task_id])
    run.states.setdefault(task_id, "success")
    return found


def test_a_run_loads_verifies_and_announces(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dag = render(_spec())
    contexts = _run(dag, AirflowRun())
    logged = capsys.readouterr().out
    lines = [line for line in logged.splitlines() if "-> shop." in line]
    assert len(lines) == 2 and all("loaded rows_read=5 rows_written=5" in line for line in lines)
    assert "orders 3" not in logged, "a value of a record is in the log"
    (accessor,) = contexts["load"]["outlet_events"]._dict.values()
    assert sorted(e.dest_asset_key.name for e in accessor.asset_alias_events) == ["shop.customers", "shop.orders"]


def test_an_event_is_told_until_a_run_has_succeeded(shop: Path) -> None:
    dag, run = render(_spec()), AirflowRun()
    first: dict[str, Any] = {}
    for _ in range(2):  # a retry, because the first try's success was never recorded
        _execute(dag, "load", run, first, pack=["orders"])
        (accessor,) = first["load"]["outlet_events"]._dict.values()
        assert len(accessor.asset_alias_events) == 1
    run.states["load_0"] = "success"
    _execute(dag, "verify", run, first)
    _execute(dag, "load", run, first, pack=["orders"])
    assert not any(a.asset_alias_events for a in first["load"]["outlet_events"]._dict.values())


def test_a_retry_does_only_what_is_not_done(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    never = {"match": "customers", "read": {"mode": "watermark", "cursor": "gone"}, "write": {"mode": "append"}}
    dag, run = render(_spec(tables=["orders", never])), AirflowRun()
    for outcome in ("loaded", "done_before"):
        with pytest.raises(AirflowException, match=r"1 of 2 tables failed -> all loaded\. customers"):
            _execute(dag, "load", run, {}, pack=["customers", "orders"])
        assert f"'orders' -> shop.orders: {outcome}" in capsys.readouterr().out
    run.clear_number = 1
    with pytest.raises(AirflowException):
        _execute(dag, "load", run, {}, pack=["customers", "orders"])
    assert "'orders' -> shop.orders: unchanged" in capsys.readouterr().out


def test_verify_fails_when_a_task_before_it_failed(shop: Path) -> None:
    dag, run = render(_spec()), AirflowRun()
    _run(dag, run)
    for state in ("failed", "upstream_failed", "removed"):
        run.states["load_0"] = state
        with pytest.raises(AirflowFailException, match=f"load_0 {state}"):
            _execute(dag, "verify", run, {})


def test_verify_fails_when_the_lake_differs(shop: Path, tmp_path: Path) -> None:
    dag, run = render(_spec()), AirflowRun()
    _run(dag, run)
    files = list((tmp_path / "lake").rglob("*.parquet"))
    assert len(files) == 2
    files[0].unlink()
    with pytest.raises(AirflowFailException, match="Cannot prove"):
        _execute(dag, "verify", run, {})


def test_a_source_that_differs_fails_with_the_keys(shop: Path) -> None:
    dag, run = render(_spec()), AirflowRun()
    _run(dag, run)
    compare = FingerprintOperator(task_id="compare", spec=_spec(), against_source=True)
    compare.execute(run.context(compare))
    with sqlite3.connect(shop) as database:
        database.execute("update orders set name = 'x' where id = 1")
    database.close()
    with pytest.raises(AirflowFailException, match=r"against its source: shop\.orders: .* id=1 \(differs\)"):
        compare.execute(run.context(compare))


def test_a_source_that_is_down_is_tried_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", "postgres://u:geheim@127.0.0.1:1/db")
    with pytest.raises(AirflowException) as caught:
        _execute(render(_spec()), "discover", AirflowRun(), {})
    assert not isinstance(caught.value, AirflowFailException)
    assert "geheim" not in f"{caught.value}{caught.value.__cause__!r}"


def test_a_missing_connection_is_not_tried_again(shop: Path) -> None:
    with pytest.raises(AirflowFailException, match="Cannot find connection 'nowhere'"):
        _execute(render(_spec(conn_id="nowhere")), "discover", AirflowRun(), {})


def test_a_pack_that_is_no_list_is_refused(shop: Path) -> None:
    for pack in ("orders", [["orders"]], {1: 2}):
        with pytest.raises(AirflowFailException, match="a list of table names"):
            _execute(render(_spec()), "load", AirflowRun(), {}, pack=pack)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """An HTTP server that keeps what is posted to it, known as connection `hook`."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append({"path": self.path, "token": self.headers.get("Authorization"), **json.loads(body)})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", f"http://:t0ken@127.0.0.1:{server.server_port}/?endpoint=%2Fdataops%2Fevents")
    yield got
    server.shutdown()
    server.server_close()


def test_a_failed_run_is_told_once(webhook: list[dict[str, Any]]) -> None:
    dag = render(_spec(notify=["nowhere", "hook"]))
    verify = dag.get_task("verify")
    assert [t.task_id for t in dag.tasks if getattr(t, "on_failure_callback", None)] == ["verify"]
    context = AirflowRun(partition_key="2024-05-01").context(verify)
    (notifier,) = verify.on_failure_callback
    notifier({**context, "exception": AirflowFailException("Cannot prove shop.orders_db: …")})
    notifier({**context, "exception": ValueError("secret of a record")})
    first, second = webhook
    assert first["event"] == "run_failed" and "Cannot prove shop.orders_db" in first["text"]
    assert (first["path"], first["token"], first["partition_key"]) == ("/dataops/events", "Bearer t0ken", "2024-05-01")
    assert second["text"] == "Task failed: ValueError"


class Mailbox(StreamRequestHandler):
    """As much of SMTP as one mail needs; keeps what it was given."""

    got: ClassVar[list[EmailMessage]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (text := self.rfile.readline()) != b".\r\n":
                    lines.append(text)
                self.got.append(message_from_bytes(b"".join(lines), policy=default_policy))
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 good\r\n")


def test_a_failed_run_is_mailed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingTCPServer(("127.0.0.1", 0), Mailbox)
    Thread(target=server.serve_forever, daemon=True).start()
    extra = {"from_email": "dataops@example.com", "to_email": "ops@example.com", "disable_tls": True}
    stored = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(stored))
    verify = render(_spec(notify=["mail"])).get_task("verify")
    verify.on_failure_callback[0]({**AirflowRun().context(verify), "exception": AirflowFailException("Cannot prove it")})
    server.shutdown()
    server.server_close()
    (mail,) = Mailbox.got
    assert (mail["To"], mail["Subject"]) == ("ops@example.com", "[dataops] shop.orders_db: run_failed")
    assert "text: Task failed: Cannot prove it" in mail.get_content()


@pytest.mark.parametrize(
    "stored",
    [
        {"conn_type": "postgres"},
        {"conn_type": "http", "host": "file:///etc"},
        {"conn_type": "http", "host": "127.0.0.1", "port": 1},
    ],
)
def test_what_cannot_be_told_is_logged_and_nothing_more(
    stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BAD", json.dumps({**stored, "password": "geheim"}))
    verify = render(_spec(notify=["bad"])).get_task("verify")
    verify.on_failure_callback[0](AirflowRun().context(verify))
    assert "Cannot notify connection 'bad' of run_failed" in caplog.text
    assert "geheim" not in caplog.text


def test_held_drift_is_told(shop: Path, webhook: list[dict[str, Any]]) -> None:
    spec = _spec(notify=["hook"], contract={"columns": "freeze"})
    _run(render(spec), AirflowRun())
    with sqlite3.connect(shop) as db:
        db.execute("ALTER TABLE orders ADD COLUMN surprise TEXT")
    _run(render(spec), AirflowRun(run_id="manual__2"))
    (message,) = webhook
    assert (message["event"], message["tables"]) == ("drift_held", ["shop.orders"])
