"""The compiled kernel (`fast/`) and numpy compute the same fingerprints, and the kernel trusts nothing that a buffer says."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from airflow_dataops.core import fingerprint_native
from airflow_dataops.core.errors import ProofError
from airflow_dataops.core.fingerprint import key_fingerprints, row_fingerprints
from airflow_dataops.core.fingerprint_bytes import SHORT_BYTES
from airflow_dataops.core.fingerprint_mix import Words
from tests.core.arrow_values import SCALARS, batches
from tests.core.fingerprint_reference import rows_of

CAN_BUILD = shutil.which("cc") is not None and (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()
ROWS = 1100  # more than two of the kernel's blocks, and a rest
INTEGERS = {f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}


@pytest.fixture(scope="module", autouse=True)
def kernel() -> ModuleType:
    """Never skipped where it can be built: `make setup` has built it then."""
    if fingerprint_native.KERNEL is None:
        if CAN_BUILD or os.environ.get("CI"):
            pytest.fail("airflow_dataops_fast is not installed, or not used -> run `make setup`")
        pytest.skip("no C compiler or no Python headers: fingerprints are computed with numpy")
    return fingerprint_native.KERNEL


def by_numpy(compute: Callable[[], Words]) -> Words:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint_native, "KERNEL", None)
        return compute()


def assert_same(table: pa.Table | pa.RecordBatch) -> None:
    for compute in (lambda: row_fingerprints(table, exclude=()), lambda: key_fingerprints(table, table.schema.names)):
        np.testing.assert_array_equal(compute(), by_numpy(compute))


@given(batches(depth=2))
def test_any_batch(batch: pa.RecordBatch) -> None:
    assert_same(batch)


def slices_of(array: pa.Array) -> list[pa.Array]:
    """The array with NULLs and without, and parts of it whose bits begin and end within a byte, or within a block."""
    with_nulls = array.take(pa.array(np.arange(len(array)), mask=np.arange(len(array)) % 7 == 3))
    spans = ((0, None), (1, None), (7, 1030), (8, 512), (511, 514), (513, 0), (3, 1))
    return [a.slice(start, size) for a in (array, with_nulls) for start, size in spans]


def random_bytes(seed: int, rows: int, width: int) -> np.ndarray:
    """Bytes of which many are 0 or 255, so that signs, carries and limits are met."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 256, (rows, width), np.uint8)
    return np.where(random.random((rows, width)) < 0.5, random.choice(np.array([0, 255], np.uint8), (rows, 1)), drawn)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str) -> None:
    values = random_bytes(1, ROWS, INTEGERS[name].itemsize).view(INTEGERS[name]).ravel()
    values[:2] = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
    for array in slices_of(pa.array(values)):
        assert_same(pa.table({name: array}))


@pytest.mark.parametrize("t", [t for t in SCALARS if pa.types.is_temporal(t) and not pa.types.is_interval(t)], ids=str)
def test_times(t: pa.DataType) -> None:
    """Also ticks that no calendar has: nanoseconds of a far second need more than 64 bits."""
    width = t.bit_width // 8
    values = random_bytes(2, ROWS, width).view(f"<i{width}").ravel()
    for array in slices_of(pa.array(values).view(t)):
        assert_same(pa.table({"at": array}))
        assert_same(pa.table({"at": array.slice(600)}))


@pytest.mark.parametrize(("width", "most"), [(4, 9), (8, 18), (16, 38), (32, 76)])
def test_decimals_of_every_scale(width: int, most: int) -> None:
    make = {4: pa.decimal32, 8: pa.decimal64, 16: pa.decimal128, 32: pa.decimal256}[width]
    for scale in (*range(min(most, 38) + 1), most, -1, -3):
        values = random_bytes(scale + 3, ROWS, width)
        values[::3, 8:] = np.where(values[::3, 7:8] > 127, 255, 0)  # the sign of 64 bits: the kernel's short way
        values[300:900, 8:] = 0
        values[300:900, 7:8] &= 127
        array = pa.Array.from_buffers(make(most, scale), ROWS, [None, pa.py_buffer(np.ascontiguousarray(values))])
        for part in (array, array.slice(300, 600), array.slice(1, 0), array.slice(899)):
            assert_same(pa.table({"d": part}))


