"""Columns that go on under another name: no value is lost, none is made up, and what cannot be one column is refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.approval import APPROVE, Approval, TableNow, plan_approval, plan_renames, renames_of
from airflow_dataops.core.continued import Rename, fold, lake_columns, moved_hidden, plan_folding, privacy_under
from airflow_dataops.core.drift import ColumnAdded, ColumnRenamed, RequiredGone, TypeWidened
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.renames import RenameSuggestion, likely
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.shown import Fact, Shown, Sight, look
from airflow_dataops.core.spec import PrivacySpec

NM = Rename("cust_x0020_nm", "cust_x0020_name", "Cust Nm", "Cust Name")
A_C, B_C = Rename("a", "c", "a", "c"), Rename("a", "d", "a", "d")
NOW = TableNow((), {"id", "c"}, {}, {})


def named(**columns: Any) -> TableSchema:
    return TableSchema.of_arrow(pa.schema(list(columns.items())))


@given(
    st.lists(st.tuples(*[st.none() | st.integers(0, 2)] * 3), max_size=12),
    st.sampled_from([("a",), ("c",), ("c", "d"), ("c", "a", "d")]),
)
def test_every_row_is_one_value_of_its_names_or_a_letter_with_both(rows: list[tuple[Any, ...]], names: tuple[str, ...]) -> None:
    data = {name: pa.array([row[i] for row in rows], pa.int32() if name == "c" else pa.int64()) for i, name in enumerate(names)}
    records = pa.RecordBatch.from_pydict({"id": pa.array(range(len(rows)), pa.int64()), **data})
    folded = fold(records, plan_folding(TableSchema.of_arrow(records.schema), (A_C, B_C)))
    kept = {row["id"]: row for row in folded.records.to_pylist()}
    lost = set(range(len(rows))) - set(kept)
    assert folded.records.schema.names == ["id", "a"] and len(folded.dead_letters) == len(lost)
    for number, row in enumerate(rows):
        values = {v for v in row[: len(names)] if v is not None}
        assert (number in lost) == (len(values) > 1)
        if number not in lost:
            assert kept[number]["a"] == (values.pop() if values else None)
    if folded.kept is not None:
        assert folded.kept.tolist() == sorted(kept)


def test_names_are_those_of_the_source_before_the_rename() -> None:
    folding = plan_folding(TableSchema((Column("id", pa.int64()), Column("Cust Name", pa.string(), comment="who"))), (
        Rename("cust_x0020_nm", "cust_x0020_name", "Cust Nm", "Cust Name"),
    ))  # fmt: skip
    assert [(c.name, c.comment) for c in folding.schema] == [("id", ""), ("Cust Nm", "who")]
    assert plan_folding(named(id=pa.int64()), (A_C,)).is_nothing


def test_a_letter_of_two_values_has_both_and_its_place() -> None:
    records = pa.RecordBatch.from_pydict({"a": ["x", None], "c": ["y", "z"]})
    folding = plan_folding(TableSchema.of_arrow(records.schema), (A_C,))
    folded = fold(records, folding, source_file="f", source_offsets=pa.array([7, 8]))
    (letter,) = folded.dead_letters
    assert (letter.reason, letter.source_file, letter.source_offset, letter.can_replay) == ("two_values", "f", 7, True)
    assert letter.raw == b'{"a":"x","c":"y"}' and folded.records.to_pylist() == [{"a": "z"}]


def test_two_types_without_one_in_common_are_refused_by_name() -> None:
    with pytest.raises(InventoryError, match="'a': the source shows it as int64, and as 'c' with string"):
        plan_folding(named(a=pa.int64(), c=pa.string()), (A_C,))


@pytest.mark.parametrize(
    ("rules", "mode", "wanted"),
    [
        ({}, "off", "keep"), ({"Cust Nm": "mask"}, "off", "mask"), ({"cust_x0020_name": "hash"}, "off", "hash"),
        ({"Cust Nm": "keep"}, "mask_unclassified", "mask"), ({"[Cc]ust*": "keep"}, "mask_unclassified", "keep"),
        ({"Cust Nm": "hash", "Cust Name": "drop"}, "off", "drop"),
    ],
)  # fmt: skip
def test_the_strictest_rule_of_all_names_counts(rules: dict[str, Any], mode: Any, wanted: str) -> None:
    for names in (["Cust Nm"], ["cust_x0020_name"], []):
        actions = privacy_under(names, PrivacySpec(mode=mode, columns=rules), (NM,))
        assert {actions[n] for n in (*names, "Cust Nm", "Cust Name")} == {wanted}


@pytest.mark.parametrize(
    ("hidden", "wanted"),
    [
        ({}, {}), ({"a": "absent", "c": "mask"}, {"a": "mask"}), ({"a": "absent"}, {}),
        ({"a": "mask", "c": "absent"}, {"a": "mask"}), ({"a": "mask"}, {"a": "mixed"}), ({"a": "mask", "c": "mask"}, {"a": "mask"}),
        ({"c": "mask", "x": "mask"}, {"a": "mixed", "x": "mask"}),
    ],
)  # fmt: skip
def test_how_a_column_is_hidden_goes_with_its_values(hidden: dict[str, str], wanted: dict[str, str]) -> None:
    assert moved_hidden(hidden, (A_C,), "absent", "mixed") == wanted | {"c": "absent"}
    both = moved_hidden(hidden | {"d": "absent"}, (A_C, B_C), "absent", "mixed")
    assert both == wanted | {"c": "absent", "d": "absent"}, "a second name that the file does not have says nothing"


@pytest.mark.parametrize(
    ("pair", "now", "why"),
    [
        (A_C, {"shown": {"a", "c"}}, "it is back in the source"),
        (A_C, {"fixed": {"a": "cursor"}}, "the row uses it as cursor"),
        (A_C, {"at_work": {"c": "key"}}, "the row uses 'c' as key"),
        (A_C, {"standing": (Rename("c", "a", "c", "a"),), "shown": ()}, "the new name stands for another"),
        (A_C, {"standing": (Rename("x", "c", "x", "c"),)}, "the new name stands for another"),
        (A_C, {"standing": (Rename("c", "x", "c", "x"),)}, "the new name stands for another"),
        (Rename("a", "a", "a", "a"), {}, "the new name stands for another"),
    ],
)  # fmt: skip
def test_what_cannot_be_one_column_is_refused_with_the_reason(pair: Rename, now: dict[str, Any], why: str) -> None:
    full = {"standing": (), "shown": {"c"}, "at_work": {}, "fixed": {}} | now
    with pytest.raises(InventoryError, match=why):
        plan_renames([], [pair], TableNow(**full))


def test_a_swap_of_two_columns_and_two_for_one_are_refused() -> None:
    for pairs in ([Rename("a", "b", "a", "b"), Rename("b", "a", "b", "a")], [A_C, B_C], []):
        with pytest.raises(InventoryError, match="Cannot rename"):
            plan_renames([], pairs, TableNow((), (), {}, {}))


def test_what_else_is_held_is_approved_with_the_rename() -> None:
    added = [ColumnAdded(Column(name, pa.string())) for name in ("c", "other")]
    made = plan_renames([RequiredGone("a"), *added, ColumnRenamed("a", "c")], [A_C], NOW)
    assert made == (Approval("column_renamed", "c", rename=A_C), Approval("column_added", "other"))
    assert tuple(Approval.of_json(one.to_json()) for one in made) == made and renames_of(made) == (A_C,)
    assert plan_renames([], [B_C], TableNow((A_C,), {"d"}, {}, {})) == (Approval("column_renamed", "d", rename=B_C),)
    made = plan_renames([], [Rename("c", "d", "c", "D")], TableNow((A_C,), {"d"}, {}, {}))
    assert renames_of(made) == (Rename("a", "d", "a", "D"),), "what went on under another name goes on under the next"
    widened = TypeWidened("n", pa.int32(), pa.int32(), pa.int64())
    assert plan_renames([widened], [A_C], NOW)[1:] == plan_approval([widened], APPROVE, {})


def test_the_pairs_to_ask_about_share_no_column() -> None:
    def pair(before: str, after: str, overlap: float | None, *, same: bool = True) -> RenameSuggestion:
        return RenameSuggestion(before, after, same, same, 0.9, overlap)

    found = [pair("a", "c", 0.9), pair("b", "c", 1.0), pair("a", "d", None), pair("x", "y", 0.1, same=False)]
    assert [(one.before, one.after) for one in likely(found)] == [("b", "c"), ("a", "d")]
    assert [RenameSuggestion.of_json(one.to_json()) == one for one in found] == [False] * 4, "origins are told in full"
    assert str(found[0]) == "column 'a' may be 'c' by now (values 90% shared, same type, same position)"


def test_what_is_shown_goes_on_as_one_column() -> None:
    assert lake_columns({"c": "int64", "id": "int64"}, (A_C,)) == {"a": "int64", "id": "int64"}
    assert lake_columns({"c": "int64", "a": "string"}, (A_C,)) == {"a": "string"}
    told = Shown({"a": Fact(None, "int32", ("int32",), runs=2, event=4), "c": Fact("int64", "int64", ("int64",), event=4)})
    now = told.continued("a", "c")
    assert now.columns["a"] == Fact("int64", "int64", ("int32", "int64")) and now.retired == {"c"}
    assert not look(now, Sight({"a": "int64"}, run="r"), 3, 7).columns
    assert now.continued("x", "y") == now


KINDS = [
    pa.float64(), pa.string(), pa.binary(), pa.bool_(), pa.decimal128(5, 2), pa.timestamp("us", "UTC"), pa.null(), pa.time64("us"),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_values_of_every_kind_are_compared(kind: pa.DataType) -> None:
    values = {pa.float64(): [1.5, float("nan")], pa.string(): ["x", "y"], pa.binary(): [b"x", b"y"], pa.bool_(): [True, False]}
    some = pa.array([None, None]) if pa.types.is_null(kind) else pa.array(values.get(kind, [1, 2]), kind)
    records = pa.RecordBatch.from_arrays([some, some], names=["a", "c"])
    same = fold(records, plan_folding(TableSchema.of_arrow(records.schema), (A_C,)))
    assert same.dead_letters == () and same.records.column("a").null_count == some.null_count
    other = pa.RecordBatch.from_arrays([some, some[::-1]], names=["a", "c"])
    folding = plan_folding(TableSchema.of_arrow(other.schema), (A_C,))
    assert len(fold(other, folding).dead_letters) == (0 if kind == pa.null() else 2)


def test_nested_values_are_folded_too() -> None:
    records = pa.RecordBatch.from_pydict({"a": pa.array([[1], None]), "c": pa.array([None, [2]])})
    folded = fold(records, plan_folding(TableSchema.of_arrow(records.schema), (A_C,)))
    assert folded.records.to_pylist() == [{"a": [1]}, {"a": [2]}]
