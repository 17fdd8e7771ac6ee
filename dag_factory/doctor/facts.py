"""What the rules look at: plain data, without a secret in it. Made by `gather`, or written down in a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

State = Literal["good", "down", "wrong", "unasked"]
"""good: it answered · down: it did not · wrong: it answered, or the setting says, that it cannot be used so · unasked."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Place:
    """An outside system: its kind (`postgresql`, `sqlite`, `file`, `s3`, `redis`, … "" when none is set), its address without
    login, how it answered and with which words. `encrypted` is None where that does not apply or is not known."""

    kind: str = ""
    address: str = ""
    host: str = ""
    state: State = "unasked"
    said: str = ""
    encrypted: bool | None = None
    password: bool = True

    @property
    def is_file(self) -> bool:
        return self.kind in ("file", "sqlite")

    @property
    def is_here(self) -> bool:
        """On this machine, or with no host at all."""
        return self.host in ("", "localhost", "::1") or self.host.startswith("127.")


@dataclass(frozen=True, slots=True)
class Bundle:
    """One entry of `dag_bundle_config_list`. What follows `ours` is known of an InventoryBundle only."""

    name: str
    classpath: str
    ours: bool = False
    inventory: str = field(default="", repr=False)
    shards: int = 256
    refresh_seconds: int | None = None
    snapshots: Place = Place()


@dataclass(frozen=True, slots=True)
class Facts:
    """One installation as seen from one process of it. `rows` is the number of rows to judge it for.

    `options`: `section.option` → text, of everything that is not sensitive. `given`: the sensitive options that somebody has set.
    `pools`: name → slots as Airflow has them, None when it was not asked. `ledger_revision`: `current`, `absent` (no tables
    yet), `other` (another version of this product), or "" when not known.
    """

    rows: int
    options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    given: frozenset[str] = frozenset()
    cores: int = 1
    bundles: tuple[Bundle, ...] = ()
    bundle_error: str = ""
    loader_files: tuple[str, ...] = ()
    database: Place = Place()
    max_connections: int | None = None
    broker: Place = Place()
    api: Place = Place()
    ledger: Place = Place()
    ledger_revision: str = ""
    ledger_is_airflows: bool = False
    lakes: Mapping[str, Place] = field(default_factory=lambda: _EMPTY)
    dead_letters: Place = Place()
    pools: Mapping[str, int] | None = None
    pools_named: frozenset[str] = frozenset()
    most_packs: int = 1
    longest_timeout_seconds: int = 21_600
    dead_after_seconds: int = 86_400
    unverified: tuple[str, ...] = ()
    airflow_error: str = ""
    provider: bool = True
    plugin: bool = True
    timetable: bool = True
    versions: Mapping[str, str] = field(default_factory=lambda: _EMPTY)

    @property
    def distributed(self) -> bool:
        """Whether tasks run on other machines than the scheduler."""
        return any(name in self.executor for name in ("Celery", "Kubernetes", "Batch", "Ecs", "Edge"))

    @property
    def celery(self) -> bool:
        return "Celery" in self.executor

    @property
    def executor(self) -> str:
        return self.options.get("core.executor", "LocalExecutor")

    @property
    def ours(self) -> tuple[Bundle, ...]:
        return tuple(bundle for bundle in self.bundles if bundle.ours)

    def number(self, option: str) -> float | None:
        """The option as a number; None when it is not set or none."""
        try:
            return float(self.options[option])
        except (KeyError, ValueError):
            return None

    def true(self, option: str) -> bool:
        """Whether the option is set to what Airflow takes for yes."""
        return self.options.get(option, "").strip().lower() in ("true", "t", "1", "yes", "y", "on")
