"""When a component that ended by itself is started again, as container engines do: after a pause that grows, and not for ever."""

from __future__ import annotations

import signal
from collections.abc import Sequence

FIRST_PAUSE_SECONDS = 1.0
MOST_RESTARTS = 5
WITHIN_SECONDS = 600.0
"""Ends that are longer ago do not count: what ran for so long is sound."""


def plan_restart(ends: Sequence[float], most: int = MOST_RESTARTS) -> float | None:
    """Seconds to wait before the next start, or None: it is left alone. `ends` are the moments (seconds) at which the component
    ended by itself, this one last."""
    recent = sum(end > ends[-1] - WITHIN_SECONDS for end in ends)
    return None if recent > most else FIRST_PAUSE_SECONDS * 2 ** (recent - 1)


def code_text(code: int) -> str:
    """How a process ended, with the signal's name: -11 → `-11 (SIGSEGV)`."""
    try:
        return f"{code} ({signal.Signals(-code).name})" if code < 0 else str(code)
    except ValueError:  # a real-time signal has a number only
        return str(code)
