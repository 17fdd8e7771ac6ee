"""The calls of Airflow's API against a server that stumbles: tokens end, answers are lost, the database is locked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_dataops.core.errors import InventoryError, UnavailableError
from dag_factory.fleet.rest import AirflowRest


class Server(ThreadingHTTPServer):
    """Speaks as much of the API as is called; `stumbles` are the status codes of the next answers, after their effect."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.logins, self.stumbles = 0, 0, list[int]()
        self.asked: list[str] = []
        self.runs: list[dict[str, Any]] = []
        self.dags = [f"ingest__a__s{n}" for n in range(250)]
        self.health: dict[str, Any] = {"metadatabase": {"status": "healthy"}, "scheduler": {"status": "healthy"}}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def answer(self, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def serve(self) -> None:
        server = self.server
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        path, _, asked = self.path.partition("?")
        server.asked.append(path)
        query = dict(pair.split("=") for pair in asked.split("&") if pair)
        if path == "/auth/token":
            if given != {"username": "admin", "password": "right"}:
                return self.answer(401, {"detail": "Invalid credentials"})
            server.token += 1
            server.logins += 1
            return self.answer(201, {"access_token": str(server.token)})
        if path == "/api/v2/monitor/health":
            return self.answer(200, server.health)
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            return self.answer(401, {"detail": "Signature has expired"})
        if self.command == "POST":
            server.runs.insert(0, given)
        if server.stumbles:
            return self.answer(server.stumbles.pop(0), {"detail": "database is locked"})
        if path == "/api/v2/dags":
            start = int(query["offset"])
            page = server.dags[start : start + int(query["limit"])]
            return self.answer(200, {"dags": [{"dag_id": d} for d in page], "total_entries": len(server.dags)})
        if path == "/api/v2/redirected":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{server.server_port}/api/v2/stolen")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if path.startswith("/api/v2/dags/ingest__a__b/dagRuns/"):
            found = [run for run in server.runs if run["dag_run_id"] == unquote(path.rpartition("/")[2])]
            return self.answer(200 if found else 404, found[0] if found else {"detail": "no such run"})
        if path == "/api/v2/dags/ingest__a__b/dagRuns":
            return self.answer(200, given if self.command == "POST" else {"dag_runs": server.runs})
        return self.answer(404, {"detail": "The Dag was not found"})

    do_GET = do_POST = do_PATCH = serve


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def rest(server: Server, monkeypatch: pytest.MonkeyPatch) -> AirflowRest:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy for the outside must not be asked
    return AirflowRest(f"http://127.0.0.1:{server.server_port}", "admin", "right")


def test_all_pages_are_read(server: Server, rest: AirflowRest) -> None:
    assert rest.dag_ids() == set(server.dags)
    assert server.logins == 1


def test_an_old_token_is_renewed(server: Server, rest: AirflowRest) -> None:
    assert rest.runs("ingest__a__b") == []
    server.token = 77
    assert rest.runs("ingest__a__b") == []
    assert server.logins == 2


def test_a_locked_database_is_asked_again(server: Server, rest: AirflowRest) -> None:
    server.stumbles = [500, 503]
    assert rest.runs("ingest__a__b") == []
    assert server.stumbles == []


@pytest.mark.parametrize("stumbles", [[], [500], [503]])
def test_a_run_is_started_once_even_when_the_answer_is_lost(server: Server, rest: AirflowRest, stumbles: list[int]) -> None:
    server.stumbles = stumbles
    run_id = rest.trigger("ingest__a__b", "2013-07-01")
    assert [(run["dag_run_id"], run["partition_key"]) for run in server.runs] == [(run_id, "2013-07-01")]


def test_a_refusal_is_not_repeated_and_says_why(server: Server, rest: AirflowRest) -> None:
    with pytest.raises(InventoryError, match=r"HTTP 404 -> an answer\. The Dag was not found"):
        rest.runs("no_such_dag")
    with pytest.raises(InventoryError, match="401"):
        AirflowRest(f"http://127.0.0.1:{server.server_port}", "admin", "wrong").dag_ids()


def test_health_is_that_of_every_component(server: Server, rest: AirflowRest) -> None:
    assert rest.healthy()
    server.health["scheduler"] = {"status": "unhealthy"}
    assert not rest.healthy()
    server.health["scheduler"] = None
    assert not rest.healthy()


def test_nobody_there_is_unavailable_and_not_healthy() -> None:
    rest = AirflowRest("http://127.0.0.1:9", "admin", "right")
    assert not rest.healthy()
    with pytest.raises(UnavailableError, match="Is Airflow up"):
        rest.unpause("ingest__a__b")


def test_a_token_is_used_as_it_is_and_its_end_is_told(server: Server) -> None:
    server.token = 5
    url = f"http://127.0.0.1:{server.server_port}"
    assert AirflowRest(url, token="5").dag_ids() == set(server.dags)
    assert server.logins == 0
    with pytest.raises(InventoryError, match="too old") as refused:
        AirflowRest(url, token="SECRET-4").dag_ids()
    assert "SECRET" not in str(refused.value) + repr(AirflowRest(url, token="SECRET-4"))


def test_a_redirect_is_not_followed_because_it_would_carry_the_token_away(server: Server, rest: AirflowRest) -> None:
    with pytest.raises(InventoryError, match="HTTP 302"):
        rest._call("GET", "/redirected")
    assert "/api/v2/stolen" not in server.asked


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "localhost:8080", "http://me:SECRET@h", "http://h?x=SECRET", "http://h:SECRET", "file:///etc/x"]
)
def test_an_address_that_is_none_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(InventoryError, match="airflow_url") as refused:
        AirflowRest(url, "a", "b")
    assert "SECRET" not in str(refused.value)
