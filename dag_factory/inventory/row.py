"""One row: merged, validated, linted. The place of every field is known, so that a problem points at its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import ID_PATTERN, PipelineSpec, SourceSpec
from dag_factory.inventory.fields import validated
from dag_factory.inventory.lint_age import age_findings
from dag_factory.inventory.lint_modes import mode_findings
from dag_factory.inventory.lint_row import row_findings
from dag_factory.inventory.lint_tables import query_findings, table_findings
from dag_factory.inventory.lint_target import target_findings
from dag_factory.inventory.merge import Leaf, Tree, leaves, merged, origin_of, without
from dag_factory.inventory.narrow import PARTS, combinations, entry_findings
from dag_factory.inventory.not_yet import refusals
from dag_factory.inventory.problem import Finding, Problem, Severity
from dag_factory.inventory.secret_text import is_secret_place, name_tells, secret_kind, secret_message, secrets_in
from dag_factory.inventory.yaml_nodes import Node, faults

_ID = re.compile(ID_PATTERN.removesuffix("$") + r"\Z")
_TRIES = 4
_ONE_ROW_ONLY = ("name", "renamed_from")


def is_id(text: Any) -> bool:
    """Whether this can name a domain or a source."""
    return isinstance(text, str) and len(text) <= 63 and _ID.match(text) is not None


@dataclass(frozen=True, slots=True)
class Layers:
    """What rows inherit. `sound` is False when a layer has a fault that could change any row: then no row is good."""

    tree: Tree
    sound: bool = True

    def over(self, node: Node, layer: str) -> Layers:
        return Layers(merged(self.tree, node, layer), self.sound)


@dataclass(frozen=True, slots=True)
class Row:
    """One row as far as it could be understood. `spec` is None when it has an error."""

    id: str
    domain: str
    file: str
    line: int
    tree: Tree
    spec: PipelineSpec | None

    def problem(self, finding: Finding) -> Problem:
        file, line = self.place(finding.field)
        return Problem(finding.severity, file, line, self.id, finding.field, finding.message)

    def place(self, path: str) -> tuple[str, int]:
        """(file, line) to edit for a field: where it was written, or the row itself for what nobody wrote."""
        origin = origin_of(self.tree, path)
        if origin is None or not origin.file:
            return self.file, self.line
        return origin.file, origin.line


def read_row(
    node: Node, index: int, domain: str, written_as: str, layers: Layers, platform: PlatformSpec
) -> tuple[Row, list[Problem]]:
    """(row, problems) of one item of `sources`. `written_as` is the file's name in the resolved row."""
    if not node.is_map:
        what = "nothing" if node.value is None else "a list" if isinstance(node.value, list) else "a single value"
        row = Row(f"{domain}.sources[{index}]", domain, node.file, node.line, {}, None)
        return row, [row.problem(Finding("", f"found {what} -> a map with `name`, `kind` and `owner`. Correct it"))]
    tree = merged(layers.tree, node, "row")
    name = node.value.get("name")
    label = name.value if name is not None and is_id(name.value) else f"sources[{index}]"
    row = Row(f"{domain}.{label}", domain, node.file, node.line, tree, None)
    problems = [Problem("error", node.file, line, row.id, path, message) for line, path, message in faults(node)]
    own = secrets_in(node)
    problems += [Problem("error", node.file, line, row.id, path, secret_message(kind)) for path, line, kind in own]
    place = {"domain": domain, "file": written_as, "line": node.line}
    whole, wrong = (None, []) if place.keys() & tree.keys() else validated(PipelineSpec, tree, also=place)
    spec: SourceSpec | None = whole
    if spec is None:
        spec, wrong = validated(SourceSpec, tree)
    found = list(wrong)
    trees = {part: _part(tree, part) for part in PARTS}
    entries = entries_of(tree)
    for number, entry in enumerate(entries):
        if entry.is_map:
            found += [f for f in entry_findings(entry, number, trees) if f.field not in {w.field for w in wrong}]
    secrets = set(_secret_places(tree, anywhere=bool(own)))
    # The rules quote what they find, so a credential is out of their sight. (What a field's name gives away is in no known field.)
    broken = {finding.field for finding in found} | {place for place in secrets if not is_secret_place(place)}
    readable = _readable(tree, broken) if secrets or spec is None else spec
    if readable is not None:
        whole = PipelineSpec(**dict(readable), **place) if whole is None or secrets else whole
        found += [f for f in _linted(whole, tree, trees, entries, platform, broken) if not _touches(f.field, broken)]
        if layers.sound and not secrets and not problems and not any(f.severity == "error" for f in found):
            row = Row(row.id, domain, node.file, node.line, tree, whole)
    known = {p.field for p in problems}
    told = {(f.field, f.message): f for f in found if f.field not in known and not secret_kind(f.field)}
    problems += [row.problem(f) for f in told.values() if not _of_layer(tree, f, wrong)]
    return row, problems


