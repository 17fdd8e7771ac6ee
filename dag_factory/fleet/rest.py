"""The calls of Airflow's REST API (v2) that a fleet needs, with the standard library only. Safe to share between threads."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError

TIMEOUT_SECONDS = 60
TRIES = 5
PAGE = 100
"""Airflow's own limit of a page, unless somebody raised it."""
ENDED = ("success", "failed")
UNDER_WAY = ("queued", "running")


class AirflowRest:
    """The API of the Airflow at `url` (scheme, host, port, and a path where it is served below one). Logs in by itself with
    `user` and `password`, and again when the token is old; or uses the `token` it is given.

    UnavailableError when nobody answers or the server fails; ConflictError when something stands in the way of what was
    asked (HTTP 409); InventoryError when the server refuses it.
    """

    def __init__(self, url: str, user: str | None = None, password: str | None = None, *, token: str | None = None) -> None:
        self._url = _checked(url)
        self._login = None if user is None else {"username": user, "password": password or ""}
        self._token = token
        self._lock = threading.Lock()
        # A proxy from the environment is for the outside, not for this machine. A redirect would carry the token elsewhere.
        proxies = (urllib.request.ProxyHandler({}),) if _is_here(self._url) else ()
        self._opener = urllib.request.build_opener(*proxies, _NoRedirects)

    def __repr__(self) -> str:
        return f"AirflowRest({self._url!r})"

    def healthy(self) -> bool:
        """Whether every component has given a sign of life; False while it starts."""
        try:
            parts = self._send("GET", "/api/v2/monitor/health")
        except UnavailableError:
            return False
        return all(part is not None and part["status"] == "healthy" for part in parts.values())

    def dags(self, **filters: str) -> Iterator[dict[str, Any]]:
        """The DAGs that Airflow shows now, each with `dag_id`, `is_paused`, `has_import_errors`, `is_backfillable`, …"""
        yield from self._pages("/dags", "dags", {"order_by": "dag_id", **filters})

    def dag_ids(self) -> set[str]:
        """The DAGs that Airflow shows now."""
        return {dag["dag_id"] for dag in self.dags()}

    def import_errors(self) -> list[str]:
        """What Airflow could not parse: `file: last line of the error`."""
        errors = self._pages("/importErrors", "import_errors", {})
        return [f"{e['filename']}: {(e['stack_trace'].strip().splitlines() or [''])[-1]}" for e in errors]

    def pools(self) -> dict[str, int]:
        """Airflow's pools: name → slots (-1: no limit)."""
        return {pool["name"]: pool["slots"] for pool in self._pages("/pools", "pools", {})}

    def pause(self, dag_id: str) -> None:
        self._call("PATCH", f"{_dag(dag_id)}?update_mask=is_paused", {"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"{_dag(dag_id)}?update_mask=is_paused", {"is_paused": False})

    def trigger(
        self, dag_id: str, partition_key: str | None = None, *, run_id: str | None = None, conf: Mapping[str, Any] | None = None
    ) -> str:
        """Starts a run, for that period when one is named, with the values of its form in `conf`; its run id. Exactly one, even
        if an answer is lost."""
        run_id = run_id or f"rest__{partition_key or 'now'}__{secrets.token_hex(4)}"
        body: dict[str, Any] = {"dag_run_id": run_id, "logical_date": None, "partition_key": partition_key}
        if conf is not None:
            body["conf"] = dict(conf)
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                self._call("POST", f"{_dag(dag_id)}/dagRuns", body)
                break
            except UnavailableError:
                if self.run(dag_id, run_id) is not None:
                    break
                if last:
                    raise
        return run_id

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """One run with `dag_run_id`, `state`, `partition_key`; None when there is none of this id."""
        try:
            return dict(self._call("GET", _run(dag_id, run_id)))
        except _NotThereError:
            return None

    def runs(self, dag_id: str, **filters: str | tuple[str, ...]) -> list[dict[str, Any]]:
        """The DAG's last runs (at most a page), newest first, each with `dag_run_id`, `state`, `run_type`, `partition_key`."""
        query = urlencode({"limit": PAGE, "order_by": "-id", **filters}, doseq=True)
        return list(self._call("GET", f"{_dag(dag_id)}/dagRuns?{query}")["dag_runs"])

    def all_runs(self, dag_id: str, filters: Mapping[str, str | tuple[str, ...]]) -> list[dict[str, Any]]:
        """All runs that pass the filters, newest first. DAG `~`: of all DAGs."""
        return list(self._pages(f"{_dag(dag_id)}/dagRuns", "dag_runs", {"order_by": "-id", **filters}))

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run, each with `task_id`, `map_index`, `state` and `try_number`."""
        return list(self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances", {}))

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Ends a run: its running tasks are stopped."""
        self._call("PATCH", f"{_run(dag_id, run_id)}?update_mask=state", {"state": "failed"})

    def clear_run(self, dag_id: str, run_id: str, *, only_failed: bool) -> None:
        """The run's tasks, or those that failed, are done again."""
        self._call("POST", f"{_run(dag_id, run_id)}/clear", {"dry_run": False, "only_failed": only_failed})

    def backfills(self, dag_id: str) -> list[dict[str, Any]]:
        """The DAG's last backfills (at most a page), newest first, each with `id`, `completed_at`, `is_paused`, …"""
        query = urlencode({"dag_id": dag_id, "limit": PAGE, "order_by": "-id"})
        return list(self._call("GET", f"/backfills?{query}")["backfills"])

    def resolve_backfill(self, dag_id: str, first: str, last: str, reprocess: str) -> list[str | None]:
        """The partition keys of the runs that a backfill would create now, without creating any."""
        body = {"dag_id": dag_id, "from_date": first, "to_date": last, "reprocess_behavior": reprocess}
        return [b["partition_key"] for b in self._call("POST", "/backfills/dry_run", body, again=True)["backfills"]]

    def create_backfill(self, dag_id: str, first: str, last: str, reprocess: str, max_active_runs: int) -> int:
        """Its id. Said once: after a lost answer, `backfills` tells whether it is there."""
        body = {
            "dag_id": dag_id, "from_date": first, "to_date": last, "reprocess_behavior": reprocess,
            "max_active_runs": max_active_runs,
        }  # fmt: skip
        return int(self._call("POST", "/backfills", body)["id"])

    def cancel_backfill(self, backfill_id: int) -> None:
        """No more runs of it start, and those in its queue fail; one that is done already stays as it is."""
        with contextlib.suppress(ConflictError):
            self._call("PUT", f"/backfills/{backfill_id}/cancel")

    def _pages(self, path: str, name: str, filters: Mapping[str, str | tuple[str, ...]]) -> Iterator[dict[str, Any]]:
        seen = 0
        while True:
            query = urlencode({"limit": PAGE, "offset": seen, **filters}, doseq=True)
            page = self._call("GET", f"{path}?{query}")
            yield from page[name]
            seen += len(page[name])
            if not page[name] or seen >= page["total_entries"]:
                return

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, *, again: bool = False) -> Any:
        """One call, logged in. What may be said twice is said again when the server stumbles: under load Airflow answers
        500 when its SQLite stays locked for long."""
        for _ in range(TRIES - 1 if again or method in ("GET", "PATCH", "PUT") else 0):
            with contextlib.suppress(UnavailableError):
                return self._logged_in(method, path, body)
            time.sleep(1)
        return self._logged_in(method, path, body)

    def _logged_in(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        token = self._token
        if token is not None:
            try:
                return self._send(method, "/api/v2" + path, body, token)
            except _TokenRefusedError as refused:
                if self._login is None:
                    raise InventoryError(
                        f"{refused} The token of the connection is too old, or of another Airflow. Put a new one into it."
                    ) from None
        return self._send(method, "/api/v2" + path, body, self._new_token(token))

    def _new_token(self, old: str | None) -> str:
        """Logs in, unless another thread has done so meanwhile."""
        with self._lock:
            if self._token is None or self._token == old:
                if self._login is None:
                    raise InventoryError(f"Cannot log in at {self._url}: neither login nor token -> one of them.")
                self._token = str(self._send("POST", "/auth/token", self._login)["access_token"])
            return self._token

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        url = self._url + path
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - only http and https
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                content = answer.read()
                return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            what = f"Cannot {method} {path} at {self._url}: HTTP {error.code} -> an answer. {_reason(error)}"
            if error.code == 401 and token is not None:
                raise _TokenRefusedError(what) from None
            raise _kind(error.code)(what) from None
        except (OSError, ValueError, HTTPException) as error:
            raise UnavailableError(
                f"Cannot {method} {path} at {self._url}: {type(error).__name__} -> an answer. Is Airflow up?"
            ) from None


class _TokenRefusedError(Exception):
    """The token is too old, or from before a restart."""


class _NotThereError(InventoryError):
    """HTTP 404."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _kind(status: int) -> type[Exception]:
    if status == 429 or status >= 500:
        return UnavailableError
    return {404: _NotThereError, 409: ConflictError}.get(status, InventoryError)


def _checked(url: str) -> str:
    """The URL without its last slash. InventoryError when it is none, or holds a login; the message never quotes that."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        good = good and (parts.port is None or parts.port > 0)
    except ValueError:
        raise InventoryError(_BAD_URL.format("no URL")) from None
    if not good:
        raise InventoryError(_BAD_URL.format("no such URL"))
    if parts.username is not None or parts.password is not None:
        raise InventoryError(_BAD_URL.format("a login in it"))
    return url.rstrip("/")


_BAD_URL = (
    "Cannot use the address of Airflow: {} -> http://host:port or https://host, without login, query and fragment. Fleet "
    "operations go through its REST API. Correct the setting [dataops] airflow_url; a login belongs into a connection."
)


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _dag(dag_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='~')}"


def _run(dag_id: str, run_id: str) -> str:
    return f"{_dag(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says about it, short."""
    text = error.read(4096).decode("utf-8", "replace")
    try:
        detail = json.loads(text).get("detail", "")
    except (ValueError, AttributeError):
        return text[:300]
    return str(detail)[:500]
