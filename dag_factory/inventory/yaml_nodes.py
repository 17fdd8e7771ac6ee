"""YAML text → a tree that knows the line of everything, read without ever building an object or guessing a type.

PyYAML's C parser only gives events; the tree, its limits and the meaning of plain scalars are ours. Scalars follow
YAML 1.2's core schema. Where YAML 1.1 readers understand something else (`no`, `012`, `1:30`) the text is a fault of that
node: whoever wrote it has to say what is meant, because half of the tools around an inventory still read YAML 1.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

MAX_BYTES = 10_000_000
MAX_DEPTH = 40
MAX_NODES = 1_000_000
"""Nodes of one file, aliases counted as often as they are used: what a YAML bomb expands to."""

Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OLD_TRUTH = frozenset(("yes", "no", "on", "off"))
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
# Only the forms that YAML 1.1 and 1.2 both read as a number; the others are odd.
_FLOAT = re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?\Z")
_ODD_NUMBER = re.compile(
    r"[-+]?(0[0-9][0-9_]*|[0-9][0-9_]*_[0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|\.inf|\.Inf|\.INF)\Z|\.(nan|NaN|NAN)\Z"
)


class YamlError(Exception):
    """A file that cannot be read as one YAML document. The message never quotes the file's content."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(slots=True)
class Node:
    """A value with its place: `value` is None, bool, int, float, str, `dict[str, Node]` or `list[Node]`.

    `line` is where a reader looks for it: the line of its key in a map. `faults` are (line, key or None, what is wrong).
    `is_sound` is known to have no fault, nor anything below it.
    """

    value: Any
    file: str
    line: int
    nodes: int = 1
    faults: tuple[tuple[int, str | None, str], ...] = ()
    is_sound: bool = False

    @property
    def is_map(self) -> bool:
        return isinstance(self.value, dict)


def decode(data: bytes) -> str:
    """UTF-8 text of a file, a byte order mark taken off. YamlError for anything else and for what is too large."""
    if len(data) > MAX_BYTES:
        raise YamlError(1, f"the file has {len(data)} bytes, at most {MAX_BYTES} are read. Split it into several domains")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlError(line, f"the file is not UTF-8 (byte {error.start}). Save it as UTF-8") from None


def read_yaml(text: str, file: str) -> Node:
    """The one document in `text`. An empty text is a node with value None. YamlError when there is no tree at all."""
    parser = Parser(text)
    try:
        return _Tree(parser, file).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else text.count("\n", 0, getattr(error, "position", 0) or 0) + 1
        raise YamlError(line, _syntax(error, text, line)) from None
    finally:
        parser.dispose()


