"""Requests for new sources: requested → approved → built, or rejected, or abandoned. One open request per source.

Every step is a compare-and-set in one transaction; who does it and when stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa

from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.ledger.tables import request
from airflow_dataops.storage.sql_database import SqlDatabase
from airflow_dataops.storage.sql_text import json_text, text_id

State = Literal["requested", "approved", "rejected", "built", "abandoned"]
OPEN = ("requested", "approved")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it stands. Times are POSIX seconds. `proposal` is what would be built, None before it is known; `shown`
    tells whether it is the one that was put before somebody."""

    request_id: str
    source_id: str
    state: State
    requested_by: str
    requested_at: float
    proposal: Mapping[str, Any] | None
    shown: bool
    decided_by: str | None
    decided_at: float | None
    built_at: float | None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


class SqlRequests:
    """The requests of a ledger."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def get(self, request_id: str) -> Request | None:
        with self._database.read() as connection:
            return _one(connection, request.c.request_id == request_id)

    def open_of(self, source_id: str) -> Request | None:
        """The request that has the name now."""
        with self._database.read() as connection:
            return _one(connection, request.c.open_source_id == source_id)

    def history(self, source_id: str | None = None, limit: int = 100) -> tuple[Request, ...]:
        """The newest first."""
        query = sa.select(request).order_by(request.c.requested_at.desc(), request.c.request_id).limit(limit)
        if source_id is not None:
            query = query.where(request.c.source_id == source_id)
        with self._database.read() as connection:
            return tuple(map(_request, connection.execute(query)))

    def open(self, request_id: str, source_id: str, requested_by: str, instead_of: str | None = None) -> Request:
        """*tx* Takes the name. `instead_of` is an open request whose run is over: it is abandoned, if it is still open and
        still has the name. Again by the same request: as it stands. InventoryError when another request has the
        name, or when this one is closed or about another source."""
        row = {
            "request_id": request_id, "source_id": source_id, "open_source_id": source_id, "state": "requested",
            "requested_by": requested_by, "requested_at": self._clock(),
        }  # fmt: skip
        with self._database.write() as connection:
            if instead_of is not None and instead_of != request_id:
                gone = {"state": "abandoned", "open_source_id": None}
                theirs = (request.c.request_id == instead_of) & (request.c.open_source_id == source_id)
                connection.execute(request.update().where(theirs).values(gone))
            self._database.insert_missing(connection, request, [row])
            mine = _one(connection, request.c.request_id == request_id)
            if mine is None:
                other = _one(connection, request.c.open_source_id == source_id)
                raise InventoryError(_taken(source_id, other))
        if mine.source_id != source_id or not mine.is_open:
            raise InventoryError(
                f"Cannot onboard {source_id}: run {request_id!r} was about {mine.source_id} and is {mine.state} -> a new run. A "
                "request is never opened again. Submit the form again."
            )
        return mine

    def propose(self, request_id: str, proposal: Mapping[str, Any]) -> Request:
        """*tx* requested: this is what would be built. Another one than before has to be shown anew. ConflictError when it was
        decided meanwhile about another one."""
        new = text_id(json_text(proposal))
        with self._database.write() as connection:
            waits = (request.c.request_id == request_id) & (request.c.state == "requested")
            changed = connection.execute(request.update().where(waits).values(proposal=dict(proposal), proposal_id=new))
            found = _required(connection, request_id)
            if not changed.rowcount and (not found.is_open or found.proposal != proposal):
                raise _not_now(found, "propose")
            return found

    def show(self, request_id: str) -> Request:
        """*tx* requested: somebody is shown what is proposed now."""
        with self._database.write() as connection:
            waits = (request.c.request_id == request_id) & (request.c.state == "requested") & request.c.proposal_id.is_not(None)
            changed = connection.execute(request.update().where(waits).values(shown_id=request.c.proposal_id))
            found = _required(connection, request_id)
            if not changed.rowcount and found.state != "approved":
                raise _not_now(found, "show")
            return found

    def decide(self, request_id: str, *, approved: bool, by: str, at: float | None = None) -> Request:
        """*tx* requested → approved, or rejected, about what was shown. Decided the same way already: as it stands. `at` is when
        (POSIX seconds), now if not given. ConflictError when it is another proposal by now, or decided otherwise."""
        state = "approved" if approved else "rejected"
        values = {"state": state, "decided_by": by, "decided_at": self._clock() if at is None else at}
        if not approved:
            values["open_source_id"] = None
        with self._database.write() as connection:
            waits = (
                (request.c.request_id == request_id) & (request.c.state == "requested")
                & (request.c.shown_id == request.c.proposal_id)
            )  # fmt: skip
            changed = connection.execute(request.update().where(waits).values(values))
            found = _required(connection, request_id)
            if not changed.rowcount and found.state != state:
                raise _not_now(found, "approve" if approved else "reject")
            return found

    def built(self, request_id: str) -> Request:
        """*tx* approved → built; the name is free for a later request. Built already: as it stands."""
        with self._database.write() as connection:
            mine = (request.c.request_id == request_id) & (request.c.state == "approved")
            values = {"state": "built", "open_source_id": None, "built_at": self._clock()}
            changed = connection.execute(request.update().where(mine).values(values))
            found = _required(connection, request_id)
            if not changed.rowcount and found.state != "built":
                raise _not_now(found, "build")
            return found


def _one(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Request | None:
    row = connection.execute(sa.select(request).where(where)).one_or_none()
    return None if row is None else _request(row)


def _required(connection: sa.Connection, request_id: str) -> Request:
    found = _one(connection, request.c.request_id == request_id)
    if found is None:
        raise InventoryError(
            f"Cannot find request {request_id!r}: none of this name -> one that was opened. It is made by the first task of its "
            "run. Submit the form again."
        )
    return found


def _request(row: Any) -> Request:
    return Request(
        row.request_id, row.source_id, cast(State, row.state), row.requested_by, row.requested_at, row.proposal,
        row.shown_id is not None and row.shown_id == row.proposal_id, row.decided_by, row.decided_at, row.built_at,
    )  # fmt: skip


def _taken(source_id: str, other: Request | None) -> str:
    who = f"run {other.request_id!r} of {other.requested_by} has it, {other.state}" if other else "another run had it just now"
    return f"Cannot onboard {source_id}: {who} -> one request for a name at a time. Answer or end that run first."


def _not_now(found: Request, verb: str) -> ConflictError:
    by = f" by {found.decided_by}" if found.decided_by else ""
    shown = "" if found.shown else ", and what is proposed now was not shown"
    return ConflictError(
        f"Cannot {verb} request {found.request_id!r} for {found.source_id}: it is {found.state}{by}{shown} -> another state. "
        "Somebody else was first, or the proposal changed. Look at its run."
    )
