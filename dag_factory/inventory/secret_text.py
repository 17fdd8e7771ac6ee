"""Recognises what looks like a credential. An inventory lives in git: secrets belong into Airflow connections.

Nothing here returns or logs the text it found; `shown` is the one way a value of an inventory gets into a message.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from dag_factory.inventory.yaml_nodes import Node, joined

HIDDEN = "***"

_KEY = re.compile(
    r"pass(word|wd|phrase|code)|secret|credential|(private|api|access|account|signing)[_\- ]?key|connection[_\-]?string$|tokens?$"
    r"|(^|[_\-. ])(pwd|pw|pass|auth|authorization|bearer|dsn|sas)$",
    re.IGNORECASE,
)
# No open-ended repetition that is followed by something: a hostile text must not make the search slow.
_VALUES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(r"-----BEGIN [A-Z0-9 ]{0,64}PRIVATE KEY")),
    # Digits and a slash behind the colon are a port; any other slash may stand in a password that nobody encoded.
    (
        "an address with a password in it",
        re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.\-]{0,40}://[^\s/@:]{0,256}:(?!\d{1,5}/)[^\s@]{1,256}@"),
    ),
    (
        "an address with a token in it",
        re.compile(r"://(?=[^\s/@:]{0,256}\d)(?=[^\s/@:]{0,256}[A-Za-z])[^\s/@:]{20,256}@|://hooks\.slack\.com/services/\w"),
    ),
    ("an AWS access key", re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_\-]{16,}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_\-]{30,}")),
    ("an API key", re.compile(r"\b([sprk]k[-_](live|test|proj|ant)[-_][A-Za-z0-9_\-]{10,}|sk-[A-Za-z0-9]{32,}|dapi[0-9a-f]{32})")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_\-]{8,512}\.eyJ[A-Za-z0-9_\-]{8,512}\.")),
    ("an authorization header", re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/=_\-.]{16,}")),
    ("a shared access signature", re.compile(r"[?&](sig|X-Amz-Signature)=[A-Za-z0-9%+/=]{16,}")),
    (
        "a password",
        re.compile(
            r"(?i)(password|passwd|pwd|passphrase|secret|token|(api|access|account|private)_?key)['\"]?"
            r"((\s{0,8}=\s{0,8}|:)['\"]?[^\s'\";,&]{4,}"
            # Behind a colon and a space only what no sentence goes on with: `password: see the vault` is none.
            r"|\s{0,8}:\s{1,8}(['\"][^\s'\"]{4,}['\"]|(?=\S{0,256}\d)(?=\S{0,256}[a-z])[^\s'\";,&]{8,}))"
        ),
    ),
)


# Something of every pattern above: a text without any of it need not be searched thirteen times.
_HINT = re.compile(r"[:=]|BEGIN|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox|AIza|[sprk]k[-_]|dapi|eyJ|Bearer|Basic")
_KNOWN_NAMES = 65_536
"""Names of fields are few and come again in every row, so what is said of them is kept. Values never are."""


@lru_cache(_KNOWN_NAMES)
def is_secret_key(key: str) -> bool:
    """Whether a field of this name would hold a credential."""
    return _KEY.search(key) is not None


def secret_kind(value: Any, *, is_query: bool = False) -> str | None:
    """What the text looks like (`a private key`), or None. In SQL, `token = 'abc'` is a condition and no credential."""
    if not isinstance(value, str) or len(value) < 8 or _HINT.search(value) is None:
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


def secrets_in(node: Node, path: str = "") -> list[tuple[str, int, str]]:
    """(dotted path, line, what it looks like) of every credential below a node, in order."""
    found: list[tuple[str, int, str]] = []
    _search(node, path, found)
    return found


def _search(node: Node, path: str, found: list[tuple[str, int, str]]) -> None:
    value = node.value
    if isinstance(value, dict):
        for key, child in value.items():
            here = f"{path}.{key}" if path else key
            kind, is_place = name_tells(key, here)
            if kind:
                found.append((joined(path, HIDDEN), child.line, kind))
            elif is_place and _holds_text(child):
                found.append((here, child.line, "a credential, by its name"))
            else:
                _search(child, here, found)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _search(child, f"{path}[{index}]", found)
    elif isinstance(value, str) and (kind := secret_kind(value, is_query=path.endswith(".query"))):
        found.append((path, node.line, kind))


@lru_cache(_KNOWN_NAMES)
def name_tells(key: str, path: str) -> tuple[str | None, bool]:
    """(what a key itself looks like, whether its dotted path is a place for a credential)."""
    return secret_kind(key), is_secret_place(path)


@lru_cache(_KNOWN_NAMES)
def is_secret_place(path: str) -> bool:
    """Whether a dotted path is, or lies in, a field that would hold a credential. Keys of `privacy.columns` are the source's
    columns: `{password: drop}` is exactly right."""
    fields = path.partition("privacy.columns.")[0]
    return any(is_secret_key(part) for part in re.split(r"[.\[\]]+", fields) if part)


def shown_path(path: str) -> str:
    """A dotted path as a message may show it: without a credential that somebody wrote as a key."""
    return HIDDEN if secret_kind(path) else path


def _holds_text(node: Node) -> bool:
    """A flag (`secret: true`) or nothing at all gives nothing away; text, numbers and anything nested may."""
    return not (node.value is None or isinstance(node.value, bool) or node.value in ("", [], {}))


def shown(value: Any, path: str = "") -> str:
    """A value as a message may show it: short, in one line, and never a credential."""
    if is_secret_place(path) or _has_secret(value):
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
    if secret_kind(path) or (is_secret_place(path) and not isinstance(value, bool | type(None))):
        return HIDDEN
    if isinstance(value, dict):
        return {(HIDDEN if secret_kind(k) else k): hidden(v, joined(path, str(k))) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(v, path) for v in value]
    return HIDDEN if secret_kind(value, is_query=path.endswith(".query")) else value


def _has_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(secret_kind(k) or _has_secret(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return any(_has_secret(v) for v in value)
    return secret_kind(value) is not None
