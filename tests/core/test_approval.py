"""What an answer about held drift means, change by change, and that an approval stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_dataops.core.approval import Approval, columns_at_work, plan_approval
from airflow_dataops.core.drift import Change, change_of_json
from airflow_dataops.core.drift_plan import plan_drift
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.types_text import type_to_text
from tests.core.test_drift import SITUATIONS, observed, said, schema

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "drift" / "approval.yaml").read_text(encoding="utf-8"))
KNOWN = {
    "name",
    "contract",
    "table",
    "source",
    "required",
    "at_work",
    "answer",
    "hold",
    "approved",
    "why",
    "apply",
    "after",
    "names",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    assert set(case) <= KNOWN
    table, source, contract = schema(case.get("table")), observed(case["source"]), ContractSpec(**case.get("contract", {}))
    required = case.get("required", ())
    held = plan_drift(table, source, contract, required=required).hold
    assert list(said(held)) == case["hold"]
    if "why" in case:
        with pytest.raises(InventoryError, match=case["why"]):
            plan_approval(held, case["answer"], case.get("at_work", {}))
        return
    approved = plan_approval(held, case["answer"], case.get("at_work", {}))
    assert [" ".join(filter(None, (a.change, a.name, a.how, a.type))) for a in approved] == case["approved"]
    assert tuple(Approval.of_json(a.to_json()) for a in approved) == approved
    plan = plan_drift(table, source, contract, required=required, approved=approved)
    assert (plan.hold, list(said(plan.apply))) == ((), case["apply"])
    assert {c.name: type_to_text(c.type) for c in plan.schema} == case["after"]
    if "names" in case:
        assert dict(plan.names) == case["names"]
    again = plan_drift(plan.schema, source, contract, required=required, approved=approved)
    assert again.hold == (), "the next run is not held for the same drift"
    if table is not None:
        back = plan_drift(plan.schema, table, contract, required=required, approved=approved)
        assert not [c for c in back.hold if c.change == "column_retyped"], "nor when the source goes back"


def test_every_change_goes_through_the_ledger_unharmed() -> None:
    seen: set[str] = set()
    for situation in SITUATIONS.values():
        plan = plan_drift(
            schema(situation["table"]), observed(situation["source"]), ContractSpec(),
            required=situation.get("required", ()), previous=schema(situation.get("previous")),
        )  # fmt: skip
        for change in (*plan.apply, *plan.hold):
            assert change_of_json(change.to_json()) == change
            seen.add(change.change)
    told = {"comment_changed", "name_refused", "column_retired", "table_gone", "table_returned", "trait_changed"}
    told.add("column_renamed")  # none of these is ever held
    assert {c.change for c in Change.__subclasses__()} - seen <= told


def test_an_approval_is_of_its_column_and_type_only() -> None:
    contract = ContractSpec(columns="freeze", types="freeze")
    table, source = schema({"a": "int32", "n": "int32"}), observed({"a": "int64", "n": "decimal(12,0)", "b": "string"})
    given = (Approval("type_widened", "n", type="int64"), Approval("column_retyped", "a", "text"), Approval("column_added", "c"))
    assert len(plan_drift(table, source, contract, approved=given).hold) == 3


def test_columns_at_work_are_named_as_the_lake_names_them() -> None:
    found = columns_at_work(keys=["ID"], order="At", cursor=None, partitions=["Country Code"])
    assert found == {"id": "key", "at": "the order of its rows", "country_x0020_code": "partition"}
