"""JSON Schema of a domain file, for editors, and the reference page of a row: both made from the models.

python -m dag_factory.inventory.schema          write docs/inventory.schema.json and docs/reference/row.md
"""

from __future__ import annotations

import copy
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from airflow_dataops.core.options import OPTION_MODELS
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PartitionSpec, SourceSpec, Spec
from dag_factory.inventory.describe import FIELDS
from dag_factory.inventory.narrow import PARTS
from dag_factory.inventory.not_yet import NOT_YET

SCHEMA_FILE, PAGE_FILE = Path("docs/inventory.schema.json"), Path("docs/reference/row.md")

_MODELS: dict[str, type[Spec]] = {
    "": SourceSpec,
    **PARTS,
    "target.partition_by": PartitionSpec,
    "dead_letters": typing.cast("type[Spec]", SourceSpec.model_fields["dead_letters"].annotation),
    "limits": typing.cast("type[Spec]", SourceSpec.model_fields["limits"].annotation),
}
"""Where a model stands in a row."""


def inventory_schema() -> dict[str, Any]:
    """The schema of a domain file; `$defs/DefaultsFile` and `$defs/PlatformFile` are those of the other two files."""
    defs: dict[str, Any] = {}
    source = _schema_of(SourceSpec, defs)
    for path, model in _MODELS.items():
        _describe(source if not path else defs[model.__name__], path)
    for kind, model in OPTION_MODELS.items():
        defs[model.__name__] = _schema_of(model, defs)
        source.setdefault("allOf", []).append(
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"properties": {"options": {"$ref": f"#/$defs/{model.__name__}"}}},
            }
        )
    source["properties"]["kind"]["enum"] = sorted(OPTION_MODELS)
    source["required"] = ["name"]  # the rest may come from defaults, which an editor does not see
    for part in PARTS:
        defs["TableEntry"]["properties"][part] = {
            "$ref": f"#/$defs/{PARTS[part].__name__}",
            "description": f"What differs in `{part}` for these tables.",
        }
    defs["TableEntry"]["properties"]["match"]["description"] = FIELDS["tables.match"]
    defaults = copy.deepcopy(source)
    for name in ("name", "renamed_from"):
        del defaults["properties"][name]
    for key in ("required", "allOf"):
        defaults.pop(key, None)
    defaults |= {"title": "Defaults", "description": "Fields that rows inherit."}
    defs |= {"Source": source, "Defaults": defaults, "DefaultsFile": _nullable(defaults, {"version": {"const": 1}})}
    defs["PlatformFile"] = _schema_of(PlatformSpec, defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Inventory of one domain",
        "description": "One row per data source. The file is named like the domain.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "version": {"const": 1, "default": 1, "description": "Version of this file's form."},
            "domain": {"type": "string", "description": "The file's name without `.yaml`."},
            "defaults": {"$ref": "#/$defs/Defaults"},
            "sources": {"type": "array", "items": {"$ref": "#/$defs/Source"}, "description": "The rows."},
        },
        "$defs": dict(sorted(defs.items())),
    }


def _schema_of(model: type[BaseModel], defs: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(model).json_schema(by_alias=True, ref_template="#/$defs/{model}")
    defs |= schema.pop("$defs", {})
    return schema


def _nullable(schema: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(schema)
    result["properties"] |= more
    return result


def _describe(schema: dict[str, Any], path: str) -> None:
    for name, field in schema["properties"].items():
        field["description"] = FIELDS[f"{path}.{name}" if path else name]
        field.pop("title", None)


def row_page() -> str:
    """The reference page of a row, as Markdown."""
    lines = [
        "# The fields of a row",
        "",
        "Made from the models by `python -m dag_factory.inventory.schema`; do not edit. What goes with what, and what a",
        "backfilled period means: `dataops lint` says it for a row, with the reason. Unknown fields are refused.",
        "Values come from, the later the stronger: built-in, `defaults.yaml`, the file's `defaults:`, the row, its `tables:`",
        "entries; maps merge, lists replace, `null` goes back to the built-in value. `dataops explain SOURCE` shows each",
        "value with its place.",
    ]
    for path, model in _MODELS.items():
        lines += ["", f"## {'A row' if not path else f'`{path}`'}", ""]
        if path in FIELDS:
            lines += [FIELDS[path], ""]
        lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
        lines += _rows(model, path)
    lines += ["", "## An entry of `tables`", "", FIELDS["tables.match"].replace("this entry is", "an entry is")]
    lines += ["", f"`match` is required; {', '.join(f'`{part}`' for part in PARTS)} may say what differs."]
    for kind, model in OPTION_MODELS.items():
        lines += ["", f"## `options` of `kind: {kind}`", "", "| field | value | default | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description} |"
            for name, field in model.model_fields.items()
        ]
    return "\n".join(lines) + "\n"


def _rows(model: type[Spec], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        written = field.alias or name
        dotted = f"{path}.{written}" if path else written
        later = " *Not available yet.*" if dotted in NOT_YET and NOT_YET[dotted][0] in (None, ()) else ""
        yield f"| `{written}` | {_type(field.annotation)} | {_default(field)} | {FIELDS[dotted]}{later} |"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "unset"
    if hasattr(value, "isoformat"):
        return f"`{value.isoformat()}`"
    return f"`{json.dumps(value)}`"


def _type(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin is typing.Annotated:
        return _type(args[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a) for a in args if a is not type(None))
    if origin is tuple:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return f"map of {_type(args[0])} to {_type(args[1])}" if args[1] is not Any else "map"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if annotation in names:
        return names[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "map"
    return str(getattr(annotation, "__name__", annotation))


def schema_text() -> str:
    """The schema file's content."""
    return json.dumps(inventory_schema(), indent=2, ensure_ascii=False) + "\n"


def write(root: Path) -> None:
    """Writes both files below the project's root."""
    for file, text in ((SCHEMA_FILE, schema_text()), (PAGE_FILE, row_page())):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2])
