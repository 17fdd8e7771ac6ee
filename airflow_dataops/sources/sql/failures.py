"""Words for what went wrong, the same for all databases, with no secret in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError

ADVICE = {
    "no_table": "Check the name, and that the connection's user may see it.",
    "denied": "Grant the connection's user SELECT on it (and USAGE on its schema), or exclude it.",
    "login": "Check login, password and database name of the connection.",
    "query": "Correct `read.query`, or the view it reads.",
    "tls": "The server's certificate is verified unless it is local. Name its authority in the connection's extra, or choose "
    "a weaker mode there on purpose.",
    "driver": "Check the connection's host, port and extra.",
}


_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|\([^)]*\)=\([^)]*\)")


def unavailable(place: str, doing: str, found: str) -> UnavailableError:
    """The database did not answer, or ended the connection: worth a retry."""
    return UnavailableError(f"Cannot {doing} {place}: {found} -> an answer. It is tried again.")


def changed(place: str, doing: str, found: str) -> ConflictError:
    """The table is no longer as it was described a moment ago."""
    return ConflictError(
        f"Cannot {doing} {place}: {found} -> the columns just described. The table was changed meanwhile; it is tried again."
    )


def inventory(place: str, doing: str, found: str, expected: str, advice: str) -> InventoryError:
    return InventoryError(f"Cannot {doing} {place}: {found} -> {expected}. {ADVICE[advice]}")


def first_line(error: BaseException, secrets: Iterable[str | None], *, may_quote_values: bool = False) -> str:
    """The driver's own words, on one line and without credentials in any of their spellings. `may_quote_values`: the error
    is about data, and what stands in quotes may be somebody's; it is left out."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        if secret:
            spellings = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
            for spelling in sorted(spellings, key=len, reverse=True):
                text = text.replace(spelling, "***")
    text = text.partition(" Query was: ")[0]
    if may_quote_values:
        text = _QUOTED.sub("…", text)
    return text[:500].rstrip(".")


def install_hint(package: str, extra: str) -> InventoryError:
    return InventoryError(
        f"Cannot open a database: the Python package {package} is not installed -> installed. "
        f"Install it with: pip install 'airflow-dataops[{extra}]'."
    )
