"""A row added to the text of a domain file; every other character of it stays.

The text is changed at one place and read again: what comes out must be what stood there and the row behind it. A layout where
that cannot be done is refused, never rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from airflow_dataops.core.errors import InventoryError
from dag_factory.inventory.yaml_nodes import Node, YamlError, decode, faults, plain, read_yaml
from dag_factory.inventory.yaml_text import flow, list_item

_BOM = b"\xef\xbb\xbf"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def with_row(data: bytes | None, name: str, row: Mapping[str, Any]) -> bytes:
    """The file `name` (as people know it, with its folder) with the row at the end of `sources`; None: there is no file yet.

    InventoryError when a row of this name stands there, and for a file that cannot be read or added to.
    """
    plain_row = _plain(row)
    if data is None:
        domain = name.rpartition("/")[2].removesuffix(".yaml")
        return "\n".join(["version: 1", f"domain: {domain}", "sources:", *list_item(plain_row), ""]).encode()
    text, before = _read(data, name)
    here = line_of(before, plain_row["name"])
    if here is not None:
        raise InventoryError(
            f"Cannot add row {plain_row['name']!r} to {name}: it stands in line {here} -> a new name. Ids are unique, and state "
            "hangs on them. Choose another name, or edit the row there."
        )
    end = "\r\n" if "\r\n" in text else "\n"
    if end == "\r\n" and text.count("\n") != text.count(end):
        raise _unusual(name, "it has two kinds of line ends")
    made = _added(text.replace("\r\n", "\n"), before, plain_row, name).replace("\n", end)
    result = (_BOM if data.startswith(_BOM) else b"") + made.encode()
    wanted = dict(plain(before) or {})
    wanted["sources"] = [*(wanted.get("sources") or []), plain_row]
    if not _says(result, wanted, len(list(faults(before)))):
        raise _unusual(name, "its layout is an unusual one")
    return result


def row_in(data: bytes | None, name: str, row_name: str) -> dict[str, Any] | None:
    """The row of that name as the file says it; None when there is none."""
    if data is None:
        return None
    _, node = _read(data, name)
    return next((plain(item) for item in _items(node) if _name_of(item) == row_name), None)


def line_of(node: Node, row_name: str) -> int | None:
    """The line in which the row of that name begins."""
    return next((item.line for item in _items(node) if _name_of(item) == row_name), None)


def _says(data: bytes, wanted: dict[str, Any], most_faults: int) -> bool:
    """Whether the file reads as exactly this, with no more faults than it had."""
    try:
        node = read_yaml(decode(data), "")
    except YamlError:
        return False
    return bool(plain(node) == wanted) and len(list(faults(node))) <= most_faults


def _read(data: bytes, name: str) -> tuple[str, Node]:
    try:
        text = decode(data)
        node = read_yaml(text, name)
    except YamlError as error:
        raise InventoryError(
            f"Cannot add a row to {name}: line {error.line}: {error.message} -> a file that can be read. Nothing is written into "
            "a broken file. Correct it first."
        ) from None
    if node.value is not None and not node.is_map:
        raise _unusual(name, "it holds no map")
    return text, node


def _added(text: str, before: Node, row: Mapping[str, Any], name: str) -> str:
    """`text` with line feeds only."""
    if text and not text.endswith("\n"):
        text += "\n"
    sources = before.value.get("sources") if before.is_map else None
    document: Any = yaml.compose(text, _Loader) if before.is_map else None
    if sources is None or document is None:
        if document is not None and document.flow_style:
            raise _unusual(name, "it is written in braces")
        return _at_line(text, _last_line(text, document), ["sources:", *list_item(row)])
    where: Any = next(value for key, value in document.value if key.value == "sources")
    if sources.value is None or sources.value == []:
        start, end = _offset(text, where.start_mark), _offset(text, where.end_mark)
        rest = text[end:].partition("\n")
        if text[start:end].strip() not in ("", "[]", "~", "null") or (rest[0].strip() and not rest[0].lstrip().startswith("#")):
            raise _unusual(name, "`sources` is empty in an unusual way")
        head = (text[:start].rstrip(" ") + rest[0]).split("\n")
        return "\n".join([*head, *list_item(row), rest[2]])
    if where.flow_style:
        at = _offset(text, where.value[-1].end_mark)
        return f"{text[:at]}, {flow(dict(row))}{text[at:]}"
    return _behind_last(text, where, row)


def _behind_last(text: str, where: Any, row: Mapping[str, Any]) -> str:
    """Behind the last item of a block list, and behind the comments that are set in below it; with an empty line between if
    the file has them."""
    lines = text.split("\n")
    items = where.value
    indent = _dash(lines, where, items[0])
    at = _end_line(items[-1])
    while at < len(lines) and lines[at].lstrip().startswith("#") and len(lines[at]) - len(lines[at].lstrip()) > indent:
        at += 1
    apart = len(items) > 1 and lines[_above_comments(lines, items[-1].start_mark.line)].strip() == ""
    new = ([""] if apart else []) + list_item(row, indent)
    return "\n".join([*lines[:at], *new, *lines[at:]])


def _above_comments(lines: list[str], line: int) -> int:
    above = line - 1
    while above > 0 and lines[above].lstrip().startswith("#"):
        above -= 1
    return above


def _dash(lines: list[str], where: Any, first: Any) -> int:
    """The column of the list's dashes: where it begins, or (a list that is not set in) where the line of its first item does."""
    mark = where.start_mark
    if lines[mark.line][mark.column : mark.column + 1] == "-":
        return int(mark.column)
    line = lines[first.start_mark.line]
    return len(line) - len(line.lstrip())


def _last_line(text: str, document: Any) -> int:
    """The line behind the last content of the document: before a `...` and comments at the end it would be, but not after."""
    return _end_line(document) if document is not None else text.count("\n")


def _end_line(node: Any) -> int:
    """The line behind the one that a node's content ends in. The marks of block collections lie at the next token, so the
    deepest last scalar tells."""
    while not getattr(node, "flow_style", True) and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    mark = node.end_mark
    return int(mark.line) if mark.column == 0 and mark.line > node.start_mark.line else int(mark.line) + 1


def _at_line(text: str, line: int, new: list[str]) -> str:
    lines = text.split("\n")
    return "\n".join([*lines[:line], *new, *lines[line:]])


def _offset(text: str, mark: Any) -> int:
    """Line and column as a position; the C parser's own index counts in bytes."""
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: mark.line]) + int(mark.column)


def _items(node: Node) -> list[Node]:
    sources = node.value.get("sources") if node.is_map else None
    return sources.value if sources is not None and isinstance(sources.value, list) else []


def _name_of(item: Node) -> Any:
    name = item.value.get("name") if item.is_map else None
    return name.value if name is not None else None


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists: what the reader gives back."""

    def plain_value(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain_value(inner) for key, inner in value.items()}
        return [plain_value(inner) for inner in value] if isinstance(value, list | tuple) else value

    return {name: plain_value(value) for name, value in row.items()}


def _unusual(name: str, why: str) -> InventoryError:
    return InventoryError(
        f"Cannot add a row to {name}: {why} -> a map with a list `sources:`, an item per row. Everything else in the file must "
        "stay as it is. Bring it into that form by hand, or choose another domain."
    )
