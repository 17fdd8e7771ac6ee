"""What drift is, and what a contract makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import types as pt

from airflow_dataops.core.drift import Change, diff
from airflow_dataops.core.drift_plan import NO_TABLE, DriftPlan, apply_drift, plan_drift
from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.core.naming import plan_names, sanitise
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.storable import storable
from airflow_dataops.core.types_text import type_from_text, type_to_text
from tests.core.arrow_values import names, types

CASES = Path(__file__).parents[1] / "cases" / "drift"
BEHAVIOURS = yaml.safe_load((CASES / "behaviours.yaml").read_text(encoding="utf-8"))
CONTRACT = yaml.safe_load((CASES / "contract.yaml").read_text(encoding="utf-8"))
KNOWN = {
    *("name", "contract", "table", "source", "previous", "required", "reserved"),
    *("apply", "hold", "refuse", "discard", "after", "names", "untyped", "renames"),
}


def schema(columns: dict[str, str] | None) -> TableSchema | None:
    if columns is None:
        return None
    return TableSchema(tuple(Column(name, type_from_text(text)) for name, text in columns.items()))


def observed(columns: dict[str, str]) -> TableSchema:
    found = schema(columns)
    assert found is not None
    return found


def said(changes: tuple[Change, ...]) -> list[str]:
    return [f"{c.change} {getattr(c, 'name', '')}".strip() for c in changes]


@pytest.mark.parametrize("case", BEHAVIOURS, ids=lambda case: case["name"])
def test_behaviour(case: dict[str, Any]) -> None:
    assert set(case) <= KNOWN
    table = schema(case.get("table"))
    plan = plan_drift(
        table,
        observed(case["source"]),
        ContractSpec(**case.get("contract", {})),
        required=case.get("required", ()),
        reserved=case.get("reserved", ()),
        previous=schema(case.get("previous")) if "previous" in case else table,
    )
    found = {"apply": plan.apply, "hold": plan.hold, "refuse": plan.refuse, "discard": plan.dead_letter}
    assert {what: said(changes) for what, changes in found.items()} == {what: case.get(what, []) for what in found}
    assert {c.name: type_to_text(c.type) for c in plan.schema} == case["after"]
    assert list(plan.schema.names) == list(case["after"])
    assert list(plan.untyped) == case.get("untyped", [])
    assert [f"{r.before} {r.after}" for r in plan.renames] == case.get("renames", [])
    if "names" in case:
        assert dict(plan.names) == case["names"]
    assert apply_drift(table, plan) == plan.schema


SITUATIONS: dict[str, dict[str, Any]] = {
    "table_created": {"table": None, "source": {"a": "int32"}},
    "column_added": {"table": {"a": "int32"}, "source": {"a": "int32", "b": "string"}},
    "type_widened": {"table": {"a": "int32"}, "source": {"a": "int64"}},
    "column_retyped": {"table": {"a": "int32"}, "source": {"a": "string"}},
    "type_narrowed": {"table": {"a": "int64"}, "source": {"a": "int32"}},
    "column_vanished": {"table": {"a": "int32", "b": "string"}, "source": {"a": "int32"}},
    "column_returned": {"table": {"a": "int32"}, "source": {"a": "int32"}, "previous": {"z": "int32"}},
    "comment_changed": {"table": {"a": "int32"}, "source": {"a": "int32"}, "comment": "net of tax"},
    "required_gone": {"table": {"a": "int32", "b": "string"}, "source": {"a": "int32"}, "required": ["b"]},
}


@pytest.mark.parametrize(("change", "policy"), [(change, policy) for change, row in CONTRACT.items() for policy in row])
def test_contract_cell(change: str, policy: str) -> None:
    situation = SITUATIONS[change]
    source = observed(situation["source"])
    source = TableSchema((Column("a", source.columns[0].type, comment=situation.get("comment", "")), *source.columns[1:]))
    contract = {"columns": policy, "types": policy} | ({"tables": policy} if policy != "discard_value" else {})
    plan = plan_drift(
        schema(situation["table"]),
        source,
        ContractSpec(**contract),
        required=situation.get("required", ()),
        previous=schema(situation.get("previous")),
    )
    lists = {"apply": plan.apply, "hold": plan.hold, "refuse": plan.refuse, "discard": plan.dead_letter}
    assert [what for what, changes in lists.items() if change in {c.change for c in changes}] == [CONTRACT[change][policy]]
    before = schema(situation["table"])
    if CONTRACT[change][policy] != "apply":
        assert {(c.name, c.type) for c in plan.schema} == {(c.name, c.type) for c in before or ()}


def test_every_change_is_in_the_contract_table() -> None:
    assert set(SITUATIONS) == set(CONTRACT)
    planned = {c.change for c in Change.__subclasses__() if c.__module__ == Change.__module__}
    assert planned - {"name_refused", "column_renamed"} == set(CONTRACT)


@st.composite
def schemas(draw: st.DrawFn) -> TableSchema:
    """What a source may show: any names that do not meet, any supported types."""
    spelled = draw(st.lists(names, max_size=5, unique_by=sanitise))
    return TableSchema(tuple(Column(name, draw(types(1)), comment=draw(st.text(max_size=3))) for name in spelled))


@st.composite
def drifted(draw: st.DrawFn, before: TableSchema) -> TableSchema:
    """The same source later: columns reordered, gone, retyped, new."""
    kept = [c for c in draw(st.permutations(before.columns)) if draw(st.integers(0, 4))]
    retyped = [Column(c.name, draw(st.one_of(st.just(c.type), types(1)))) for c in kept]
    taken = {sanitise(c.name) for c in retyped}
    new = [c for c in draw(schemas()) if sanitise(c.name) not in taken]
    return TableSchema((*retyped, *new))


contracts = st.builds(
    ContractSpec,
    tables=st.sampled_from(["evolve", "freeze", "discard_row"]),
    columns=st.sampled_from(["evolve", "evolve", "freeze", "discard_row", "discard_value"]),
    types=st.sampled_from(["evolve", "evolve", "freeze", "discard_row", "discard_value"]),
    date_to_timestamp=st.booleans(),
    to_string=st.sampled_from(["hold", "widen", "shadow_column"]),
)


def first(source: TableSchema) -> TableSchema:
    return apply_drift(None, plan_drift(None, source, ContractSpec()))


def conforms(schema: TableSchema, source: TableSchema, plan: DriftPlan, contract: ContractSpec) -> bool:
    """Every typed column of the source has a column that takes all its values as they are."""
    for column in source:
        if pt.is_null(storable(column.type)):
            continue
        have = schema.get(plan.names[column.name])
        into = None if have is None else promote(have.type, column.type, contract)
        is_shadow = have is not None and have.name != sanitise(column.name) and pt.is_string(have.type)
        if not is_shadow and (into is None or (into.how == "widen" and storable(into.type) != have.type)):
            return False
    return True


@given(st.data(), schemas(), contracts)
def test_after_the_plan_the_table_takes_what_the_source_shows(
    data: st.DataObject, source: TableSchema, contract: ContractSpec
) -> None:
    table, later = first(source), data.draw(drifted(source))
    plan = plan_drift(table, later, contract)
    after = apply_drift(table, plan)
    assert after == plan.schema
    if not plan.hold and not plan.dead_letter and not plan.refuse:
        assert conforms(after, later, plan, contract)
        again = plan_drift(after, later, contract, previous=later)
        assert not again.hold and not [c for c in again.apply if c.change not in ("type_narrowed", "comment_changed")]
        assert apply_drift(after, again).fingerprint == after.fingerprint


@given(st.data(), schemas(), contracts)
def test_ddl_only_appends_and_widens(data: st.DataObject, source: TableSchema, contract: ContractSpec) -> None:
    table, later = first(source), data.draw(drifted(source))
    after = plan_drift(table, later, contract).schema
    assert after.names[: len(table)] == table.names
    for before, now in zip(table, after, strict=False):
        promotion = promote(before.type, now.type, contract)
        assert promotion is not None and promotion.type == now.type


@given(st.data(), schemas(), contracts)
def test_every_change_is_in_exactly_one_list(data: st.DataObject, source: TableSchema, contract: ContractSpec) -> None:
    table, later = first(source), data.draw(drifted(source))
    plan = plan_drift(table, later, contract)
    planned = [*plan.apply, *plan.hold, *plan.refuse, *plan.dead_letter]
    if contract.to_string != "shadow_column":
        assert sorted(map(str, planned)) == sorted(map(str, diff(table, later, contract)))
    assert dict(plan.names).keys() == set(later.names)
    json.dumps(plan.to_json())


@given(schemas())
def test_a_source_that_did_not_change_shows_no_change(source: TableSchema) -> None:
    table = first(source)
    plan = plan_drift(table, source, ContractSpec(columns="freeze", types="freeze"))
    assert plan.is_nothing, said(diff(table, source))
    shuffled = TableSchema(tuple(reversed(source.columns)))
    assert plan_drift(table, shuffled, ContractSpec()).is_nothing


def test_two_source_names_in_one_lake_name_are_refused_naming_both() -> None:
    with pytest.raises(InventoryError, match=r"'Id' and 'ID'"):
        plan_drift(None, observed({"Id": "int64", "ID": "int64"}), ContractSpec())


def test_a_plan_is_refused_by_another_table() -> None:
    table = first(observed({"a": "int32"}))
    plan = plan_drift(table, observed({"a": "int64"}), ContractSpec())
    with pytest.raises(ConflictError, match="Plan again"):
        apply_drift(first(observed({"a": "int32", "b": "string"})), plan)
    with pytest.raises(ConflictError):
        apply_drift(None, plan)
    created = plan_drift(None, observed({"a": "int64"}), ContractSpec())
    assert created.assumes == NO_TABLE
    with pytest.raises(ConflictError):
        apply_drift(table, created)


def test_a_comment_of_400_characters_is_cut_at_the_metastores_256() -> None:
    source = TableSchema((Column("a", pa.int64(), comment="x" * 400),))
    table = first(source)
    assert table.columns[0].comment == "x" * 256
    assert plan_drift(table, source, ContractSpec()).is_nothing


def test_the_original_name_is_kept() -> None:
    table = first(observed({"Order Date": "date", "id": "int64"}))
    assert [(c.name, c.source_name, c.origin) for c in table] == [
        ("order_x0020_date", "Order Date", "Order Date"),
        ("id", None, "id"),
    ]
    assert plan_names(["Order Date"]) == {"Order Date": "order_x0020_date"}


def test_a_change_says_what_it_is() -> None:
    (change,) = diff(first(observed({"a": "int32"})), observed({"a": "int64"}))
    assert change.to_json() == {
        "change": "type_widened", "kind": "structural", "name": "a", "before": "int32", "incoming": "int64", "after": "int64",
    }  # fmt: skip
    assert str(change) == "column 'a' int32 -> int64"
