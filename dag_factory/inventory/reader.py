"""The inventory folder → rows and problems. One bad row never harms its neighbours; all problems are found at once.

inventory/defaults.yaml    what every row inherits: fields of a row, or the same under `defaults:`
inventory/platform.yaml    lakes, catalogs, pools, standards
inventory/<domain>.yaml    {version: 1, domain: <stem>, defaults: {…}, sources: […]}
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.inventory.collecting import without_collecting
from dag_factory.inventory.fields import unknown_key, validated
from dag_factory.inventory.lint_target import meetings
from dag_factory.inventory.merge import Tree, merged
from dag_factory.inventory.problem import Finding, Problem
from dag_factory.inventory.row import Layers, Row, is_id, layer_problems, read_row
from dag_factory.inventory.secret_text import secret_kind, secret_message, secrets_in
from dag_factory.inventory.yaml_nodes import Node, YamlError, decode, faults, read_yaml

DEFAULTS, PLATFORM = "defaults.yaml", "platform.yaml"
DOMAIN_KEYS = ("version", "domain", "defaults", "sources")


@dataclass(frozen=True, slots=True)
class Inventory:
    """`rows` are the good rows in order of file and line; `problems` all problems, errors and warnings, in the same
    order; `all_rows` every row with an id, the bad ones too (for `explain`), by id."""

    folder: str
    rows: tuple[PipelineSpec, ...]
    problems: tuple[Problem, ...]
    platform: PlatformSpec = field(default_factory=PlatformSpec)
    all_rows: dict[str, Row] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")

    def get(self, source_id: str) -> PipelineSpec | None:
        """The good row of that id."""
        return next((row for row in self.rows if row.id == source_id), None)


@without_collecting()
def read_inventory(folder: str | os.PathLike[str], *, only: str | None = None) -> Inventory:
    """Reads, merges and lints. `only` (`<domain>.<name>`) reads just that row's file and that row in it: what a task
    needs. InventoryError when there is no such folder; everything else that is wrong is a problem."""
    path = Path(folder)
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing"
        raise InventoryError(
            f"Cannot read inventory {os.fspath(folder)!r}: found {what} -> a folder with one YAML file per domain. Create it, "
            "or name the right one with `--inventory` or the setting `inventory`."
        )
    return _Reading(path, only).inventory()


def read_platform(folder: str | os.PathLike[str]) -> PlatformSpec:
    """What `platform.yaml` says, for who needs no rows; nothing in it when the file is absent or wrong (lint tells)."""
    platform, _ = _Reading(Path(folder), None).platform()
    return platform


@dataclass(frozen=True, slots=True)
class SharedFiles:
    """What `platform.yaml` and `defaults.yaml` say to every row. Unless `layers.sound`, no row can be good."""

    platform: PlatformSpec
    layers: Layers
    problems: tuple[Problem, ...]


def read_shared(folder: str | os.PathLike[str]) -> SharedFiles:
    """The files that every domain file builds on; read once for `read_domain`."""
    reading = _Reading(Path(folder), None)
    platform, layers = reading.platform()
    layers = reading.defaults(layers)
    return SharedFiles(platform, layers, tuple(reading.problems))


def read_domain(folder: str | os.PathLike[str], name: str, shared: SharedFiles) -> tuple[tuple[Row, ...], tuple[Problem, ...]]:
    """(rows, problems) of one domain file: everything but what only all files together can tell (`lint_target.claims`)."""
    reading = _Reading(Path(folder), None)
    rows = tuple(reading.domain(Path(folder) / name, shared.layers, shared.platform))
    wrong = reading.renamed({row.id: row for row in rows})
    return tuple(replace(row, spec=None) if row.id in wrong else row for row in rows), tuple(reading.problems)


class _Reading:
    def __init__(self, folder: Path, only: str | None) -> None:
        self.folder = folder
        self.only = only
        self.problems: list[Problem] = []

    def inventory(self) -> Inventory:
        platform, layers = self.platform()
        layers = self.defaults(layers)
        rows: list[Row] = []
        for file in self.domain_files():
            rows += self.domain(file, layers, platform)
        by_id: dict[str, Row] = {}
        for row in rows:
            by_id.setdefault(row.id, row)
        wrong = self.renamed(by_id)
        good = [row.spec for row in rows if row.spec is not None and row.id not in wrong]
        met = set()
        for spec, finding in meetings(good):
            row = next(row for row in rows if row.spec is spec)
            self.problems.append(row.problem(finding))
            met.add(spec.id)
        return Inventory(
            folder=str(self.folder),
            rows=tuple(spec for spec in good if spec.id not in met),
            problems=tuple(sorted(collapsed(self.problems), key=lambda p: (p.file, p.line, p.field))),
            platform=platform,
            all_rows=by_id,
        )

    def domain_files(self) -> list[Path]:
        found: list[Path] = []
        for entry in sorted(self.folder.iterdir()):
            if entry.name.startswith(".") or entry.name.endswith("~"):
                continue
            if entry.is_dir() and entry.suffix not in (".yaml", ".yml"):  # a mount makes one where its file is missing
                if any(entry.rglob("*.y*ml")):
                    self.add(entry, 1, "sub-folders are not read. Move its files up, one per domain", "warning")
            elif entry.suffix == ".yml":
                self.add(entry, 1, f"files end in .yaml here, so this one is not read. Rename it to {entry.stem}.yaml")
            elif entry.suffix == ".yaml" and entry.name not in (DEFAULTS, PLATFORM):
                found.append(entry)
        if self.only is not None:
            domain = self.only.partition(".")[0]
            return [file for file in found if file.stem == domain]
        return found

    def add(self, file: Path, line: int, message: str, severity: str = "error", *, row: str = "", at: str = "") -> None:
        self.problems.append(Problem(severity, file_name(file), line, row, at, message))  # type: ignore[arg-type]

    def tree(self, file: Path) -> Node | None:
        """The document of a file; None (and a problem) when it cannot be read."""
        try:
            if file.exists() and not file.is_file():  # reading a pipe would wait for ever
                self.add(file, 1, "is no plain file. Replace it by one")
                return None
            text = decode(file.read_bytes())
            node = read_yaml(text, file_name(file))
        except YamlError as error:
            self.add(file, error.line, error.message)
            return None
        except OSError as error:
            self.add(file, 1, f"the file cannot be read ({error.strerror}). Check its permissions")
            return None
        for number, line in enumerate(text.splitlines(), 1):
            comment = line.partition("#")[2]
            if comment and (kind := secret_kind(comment)):
                self.add(file, number, f"a comment holds {kind}. Remove it, and change the credential: it is in the history")
        return node

    def top_map(self, file: Path, node: Node) -> bool:
        if node.value is None:
            return False
        if not node.is_map:
            what = "a list" if isinstance(node.value, list) else "a single value"
            self.add(file, node.line, f"the file holds {what} -> a map. Begin with `sources:` (a domain) or the fields themselves")
            return False
        return True

    def platform(self) -> tuple[PlatformSpec, Layers]:
        file = self.folder / PLATFORM
        node = self.tree(file) if file.exists() else None
        if node is None or not self.top_map(file, node):
            return PlatformSpec(), Layers({}, sound=node is not None or not file.exists())
        self.file_faults(file, node)
        tree: Tree = merged({}, node, PLATFORM)
        platform, wrong = validated(PlatformSpec, tree, "platform.yaml")
        for finding in wrong:
            self.add(file, _line(node, finding.field), finding.message, at=finding.field)
        standards = node.value.get("standards")
        layers = Layers({})
        if standards is not None and standards.is_map:
            layers = layers.over(Node({"standards": standards}, node.file, standards.line), PLATFORM)
            self.problems += layer_problems(layers, PLATFORM)
        return platform or PlatformSpec(), replace(layers, sound=platform is not None)

    def defaults(self, layers: Layers) -> Layers:
        file = self.folder / DEFAULTS
        node = self.tree(file) if file.exists() else None
        if node is None or not self.top_map(file, node):
            return replace(layers, sound=layers.sound and (node is not None or not file.exists()))
        sound = self.file_faults(file, node) and self.version(file, node)
        said = Node({k: v for k, v in node.value.items() if k != "version"}, node.file, node.line)
        if set(said.value) == {"defaults"}:
            said = said.value["defaults"]
        return self.layer(file, layers, said, DEFAULTS, sound)

    def layer(self, file: Path, layers: Layers, said: Node, name: str, sound: bool) -> Layers:
        if said.value is None:
            return replace(layers, sound=layers.sound and sound)
        if not said.is_map:
            self.add(file, said.line, "is not a map -> a map of the fields that rows inherit. Correct it", at="defaults")
            return replace(layers, sound=False)
        result = replace(layers.over(said, name), sound=layers.sound and sound)
        self.problems += layer_problems(result, name)
        return result

    def version(self, file: Path, node: Node) -> bool:
        version = node.value.get("version")
        if version is not None and (version.value != 1 or isinstance(version.value, bool)):
            self.add(file, version.line, "this release reads version 1. Write `version: 1`", at="version")
            return False
        return True

    def file_faults(self, file: Path, node: Node, path: str = "") -> bool:
        """Faults and secrets outside of rows; whether there was none."""
        sound = True
        for line, where, message in faults(node, path):
            self.add(file, line, message, at=where)
            sound = False
        for where, line, kind in secrets_in(node, path):
            self.add(file, line, secret_message(kind), at=where)
        return sound

    def domain(self, file: Path, layers: Layers, platform: PlatformSpec) -> Iterator[Row]:
        node = self.tree(file)
        if node is None:
            return
        if node.value is None:
            self.add(file, 1, "the file is empty. Add `sources:`, or delete it", "warning")
            return
        if not self.top_map(file, node):
            return
        sources = node.value.get("sources")
        rest = Node({k: v for k, v in node.value.items() if k != "sources"}, node.file, node.line, faults=node.faults)
        sound = self.file_faults(file, rest) and self.version(file, node)
        for key, child in rest.value.items():
            if key not in DOMAIN_KEYS:
                self.add(file, child.line, unknown_key(key, DOMAIN_KEYS, "a domain file"), at=key)
                sound = False
        if not self.is_domain(file, node):
            return
        defaults = node.value.get("defaults")
        if defaults is not None:
            layers = self.layer(file, layers, defaults, "defaults", sound)
        else:
            layers = replace(layers, sound=layers.sound and sound)
        if sources is None or sources.value is None:
            self.add(file, node.line, "has no `sources`. Add rows under `sources:`, or delete the file", "warning")
        elif not isinstance(sources.value, list):
            self.add(file, sources.line, "is not a list -> a list of rows, each beginning with `- name:`. Correct it", at="sources")
        else:
            yield from self.rows(file, sources.value, layers, platform)

    def is_domain(self, file: Path, node: Node) -> bool:
        if not is_id(file.stem):
            self.add(
                file, 1, f"the file name gives the domain {file.stem!r}, which is no id (a lower-case letter, then lower-case "
                "letters, digits and single `_`). Rename the file",
            )  # fmt: skip
            return False
        domain = node.value.get("domain")
        if domain is not None and domain.value != file.stem:
            self.add(
                file, domain.line, f"found {domain.value!r} -> {file.stem!r}, the file's name. Ids and DAGs are named by it. "
                "Rename the file or correct the field", at="domain",
            )  # fmt: skip
            return False
        return True

    def rows(self, file: Path, nodes: list[Node], layers: Layers, platform: PlatformSpec) -> Iterator[Row]:
        first: dict[str, int] = {}
        written_as = f"{self.folder.resolve().name}/{file.name}"
        for index, node in enumerate(nodes):
            name = node.value.get("name") if node.is_map else None
            label = name.value if name is not None and is_id(name.value) else None
            if self.only is not None and (label is None or self.only != f"{file.stem}.{label}"):
                continue
            row, problems = read_row(node, index, file.stem, written_as, layers, platform)
            self.problems += problems
            if label is not None and label in first:
                finding = Finding(
                    "name", f"found {label!r} a second time, first in line {first[label]}. Ids are unique. Rename one"
                )
                self.problems.append(row.problem(finding))
                continue
            if label is not None:
                first[label] = node.line
                yield row

    def renamed(self, by_id: dict[str, Row]) -> set[str]:
        """Rows that say they are another one under a new name, while that one still stands there, or another row says so, too:
        state belongs to one. Returns their ids. (Rows that name each other in a circle all still stand there.)"""
        claims: dict[str, list[Row]] = {}
        for row in by_id.values():
            if row.spec is not None and row.spec.renamed_from is not None:
                claims.setdefault(f"{row.domain}.{row.spec.renamed_from}", []).append(row)
        wrong = set()
        for old, rows in claims.items():
            name = old.partition(".")[2]
            for row in rows:
                others = [other.id for other in rows if other is not row]
                if old in by_id:
                    message = f"names {name!r}, which still is a row. Remove one"
                elif others:
                    message = f"names {name!r}, and so does {', '.join(others[:5])}. State goes to one row only. Remove the others"
                else:
                    continue
                self.problems.append(row.problem(Finding("renamed_from", message)))
                wrong.add(row.id)
        return wrong


def collapsed(problems: list[Problem]) -> Iterator[Problem]:
    """One problem of a shared default is told once, not once per row that inherits it."""
    groups: dict[tuple[str, int, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.file, problem.line, problem.field, problem.message), []).append(problem)
    for same in groups.values():
        rows = {p.row for p in same}
        if len(rows) > 1:
            yield replace(same[0], message=f"{same[0].message} (and {len(rows) - 1} more rows)")
        else:
            yield same[0]


def file_name(file: Path) -> str:
    """As short as an editor can still open it from here."""
    try:
        return str(file.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _line(node: Node, path: str) -> int:
    at = node
    for part in path.replace("[", ".").split("."):
        step = at.value.get(part) if isinstance(at.value, dict) else None
        if step is None:
            break
        at = step
    return at.line
