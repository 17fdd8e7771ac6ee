"""A spreadsheet of sources → a domain file.

The first line names the fields, dotted (`read.mode`, `target.database`, `options.path`); each further line is a row. An
empty cell says nothing. Lists are separated by `;` or `|`; maps are `key=value` pairs in such a list
(`privacy.columns`); everything else is JSON where a cell begins with `[` or `{`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_dataops.core.options import OPTION_MODELS
from airflow_dataops.core.spec import SourceSpec, Spec
from dag_factory.inventory.fields import known_fields, unknown_key
from dag_factory.inventory.secret_text import HIDDEN, is_secret_place, secret_kind, secret_message, shown
from dag_factory.inventory.yaml_text import list_item

MAX_BYTES = 10_000_000
_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][-+]?[0-9]{1,3})?\Z")


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell that cannot be taken over. `row` counts lines of the file from 1, `column` is the header's text."""

    row: int
    column: str
    message: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column or '?'}: {self.message}"


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows that could be taken over whole, and the cells that could not: their rows are left out."""

    rows: tuple[dict[str, Any], ...]
    bad: tuple[BadCell, ...]


def import_csv(data: bytes) -> Imported:
    """Reads a spreadsheet saved as CSV (UTF-8, with or without byte order mark). All bad cells are found at once."""
    if len(data) > MAX_BYTES:
        return Imported((), (BadCell(1, "", f"the file has {len(data)} bytes -> at most {MAX_BYTES}. Split it"),))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Imported((), (BadCell(line, "", "the file is not UTF-8. Save it as CSV UTF-8"),))
    if "\0" in text:
        return Imported(
            (), (BadCell(text.count("\n", 0, text.index("\0")) + 1, "", "holds a NUL character. Save it as CSV UTF-8"),)
        )
    csv.field_size_limit(MAX_BYTES)
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return _imported(reader)


def _imported(reader: Any) -> Imported:
    rows: list[dict[str, Any]] = []
    bad: list[BadCell] = []
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            bad.append(BadCell(line, "", f"cannot be read ({error}). Check the quotes"))
            break
        if cells is None:
            break
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            bad += _bad_header(header, line)
            continue
        row, wrong = _row(header, cells, line)
        bad += wrong
        if not wrong:
            rows.append(row)
    if header is None:
        bad.append(BadCell(1, "", "the file is empty -> a first line with field names, such as name,kind,owner. Add it"))
    return Imported(tuple(rows) if not any(b.row == 1 and b.column for b in bad) else (), tuple(bad))


def _bad_header(header: Sequence[str], line: int) -> Iterator[BadCell]:
    for index, name in enumerate(header):
        if not name:
            yield BadCell(line, f"#{index + 1}", "has no name. Name the field, or remove the column")
        elif name in header[:index]:
            yield BadCell(line, name, "stands twice. Remove one")
        elif kind := secret_kind(name):
            yield BadCell(line, HIDDEN, secret_message(kind))
        elif is_secret_place(name):
            yield BadCell(line, name, secret_message("a credential, by its name"))
        elif message := _unknown(name):
            yield BadCell(line, name, message)
        elif inner := next((other for other in header if other.startswith(f"{name}.")), None):
            yield BadCell(line, name, f"stands beside `{inner}`, and one would overwrite the other. Keep the whole or its fields")
    if "name" not in header:
        yield BadCell(line, "name", "is missing: every row needs a name. Add the column")


def _unknown(name: str) -> str | None:
    """Why a dotted name is no field; None when it is one."""
    model: type[Spec] | None = SourceSpec
    path: list[str] = []
    for part in name.split("."):
        if path == ["options"]:
            known = {field for options in OPTION_MODELS.values() for field in options.model_fields}
            return None if part in known else unknown_key(part, sorted(known), "`options`")
        if model is None:
            return None if path == ["privacy", "columns"] else f"goes deeper than `{'.'.join(path)}` does. Correct it"
        if part not in known_fields(model):
            return unknown_key(part, known_fields(model), f"`{'.'.join(path)}`" if path else "a source")
        path.append(part)
        model = _model_of(_annotation(model, part))
    return None


def _row(header: Sequence[str], cells: Sequence[str], line: int) -> tuple[dict[str, Any], list[BadCell]]:
    bad = []
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        bad.append(
            BadCell(line, f"#{len(header) + 1}", f"the row has {len(cells)} cells, the header {len(header)}. Quote the comma")
        )
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        text = cell.strip()
        if not text:
            continue
        if kind := secret_kind(text):
            bad.append(BadCell(line, name, secret_message(kind)))
            continue
        try:
            value = _value(text, _wanted(name))
        except ValueError as error:
            bad.append(BadCell(line, name, f"found {shown(text, name)} -> {error}"))
            continue
        _put(row, name.split("."), value)
    if "name" not in row:
        bad.append(BadCell(line, "name", "is empty: every row needs a name. Fill it in"))
    return row, bad


def _put(row: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        row = row.setdefault(part, {})
        if not isinstance(row, dict):
            return  # the column of the whole stands beside it; the header's problem says so
    row[path[-1]] = value


def _wanted(name: str) -> Any:
    """The annotation of a dotted field; of `options` that of the first kind that has it."""
    model: type[Spec] | None = SourceSpec
    annotation: Any = str
    for part in name.split("."):
        if model is None:
            owners = [m for m in OPTION_MODELS.values() if part in m.model_fields]
            return _annotation(owners[0], part) if owners else str
        annotation = _annotation(model, part)
        model = _model_of(annotation)
    return annotation


def _annotation(model: type[Spec], written: str) -> Any:
    return next((f.annotation for n, f in model.model_fields.items() if written in (n, f.alias)), str)


def _model_of(annotation: Any) -> type[Spec] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Spec) else None


def _value(text: str, wanted: Any) -> Any:
    """A cell as the field's type. ValueError says what was expected; what is text stays exactly that text."""
    if text[0] in "[{" and _origin(wanted) in (tuple, dict):
        try:
            return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise ValueError("JSON, as the cell begins like it. Check its brackets, quotes and keys") from None
    origin = _origin(wanted)
    if origin is tuple:
        return [part.strip() for part in re.split(r"[;|]", text) if part.strip()]
    if origin is dict:
        pairs = [part.partition("=") for part in re.split(r"[;|]", text) if part.strip()]
        if any(not equals for _, equals, _ in pairs):
            raise ValueError("`key=value` pairs separated by `;`. Correct it")
        return {key.strip(): value.strip() for key, _, value in pairs}
    plain = _plain(wanted)
    if plain is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false. Correct it")
        return text.lower() == "true"
    if plain is int:
        if not _NUMBER.match(text):
            raise ValueError("a whole number. Correct it")
        return int(text)
    if plain is float:
        number = float(text) if _FLOAT.match(text) else math.inf
        if not math.isfinite(number):
            raise ValueError("a number. Correct it")
        return number
    return text


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _no_number(constant: str) -> Any:
    raise ValueError(constant)


def _origin(wanted: Any) -> Any:
    return next((typing.get_origin(a) for a in _members(wanted) if typing.get_origin(a) in (tuple, dict)), None)


def _plain(wanted: Any) -> Any:
    return next((a for a in _members(wanted) if a in (bool, int, float)), str)


def _members(wanted: Any) -> Iterable[Any]:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return typing.get_args(wanted)
    return (wanted,)


def to_yaml(domain: str, rows: Sequence[dict[str, Any]]) -> str:
    """A domain file with these rows, that the inventory's own reader reads back to the same."""
    lines = ["version: 1", f"domain: {domain}", "sources:" if rows else "sources: []"]
    for row in rows:
        lines += list_item({"name": row["name"], **row})
    return "\n".join(lines) + "\n"
