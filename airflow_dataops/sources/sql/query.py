"""`read.query`: one SELECT that stands for a table."""

from __future__ import annotations

import re

from airflow_dataops.core.errors import InventoryError

# What may hold a semicolon without ending a statement. Databases differ in detail (backslashes, nesting); where this is
# wrong, it is refused too much or the driver refuses it: no driver here runs two statements, or writes (read only).
_QUIET = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|\$((?:[A-Za-z_]\w*)?)\$.*?\$\1\$", re.DOTALL)


def check_query(query: str) -> str:
    """The SELECT without a final semicolon. InventoryError for an empty one or more than one statement."""
    text = query.strip()
    while text.endswith(";"):
        text = text[:-1].rstrip()
    if not text:
        raise InventoryError("Cannot use read.query: it is empty -> one SELECT. Write the SELECT, or remove `read.query`.")
    if "\0" in text or ";" in _QUIET.sub("''", text):
        raise InventoryError(
            "Cannot use read.query: more than one statement -> one SELECT. It is read as a subquery in a read-only "
            "transaction. Remove what follows the semicolon."
        )
    return text
