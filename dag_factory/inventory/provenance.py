"""Where each value of a resolved row came from: what `dataops explain` shows."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import BaseModel

from airflow_dataops.core.options import OPTION_MODELS
from airflow_dataops.core.spec import SourceSpec, Spec
from dag_factory.inventory.merge import BUILT_IN, Leaf, Origin, Tree, leaves, merged
from dag_factory.inventory.narrow import PARTS
from dag_factory.inventory.row import Row, entries_of
from dag_factory.inventory.secret_text import hidden, shown_path
from dag_factory.inventory.yaml_nodes import plain


@dataclass(frozen=True, slots=True)
class Explained:
    """One field of a resolved row: its dotted name, its value (credentials hidden) and where that was written."""

    field: str
    value: Any
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        o = self.origin
        return {"field": self.field, "value": self.value, "origin": o.layer, "file": o.file or None, "line": o.line or None}


def explained(row: Row, source_table: str | None = None) -> tuple[Explained, ...]:
    """Every field in the order of the contract. With `source_table` the row as that table gets it, its `tables:` entries
    laid over. Works for rows with problems too: what was written stands beside the built-in rest."""
    tree = row.tree if source_table is None else narrowed(row, source_table)
    options = OPTION_MODELS.get(_kind(tree))
    built_in = dict(_built_in(SourceSpec))
    if options is not None:
        built_in |= {f"options.{name}": value for name, value in _built_in(options)}
    written = dict(leaves(tree))
    names = [*built_in, *(name for name in written if name not in built_in)]
    names.sort(key=lambda name: _ORDER.get(name.partition(".")[0], len(_ORDER)))
    return tuple(_explained(name, written.get(name), built_in) for name in names if not _has_more(name, names))


def narrowed(row: Row, source_table: str) -> Tree:
    """The row's tree with every entry of `tables:` that matches laid over it, in their order."""
    tree = row.tree
    for node in entries_of(row.tree):
        match = node.value.get("match") if node.is_map else None
        if match is not None and isinstance(match.value, str) and fnmatch.fnmatchcase(source_table, match.value):
            for part in PARTS:
                said = node.value.get(part)
                if said is not None and said.is_map:
                    below = tree.get(part, {})
                    tree = {**tree, part: merged(below if isinstance(below, dict) else {}, said, f"tables[{match.value}]")}
    return tree


def _explained(name: str, leaf: Leaf | None, built_in: dict[str, Any]) -> Explained:
    if leaf is None:
        return Explained(name, hidden(built_in[name], name), BUILT_IN)
    if leaf.node.value is None:
        unset = Origin("built-in, unset by " + leaf.origin.layer, leaf.origin.file, leaf.origin.line)
        return Explained(shown_path(name), hidden(built_in.get(name), name), unset)
    return Explained(shown_path(name), hidden(plain(leaf.node), name), leaf.origin)


def _built_in(model: type[Spec], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        dotted = f"{path}{field.alias or name}"
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from _built_in(type(value), f"{dotted}.")  # type: ignore[arg-type]
        elif isinstance(value, date):
            yield dotted, value.isoformat()
        else:
            yield dotted, list(value) if isinstance(value, tuple) else value


def _has_more(name: str, names: list[str]) -> bool:
    """An empty map of the built-in row (`options`, `privacy.columns`) says nothing beside what is in it."""
    return any(other.startswith(f"{name}.") for other in names)


def _kind(tree: Tree) -> str:
    leaf = tree.get("kind")
    return str(leaf.node.value) if isinstance(leaf, Leaf) else ""


_ORDER = {field.alias or name: index for index, (name, field) in enumerate(SourceSpec.model_fields.items())}
