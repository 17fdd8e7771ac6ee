"""Whether the database of the sample's Airflow is as this Airflow needs it: a file beside it names the version that migrated it."""

from __future__ import annotations

import contextlib
import sqlite3
from importlib.metadata import version
from pathlib import Path

COMMAND = ("db", "migrate")


def path(home: Path) -> Path:
    return home / "airflow.db"


def is_current(home: Path) -> bool:
    stamp = _stamp(home)
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _version()


def create(home: Path) -> None:
    """An empty database, or the one that is there, whose readers and one writer do not stop each other."""
    with contextlib.closing(sqlite3.connect(path(home))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def note_current(home: Path) -> None:
    """After `COMMAND` has ended well."""
    _stamp(home).write_text(_version(), encoding="utf-8")


def _stamp(home: Path) -> Path:
    return home / "migrated"


def _version() -> str:
    return f"{version('apache-airflow-core')}\n"
