"""Keep, mask, hash, drop."""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.fit import fit
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.privacy import Action, apply_privacy, digest_text, plan_privacy, privacy_schema
from airflow_dataops.core.promotion import promote
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import ContractSpec, PrivacySpec
from airflow_dataops.core.storable import storable
from tests.core.arrow_values import batches, columns, types

KEY = b"a secret of the row"


def hashed(array: pa.Array, key: bytes = KEY) -> list[str | None]:
    result = apply_privacy(pa.record_batch({"c": array}), {"c": "hash"}, key).column("c")
    assert result.type == pa.string()
    return list(result.to_pylist())


def masked(array: pa.Array) -> pa.Array:
    return apply_privacy(pa.record_batch({"c": array}), {"c": "mask"}, None).column("c")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, ["keep", "keep", "keep"]),
        ({"email": "hash"}, ["hash", "keep", "keep"]),
        ({"*": "drop", "email": "keep"}, ["keep", "drop", "drop"]),
        ({"email": "keep", "*": "mask"}, ["mask", "mask", "mask"]),
        ({"Home Address": "mask"}, ["keep", "mask", "keep"]),
        ({"home_x0020_address": "mask"}, ["keep", "mask", "keep"]),
        ({"Phone[1]": "drop"}, ["keep", "keep", "drop"]),
        ({"phone*": "drop"}, ["keep", "keep", "drop"]),
    ],
    ids=str,
)
def test_the_last_rule_that_matches_either_spelling_wins(rules: dict[str, Action], expected: list[str]) -> None:
    names = ["email", "Home Address", "Phone[1]"]
    assert list(plan_privacy(names, PrivacySpec(columns=rules)).values()) == expected


def test_what_nobody_classified_is_masked_when_the_row_asks() -> None:
    privacy = PrivacySpec(mode="mask_unclassified", columns={"id": "keep"})
    assert plan_privacy(["id", "new"], privacy) == {"id": "keep", "new": "mask"}


def test_a_mask_hides_the_value_and_keeps_the_type() -> None:
    assert masked(pa.array(["ann@example.org", None, ""])).to_pylist() == ["***", None, "***"]
    assert masked(pa.array(["ann"], pa.large_string())).type == pa.large_string()
    assert masked(pa.array(["ann", None]).dictionary_encode()).to_pylist() == ["***", None]
    for array in (pa.array([42]), pa.array([dt.date(1990, 1, 1)]), pa.array([b"x"]), pa.array([["ann"]]), pa.array([True])):
        assert masked(array).to_pylist() == [None] and masked(array).type == array.type


def test_a_digest_is_blake2b_of_128_bits_with_the_key() -> None:
    expected = hashlib.blake2b(b"text\0ann", digest_size=16, key=KEY).hexdigest()
    assert hashed(pa.array(["ann", None, "ann"])) == [expected, None, expected]
    assert digest_text("ann", KEY) == expected
    assert hashed(pa.array(["ann"]), b"another secret") != [expected]
    assert len(set(hashed(pa.array(["ann", "Ann", "ann ", ""])))) == 4
    assert hashed(pa.array(["ann"]), b"k" * 200) != hashed(pa.array(["ann"]), b"k" * 201)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (pa.array([5], pa.int8()), pa.array([5], pa.int64())),
        (pa.array([5], pa.uint64()), pa.array([Decimal("5.00")])),
        (pa.array([Decimal("1.50")]), pa.array([Decimal("1.500000")])),
        (pa.array([0.5], pa.float32()), pa.array([0.5], pa.float64())),
        (pa.array([-0.0]), pa.array([0.0])),
        (pa.array([float("nan")], pa.float32()), pa.array([float("nan")])),
        (pa.array([0], pa.timestamp("s")), pa.array([0], pa.timestamp("ns"))),
        (pa.array([dt.date(2024, 5, 1)]), pa.array([dt.datetime(2024, 5, 1)], pa.timestamp("us"))),
        (pa.array([0], pa.timestamp("us", "UTC")), pa.array([0], pa.timestamp("us", "Asia/Tokyo"))),
        (pa.array(["a"]), pa.array(["a"]).dictionary_encode()),
        (pa.array([b"ab"], pa.binary(2)), pa.array([b"ab"])),
    ],
    ids=str,
)
def test_a_widened_value_keeps_its_digest(narrow: pa.Array, wide: pa.Array) -> None:
    assert hashed(narrow) == hashed(wide)


