"""Which type holds the values of two."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import types as pt

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fit import fit, untyped_values
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.storable import storable
from airflow_dataops.core.types_text import type_from_text, type_to_text
from tests.core.arrow_values import SCALARS, columns, types

CASES = Path(__file__).parents[1] / "cases" / "promotion"
CONTRACTS = {
    "default": ContractSpec(),
    "date_to_timestamp": ContractSpec(date_to_timestamp=True),
    "to_string_widen": ContractSpec(to_string="widen"),
    "to_string_widen_and_date_to_timestamp": ContractSpec(to_string="widen", date_to_timestamp=True),
    "to_string_shadow_column": ContractSpec(to_string="shadow_column"),
}
contracts = st.sampled_from(list(CONTRACTS.values()))


def table_of(contract: ContractSpec, texts: list[str]) -> dict[str, dict[str, list[str]]]:
    """have → outcome → incoming types; the outcome is `same`, `narrower`, or the type it widens to. Not there: held."""
    table: dict[str, dict[str, list[str]]] = {}
    for have in texts:
        for incoming in texts:
            promotion = promote(type_from_text(have), type_from_text(incoming), contract)
            if promotion is not None:
                outcome = type_to_text(promotion.type) if promotion.how == "widen" else promotion.how
                table.setdefault(have, {}).setdefault(outcome, []).append(incoming)
    return table


@cache
def golden(name: str) -> Any:
    return yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))


def test_every_pair_of_types() -> None:
    texts = list(golden("default"))
    assert {type_to_text(t) for t in (*SCALARS, pa.null())} <= set(texts), "a supported type is missing from the golden file"
    assert table_of(CONTRACTS["default"], texts) == golden("default")


@pytest.mark.parametrize("policy", ["date_to_timestamp", "to_string_widen"])
def test_every_pair_that_a_policy_changes(policy: str) -> None:
    texts = list(golden("default"))
    before, after = table_of(CONTRACTS["default"], texts), table_of(CONTRACTS[policy], texts)
    changed: dict[str, dict[str, list[str]]] = {}
    for have, outcomes in after.items():
        for outcome, found in outcomes.items():
            new = [t for t in found if t not in before[have].get(outcome, [])]
            if new:
                changed.setdefault(have, {})[outcome] = new
    assert changed == golden(policy)


def unordered(t: pa.DataType) -> pa.DataType:
    if pt.is_struct(t):
        return pa.struct(sorted(((t.field(i).name, unordered(t.field(i).type)) for i in range(t.num_fields)), key=lambda f: f[0]))
    if pt.is_list(t):
        return pa.list_(unordered(t.value_type))
    return pa.map_(unordered(t.key_type), unordered(t.item_type)) if pt.is_map(t) else t


def joined(a: pa.DataType | None, b: pa.DataType | None, contract: ContractSpec) -> pa.DataType | None:
    if a is None or b is None:
        return None
    promotion = promote(a, b, contract)
    return None if promotion is None else promotion.type


@given(types(), types(), contracts)
def test_the_order_of_arrival_does_not_matter(a: pa.DataType, b: pa.DataType, contract: ContractSpec) -> None:
    one, other = joined(a, b, contract), joined(b, a, contract)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert unordered(storable(one)) == unordered(storable(other))


@given(types(1), types(1), types(1), contracts)
def test_promotion_is_associative(a: pa.DataType, b: pa.DataType, c: pa.DataType, contract: ContractSpec) -> None:
    left, right = joined(joined(a, b, contract), c, contract), joined(a, joined(b, c, contract), contract)
    if left is not None and right is not None:
        assert unordered(storable(left)) == unordered(storable(right))
    elif joined(a, b, contract) is not None and joined(b, c, contract) is not None:
        assert left is right is None


@given(st.data(), types(), types(), contracts)
def test_promotion_never_narrows(data: st.DataObject, a: pa.DataType, b: pa.DataType, contract: ContractSpec) -> None:
    promotion = promote(a, b, contract)
    assume(promotion is not None and "[ns" not in type_to_text(promotion.type))  # nanoseconds end in 2262: test_fit
    assert promotion is not None
    for t in (a, b):
        column = data.draw(columns(t, 4))
        if untyped_values(column) is None:  # `[]` of nothing knows no type yet
            fitted = fit(column, storable(promotion.type))
            assert fitted.unfit is None
            assert fitted.values.is_valid() == column.is_valid()


@given(types(), contracts)
def test_a_type_joins_itself_and_the_untyped(t: pa.DataType, contract: ContractSpec) -> None:
    for incoming in (t, storable(t)):
        promotion = promote(t, incoming, contract)
        assert promotion is not None and storable(promotion.type) == storable(t)
    promotion = promote(pa.null(), t, contract)
    assert promotion is not None and storable(promotion.type) == storable(t)


@given(types(), types(), contracts)
def test_how_says_what_happens_to_the_column(a: pa.DataType, b: pa.DataType, contract: ContractSpec) -> None:
    promotion = promote(a, b, contract)
    if promotion is None:
        return
    assert (promotion.how == "widen") == (promotion.type != a)
    if promotion.how == "narrower":
        back = promote(storable(b), a, contract)
        assert back is not None and back.how == "widen"


@given(types())
def test_what_is_stored_can_be_stored(t: pa.DataType) -> None:
    assert storable(storable(t)) == storable(t)
    assert type_from_text(type_to_text(storable(t))) == storable(t)


def test_struct_fields_are_matched_by_lake_name_and_appended() -> None:
    have = pa.struct([("id", pa.int32()), ("old", pa.string())])
    incoming = pa.struct([("NEW", pa.date32()), ("ID", pa.int64())])
    promotion = promote(have, incoming)
    assert promotion is not None and promotion.how == "widen"
    assert promotion.type == pa.struct([("id", pa.int64()), ("old", pa.string()), ("new", pa.date32())])
    with pytest.raises(InventoryError, match="'id' and 'ID'"):
        storable(pa.struct([("id", pa.int32()), ("ID", pa.int32())]))


def test_a_union_is_refused_with_what_to_do() -> None:
    with pytest.raises(InventoryError, match="Cast it"):
        storable(pa.dense_union([pa.field("a", pa.int64())]))


@pytest.mark.parametrize(
    ("source", "stored"),
    [
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.run_end_encoded(pa.int32(), pa.uint64()), pa.decimal128(20, 0)),
        (pa.uuid(), pa.binary()),
        (pa.bool8(), pa.bool_()),
        (pa.string_view(), pa.string()),
        (pa.decimal128(5, -2), pa.decimal128(7, 0)),
        (pa.decimal128(38, -1), pa.string()),
        (pa.list_(pa.null()), pa.null()),
        (pa.large_list(pa.uint8()), pa.list_(pa.int16())),
        (pa.struct([("a", pa.null()), ("B c", pa.time64("us"))]), pa.struct([("b_x0020_c", pa.string())])),
        (pa.date64(), pa.date32()),
        (pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("ms", "UTC")),
    ],
    ids=str,
)
def test_stored_as(source: pa.DataType, stored: pa.DataType) -> None:
    assert storable(source) == stored