def _secret_places(tree: Tree, *, anywhere: bool) -> Iterator[str]:
    """Dotted paths of credentials in the merged row, those of a layer included; unless `anywhere`, no value of the row itself
    is one."""
    for path, leaf in leaves(tree):
        kind, is_place = name_tells(path, path)
        if kind or (is_place and leaf.node.value is not None):
            yield path
        elif anywhere or leaf.origin.layer != "row":
            yield from (where for where, _, _ in secrets_in(leaf.node, path))


def _readable(tree: Tree, broken: set[str]) -> SourceSpec | None:
    """The row without its wrong fields, so that one wrong field does not hide what the rules say of the others."""
    for _ in range(_TRIES):
        tree = {**_COMPLETE, **without(_with_plain_entries(tree, broken), {b for b in broken if not b.startswith("tables[")})}
        spec, wrong = validated(SourceSpec, tree)
        if spec is not None:
            return spec
        broken = broken | {finding.field for finding in wrong}
    return None


def _with_plain_entries(tree: Tree, broken: set[str]) -> Tree:
    """Each wrong entry of `tables` as its bare glob (any, when that is wrong itself): the others keep their numbers."""
    leaf = tree.get("tables")
    if not isinstance(leaf, Leaf) or not isinstance(leaf.node.value, list):
        return tree
    nodes = list(leaf.node.value)
    for index, node in enumerate(nodes):
        if any(b == f"tables[{index}]" or b.startswith(f"tables[{index}].") for b in broken):
            match = node.value.get("match") if node.is_map else None
            usable = match is not None and isinstance(match.value, str) and match.value and f"tables[{index}].match" not in broken
            nodes[index] = Node(match.value if usable else "*", node.file, node.line)  # type: ignore[union-attr]
    return {**tree, "tables": Leaf(Node(nodes, leaf.node.file, leaf.node.line), leaf.origin)}


def _touches(field: str, broken: set[str]) -> bool:
    """Whether a finding is about a field that could not be read anyway, or about something below or above it."""
    return any(field == b or field.startswith((f"{b}.", f"{b}[")) or b.startswith((f"{field}.", f"{field}[")) for b in broken)


def _linted(
    spec: PipelineSpec, tree: Tree, trees: dict[str, Tree], entries: list[Node], platform: PlatformSpec, broken: set[str]
) -> Iterator[Finding]:
    yield from row_findings(spec, tree, platform)
    yield from table_findings(spec)
    yield from refusals(spec)
    if {field.partition(".")[0].partition("[")[0] for field in broken} & {*PARTS, "tables", "kind", "schedule"}:
        return  # what goes with what cannot be told when a side of it is unknown
    told: dict[tuple[str, str], list[str]] = {}
    severities: dict[tuple[str, str], Severity] = {}
    for use in combinations(spec, trees, entries):
        rules = (mode_findings(spec, use), query_findings(spec, use), target_findings(spec, use, platform), age_findings(use))
        for rule in rules:
            for finding in rule:
                told.setdefault((finding.field, finding.message), []).append(use.about)
                severities[finding.field, finding.message] = finding.severity
    for (field, message), abouts in told.items():
        # What holds for the row as it is needs no tables named, nor does what an entry itself says.
        about = "" if "" in abouts or field.startswith("tables[") else f" ({abouts[0]})"
        yield Finding(field, message + about, severities[field, message])


def layer_problems(layers: Layers, name: str) -> list[Problem]:
    """What is wrong with a layer of defaults in itself; told once, whatever rows inherit it."""
    problems: list[Problem] = []
    for key in _ONE_ROW_ONLY:
        leaf = layers.tree.get(key)
        if isinstance(leaf, Leaf) and leaf.origin.layer == name:
            message = "stands for one row and cannot be a default. Move it to its row"
            problems.append(Problem("error", leaf.origin.file, leaf.origin.line, "", key, message))
    _, wrong = validated(SourceSpec, {**_COMPLETE, **layers.tree})
    for finding in wrong:
        origin = origin_of(layers.tree, finding.field)
        if origin is not None and origin.layer == name:
            problems.append(Problem("error", origin.file, origin.line, "", finding.field, finding.message))
    return problems


def _complete() -> Tree:
    """The least a row must say, so that a layer can be validated without one."""
    return merged({}, Node({k: Node("x", "", 0) for k in ("name", "kind", "owner")}, "", 0), "built-in")


_COMPLETE = _complete()


def _of_layer(tree: Tree, finding: Finding, wrong: list[Finding]) -> bool:
    """Whether this was told where the layer itself was read."""
    origin = origin_of(tree, finding.field)
    return finding in wrong and origin is not None and origin.layer not in ("row", "built-in")


def _part(tree: Tree, name: str) -> Tree:
    part = tree.get(name, {})
    return part if isinstance(part, dict) else {}


def entries_of(tree: Tree) -> list[Node]:
    """The items of `tables:` as written."""
    leaf = tree.get("tables")
    return leaf.node.value if isinstance(leaf, Leaf) and isinstance(leaf.node.value, list) else []
