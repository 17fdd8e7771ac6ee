"""Layers of an inventory laid over each other, every value keeping the place it came from.

Order: built-in < `platform.yaml` (standards only) < `defaults.yaml` < the file's `defaults:` < the row < a `tables:`
entry. Maps merge deep, lists replace, null unsets (back to the built-in default).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Union

from dag_factory.inventory.yaml_nodes import Node, joined, plain


class Origin(NamedTuple):
    """Where a value was written. `layer` is `built-in`, `platform.yaml`, `defaults.yaml`, `defaults`, `row` or
    `tables[<match>]`; built-in values have no file."""

    layer: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.layer} ({self.file}:{self.line})" if self.file else self.layer


BUILT_IN = Origin("built-in")


class Leaf(NamedTuple):
    """A value that is not a map (lists are values). `node.value is None` unsets what lower layers said."""

    node: Node
    origin: Origin


Tree = dict[str, Union["Tree", Leaf]]


def merged(below: Tree, over: Node, layer: str) -> Tree:
    """`over` (a map) laid over `below`, which stays as it is."""
    result: Tree = dict(below)
    for key, child in over.value.items():
        under = result.get(key)
        if child.is_map:
            result[key] = merged(under if isinstance(under, dict) else {}, child, layer)
        else:
            result[key] = Leaf(child, Origin(layer, child.file, child.line))
    return result


def plain_tree(tree: Tree) -> dict[str, Any]:
    """The data that is validated: unset values are absent, so that the built-in default counts."""
    result: dict[str, Any] = {}
    for key, child in tree.items():
        if isinstance(child, dict):
            result[key] = plain_tree(child)
        elif child.node.value is not None:
            result[key] = plain(child.node)
    return result


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """(dotted path, leaf) of everything written, unset values included."""
    for key, child in tree.items():
        if isinstance(child, dict):
            yield from leaves(child, joined(path, key))
        else:
            yield joined(path, key), child


def without(tree: Tree, paths: Collection[str]) -> Tree:
    """The tree without the values at these dotted paths; a path into a list takes the whole list."""
    result: Tree = {}
    for key, child in tree.items():
        below = [p.removeprefix(f"{key}.") for p in paths if p.startswith(f"{key}.")]
        if key in paths or any(p.startswith(f"{key}[") for p in paths):
            continue
        result[key] = without(child, below) if isinstance(child, dict) and below else child
    return result


def origin_of(tree: Tree, path: str) -> Origin | None:
    """Where the value at a dotted path (`read.mode`, `tables[1].read.cursor`) was written; None when nowhere. For a
    path whose end nobody wrote, the nearest written thing above it."""
    at: Tree | Leaf | Node = tree
    found: Origin | None = None
    for part in _parts(path):
        if isinstance(at, dict):
            step: Tree | Leaf | Node | None = at.get(str(part))
        else:
            node = at.node if isinstance(at, Leaf) else at
            step = _inside(node, part)
        if step is None:
            break
        at = step
        if isinstance(at, Leaf):
            found = at.origin
        elif isinstance(at, Node):
            found = Origin(found.layer if found else "row", at.file, at.line)
    if isinstance(at, dict) and at is not tree:
        return _first(at)
    return found


def located(tree: Tree, loc: Sequence[str | int]) -> tuple[str, Any]:
    """(dotted path, node or tree there) for a pydantic error location: names of union members in it, which nobody wrote,
    are skipped; a missing field ends the path at its own name."""
    path, at = "", tree
    here: Any = at
    for index, part in enumerate(loc):
        step = _step(here, part)
        if step is None:
            if index == len(loc) - 1 and isinstance(part, str) and _is_name(part):
                path = joined(path, part)
            continue
        path = f"{path}[{part}]" if isinstance(part, int) else joined(path, part)
        here = step
    return path, here


def _step(here: Any, part: str | int) -> Any:
    if isinstance(here, Leaf):
        here = here.node
    if isinstance(here, dict):
        return here.get(str(part))
    return _inside(here, part)


def _inside(node: Node, part: str | int) -> Node | None:
    if isinstance(part, int):
        in_range = isinstance(node.value, list) and part < len(node.value)
        return node.value[part] if in_range else None
    return node.value.get(part) if isinstance(node.value, dict) else None


def _first(tree: Tree) -> Origin | None:
    origins = [leaf.origin for _, leaf in leaves(tree)]
    return min(origins, key=lambda o: o.line) if origins else None


def _is_name(part: str) -> bool:
    return re.fullmatch(r"[a-z_]+", part) is not None


@lru_cache(maxsize=4096)
def _parts(path: str) -> tuple[str | int, ...]:
    return tuple(int(i) if i else name for name, i in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path))