@pytest.mark.parametrize("t", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_floats(t: pa.DataType) -> None:
    values = random_bytes(4, ROWS, t.bit_width // 8).view(f"<f{t.bit_width // 8}").ravel()
    values[:6] = np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf
    for array in slices_of(pa.array(values, t)):
        assert_same(pa.table({"f": array}))


def texts(lengths: Any) -> list[bytes]:
    return [bytes((n * 7 + k) % 251 for k in range(length)) for n, length in enumerate(lengths)]


@pytest.mark.parametrize("t", [pa.binary(), pa.large_binary(), pa.string(), pa.large_string(), pa.binary_view()], ids=str)
def test_texts_of_every_length(t: pa.DataType) -> None:
    """Each length up to beyond the longest short one, at every alignment, and long ones among them."""
    lengths = [*range(SHORT_BYTES + 10), 0, 300, 1, 2000, *range(20), *[n % 9 for n in range(ROWS)]]
    values = [bytes(b & 127 for b in value) for value in texts(lengths)]
    plain = pa.array(values, pa.binary())
    parts = [a.cast(t) for a in slices_of(plain)] if t == pa.binary_view() else slices_of(plain.cast(t))  # no `take` of views
    for array in parts:
        assert_same(pa.table({"t": array}))
    sliced = pa.array(values, pa.binary()).cast(t).slice(100, 70)
    assert row_fingerprints(pa.table({"t": sliced})).tolist() == [[*row] for row in rows_of(pa.table({"t": sliced}))]


@pytest.mark.parametrize("width", [0, 1, 7, 8, 16, 128, 129])
def test_fixed_sizes(width: int) -> None:
    array = pa.array(texts([width] * ROWS), pa.binary(width))
    for part in slices_of(array):
        assert_same(pa.table({"t": part}))


def test_bits_and_encodings() -> None:
    bits = pa.array(random_bytes(5, ROWS, 1).ravel() > 60)
    few = pa.array([f"state {n % 5}" if n % 13 else None for n in range(ROWS)])
    for one, two in zip(slices_of(bits), slices_of(few.dictionary_encode().cast(pa.string())), strict=True):
        assert_same(pa.table({"bits": one, "few": two, "encoded": two.dictionary_encode(), "nothing": pa.nulls(len(one))}))


def test_offsets_beyond_two_gigabytes() -> None:
    """A large text's offsets need more than 32 bits. The bytes before it are a hole that no memory stands behind."""
    import mmap

    gap = (1 << 31) + 5
    with mmap.mmap(-1, gap + 400) as memory:
        memory[gap:] = bytes(range(200)) * 2
        offsets = np.array([gap, gap + 3, gap + 11, gap + 200, gap + 400], np.int64)
        far = pa.Array.from_buffers(pa.large_binary(), 4, [None, pa.py_buffer(offsets), pa.py_buffer(memory)])
        near = pa.array([value.as_py() for value in far], pa.binary())
        assert row_fingerprints(pa.table({"t": far})).tolist() == row_fingerprints(pa.table({"t": near})).tolist()
        del far


WRONG_OFFSETS = [[0, 5, 3], [0, -1, 3], [0, 11, 3], [0, 2**31 - 1, 3], [-4, 0, 3], [0, 3, 11], [11, 11, 11], [3, 300, 300]]


@pytest.mark.parametrize("offsets", WRONG_OFFSETS)
@pytest.mark.parametrize("width", [4, 8])
def test_offsets_that_point_elsewhere_are_refused(kernel: ModuleType, offsets: list[int], width: int) -> None:
    told = np.array(offsets, f"<i{width}")
    field = (kernel.SPANS, width, 0, 1, 0, None, False, b"0123456789", told, None, (1, 2), False, (3, 4))
    with pytest.raises(ValueError, match="an offset points outside"):
        kernel.row_fingerprints(np.zeros((2, 2), np.uint64), [field])


@pytest.mark.parametrize("offsets", WRONG_OFFSETS[:4])
@pytest.mark.parametrize("data", [b"0123456789", b"x" * 300])
def test_a_broken_array_is_no_proof(offsets: list[int], data: bytes) -> None:
    """pyarrow looks at the first and the last offset only; what a source or a frame brings may lie in between."""
    if len(data) == 300 and offsets == WRONG_OFFSETS[2]:
        offsets = [0, 301, 3]
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(data)]
    broken = pa.Array.from_buffers(pa.string(), 2, buffers)
    with pytest.raises(ProofError, match=r"Cannot fingerprint columns \['t'\]: an offset points outside"):
        row_fingerprints(pa.RecordBatch.from_arrays([broken], ["t"]))


@pytest.mark.parametrize(
    ("form", "width", "scale", "offset", "rows", "sizes"),
    [
        ("SIGNED", 8, 0, 0, 3, (0, 23, 0)), ("SIGNED", 8, 0, 1, 2, (0, 23, 0)), ("SIGNED", 3, 0, 0, 1, (0, 99, 0)),
        ("SIGNED", -8, 0, 0, 1, (0, 99, 0)), ("SIGNED", 8, 0, -1, 1, (0, 99, 0)), ("SIGNED", 8, 0, 2**62, 1, (0, 99, 0)),
        ("UNSIGNED", 4, 0, 0, 3, (0, 0, 0)), ("DECIMAL", 8, 19, 0, 1, (0, 8, 0)), ("DECIMAL", 16, 39, 0, 1, (0, 16, 0)),
        ("DECIMAL", 16, -1, 0, 1, (0, 16, 0)), ("DECIMAL", 32, 0, 0, 1, (0, 32, 0)), ("FLOAT", 2, 0, 0, 1, (0, 8, 0)),
        ("BITS", 0, 0, 7, 2, (0, 1, 0)), ("SPANS", 4, 0, 0, 2, (0, 9, 11)), ("SPANS", 2, 0, 0, 2, (0, 9, 99)),
        ("FIXED", 129, 0, 0, 1, (0, 999, 0)), ("FIXED", -1, 0, 0, 1, (0, 999, 0)), ("WORDS", 8, 0, 0, 2, (0, 16, 15)),
        ("WORDS", 8, 0, 1, 1, (0, 16, 16)), ("SIGNED", 1, 0, 0, 9, (1, 9, 0)), ("SIGNED", 1, 0, 7, 2, (1, 9, 0)),
    ],
)  # fmt: skip
def test_buffers_that_are_too_small_are_refused(
    kernel: ModuleType, form: str, width: int, scale: int, offset: int, rows: int, sizes: tuple[int, int, int]
) -> None:
    validity, data, more = (bytes(size) if size else None for size in sizes)
    field = (getattr(kernel, form), width, scale, 1, offset, validity, False, data, more, None, (1, 2), False, (3, 4))
    with pytest.raises(ValueError, match=r"too small|too few|negative offset"):
        kernel.row_fingerprints(np.zeros((rows, 2), np.uint64), [field])


def test_long_values_without_digests_are_refused(kernel: ModuleType) -> None:
    field = (kernel.SPANS, 4, 0, 1, 0, None, False, bytes(400), np.array([0, 129, 300], np.int32), None, (1, 2), False, (3, 4))
    for digests in (None, np.zeros((1, 2), np.uint64)):
        with pytest.raises(ValueError, match="fewer digests than long values"):
            kernel.row_fingerprints(np.zeros((2, 2), np.uint64), [(*field[:9], digests, *field[10:])])


@pytest.mark.parametrize("told", [(), ((),), ([],), ([1], 2), (None, []), (b"read-only 16 byte", [])])
def test_wrong_calls_are_refused(kernel: ModuleType, told: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError, BufferError)):
        kernel.row_fingerprints(*told)
    with pytest.raises((TypeError, ValueError)):
        kernel.row_fingerprints(bytearray(15), [])
    with pytest.raises((TypeError, ValueError)):
        kernel.row_fingerprints(bytearray(16), [(1, 2)])


