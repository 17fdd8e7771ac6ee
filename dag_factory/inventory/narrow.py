"""The combinations of one row that a table can end up with: the row alone, and the row with its `tables:` entries.

Which tables a source has is known at run time only, but which entries can come together is known from their globs: a
table that matches `public.orders` also gets what `public.*` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_dataops.core.spec import (
    ContractSpec,
    PipelineSpec,
    PrivacySpec,
    ReadSpec,
    Spec,
    StandardsSpec,
    TableEntry,
    TargetSpec,
    WriteSpec,
    is_glob,
)
from dag_factory.inventory import globs
from dag_factory.inventory.fields import as_json, part, validated
from dag_factory.inventory.merge import Tree, merged
from dag_factory.inventory.problem import Finding
from dag_factory.inventory.yaml_nodes import Node

PARTS: dict[str, type[Spec]] = {
    "read": ReadSpec,
    "write": WriteSpec,
    "target": TargetSpec,
    "contract": ContractSpec,
    "privacy": PrivacySpec,
    "standards": StandardsSpec,
}
"""What a `tables:` entry may override."""

_MOST_PAIRS = 20_000


@dataclass(frozen=True, slots=True)
class Combination:
    """What is said for some tables. `about` names them, "" for those that get the row as it is; `overridden` tells which entry had
    the last word. `table` is the one source table this is about, None when it may be several."""

    table: str | None
    about: str
    read: ReadSpec
    write: WriteSpec
    target: TargetSpec
    privacy: PrivacySpec
    overridden: dict[str, int]

    def field(self, path: str) -> str:
        """Where somebody has to edit: `read.mode`, or `tables[2].read.mode` when that entry had the last word."""
        entry = self.overridden.get(path.partition(".")[0])
        return path if entry is None else f"tables[{entry}].{path}"

    def field_of(self, *paths: str) -> str:
        """The first of these that an entry overrides, else the first."""
        return next((self.field(p) for p in paths if p.partition(".")[0] in self.overridden), paths[0])


def combinations(spec: PipelineSpec, trees: dict[str, Tree], entries: Sequence[Node]) -> Iterator[Combination]:
    """Every combination a table of this row can get. `trees` are the row's merged parts, `entries` its `tables:` as
    written; all of them valid."""
    matches = [entry.match if isinstance(entry, TableEntry) else entry for entry in spec.tables]
    overrides = [i for i, entry in enumerate(spec.tables) if isinstance(entry, TableEntry)]
    wide = [i for i in overrides if is_glob(matches[i])]
    named: dict[str, set[int]] = {}
    for i in overrides:
        named.setdefault(matches[i], set()).add(i)
    seen: set[frozenset[int]] = set()
    for glob in dict.fromkeys(matches):
        together = frozenset(named.get(glob, set()).union(i for i in wide if globs.covers(matches[i], glob)))
        if is_glob(glob) and together in seen:
            continue
        seen.add(together)
        yield _combined(spec, trees, entries, together, None if is_glob(glob) else glob)
    for i, j in itertools.islice(itertools.combinations(wide, 2), _MOST_PAIRS):
        together = frozenset((i, j))
        nested = globs.covers(matches[i], matches[j]) or globs.covers(matches[j], matches[i])
        if not nested and together not in seen and globs.meet(matches[i], matches[j]):
            seen.add(together)
            yield _combined(spec, trees, entries, together, None)


def _combined(
    spec: PipelineSpec, trees: dict[str, Tree], entries: Sequence[Node], together: frozenset[int], table: str | None
) -> Combination:
    parts: dict[str, Any] = {name: getattr(spec, name) for name in ("read", "write", "target", "privacy")}
    overridden: dict[str, int] = {}
    for name in parts:
        tree = trees[name]
        for index in sorted(together):
            said = entries[index].value.get(name)
            if said is not None and said.is_map:
                tree = merged(tree, said, f"tables[{index}]")
                overridden[name] = index
        if name in overridden:
            parts[name] = part(PARTS[name], as_json(tree))
    globs_ = [entries[index].value["match"].value for index in sorted(together)]
    about = f"for tables that match {' and '.join(repr(g) for g in globs_)}" if overridden else ""
    return Combination(table, about, overridden=overridden, **parts)


def entry_findings(node: Node, index: int, trees: dict[str, Tree]) -> Iterator[Finding]:
    """Wrong fields of one `tables:` entry (a map): each part is validated as it would stand over the row alone."""
    for key, child in node.value.items():
        if key not in PARTS or not child.is_map:
            continue
        tree = merged(trees[key], child, f"tables[{index}]")
        _, wrong = validated(PARTS[key], tree, f"`{key}`")
        written = set(_written(child))
        for finding in wrong:
            if finding.field.partition("[")[0] in written:
                yield Finding(f"tables[{index}].{key}.{finding.field}", finding.message)


def _written(node: Node, path: str = "") -> Iterator[str]:
    """Dotted paths of everything below a map, the map's own keys included."""
    for key, child in node.value.items():
        here = f"{path}.{key}" if path else key
        yield here
        if child.is_map:
            yield from _written(child, here)
