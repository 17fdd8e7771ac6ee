"""Values → YAML text that the inventory's own reader reads back to the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*\Z")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
# JSON leaves them as they are; YAML takes them only as escapes, or reads some of them as line ends.
_UNWELCOME = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def flow(value: Any) -> str:
    """A value in YAML's flow style; text is quoted as JSON unless nobody could read it as anything else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(str(k))}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    if isinstance(value, str) and _BARE.match(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # an exponent means different things to YAML readers
    return _UNWELCOME.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def list_item(row: Mapping[str, Any], indent: int = 2) -> list[str]:
    """A map as lines of an item of a block list: a field per line, and a list that holds maps an entry per line."""
    lines: list[str] = []
    for name, value in row.items():
        lead = " " * indent + ("  " if lines else "- ")
        if isinstance(value, list | tuple) and any(isinstance(entry, dict) for entry in value):
            lines.append(f"{lead}{flow(name)}:")
            lines += [f"{' ' * (indent + 4)}- {flow(entry)}" for entry in value]
        else:
            lines.append(f"{lead}{flow(name)}: {flow(value)}")
    return lines