def plain(node: Node) -> Any:
    """The tree without places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def faults(node: Node, path: str = "") -> Iterator[tuple[int, str, str]]:
    """(line, dotted path, what is wrong) of everything below a node that YAML allows and we do not."""
    if node.is_sound:
        return
    for line, key, message in node.faults:
        yield line, joined(path, key) if key is not None else path, message
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from faults(child, joined(path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from faults(child, f"{path}[{index}]")


def joined(path: str, key: str) -> str:
    """`read` + `mode` → `read.mode`."""
    return f"{path}.{key}" if path else key


def _syntax(error: yaml.YAMLError, text: str, line: int) -> str:
    """What is wrong with the text, without a snippet of it: the line may hold a secret."""
    lines = text.split("\n")
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "a tab stands in the indentation, YAML takes spaces only. Replace it by spaces"
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not YAML")
    problem = re.sub(r"'[^']{2,}'|\"[^\"]{2,}\"", "…", problem)
    if "special characters" in problem or "control characters" in problem:
        return "a control character stands in the text. Remove it, or write it as an escape in double quotes"
    return f"the YAML cannot be read ({problem}). Check indentation, colons and quotes of this and the line above"


class _Tree:
    """Builds nodes out of events; deep recursion is impossible because depth is limited first."""

    def __init__(self, parser: Any, file: str) -> None:
        self.parser = parser
        self.file = file
        self.anchors: dict[str, Node | None] = {}
        self.total = 0

    def document(self) -> Node:
        self.parser.get_event()  # stream start
        if self.parser.check_event(yaml.StreamEndEvent):
            return Node(None, self.file, 1)
        self.parser.get_event()  # document start
        node = self.node(self.parser.get_event(), 1)
        self.parser.get_event()  # document end
        event = self.parser.get_event()
        if not isinstance(event, yaml.StreamEndEvent):
            raise YamlError(_line(event), "a second YAML document starts here (`---`). Keep one document per file")
        return node

    def node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise YamlError(_line(event), f"values are nested deeper than {MAX_DEPTH} levels. Flatten them")
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self.alias(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # until it is whole: an alias to it would be endless
        if kind is yaml.ScalarEvent:
            node = self.scalar(event)
        elif kind is yaml.SequenceStartEvent:
            node = self.sequence(event, depth)
        else:
            node = self.mapping(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        node.is_sound = not node.faults and node.is_sound
        return node

    def alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            raise YamlError(_line(event), "an alias names an anchor that does not stand above it. Define it first")
        target = self.anchors[event.anchor]
        if target is None:
            raise YamlError(_line(event), "an alias stands inside its own anchor and would never end. Remove it")
        self.count(target.nodes, event)
        return Node(target.value, self.file, _line(event), target.nodes, target.faults, target.is_sound)

    def count(self, nodes: int, event: Any) -> None:
        self.total += nodes
        if self.total > MAX_NODES:
            raise YamlError(_line(event), f"the file expands to more than {MAX_NODES} values. Remove the aliases or split it")

    def scalar(self, event: Any) -> Node:
        self.count(1, event)
        value, fault = scalar(event.value, event.tag, bool(event.style))
        line = _line(event)
        return Node(value, self.file, line, 1, ((line, None, fault),) if fault else (), True)

    def sequence(self, event: Any, depth: int) -> Node:
        self.count(1, event)
        node = Node([], self.file, _line(event), is_sound=True)
        self.refuse_tag(node, event)
        while type(child_event := self.parser.get_event()) is not yaml.SequenceEndEvent:
            child = self.node(child_event, depth + 1)
            node.value.append(child)
            node.nodes += child.nodes
            node.is_sound = node.is_sound and child.is_sound
        return node

    def mapping(self, event: Any, depth: int) -> Node:
        self.count(1, event)
        node = Node({}, self.file, _line(event), is_sound=True)
        self.refuse_tag(node, event)
        seen: dict[str, int] = {}
        while type(key_event := self.parser.get_event()) is not yaml.MappingEndEvent:
            line = _line(key_event)
            if type(key_event) is not yaml.ScalarEvent:
                raise YamlError(line, "a key of a map is not plain text. Write `key: value` with a text key")
            key = str(key_event.value)
            fault = _key_fault(key_event.value, key_event.tag, key_event.style)
            child = self.node(self.parser.get_event(), depth + 1)
            node.nodes += child.nodes + 1
            node.is_sound = node.is_sound and child.is_sound
            self.count(1, key_event)
            if fault:
                node.faults += ((line, key, fault),)
            if key in seen:
                node.faults += ((line, key, f"the key stands twice in this map, first in line {seen[key]}. Remove one"),)
                continue
            seen[key] = line
            child.line = line  # an anchor's node too: every alias to it has a node and a line of its own
            node.value[key] = child
        return node

    def refuse_tag(self, node: Node, event: Any) -> None:
        if event.tag is not None:
            node.faults += ((node.line, None, "YAML tags (`!…`) are not read here. Remove the tag"),)


@lru_cache(4096)
def scalar(text: str, tag: str | None, quoted: bool) -> tuple[Any, str | None]:
    """(value, fault or None) of one scalar as written. The same few come again in every row."""
    if tag not in (None, "!", "tag:yaml.org,2002:str"):
        return text, "YAML tags (`!…`) are not read here. Remove the tag"
    if "\0" in text:
        return text, "holds a NUL character, which no table, file or screen takes. Remove it"
    if quoted or tag is not None:
        return text, None
    if text in _NULL:
        return None, None
    if text in _TRUTH:
        return _TRUTH[text], None
    if text.lower() in _OLD_TRUTH:
        truth = "true" if text.lower() in ("yes", "on") else "false"
        return text, f'`{text}` is a truth value to some YAML readers and text to others. Write {truth}, or "{text}" in quotes'
    if _INT.match(text):
        return (int(text), None) if len(text) < 100 else (text, "a number of more than 99 digits is not read. Quote it")
    if _FLOAT.match(text):
        number = float(text)
        return (number, None) if math.isfinite(number) else (text, "a number of this size cannot be held. Quote it")
    if _ODD_NUMBER.match(text):
        return text, (
            "this is one number to some YAML readers, another number or text to others. "
            "Write a plain decimal number, or text in quotes"
        )
    return text, None


@lru_cache(4096)
def _key_fault(key: str, tag: str | None, style: str | None) -> str | None:
    if key == "<<" and not style:
        return "merge keys (`<<`) are not read here. Put what rows share into `defaults:`"
    value, fault = scalar(key, tag, bool(style))
    if fault is None and not isinstance(value, str):
        return f'a key must be text. Write it in quotes: "{key}"'
    return fault


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1
