"""The fingerprint's interface: arithmetic, text, columns it leaves out, what it refuses, and that size is no matter."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError, ProofError
from airflow_dataops.core.fingerprint import (
    STANDARD_COLUMNS,
    VERSION,
    Fingerprint,
    as_binary,
    key_fingerprints,
    row_fingerprints,
)
from tests.core.fingerprint_reference import rows_of

WORD = st.integers(0, 2**64 - 1)
fingerprints = st.builds(Fingerprint, st.integers(0, 10**12), WORD, WORD)


@given(fingerprints, fingerprints, fingerprints)
def test_is_a_commutative_group(a: Fingerprint, b: Fingerprint, c: Fingerprint) -> None:
    assert (a + b) + c == a + (b + c) == a.merge(b).merge(c)
    assert a + b == b + a
    assert a + Fingerprint.EMPTY == a == (a + b) - b == (a - b) + b
    assert a - a == Fingerprint.EMPTY


@given(fingerprints, fingerprints)
def test_text_is_reversible(a: Fingerprint, b: Fingerprint) -> None:
    for one in (a, a + b, a - b):
        assert Fingerprint.parse(str(one)) == one
    assert str(a) == f"{VERSION}:{a.rows}:{a.hi:016x}{a.lo:016x}"


@pytest.mark.parametrize(
    "text",
    ["", "f1", "f1:", "f1:3", f"f1:3:{'0' * 31}", f"f1:3:{'0' * 33}", f"f1:03:{'0' * 32}", f"f1:-0:{'0' * 32}",
     f"f1:+3:{'0' * 32}", f"f1::{'0' * 32}", f"f1:3:{'G' * 32}", f"f1:3:{'A' * 32}", f"f1:3:{'0' * 32}\n", f" f1:3:{'0' * 32}",
     f"f1:٣:{'0' * 32}", f"f1:3:{'0' * 32}:x"],
)  # fmt: skip
def test_refuses_malformed_text(text: str) -> None:
    with pytest.raises(ProofError, match=r"Cannot parse fingerprint .* -> f1:<rows>:<32 lower-case hex digits>"):
        Fingerprint.parse(text)


@pytest.mark.parametrize("version", ["f2", "f0", "F1", "v1", "s1"])
def test_refuses_other_versions_by_name(version: str) -> None:
    with pytest.raises(ProofError, match=f"version '{version}' -> 'f1'"):
        Fingerprint.parse(f"{version}:3:{'0' * 32}")


@given(st.lists(st.tuples(WORD, WORD), max_size=20))
def test_of_rows_is_their_sum(pairs: list[tuple[int, int]]) -> None:
    rows = np.array(pairs, np.uint64).reshape(-1, 2)
    total = sum((hi << 64) + lo for hi, lo in pairs) % 2**128
    assert Fingerprint.of(rows) == Fingerprint(len(pairs), total >> 64, total % 2**64)


def test_carries_from_the_low_word_to_the_high_one() -> None:
    rows = np.full((3, 2), 2**64 - 1, np.uint64)
    assert Fingerprint.of(rows) == Fingerprint(3, 2**64 - 1, 2**64 - 3)


def test_binary_is_sixteen_bytes_a_row_and_sorts_as_the_number() -> None:
    column = as_binary(np.array([[1, 2], [2**64 - 1, 0]], np.uint64))
    assert column.type == pa.binary(16)
    assert column.to_pylist() == [bytes([0] * 7 + [1] + [0] * 7 + [2]), b"\xff" * 8 + bytes(8)]
    column.validate(full=True)
    assert as_binary(np.empty((0, 2), np.uint64)).to_pylist() == []


def test_standard_columns_are_no_content() -> None:
    plain = pa.table({"id": [1, 2]})
    stamped = plain
    for name in sorted(STANDARD_COLUMNS):
        stamped = stamped.append_column(name, pa.array(["a", "b"]))
    assert row_fingerprints(stamped).tolist() == row_fingerprints(plain).tolist()
    assert row_fingerprints(stamped, exclude=()).tolist() != row_fingerprints(plain).tolist()
    only_stamps = row_fingerprints(stamped, exclude=["id"])
    assert only_stamps[0].tolist() != only_stamps[1].tolist()


def test_keys() -> None:
    table = pa.table({"b": ["x", None, "x"], "a": [1, 1, None], "other": [7, 8, 9]})
    both = key_fingerprints(table, ["a", "b"])
    assert both.tolist() == key_fingerprints(table.select(["other", "a", "b"]), ("b", "a", "b")).tolist()
    assert len({tuple(row) for row in both.tolist()}) == 3
    assert both[0].tolist() == row_fingerprints(table.select(["a", "b"]))[0].tolist()  # no NULL: the same value
    assert both[1].tolist() != row_fingerprints(table.select(["a", "b"]))[1].tolist()  # NULL: a value of its own
    untyped = pa.table({"a": [1], "b": pa.nulls(1)})
    assert key_fingerprints(untyped, ["a", "b"])[0].tolist() == both[1].tolist()


def test_a_missing_key_names_what_there_is() -> None:
    with pytest.raises(InventoryError, match=r"no column \['nr'\] -> key columns among \['a', 'id'\].*write\.keys"):
        key_fingerprints(pa.table({"id": [1], "a": [2]}), ["id", "nr"])
    with pytest.raises(InventoryError, match="no key"):
        key_fingerprints(pa.table({"id": [1]}), [])


def test_refuses_two_columns_of_one_name() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "b", "a"])
    with pytest.raises(InventoryError, match=r"columns \['a'\] occur more than once"):
        row_fingerprints(batch)
    inside = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])
    with pytest.raises(InventoryError, match=r"column 's': fields \['x', 'x'\]"):
        row_fingerprints(pa.table({"s": inside}))
    standard = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["_batch_id", "b", "_batch_id"])
    assert row_fingerprints(standard).tolist() == row_fingerprints(pa.table({"b": [2]})).tolist()


@pytest.mark.parametrize("wrap", [lambda u: u, lambda u: pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), u)])
def test_refuses_a_union_by_name(wrap: object) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1]), pa.array(["a"])])
    with pytest.raises(InventoryError, match=r"Cannot fingerprint column 'either': type sparse_union.*Cast the column"):
        row_fingerprints(pa.table({"either": wrap(union)}))  # type: ignore[operator]


def test_no_rows_and_no_columns() -> None:
    schema = pa.schema({"a": pa.list_(pa.string()), "b": pa.dictionary(pa.int8(), pa.string()), "c": pa.decimal128(9, 2)})
    assert row_fingerprints(schema.empty_table()).shape == (0, 2)
    assert row_fingerprints(pa.RecordBatch.from_pylist([], schema=schema)).shape == (0, 2)
    assert key_fingerprints(schema.empty_table(), ["b"]).shape == (0, 2)
    nothing = row_fingerprints(pa.table({"a": pa.nulls(3), "b": pa.nulls(3, pa.string())}))
    assert nothing.tolist() == row_fingerprints(pa.table({"_batch_id": ["x", "y", "z"]})).tolist()
    assert len({tuple(row) for row in nothing.tolist()}) == 1
    assert Fingerprint.of(nothing).rows == 3


def test_a_day_with_a_time_is_not_the_day() -> None:
    """Arrow forbids it, writers do it: date64 with milliseconds inside the day is content that must be seen."""
    days = pa.array([0, 86_400_000, 86_400_001, -1, None], pa.int64()).cast(pa.date64())
    rows = row_fingerprints(pa.table({"d": days}))
    assert [tuple(row) for row in rows.tolist()] == rows_of(pa.table({"d": days}))
    assert len({tuple(row) for row in rows.tolist()}) == 5
    assert rows[1].tolist() == row_fingerprints(pa.table({"d": pa.array([1], pa.int32()).cast(pa.date32())}))[0].tolist()


def test_size_is_no_matter() -> None:
    """Rows beyond one piece, repetitive and unique text, long values among short ones, many tiny chunks."""
    number = np.arange(70_000)
    texts = [f"text {n}" * (n % 7 if n % 5000 else 90) for n in number.tolist()]
    table = pa.table(
        {
            "n": pa.array(number, mask=number % 11 == 0),
            "few": pa.array([f"state {n % 5}" if n % 13 else None for n in number.tolist()]),
            "many": pa.array(texts),
            "tags": pa.array([[f"t{k}" for k in range(n % 4)] or None for n in number.tolist()]),
        }
    )
    whole = row_fingerprints(table)
    assert whole.tolist() == row_fingerprints(table.to_batches()[0]).tolist()
    some = np.r_[0:50, 4990:5010, 16_380:16_390, 65_530:65_540, 69_990:70_000]
    assert [tuple(row) for row in whole[some].tolist()] == rows_of(table.take(pa.array(some)))
    chunked = pa.concat_tables([table[start : start + 7] for start in range(0, 3500, 7)])
    assert row_fingerprints(chunked).tolist() == whole[:3500].tolist()
    assert row_fingerprints(table[60_001:]).tolist() == whole[60_001:].tolist()


def test_a_huge_value_costs_no_memory() -> None:
    texts = ["small"] * 500 + ["x" * 30_000_000] + ["tiny", "", None] * 200
    table = pa.table({"t": pa.array(texts)})
    tracemalloc.start()
    rows = row_fingerprints(table)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000
    assert [tuple(row) for row in rows[[0, 500, 501]].tolist()] == rows_of(table.take(pa.array([0, 500, 501])))


def test_a_wide_nested_batch_is_worked_on_in_parts() -> None:
    table = pa.table({"l": pa.array([list(range(n % 3000)) for n in range(2000)], pa.list_(pa.int16()))})
    tracemalloc.start()
    rows = row_fingerprints(table)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000  # 24 MB; these 2 million elements at once would take 96 MB
    assert [tuple(row) for row in rows[::500].tolist()] == rows_of(table.take(pa.array(range(0, 2000, 500))))


def test_threads_do_not_meet() -> None:
    table = pa.table({"n": range(40_000), "t": [f"t{n % 977}" for n in range(40_000)]})
    want = Fingerprint.of(row_fingerprints(table))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: Fingerprint.of(row_fingerprints(table)), range(12))) == {want}
