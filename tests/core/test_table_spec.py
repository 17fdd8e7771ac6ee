"""The row narrowed to one table."""

from __future__ import annotations

import pytest

from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import bare_name, is_selected, table_spec


def spec(**row: object) -> PipelineSpec:
    return PipelineSpec.model_validate({"name": "src", "domain": "d", "kind": "sql", "owner": "team", **row})


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("orders", "orders"),
        ("public.orders", "orders"),
        ('public."a.b"', "a.b"),
        ('"x""y"', 'x"y'),
        ('"a.b".c', "c"),
        ('s."a\nb"', "a\nb"),
    ],
)
def test_the_bare_name_is_the_last_part_unquoted(name: str, bare: str) -> None:
    assert bare_name(name) == bare


def test_the_last_matching_entry_wins_per_field_and_null_unsets() -> None:
    row = spec(
        read={"batch_rows": 10},
        tables=[
            "public.*",
            {"match": "public.o*", "read": {"mode": "window", "cursor": "at"}},
            {"match": "public.orders", "read": {"batch_rows": None}},
        ],
    )
    table = table_spec(row, "public.orders")
    assert (table.read.mode, table.read.cursor, table.read.batch_rows) == ("window", "at", 65536)
    assert table_spec(row, "public.customers").read.batch_rows == 10
    assert (table.database, table.table) == ("d", "orders")


def test_exclude_wins_over_every_match() -> None:
    row = spec(tables=["public.*", "public.a_tmp"], exclude=["*_tmp"])
    assert is_selected(row, "public.a")
    assert not is_selected(row, "public.a_tmp")
    assert not is_selected(row, "other.a")


def test_braces_that_are_no_word_stay_text() -> None:
    row = spec(target={"database": "{domain}", "table": "{{ table }}_{table}"})
    assert "orders" in table_spec(row, "public.orders").table


def test_a_table_called_like_a_word_of_the_template_keeps_its_name() -> None:
    row = spec(target={"database": "{domain}_{name}", "table": "{table}__{source_table}__{other}"})
    table = table_spec(row, "public.{source_table}")
    assert (table.database, table.table) == ("d_src", sanitise("{source_table}__public.{source_table}__{other}"))
