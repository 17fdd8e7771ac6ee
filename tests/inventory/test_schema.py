"""The generated files are fresh, and editors judge as lint does."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from airflow_dataops.core.options import OPTION_MODELS
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.sources import KINDS
from dag_factory.inventory.describe import FIELDS
from dag_factory.inventory.not_yet import NOT_YET
from dag_factory.inventory.schema import PAGE_FILE, SCHEMA_FILE, inventory_schema, row_page, schema_text

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "inventory"


def test_the_schema_file_is_fresh() -> None:
    """`python -m dag_factory.inventory.schema` writes it."""
    assert (ROOT / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()


def test_the_reference_page_is_fresh() -> None:
    assert (ROOT / PAGE_FILE).read_text(encoding="utf-8") == row_page()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(inventory_schema())


def test_every_kind_that_opens_has_options_and_the_other_way_round() -> None:
    assert set(OPTION_MODELS) == set(KINDS)


def test_every_option_and_platform_field_is_described() -> None:
    for model in (*OPTION_MODELS.values(), PlatformSpec):
        assert all(field.description for field in model.model_fields.values()), model


def test_every_field_that_waits_is_a_field() -> None:
    assert set(NOT_YET) <= set(FIELDS)


@pytest.mark.parametrize("file", sorted((ROOT / "inventory").glob("*.yaml")), ids=lambda f: f.name)
def test_the_sample_inventory_is_valid_for_an_editor(file: Path) -> None:
    schema = inventory_schema()
    if file.name in ("defaults.yaml", "platform.yaml"):
        schema = {**schema["$defs"][f"{file.stem.capitalize()}File"], "$defs": schema["$defs"]}
    data = json.loads(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), default=str))
    jsonschema.Draft202012Validator(schema).validate(data)


@pytest.mark.parametrize("wrong", [{"shedule": "@daily"}, {"read": {"mode": "windows"}}, {"options": {"path": "x"}}, {"limits": 3}])
def test_an_editor_refuses_what_lint_refuses(wrong: dict[str, object]) -> None:
    good = {"name": "a", "kind": "sql", "conn_id": "pg", "owner": "me"}
    validator = jsonschema.Draft202012Validator(inventory_schema())
    assert validator.is_valid({"sources": [good]})
    assert not validator.is_valid({"sources": [{**good, **wrong}]})