@given(st.data(), types(1), types(1))
def test_promotion_never_changes_a_digest(data: st.DataObject, a: pa.DataType, b: pa.DataType) -> None:
    promotion = promote(a, b, ContractSpec(date_to_timestamp=True))
    if promotion is None or pa.types.is_nested(promotion.type) or pa.types.is_nested(a) or pa.types.is_null(a):
        return
    column = data.draw(columns(a, 3))
    fitted = fit(column, storable(promotion.type))
    if fitted.unfit is None and not pa.types.is_string(fitted.values.type):
        assert hashed(fitted.values) == hashed(column)


def test_values_of_other_kinds_have_other_digests() -> None:
    arrays = [
        pa.array(["5"]), pa.array([5]), pa.array([5.0]), pa.array([b"5"]), pa.array([True]), pa.array([5], pa.time32("s")),
        pa.array([5], pa.timestamp("s")), pa.array([5], pa.timestamp("s", "UTC")), pa.array([5], pa.duration("s")), pa.array([[5]]),
    ]  # fmt: skip
    digests = [digest for array in arrays for digest in hashed(array)]
    assert len(set(digests)) == len(arrays)


@given(st.data(), types(1))
def test_equal_values_have_equal_digests_and_others_others(data: st.DataObject, t: pa.DataType) -> None:
    column = data.draw(columns(t, 4))
    if pa.types.is_null(t):
        return
    digests = hashed(column)
    assert [d is None for d in digests] == [not v.is_valid for v in column]
    assert hashed(column.take(pa.array([3, 2, 1, 0]))) == digests[::-1]
    if not pa.types.is_nested(t) and not pa.types.is_floating(t):
        distinct = column.dictionary_encode().dictionary if t != pa.month_day_nano_interval() else set(column.to_pylist()) - {None}
        assert len(set(digests) - {None}) == len(distinct)


@pytest.mark.parametrize("key", [None, b""])
def test_without_a_key_nothing_is_hashed(key: bytes | None) -> None:
    with pytest.raises(InventoryError, match="key_conn_id"):
        apply_privacy(pa.record_batch({"c": ["x"]}), {"c": "hash"}, key)


def test_a_column_without_a_decision_is_refused() -> None:
    with pytest.raises(InventoryError, match="'new' was not planned"):
        apply_privacy(pa.record_batch({"c": ["x"], "new": ["y"]}), {"c": "keep"}, None)
    with pytest.raises(InventoryError, match="every column is dropped"):
        apply_privacy(pa.record_batch({"c": ["x"]}), {"c": "drop"}, None)


@given(st.data(), batches())
def test_the_schema_is_that_of_the_data(data: st.DataObject, records: pa.RecordBatch) -> None:
    rules = {name: data.draw(st.sampled_from(["keep", "mask", "hash", "drop"])) for name in records.schema.names[1:]}
    actions = plan_privacy(records.schema.names, PrivacySpec(columns={}))
    actions.update(rules)
    result = apply_privacy(records, actions, KEY)
    planned = privacy_schema(TableSchema.of_arrow(records.schema), actions)
    assert [(c.name, c.type) for c in planned] == [(f.name, f.type) for f in result.schema]
    assert result.num_rows == records.num_rows
    for name in records.schema.names:
        if actions[name] == "keep":
            # As text: Arrow's `equals` holds a NaN of half precision to be unlike itself, Python has no nanoseconds.
            kept, given = (one.column(name).to_string(window=records.num_rows) for one in (result, records))
            assert kept == given


def test_a_dropped_key_is_no_key() -> None:
    schema = TableSchema((Column("id", pa.int64()), Column("name", pa.string())), keys=("id", "name"))
    assert privacy_schema(schema, {"id": "keep", "name": "drop"}) == TableSchema((Column("id", pa.int64()),), keys=("id",))
    assert sanitise("id") == "id"
