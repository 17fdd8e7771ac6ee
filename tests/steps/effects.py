"""Every effect of a step goes through an edge. These proxies count the effects and can stop the world at any of them:
die there (nothing afterwards happens, not even cleaning up), or sleep there while somebody else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

EFFECTS = {
    "ledger.batches": {"claim", "adopt", "freeze", "hold", "abandon", "decide", "commit", "commit_unchanged", "renew"},
    "ledger.decisions": {"mark", "clear_marks", "clear_stale_marks"},
    "ledger.partitions": {"drop"},
    "ledger.directories": {"register", "forget"},
    "ledger.drift": {"observe", "observe_table", "record_ddl"},
    "ledger.holds": {"take", "ask", "failed", "reject", "decide", "suggest", "revoke"},
    "ledger.offsets": {"free_from"},
    "ledger.runs": {"record"},
    "ledger.maintenance": {"place", "move", "recolumn", "give_up", "learn", "done"},
    "ledger.dead_letters": {"begin_file", "discard", "unfold", "expire", "forget"},
    "lake": {"open_file", "link", "make_directory", "delete_directory"},
    "catalog": {"ensure_database", "create_table", "alter_table", "put_partitions", "drop_partitions"},
}
PARTS = ("batches", "decisions", "directories", "partitions", "drift", "holds", "maintenance", "offsets", "runs", "dead_letters")


class Killed(BaseException):
    """kill -9, as far as one process can play it: raised once, and by every later effect of the dead attempt."""


class Stage:
    """Counts effects; `at(n)` decides what happens before effect number n."""

    def __init__(self, at: Callable[[int, str], None]) -> None:
        self.count = 0
        self.names: list[str] = []
        self._at = at
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        with self._lock:
            number = self.count
            self.count += 1
            self.names.append(name)
        self._at(number, name)

    def wrap(self, name: str, edge: Any) -> Any:
        return Watched(self, name, edge)


class Watched:
    """An edge whose effects are announced before and after they happen."""

    def __init__(self, stage: Stage, name: str, edge: Any) -> None:
        self._stage, self._name, self._edge = stage, name, edge

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._edge, attribute)
        if self._name == "ledger" and attribute in PARTS:
            return Watched(self._stage, f"ledger.{attribute}", value)
        if attribute in EFFECTS.get(self._name, ()):
            return self._effect(attribute, value)
        return value

    def _effect(self, attribute: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._stage.reach(f"before {self._name}.{attribute}")
            result = call(*args, **kwargs)
            self._stage.reach(f"after {self._name}.{attribute}")
            if attribute == "open_file":
                return Watched(self._stage, "file", result)
            return result

        return watched


EFFECTS["file"] = {"write", "close"}


def die_at(number: int) -> Stage:
    """Dies before effect `number`, and stays dead."""

    def at(reached: int, name: str) -> None:
        if reached >= number:
            raise Killed(f"at {number}: {name}")

    return Stage(at)


def sleep_at(number: int, asleep: threading.Event, wake: threading.Event) -> Stage:
    """Stops before effect `number` until `wake`: a process under SIGSTOP."""

    def at(reached: int, name: str) -> None:
        if reached == number:
            asleep.set()
            if not wake.wait(60):
                raise TimeoutError("nobody woke the sleeper")

    return Stage(at)


def watch(look: Callable[[str], None]) -> Stage:
    """Calls `look` at every effect."""
    return Stage(lambda _, name: look(name))
