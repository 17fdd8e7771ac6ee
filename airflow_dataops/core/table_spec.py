"""Which tables a row takes, and what is said for each: the row narrowed to one table."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.spec import (
    ContractSpec,
    DeadLettersSpec,
    PipelineSpec,
    PrivacySpec,
    ReadSpec,
    Spec,
    StandardsSpec,
    TableEntry,
    TargetSpec,
    WriteSpec,
)

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What one table of a source shall become. `source_table` is the source's own name, `database.table` the target."""

    source_id: str
    source_table: str
    database: str
    table: str
    read: ReadSpec
    write: WriteSpec
    target: TargetSpec
    contract: ContractSpec
    privacy: PrivacySpec
    standards: StandardsSpec
    dead_letters: DeadLettersSpec
    timezone: str
    state_id: str | None = None
    row: PipelineSpec | None = field(default=None, repr=False, compare=False)

    @property
    def owner(self) -> str:
        return self.row.owner if self.row is not None else ""

    @property
    def spec_fingerprint(self) -> str:
        """The fingerprint of the row that speaks here: which version of it made a batch or a table."""
        return self.row.fingerprint if self.row is not None else ""

    @property
    def key(self) -> str:
        """The ledger's name of this table: `<source id>:<source table> -> <database>.<table>`. All state hangs on it; a row
        that is given another target begins anew there, and leaves the old table as it is. A renamed source goes on under
        the id that its state began with (`state_id`)."""
        return f"{self.state_id or self.source_id}:{self.source_table} -> {self.database}.{self.table}"

    @property
    def name(self) -> str:
        return f"{self.database}.{self.table}"


def is_selected(spec: PipelineSpec, source_table: str) -> bool:
    """Whether the row takes this table: some `tables` entry matches and no `exclude` does."""
    if any(fnmatch.fnmatchcase(source_table, glob) for glob in spec.exclude):
        return False
    return any(fnmatch.fnmatchcase(source_table, _glob_of(entry)) for entry in spec.tables)


def table_spec(spec: PipelineSpec, source_table: str, state_id: str | None = None) -> TableSpec:
    """The row narrowed to one table: every matching `tables` entry is laid over it, the last match wins per field. `state_id`
    is what the ledger says (`Sources.state_id`); only `key` depends on it."""
    parts: dict[str, Spec] = {
        "read": spec.read, "write": spec.write, "target": spec.target,
        "contract": spec.contract, "privacy": spec.privacy, "standards": spec.standards,
    }  # fmt: skip
    for entry in spec.tables:
        if isinstance(entry, TableEntry) and fnmatch.fnmatchcase(source_table, entry.match):
            for name in parts:
                override = getattr(entry, name)
                if override:
                    parts[name] = _laid_over(parts[name], override)
    target = parts["target"]
    if not isinstance(target, TargetSpec):
        raise InventoryError(f"Cannot resolve table {source_table}: target is {target!r} -> a TargetSpec.")
    bare = bare_name(source_table) if spec.kind == "sql" else source_table
    words = {"domain": spec.domain, "name": spec.name, "table": bare, "source_table": source_table}
    return TableSpec(
        source_id=spec.id,
        source_table=source_table,
        database=sanitise(fill(target.database, words)),
        table=sanitise(fill(target.table, words)),
        dead_letters=spec.dead_letters,
        timezone=spec.timezone,
        state_id=state_id,
        row=spec,
        **parts,  # type: ignore[arg-type]
    )


_WORD = re.compile(r"\{(\w+)\}", re.ASCII)
_LAST_PART = re.compile(r'(?:^|\.)(?:"((?:[^"]|"")*)"|([^".]*))\Z', re.DOTALL)


def bare_name(source_table: str) -> str:
    """The table's own name in a database's `schema.table`, where parts that hold dots or quotes stand in quotes."""
    found = _LAST_PART.search(source_table)
    if found is None:
        return source_table
    return found[1].replace('""', '"') if found[1] is not None else found[2]


def fill(template: str, words: dict[str, str]) -> str:
    """`{domain}`, `{name}`, `{table}`, `{source_table}` replaced, in one pass: a table called `{name}` keeps its name. Any other
    brace is plain text, never a format field."""
    return _WORD.sub(lambda found: words.get(found[1], found[0]), template)


def _glob_of(entry: str | TableEntry) -> str:
    return entry.match if isinstance(entry, TableEntry) else entry


def _laid_over(base: S, override: dict[str, Any]) -> S:
    """Maps merge deep, lists replace, null unsets (back to the field's built-in default)."""
    data = base.model_dump(by_alias=True)
    merged = _merge(data, override)
    return type(base).model_validate(merged)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merge(result[key], value)
        else:
            result[key] = value
    return result
