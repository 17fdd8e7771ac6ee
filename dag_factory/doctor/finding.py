"""What a rule says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dag_factory.doctor.facts import Facts

Severity = Literal["error", "down", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "down", "warning", "note")
"""error: it will not work for so many rows · down: a system did not answer · warning: it works badly or is not safe · note."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `subject` is what to change: an option as `[section] name`, or a system."""

    rule: str
    severity: Severity
    subject: str
    found: str
    expected: str
    why: str
    fix: str

    @property
    def message(self) -> str:
        return f"{self.subject}: {self.found} -> {self.expected}. {self.why} {self.fix}"

    def to_json(self) -> dict[str, Any]:
        return {
            "severity": self.severity, "code": self.rule, "message": self.message, "subject": self.subject, "found": self.found,
            "expected": self.expected, "why": self.why, "fix": self.fix,
        }  # fmt: skip


Rule = Callable[[Facts], Iterator[Finding]]
"""Pure: the same facts give the same findings."""


def named(option: str) -> str:
    """`section.name` as it stands in airflow.cfg."""
    section, _, name = option.rpartition(".")
    return f"[{section}] {name}"


def variable(option: str) -> str:
    """The environment variable of `section.name`."""
    section, _, name = option.rpartition(".")
    return f"AIRFLOW__{section.upper()}__{name.upper()}"


def about(option: str, severity: Severity, found: str, expected: str, why: str, *, value: str = "", where: str = "") -> Finding:
    """A finding about an option. `value` is what to set it to, `where` the components that read it (all without)."""
    fix = f"Set {variable(option)}={value or '...'} for {where or 'all components'}."
    return Finding(option, severity, named(option), found or "not set", expected, why, fix)


def words_of(error: BaseException) -> str:
    """A foreign error without its text, which may quote an address with its password."""
    return f"package {error.name} is not installed" if isinstance(error, ImportError) and error.name else type(error).__name__
