"""Recognises what looks like a credential. An inventory lives in git: secrets belong into Airflow connections.

Nothing here returns or logs the text it found; `shown` is the one way a value of an inventory gets into a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dag_factory.inventory.yaml_nodes import Node, joined

HIDDEN = "***"

_KEY = re.compile(
    r"pass(word|wd|phrase)|secret|credential|(private|api|access|account)_?key"
    r"|(^|[_\-.])(pwd|pass|tokens?|auth|authorization|bearer|connection_?string|dsn|sas)$",
    re.IGNORECASE,
)
_VALUES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")),
    ("an address with a password in it", re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.\-]*://[^\s/@:]*:[^\s/@]+@")),
    ("an AWS access key", re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_\-]{16,}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_\-]{30,}")),
    ("an API key", re.compile(r"\b[sprk]k[-_](live|test|proj|ant)[-_][A-Za-z0-9_\-]{10,}")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.")),
    ("an authorization header", re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/=_\-.]{16,}")),
    ("a shared access signature", re.compile(r"[?&](sig|X-Amz-Signature)=[A-Za-z0-9%+/=]{16,}")),
    (
        "a password",
        re.compile(r"(?i)(password|passwd|pwd|secret|token|(api|access|account)_?key)(\s*=\s*|:)['\"]?[^\s'\";,&]{4,}"),
    ),
)


def is_secret_key(key: str) -> bool:
    """Whether a field of this name would hold a credential."""
    return _KEY.search(key) is not None


def secret_kind(value: Any, *, is_query: bool = False) -> str | None:
    """What the text looks like (`a private key`), or None. In SQL, `token = 'abc'` is a condition and no credential."""
    if not isinstance(value, str) or len(value) < 8:
        return None
    return next((n for n, p in _VALUES if p.search(value) and not (is_query and n == "a password")), None)


def scrubbed(text: str) -> str:
    """The text with everything that looks like a credential replaced by `***`."""
    for name, pattern in _VALUES:
        if name != "a password":  # that one is about words (`password: …`) that messages themselves use
            text = pattern.sub(HIDDEN, text)
    return text


def secret_message(kind: str) -> str:
    """What to tell about a credential that stands in an inventory."""
    return (
        f"holds {kind}. Credentials only ever come through an Airflow connection (`conn_id`). Remove it here, and change "
        "it: it is in the history"
    )


def secrets_in(node: Node, path: str = "") -> Iterator[tuple[str, int, str]]:
    """(dotted path, line, what it looks like) of every credential below a node."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            here = joined(path, key)
            if is_secret_key(key) and _holds_text(child) and not _names_columns(path):
                yield here, child.line, "a credential, by its name"
            elif kind := secret_kind(key):
                yield joined(path, HIDDEN), child.line, kind
            else:
                yield from secrets_in(child, here)
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from secrets_in(child, f"{path}[{index}]")
    elif kind := secret_kind(node.value, is_query=path.endswith(".query")):
        yield path, node.line, kind


def _names_columns(path: str) -> bool:
    """Keys of this map are the source's columns: `privacy.columns: {password: drop}` is exactly right."""
    return path.endswith("privacy.columns")


def _holds_text(node: Node) -> bool:
    """A flag (`secret: true`) or nothing at all gives nothing away; text, numbers and anything nested may."""
    return not (node.value is None or isinstance(node.value, bool) or node.value in ("", [], {}))


def shown(value: Any, path: str = "") -> str:
    """A value as a message may show it: short, in one line, and never a credential."""
    parts = [part for part in re.split(r"[.\[\]]+", path) if part]
    if (any(is_secret_key(part) for part in parts) and "privacy" not in parts) or _has_secret(value):
        return HIDDEN
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"


def hidden(value: Any, path: str = "") -> Any:
    """The same data with every credential replaced by `***`, for `explain` and JSON."""
    owner, _, key = path.rpartition(".")
    if is_secret_key(key) and not _names_columns(owner) and not isinstance(value, bool | type(None)):
        return HIDDEN
    if isinstance(value, dict):
        return {(HIDDEN if secret_kind(k) else k): hidden(v, joined(path, str(k))) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(v, path) for v in value]
    return HIDDEN if secret_kind(value, is_query=key == "query") else value


def _has_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(secret_kind(k) or _has_secret(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return any(_has_secret(v) for v in value)
    return secret_kind(value) is not None
