"""Structured data is where weak mixing shows: a million neighbours, and no two rows alike in either half."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints

SIDE = 1000
GRID = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2)


def no_two_alike(table: pa.Table) -> None:
    """Each 64-bit half on its own has no duplicate: by chance that happens once in 10^7 such tables of a million rows."""
    rows = row_fingerprints(table)
    for half in rows.T:
        assert len(np.unique(half)) == table.num_rows


def columns_of(values: np.ndarray) -> pa.Table:
    return pa.table({f"c{k}": pa.array(np.ascontiguousarray(column)) for k, column in enumerate(values.T)})


def test_grid_of_small_integers() -> None:
    no_two_alike(columns_of(GRID))


def test_grid_of_multiples_of_a_power_of_two() -> None:
    no_two_alike(columns_of(GRID << 32))


def test_grid_of_prices() -> None:
    unscaled = np.zeros((SIDE * SIDE, 2), np.int64)
    unscaled[:, 0] = GRID[:, 0] * SIDE + GRID[:, 1]
    data = pa.py_buffer(unscaled.tobytes())
    no_two_alike(pa.table({"c": pa.Array.from_buffers(pa.decimal128(18, 4), len(unscaled), [None, data])}))


def test_signs_of_floats() -> None:
    """All the sign patterns of 16 columns: one flipped top bit here must not undo one there."""
    signs = ((np.arange(65_536)[:, None] >> np.arange(16)) & 1) * 2.0 - 1.0
    no_two_alike(columns_of(signs))


def test_permuted_columns() -> None:
    no_two_alike(columns_of(np.array(list(itertools.permutations(range(8))))))


@pytest.mark.parametrize("template", ["{:d}", "{:020d}", "user{:07d}@example.com", "{:d}" + "x" * 120, "{:d}" + "x" * 130])
def test_texts_of_a_sequence(template: str) -> None:
    no_two_alike(pa.table({"c": pa.array([template.format(n) for n in range(100_000)])}))


@pytest.mark.parametrize(("first", "second"), [(7, 15), (0, 8), (3, 31), (15, 16), (6, 7)])
def test_two_bytes_of_a_text(first: int, second: int) -> None:
    data = np.full((65_536, 32), ord("a"), np.uint8)
    data[:, first], data[:, second] = np.arange(65_536) & 255, np.arange(65_536) >> 8
    no_two_alike(pa.table({"c": pa.Array.from_buffers(pa.binary(32), len(data), [None, pa.py_buffer(data.tobytes())])}))


def test_lists_of_small_numbers() -> None:
    lists = [list(p) for size in range(7) for p in itertools.product(range(5), repeat=size)]
    no_two_alike(pa.table({"c": pa.array(lists, pa.list_(pa.int8()))}))


def test_every_bit_of_a_value_turns_half_of_the_fingerprint() -> None:
    """Avalanche: over 256 random values and each of their 64 bits, each output bit turns about every second time."""
    random = np.random.default_rng(5)
    values = random.integers(-(2**63), 2**63 - 1, 256)
    before = row_fingerprints(pa.table({"c": values}))
    for kind in ("number", "text"):
        turned = np.zeros((64, 128))
        for bit in range(64):
            flipped = values ^ np.int64(np.uint64(1 << bit).view(np.int64))
            tables = [values, flipped]
            if kind == "text":
                tables = [pa.Array.from_buffers(pa.binary(8), 256, [None, pa.py_buffer(v.tobytes())]) for v in (values, flipped)]
            before, after = (row_fingerprints(pa.table({"c": t})) for t in tables)
            turned[bit] = np.unpackbits((before ^ after).view(np.uint8), axis=None).reshape(256, 128).mean(0)
        assert abs(turned.mean() - 0.5) < 0.005
        assert turned.min() > 0.3 and turned.max() < 0.7


def test_sums_over_rows_see_every_exchange() -> None:
    """All 5040 orders of seven values in a column beside a fixed one: as many different fingerprints of the table."""
    seen = {
        Fingerprint.of(row_fingerprints(pa.table({"id": range(7), "v": list(order)}))) for order in itertools.permutations(range(7))
    }
    assert len(seen) == 5040
