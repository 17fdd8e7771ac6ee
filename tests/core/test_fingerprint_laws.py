"""What the fingerprint must not see, and what it must see, for any type and any value."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_dataops.core.fingerprint import Fingerprint, key_fingerprints, row_fingerprints
from tests.core.arrow_values import INTEGERS, array_of, batches, columns, types, values
from tests.core.fingerprint_reference import rows_of

NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
DECIMALS = (
    pa.decimal32(9, 3), pa.decimal64(18, 0), pa.decimal64(18, 18), pa.decimal128(38, 0), pa.decimal128(38, 20),
    pa.decimal128(18, 4), pa.decimal128(38, 38), pa.decimal256(76, 0), pa.decimal256(76, 37), pa.decimal256(76, 76),
)  # fmt: skip


def rows(data: pa.RecordBatch | pa.Table) -> list[tuple[int, ...]]:
    """Nothing excluded: a drawn column may well be called `_batch_id`."""
    return [tuple(map(int, row)) for row in row_fingerprints(data, exclude=())]


def total(data: pa.RecordBatch | pa.Table) -> Fingerprint:
    return Fingerprint.of(row_fingerprints(data, exclude=()))


def cell(array: pa.Array) -> list[tuple[int, ...]]:
    return rows(pa.table({"c": array}))


@given(batches(depth=2))
def test_equals_the_definition(batch: pa.RecordBatch) -> None:
    assert rows(batch) == rows_of(pa.Table.from_batches([batch]))


@given(batches(depth=2))
def test_keys_equal_the_definition(batch: pa.RecordBatch) -> None:
    keys = key_fingerprints(batch, batch.schema.names[::-1])
    assert [tuple(map(int, row)) for row in keys] == rows_of(pa.Table.from_batches([batch]), count_nulls=True)


@given(st.data(), batches(depth=2))
def test_does_not_see_column_order_nor_null_columns(data: st.DataObject, batch: pa.RecordBatch) -> None:
    order = data.draw(st.permutations(batch.schema.names))
    table = pa.Table.from_batches([batch]).select(order)
    for name in data.draw(st.sets(st.text(min_size=1, max_size=5))) - set(batch.schema.names):
        table = table.add_column(0, name, pa.nulls(table.num_rows, data.draw(types(1))))
    assert rows(table) == rows(batch)


@given(st.data(), batches(depth=2, max_rows=9))
def test_does_not_see_batches_nor_order_of_rows(data: st.DataObject, batch: pa.RecordBatch) -> None:
    cuts = [*sorted(data.draw(st.sets(st.integers(0, batch.num_rows)))), batch.num_rows]
    parts = [batch.slice(a, b - a) for a, b in zip([0, *cuts], cuts, strict=False)]
    assert [row for part in parts for row in rows(part)] == rows(batch) == rows(pa.Table.from_batches(parts))
    shuffled = data.draw(st.permutations(parts))
    assert sum(map(total, shuffled), Fingerprint.EMPTY) == total(batch)


def encodings(array: pa.Array) -> list[pa.Array | pa.ChunkedArray]:
    """The same values in other physical forms."""
    t, forms = array.type, [pa.chunked_array([array[:1], array[1:]], array.type)]
    if pa.types.is_string(t) or pa.types.is_large_string(t):
        forms += [array.cast(u) for u in (pa.string(), pa.large_string(), pa.string_view())]
    if pa.types.is_binary(t) or pa.types.is_fixed_size_binary(t):
        forms += [array.cast(u) for u in (pa.binary(), pa.large_binary())]
        forms += [array.cast(pa.binary()).cast(pa.binary_view())]
    if pa.types.is_list(t):
        sizes, absent = pc.list_value_length(array).fill_null(0).to_pylist(), array.is_null()
        forms += [array.cast(pa.large_list(t.value_type))]
        forms += [pa.ListViewArray.from_arrays(array.offsets.to_pylist()[:-1], sizes, array.values, mask=absent)]
    if not pa.types.is_nested(t):
        null_inside = pa.DictionaryArray.from_arrays(pa.array(range(len(array)), pa.int32()), array)
        forms += [null_inside, null_inside[1:], pa.RunEndEncodedArray.from_arrays(range(1, len(array) + 1), array)]
    if pa.types.is_integer(t) or pa.types.is_large_string(t) or pa.types.is_boolean(t):
        forms += [array.dictionary_encode(), pc.run_end_encode(array)]
    return forms


@given(st.data(), types(1))
def test_does_not_see_encodings(data: st.DataObject, t: pa.DataType) -> None:
    array = data.draw(columns(t, 5))
    assume(not pa.types.is_null(t))
    want = cell(array)
    for form in encodings(array):
        got = cell(form)
        assert got == want[5 - len(got) :], form.type


@given(st.lists(st.tuples(st.integers(), st.integers(0, 76)), min_size=1, max_size=4))
def test_one_number_is_one_value_in_every_exact_type(numbers: list[tuple[int, int]]) -> None:
    """All the integer and decimal types that can hold a number agree on it, and disagree about different numbers."""
    seen: dict[Fraction, Any] = {}
    for unscaled, scale in numbers:
        number = Fraction(unscaled, 10**scale)
        exact = Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale))
        for t in (*(INTEGERS if number.denominator == 1 else ()), *DECIMALS):
            try:
                array = pa.array([int(number) if t in INTEGERS else exact], t)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                continue  # does not fit
            if array[0].as_py() != exact:
                continue  # does not fit either: pyarrow rounds 1E-13 to decimal32(9, 3) without a word
            fingerprint = cell(array)[0]
            assert seen.setdefault(number, fingerprint) == fingerprint, (number, t)
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize("kind", ["timestamp", "duration", "time"])
@given(st.data())
def test_one_instant_is_one_value_in_every_unit(kind: str, data: st.DataObject) -> None:
    every: dict[str, pa.DataType] = {
        unit: getattr(pa, kind if kind != "time" else "time32" if unit in ("s", "ms") else "time64")(unit) for unit in NANOSECONDS
    }
    seen: dict[int, Any] = {}
    for unit, count in data.draw(st.lists(st.tuples(st.sampled_from(sorted(every)), st.integers(-(2**63), 2**63 - 1)))):
        coarse = count if kind != "time" else abs(count) % (86_400 * 10**9 // NANOSECONDS[unit])
        instant = coarse * NANOSECONDS[unit]
        for other, t in every.items():
            ticks, rest = divmod(instant, NANOSECONDS[other])
            if rest == 0 and -(2**63) <= ticks < 2**63:
                fingerprint = cell(array_of([ticks], t))[0]
                assert seen.setdefault(instant, fingerprint) == fingerprint, (instant, t)
    assert len(set(seen.values())) == len(seen)


@given(st.data())
def test_a_zone_is_how_to_show_an_instant(data: st.DataObject) -> None:
    ticks = data.draw(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=4))
    utc, tokyo, naive = (cell(array_of(ticks, pa.timestamp("us", zone))) for zone in ("UTC", "Asia/Tokyo", None))
    assert utc == tokyo
    assert not set(utc) & set(naive)


@given(st.data())
def test_a_float_is_one_value_in_every_width(data: st.DataObject) -> None:
    stored = pa.array(data.draw(st.lists(st.floats(width=16), max_size=5)), pa.float32())
    assert cell(stored) == cell(stored.cast(pa.float64())) == cell(stored.cast(pa.float16()))


def plain(value: Any, t: pa.DataType) -> Any:
    """A drawn value in a form whose `==` is the equality that the fingerprint promises."""
    if value is None:
        return None
    if pa.types.is_floating(t):
        return "nan" if value != value else value
    if pa.types.is_map(t):
        return {k: plain(v, t.item_type) for k, v in value}
    if pa.types.is_list(t):
        return [plain(v, t.value_type) for v in value]
    if pa.types.is_struct(t):
        return {t.field(k).name: plain(value[t.field(k).name], t.field(k).type) for k in range(t.num_fields)}
    return value


@given(st.data(), types(2))
def test_sees_every_difference(data: st.DataObject, t: pa.DataType) -> None:
    """Cells of one column have equal fingerprints exactly when they are equal."""
    drawn = data.draw(st.lists(values(t), min_size=2, max_size=6))
    fingerprints, cells = cell(array_of(drawn, t)), [plain(v, t) for v in drawn]
    for i, one in enumerate(cells):
        for k in range(i):
            assert (fingerprints[i] == fingerprints[k]) == (one == cells[k]), (one, cells[k])


@given(st.data(), types(1))
def test_sees_swapped_cells(data: st.DataObject, t: pa.DataType) -> None:
    """Two cells of a column exchanged between rows: the sums of both columns stay, the fingerprint must not."""
    first, second = data.draw(values(t)), data.draw(values(t))
    assume(plain(first, t) != plain(second, t))

    def table(one: Any, two: Any) -> pa.Table:
        return pa.table({"id": [1, 2], "c": array_of([one, two], t)})

    assert total(table(first, second)) != total(table(second, first))


@given(st.data(), types(1))
def test_sees_values_moved_between_columns(data: st.DataObject, t: pa.DataType) -> None:
    first, second = data.draw(values(t)), data.draw(values(t))
    assume(plain(first, t) != plain(second, t))

    def table(one: Any, two: Any) -> pa.Table:
        return pa.table({"a": array_of([one], t), "b": array_of([two], t)})

    assert rows(table(first, second)) != rows(table(second, first))


def test_kinds_never_meet() -> None:
    """One and zero, empty and NULL, in every dress that is not the same value."""
    day = 86_400
    int8 = pa.int8()
    forms = [
        pa.array([1]), pa.array([1.0]), pa.array([True]), pa.array(["1"]), pa.array([b"1"]),
        pa.array([0]), pa.array([0.0]), pa.array([False]), pa.array([""]), pa.array([b""]), pa.array([None], pa.string()),
        pa.array([1], pa.int32()).cast(pa.date32()), pa.array([pa.MonthDayNano([0, 1, 0])]),
        array_of([day], pa.timestamp("s")), array_of([day], pa.timestamp("s", "UTC")),
        array_of([day - 1], pa.time32("s")), array_of([1], pa.duration("s")),
        pa.array([[]], pa.list_(int8)), pa.array([[None]]), pa.array([[1]]), pa.array([[[]]]), pa.array([["1"]]),
        pa.array([[["1"]]]), pa.array([{"a": 1}]), pa.array([{"b": 1}]), pa.array([{"a": None}], pa.struct([("a", int8)])),
        pa.array([[]], pa.map_(pa.string(), int8)), pa.array([[("a", 1)]], pa.map_(pa.string(), int8)),
        pa.array([[{"key": "a", "value": 1}]]), pa.array([{"key": "a", "value": 1}]),
        pa.array(["\0"]), pa.array(["\0\0"]), pa.array(["\0" * 128]), pa.array(["\0" * 129]),
    ]  # fmt: skip
    assert len({cell(form)[0] for form in forms}) == len(forms)
