"""What was typed → a row; what is wrong is told field by field, and nothing typed is ever more than data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from dag_factory.onboard.domain_file import row_in, with_row
from dag_factory.onboard.form import FIELDS, read_form

LEAST = {"domain": "sales", "name": "shop", "conn_id": "shop_db"}


def refusal(**typed: Any) -> str:
    with pytest.raises(InventoryError) as caught:
        read_form({**LEAST, **typed})
    return str(caught.value)


def test_the_least_form_gives_the_least_row() -> None:
    asked = read_form(LEAST)
    assert (asked.source_id, asked.review) == ("sales.shop", True)
    assert asked.row == {"name": "shop", "kind": "sql", "conn_id": "shop_db", "tables": ["*"]}


def test_every_field_has_its_place_in_the_row() -> None:
    asked = read_form({
        "domain": "files", "name": "partners", "owner": " ann ", "description": "Lists.", "kind": "files", "conn_id": "landing",
        "path": "in/*", "tables": ["a", " ", "b*"], "exclude": ["*_tmp"], "schedule": "cron", "cron": "30 6 * * 1-5",
        "contract": "freeze", "database": "lists", "review": False,
    })  # fmt: skip
    assert asked.review is False
    assert asked.row == {
        "name": "partners", "kind": "files", "conn_id": "landing", "owner": "ann", "description": "Lists.",
        "options": {"path": "in/*"}, "tables": ["a", "b*"], "exclude": ["*_tmp"], "schedule": "30 6 * * 1-5",
        "contract": {"tables": "freeze", "columns": "freeze", "types": "freeze"}, "target": {"database": "lists"},
    }  # fmt: skip


def test_what_a_browser_sends_is_the_same_as_the_least() -> None:
    """Every field, the untouched ones with their defaults."""
    assert read_form({f.name: f.default for f in FIELDS} | LEAST) == read_form(LEAST)


def test_every_problem_is_told_at_once_by_its_field() -> None:
    told = refusal(domain="../x", name="Shop", kind="sqll", tables=[], schedule="cron", path="in", tabels=["a"], review="yes")
    for line in (
        "domain: found '../x' -> an id", "name: found 'Shop'", "kind: found 'sqll' -> one of sql, files", "tables: is empty",
        "cron: is required", "Did you mean `tables`?", "review: found 'yes' -> true or false",
    ):  # fmt: skip
        assert line in told
    assert "Cannot onboard the form: 7 problems -> none." in told


@pytest.mark.parametrize("domain", ["defaults", "platform", "", "a/b", "a\nb", "a.yaml", "__x", "é", "a" * 64, "{{ds}}"])
def test_a_domain_is_never_another_file(domain: str) -> None:
    assert "domain" in refusal(domain=domain)


@pytest.mark.parametrize("field", [f.name for f in FIELDS if f.kind in ("text", "lines")])
def test_a_credential_is_refused_and_never_quoted(field: str) -> None:
    secret = "postgresql://ann:hunter2hunter2@db.example.com/shop"
    told = refusal(**{field: [secret] if field in ("tables", "exclude") else secret})
    assert "hunter2" not in told and f"{field}: holds an address with a password" in told and "change the credential" in told


def test_a_credential_as_a_field_name_is_not_quoted_either() -> None:
    assert "hunter2" not in refusal(**{"postgresql://ann:hunter2hunter2@db/shop": "x"})


@pytest.mark.parametrize(
    "typed",
    [{"name": 5}, {"tables": "orders"}, {"tables": [1]}, {"owner": ["a"]}, {"owner": {}}, {"owner": "a" * 5000}, {"kind": ""}],
)
def test_other_types_and_sizes_are_refused(typed: dict[str, Any]) -> None:
    assert next(iter(typed)) in refusal(**typed)


TEXT = st.text(max_size=40).filter(lambda t: "\0" not in t and not any(0xD800 <= ord(c) < 0xE000 for c in t))


@pytest.mark.parametrize("half", ["\0", "\ud83d", "a\udfff"])
def test_what_no_file_can_hold_is_refused(half: str) -> None:
    told = refusal(description=half, tables=["a", half])
    assert "description: holds" in told and "tables: holds" in told and told.encode()


@given(description=TEXT, owner=TEXT, tables=st.lists(TEXT, max_size=4))
def test_any_text_is_data(description: str, owner: str, tables: list[str]) -> None:
    """YAML, Jinja, line ends, control characters: what was typed comes back out of the file, as one text in one field."""
    try:
        asked = read_form({**LEAST, "description": description, "owner": owner, "tables": [*tables, "x"]})
    except InventoryError as error:
        assert "holds" in str(error)  # looks like a credential
        return
    data = with_row(None, "inventory/sales.yaml", asked.row)
    assert row_in(data, "inventory/sales.yaml", "shop") == dict(asked.row)