def test_threads_run_at_once_and_do_not_meet() -> None:
    table = pa.table({"n": range(50_000), "t": [f"t{n % 977}" * (n % 30) for n in range(50_000)]})
    want = row_fingerprints(table)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: row_fingerprints(table), range(16)):
            np.testing.assert_array_equal(got, want)


def test_nothing_is_kept(kernel: ModuleType) -> None:
    """No buffer and no tuple is held on to, whether it went well or not."""
    data = bytearray(80)
    good = (kernel.SIGNED, 8, 0, 1, 0, None, False, data, None, None, (1, 2), False, (3, 4))
    before = sys.getrefcount(good)
    for field in (good, (*good[:4], 9, *good[5:])):
        for fields in ([field], [good, field], [field, None]):
            try:
                kernel.row_fingerprints(np.zeros((10, 2), np.uint64), fields)
            except (ValueError, TypeError):
                assert field is not good or fields[-1] is None
    data += b"x"  # BufferError while somebody holds a view of it
    assert sys.getrefcount(good) <= before + 2


def test_another_definition_or_a_broken_module_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = ModuleType("airflow_dataops_fast")
    other.DEFINITION = "f2"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow_dataops_fast", other)
    with pytest.warns(UserWarning, match="computes fingerprints 'f2', not 'f1'"):
        assert fingerprint_native._kernel() is None
    monkeypatch.delitem(sys.modules, "airflow_dataops_fast")
    (tmp_path / "airflow_dataops_fast.py").write_text("raise ImportError('wrong ELF class')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match="cannot be used.*wrong ELF class"):
        assert fingerprint_native._kernel() is None
    monkeypatch.setitem(sys.modules, "airflow_dataops_fast", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fingerprint_native._kernel() is None
