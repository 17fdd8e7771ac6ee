"""Questions to outside systems, each with an end: nobody waits longer than `ANSWER_SECONDS` for all of them together.

Nothing is written anywhere: the ledger is not created or migrated, lake and snapshots are only listed. What is said of a failure is
our own message, or the name of a foreign error; the text of a foreign one may quote an address with its password.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from airflow_dataops.core.errors import DataOpsError, InventoryError
from dag_factory.doctor.facts import Place

ANSWER_SECONDS = 12
_CONNECT_SECONDS = 5
_PORTS = {"redis": 6379, "rediss": 6379, "sentinel": 26379, "amqp": 5672, "amqps": 5671, "http": 80, "https": 443}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}
_ENCRYPTED = {"redis": False, "rediss": True, "amqp": False, "amqps": True, "http": False, "https": True}
_SSLMODES = {"disable": False, "allow": False, "prefer": False, "require": True, "verify-ca": True, "verify-full": True}

Probe = Callable[[], object]


def place_of(url: str) -> Place:
    """What an address says of itself. Login and options are left out; an address that cannot be read is `wrong`."""
    if not url:
        return Place()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return _UNREADABLE
    if "@" in parts.path + parts.query + parts.fragment:  # part of a password: what follows it would be shown
        return _UNREADABLE
    kind = parts.scheme
    if not kind or kind == "file":
        return Place("file", url)
    where = f"[{host}]" if ":" in host else host
    address = f"{kind}://{where}{f':{port}' if port else ''}{parts.path}"
    return Place(kind, address, host, encrypted=_ENCRYPTED.get(kind), password=parts.password is not None)


def database_of(url: str) -> Place:
    """The same of an SQLAlchemy URL, read as SQLAlchemy reads it: it takes passwords that are no good in other URLs."""
    if not url:
        return Place()
    try:
        parts = sa.make_url(url)
    except (ArgumentError, ValueError):
        return _UNREADABLE
    kind = "postgresql" if parts.drivername == "postgres" else parts.get_backend_name()
    if kind == "sqlite":
        return Place(kind, f"sqlite:///{parts.database or ''}")
    host = parts.host or ""
    port = f":{parts.port}" if parts.port else ""
    mode = parts.query.get("sslmode", "prefer")
    encrypted = _SSLMODES.get(mode if isinstance(mode, str) else mode[-1]) if kind == "postgresql" else None
    return Place(kind, f"{kind}://{host}{port}/{parts.database or ''}", host, encrypted=encrypted)


_UNREADABLE = Place("unknown", "an address that cannot be read", state="wrong", said="special characters of a password are %XX")


def asked(places: Mapping[str, tuple[Place, Probe]]) -> dict[str, Place]:
    """Each place with how its probe went; all of them at once. A probe that returns has been answered. A place that is wrong
    already is not asked."""
    answers: dict[str, Place] = {}

    def ask(name: str, place: Place, probe: Probe) -> None:
        try:
            probe()
            answers[name] = replace(place, state="good")
        except ImportError as error:
            answers[name] = replace(place, state="wrong", said=f"package {error.name} is not installed")
        except InventoryError as error:
            answers[name] = replace(place, state="wrong", said=str(error))
        except DataOpsError as error:
            answers[name] = replace(place, state="down", said=str(error))
        except Exception as error:  # noqa: BLE001 - of whatever library; it becomes a finding
            answers[name] = replace(place, state="down", said=type(error).__name__)

    # Daemons: a library that waits for ever must not keep the command from ending.
    threads = [
        threading.Thread(target=ask, args=(name, place, probe), daemon=True)
        for name, (place, probe) in places.items()
        if place.state != "wrong"
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = f"no answer in {ANSWER_SECONDS} seconds"
    return {
        name: answers.get(name, place if place.state == "wrong" else replace(place, state="down", said=silent))
        for name, (place, _) in places.items()
    }


def same_database(first: str, second: str) -> bool:
    """Whether both URLs mean one database. An address that cannot be read is nobody's."""
    return _identity(first) is not None and _identity(first) == _identity(second)


def _identity(url: str) -> tuple[object, ...] | None:
    place = database_of(url)
    if place.state == "wrong" or not place.kind:
        return None
    parts = sa.make_url(url)
    return place.kind, place.host, parts.port or _DATABASE_PORTS.get(place.kind), parts.database


def connects(url: str) -> None:
    """Something listens at the host and port of the URL; of several, separated by `;`, at the first. A kind of address that names
    no host (a cloud's queue) is not asked."""
    parts = urlsplit(url.split(";")[0])
    port = parts.port or _PORTS.get(parts.scheme)
    if parts.hostname and port:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
