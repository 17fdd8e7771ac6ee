"""A merged row against its model: every wrong field as a finding with what is known and what to do.

Values are never coerced (`"5"` is no number, `1` is no truth value): the models are read in pydantic's strict JSON mode.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from airflow_dataops.core.spec import SourceSpec, Spec
from dag_factory.inventory.merge import Leaf, Tree, located, plain_tree
from dag_factory.inventory.problem import Finding
from dag_factory.inventory.secret_text import HIDDEN, secret_kind, shown
from dag_factory.inventory.yaml_nodes import Node, plain

S = TypeVar("S", bound=Spec)

_WANTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "dict_type": "a map",
    "model_type": "a map",
    "tuple_type": "a list",
    "list_type": "a list",
    "date_type": "a date, as 2024-05-01",
    "date_from_datetime_inexact": "a date, as 2024-05-01",
    "date_from_datetime_parsing": "a date, as 2024-05-01",
    "date_parsing": "a date, as 2024-05-01",
}
_PATTERNS = {
    "name": "an id: a lower-case letter, then lower-case letters, digits and single `_`, at most 63 characters",
    "renamed_from": "an id: a lower-case letter, then lower-case letters, digits and single `_`, at most 63 characters",
    "from": "`period_start`, or `column:` and the name of a source column",
}
_MISSING = {
    "owner": "is required: who is asked when it fails. Add it here, or under `defaults:` for the whole file",
    "name": "is required: the source's id within its domain. Add it",
    "kind": "is required: what kind of system this is. Add it",
}


def validated(
    model: type[S], tree: Tree, what: str = "a source", *, also: Mapping[str, Any] | None = None
) -> tuple[S | None, list[Finding]]:
    """(the model's value, findings); the value is None when there is a finding. Fields are dotted paths in `tree`; `also` are
    values that the tree does not have."""
    try:
        if issubclass(model, SourceSpec):  # no two rows are the same; parts of rows are, again and again
            return model.model_validate_json(as_json(tree, also), strict=True, by_alias=True, by_name=False), []
        return part(model, as_json(tree, also)), []
    except ValidationError as error:
        return None, findings(model, error, tree, what)


@lru_cache(maxsize=4096)
def part(model: type[S], text: bytes | str) -> S:
    """A part of a row, frozen. ValidationError as pydantic raises it."""
    return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)


def as_json(tree: Tree, also: Mapping[str, Any] | None = None) -> bytes | str:
    """What is validated. Half of the time of a large inventory went into the standard library's encoder."""
    data = {**plain_tree(tree), **(also or {})}
    try:
        return orjson.dumps(data)
    except TypeError:  # numbers of more than 64 bits, half a surrogate pair: the models refuse them in words
        return json.dumps(data)


def findings(model: type[Spec], error: ValidationError, tree: Tree, what: str = "a source") -> list[Finding]:
    """One finding per wrong field, in a user's words."""
    result: dict[str, Finding] = {}
    for detail in error.errors(include_url=False):
        path, here = located(tree, detail["loc"])
        # A value that fits no member of a union fails once per member; what is deepest says most.
        result.setdefault(path, Finding(path, _message(model, dict(detail), path, here, what)))
    return [f for f in result.values() if not any(_is_below(other, f.field) for other in result)]


def unknown_key(key: str, known: Iterable[str], what: str) -> str:
    """`is not a field of …; known are …. Did you mean …?`"""
    names = list(known)
    near = difflib.get_close_matches(key, names, 1, 0.6)
    hint = f"Did you mean `{near[0]}`?" if near else "Remove it, or correct its name"
    return f"is not a field of {what}, known are {', '.join(names)}. {hint}"


def known_fields(model: type[Spec]) -> list[str]:
    """Field names as they are written in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def model_at(model: type[Spec], loc: Iterable[str | int]) -> type[Spec] | None:
    """The model a location lies in; None inside plain maps."""
    at: type[Spec] | None = model
    candidates: tuple[type[Spec], ...] = (model,)
    for part in loc:
        if isinstance(part, int):
            continue
        for candidate in candidates:
            field = next((f for n, f in candidate.model_fields.items() if part in (n, f.alias)), None)
            if field is not None:
                candidates = tuple(_models_in(field.annotation))
                at = candidates[0] if candidates else None
                break
    return at


def _models_in(annotation: Any) -> Iterable[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for inner in typing.get_args(annotation):
            yield from _models_in(inner)


def _is_below(path: str, above: str) -> bool:
    return path != above and (path.startswith((above + ".", above + "[")))


def _message(model: type[Spec], detail: Mapping[str, Any], path: str, here: Any, what: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    key = path.rsplit(".", 1)[-1]
    found = shown(_value(here), path) if here is not None else ""
    if kind == "extra_forbidden":
        owner = model_at(model, detail["loc"][:-1]) or model
        where = path.rpartition(".")[0]
        name = HIDDEN if secret_kind(key) else key
        return unknown_key(name, known_fields(owner), f"`{where}`" if where else what)
    if kind == "missing":
        return _MISSING.get(key, "is required. Add it")
    if kind in ("literal_error", "enum"):
        return f"found {found}, known are {_choices(context, _value(here))}"
    if kind == "string_pattern_mismatch" or (kind == "string_too_long" and key in _PATTERNS):
        return f"found {found} -> {_PATTERNS.get(key, 'text of the form ' + str(context.get('pattern')))}. Correct it"
    if kind in _WANTED:
        return f"found {found} -> {_WANTED[kind]}. {_unquote(_value(here), _WANTED[kind])}"
    if kind == "greater_than_equal":
        return f"found {found} -> at least {context['ge']}. Correct it"
    if kind == "less_than_equal":
        return f"found {found} -> at most {context['le']}. Correct it"
    if kind == "string_too_short":
        return f"found {found} -> at least {context['min_length']} character. Write a value, or remove the field"
    if kind == "string_too_long":
        return f"found {found} -> at most {context['max_length']} characters. Shorten it"
    if kind == "value_error":
        return f"found {found} -> {context.get('error', 'another value')}. Correct it"
    return f"found {found} -> {str(detail['msg'])[:1].lower()}{str(detail['msg'])[1:]}. Correct it"


def _choices(context: Mapping[str, Any], value: Any) -> str:
    text = str(context.get("expected", "")).replace(" or ", ", ").replace("'", "")
    near = difflib.get_close_matches(str(value), text.split(", "), 1)
    return f"{text}. Did you mean `{near[0]}`?" if near else f"{text}. Choose one"


def _unquote(value: Any, wanted: str) -> str:
    if isinstance(value, str) and wanted in ("a whole number", "a number", "true or false"):
        return "Numbers and truth values stand without quotes"
    if isinstance(value, int | float) and wanted == "text":
        return "Write it in quotes"
    if isinstance(value, str) and wanted == "a list":
        return "Write it in brackets"
    return "Correct it"


def _value(here: Any) -> Any:
    if isinstance(here, Leaf):
        here = here.node
    if isinstance(here, Node):
        return plain(here)
    return here
