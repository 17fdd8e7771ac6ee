"""The row one could begin with, given the tables of a source: what `dataops discover` shows and `dataops_onboard` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_dataops.core.spec import PipelineSpec, SourceSpec, TableEntry
from airflow_dataops.core.table_spec import is_selected, table_spec
from dag_factory.inventory.merge import Leaf, Tree
from dag_factory.inventory.yaml_nodes import plain

if TYPE_CHECKING:
    from airflow_dataops.core.schema import TableSchema

_DATING = ("updated_at", "modified_at", "last_modified", "changed_at", "last_update", "updated", "modified")


class FoundTable(Protocol):
    """A table as its source declares it (`sources.base.SourceTable`)."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> TableSchema: ...

    @property
    def rows_estimate(self) -> int | None: ...


def proposed_row(tree: Tree, spec: PipelineSpec, tables: Sequence[FoundTable]) -> dict[str, Any]:
    """The row as written (`tree`), with an entry for each table that it takes and that could be read by what is new: it has
    keys and a column that dates changes. What the row says of a table itself stays; the same proposal comes out of what was
    proposed. What it must have to stand anywhere (kind, connection, options, owner) is in it even where it was inherited.
    `spec` is the resolved row, `tables` are those of the source to look at."""
    written = _written(tree)
    needed = {"name": spec.name, "kind": spec.kind, "conn_id": spec.conn_id, "options": dict(spec.options), "owner": spec.owner}
    row = {**written, **{name: value for name, value in needed.items() if value}}
    entries = list(written.get("tables", ["*"]))
    told = {entry.match for entry in spec.tables if isinstance(entry, TableEntry)}
    for table in tables:
        name = literal_glob(table.name)
        if spec.kind != "sql" or not is_selected(spec, table.name) or not table.schema.keys or {name, table.name} & told:
            continue
        now = table_spec(spec, table.name)
        cursor = _cursor_of(table)
        if cursor is not None and now.read.mode == "full" and now.write.mode == "overwrite_partition":
            entry = {
                "match": name,
                "read": {"mode": "watermark", "cursor": cursor},
                "write": {"mode": "merge", "keys": list(table.schema.keys)},
            }
            entries.append(entry)
    row["tables"] = entries
    return {name: row[name] for name in SourceSpec.model_fields if name in row}


def _written(tree: Tree) -> dict[str, Any]:
    """What a row says itself, without what it inherits."""
    result: dict[str, Any] = {}
    for key, child in tree.items():
        if isinstance(child, Leaf):
            if child.origin.layer == "row":
                result[key] = plain(child.node)
        elif inner := _written(child):
            result[key] = inner
    return result


def literal_glob(name: str) -> str:
    """A glob that matches exactly this name."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _cursor_of(table: FoundTable) -> str | None:
    """A column whose name says that it dates the last change, and whose type can."""
    for wanted in _DATING:
        for column in table.schema:
            if column.name.lower() == wanted and str(column.type).startswith("timestamp"):
                return column.name
    return None
