"""The few calls of Airflow's REST API that the sample needs, with the standard library only."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode

from airflow_dataops.core.errors import InventoryError, UnavailableError

TIMEOUT_SECONDS = 60
TRIES = 5
ENDED = ("success", "failed")


class AirflowRest:
    """The API of the Airflow at `url` (scheme, host and port). Logs in by itself, and again when the token is old.

    UnavailableError when nobody answers or the server fails; InventoryError when it refuses what was asked.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url, self._login = url, {"username": user, "password": password}
        self._token: str | None = None
        # A proxy from the environment is for the outside, not for this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def healthy(self) -> bool:
        """Whether every component has given a sign of life; False while it starts."""
        try:
            parts = self._send("GET", "/api/v2/monitor/health")
        except UnavailableError:
            return False
        return all(part is not None and part["status"] == "healthy" for part in parts.values())

    def dag_ids(self) -> set[str]:
        """The DAGs that Airflow shows now."""
        found: set[str] = set()
        while True:
            page = self._call("GET", f"/dags?{urlencode({'limit': 100, 'offset': len(found), 'order_by': 'dag_id'})}")
            found |= {dag["dag_id"] for dag in page["dags"]}
            if not page["dags"] or len(found) >= page["total_entries"]:
                return found

    def import_errors(self) -> list[str]:
        """What Airflow could not parse: `file: last line of the error`."""
        errors = self._call("GET", "/importErrors?limit=100")["import_errors"]
        return [f"{e['filename']}: {(e['stack_trace'].strip().splitlines() or [''])[-1]}" for e in errors]

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/dags/{quote(dag_id, safe='')}?update_mask=is_paused", {"is_paused": False})

    def trigger(self, dag_id: str, partition_key: str | None = None) -> str:
        """Starts a run, for that period when one is named; its run id. Exactly one, even if an answer is lost."""
        run_id = f"sample__{partition_key or 'now'}__{secrets.token_hex(4)}"
        body = {"dag_run_id": run_id, "logical_date": None, "partition_key": partition_key}
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                self._call("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", body)
                break
            except UnavailableError:
                if any(run["dag_run_id"] == run_id for run in self.runs(dag_id)):
                    break
                if last:
                    raise
        return run_id

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The DAG's last runs, newest first, each with `dag_run_id` and `state`."""
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns?{urlencode({'limit': 100, 'order_by': '-id'})}"
        return list(self._call("GET", path)["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run, each with `task_id`, `map_index`, `state` and `try_number`."""
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=1000"
        return list(self._call("GET", path)["task_instances"])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One call, logged in. What may be said twice is said again when the server stumbles: under load Airflow answers
        500 when its SQLite stays locked for long."""
        for _ in range(TRIES - 1 if method in ("GET", "PATCH") else 0):
            with contextlib.suppress(UnavailableError):
                return self._logged_in(method, path, body)
            time.sleep(1)
        return self._logged_in(method, path, body)

    def _logged_in(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        if self._token is not None:
            with contextlib.suppress(_TokenRefused):
                return self._send(method, "/api/v2" + path, body)
            self._token = None
        self._token = self._send("POST", "/auth/token", self._login)["access_token"]
        return self._send(method, "/api/v2" + path, body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        url = self._url + path
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - our own server
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 401 and self._token is not None:
                raise _TokenRefused from None
            what = f"Cannot {method} {path} at {self._url}: HTTP {error.code} -> an answer. {_reason(error)}"
            if error.code == 429 or error.code >= 500:
                raise UnavailableError(what) from None
            raise InventoryError(what) from None
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"Cannot {method} {path} at {self._url}: {type(error).__name__} -> an answer. Is Airflow up?"
            ) from None


class _TokenRefused(Exception):
    """The token is too old, or from before a restart."""


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says about it, short."""
    text = error.read(4096).decode("utf-8", "replace")
    try:
        return str(json.loads(text).get("detail", ""))[:500]
    except (ValueError, AttributeError):
        return text[:300]
