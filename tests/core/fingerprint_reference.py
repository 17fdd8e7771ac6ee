"""Fingerprint `f1` once more, slowly: one Python integer at a time, written from docs/adr/0002-fingerprint-f1.md.

It shares no code with the product, so that a mistake in the vectorised one has nothing to agree with.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pyarrow as pa
import xxhash

M64 = (1 << 64) - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def mix_hi(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & M64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def mix_lo(x: int) -> int:
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & M64
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & M64
    return x ^ x >> 33


def seed(label: str) -> tuple[int, int]:
    digest = xxhash.xxh3_128_intdigest(label.encode())
    return digest >> 64, digest & M64


def place(words: tuple[int, int], at: tuple[int, int]) -> tuple[int, int]:
    return mix_hi(words[0] ^ at[0]), mix_lo(words[1] ^ at[1])


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return (a[0] + b[0]) & M64, (a[1] + b[1]) & M64


def seal(sums: tuple[int, int]) -> tuple[int, int]:
    hi, lo = sums
    hi ^= mix_hi((lo + P1) & M64)
    lo ^= mix_lo((hi + P4) & M64)
    hi ^= mix_hi((lo + P5) & M64)
    return hi, lo


def extra(index: int, word: int) -> tuple[int, int]:
    out = []
    for factor, again in zip(seed(f"f1|extra|{index}"), (P2, P3), strict=True):
        x = (word & M64) * (factor | 1) & M64
        x = (x ^ x >> 32) * again & M64
        out.append(x ^ x >> 32)
    return out[0], out[1]


def number(value: Fraction | int) -> tuple[int, int]:
    whole, fraction = math.floor(value), value - math.floor(value)
    low = whole & M64
    words, position, below = (low, low), 1, low
    rest = whole >> 64
    while True:
        sign = M64 if below >> 63 else 0
        if rest == (-1 if sign else 0):
            break
        words = add(words, extra(position, (rest & M64) ^ sign))
        position, below, rest = position + 1, rest & M64, rest >> 64
    position = 32
    while fraction:
        fraction *= 10**18
        digits = math.floor(fraction)
        words = add(words, extra(position, digits))
        fraction, position = fraction - digits, position + 1
    return words


def data(value: bytes) -> tuple[int, int]:
    if len(value) > 128:
        digest = xxhash.xxh3_128_intdigest(value)
        return digest >> 64, digest & M64
    hi, lo = (len(value) * P1 + P5) & M64, (len(value) * P4 + P2) & M64
    for start in range(0, len(value), 8):
        x = int.from_bytes(value[start : start + 8], "little")
        x = x * P3 & M64
        x = (x ^ x >> 32) * P2 & M64
        x ^= x >> 29
        hi, lo = (hi ^ x) * P1 & M64, (lo + x) * P4 & M64
    return hi, lo


def fields(pairs: list[tuple[str, pa.Scalar]], *, count_nulls: bool = False) -> tuple[int, int]:
    total = (0, 0)
    for name, scalar in pairs:
        if scalar.is_valid and not null_inside(scalar):
            kind, words = value(scalar)
            total = add(total, place(words, seed(f"f1|field|{kind}|{name}")))
        elif count_nulls:
            total = add(total, seed(f"f1|field|null|{name}"))
    return total


def null_inside(scalar: pa.Scalar) -> bool:
    return pa.types.is_dictionary(scalar.type) and scalar.as_py() is None


def value(s: pa.Scalar) -> tuple[str, tuple[int, int]]:
    t, is_ = s.type, pa.types
    if isinstance(s, pa.ExtensionScalar):
        return value(s.value)
    if is_.is_dictionary(t):
        return value(s.value)
    if is_.is_boolean(t):
        return "bool", (int(s.as_py()), int(s.as_py()))
    if is_.is_integer(t):
        return "number", number(s.as_py())
    if is_.is_decimal(t):
        return "number", number(Fraction(s.as_py()))
    if is_.is_floating(t):
        f = float(s.as_py())
        word = 0x7FF8 << 48 if math.isnan(f) else int.from_bytes(struct.pack("<d", f + 0.0), "little")
        return "float", (word, word)
    if is_.is_date32(t):
        return "date", number(s.value)
    if is_.is_date64(t):
        days, rest = divmod(s.value, 86_400_000)
        return "date", add(number(days), extra(1, rest))
    if is_.is_timestamp(t):
        return ("instant" if t.tz else "timestamp"), number(s.value * NANOSECONDS[t.unit])
    if is_.is_time(t):
        return "time", number(s.value * NANOSECONDS[t.unit])
    if is_.is_duration(t):
        return "duration", number(s.value * NANOSECONDS[t.unit])
    if is_.is_interval(t):
        months, days, nanoseconds = s.as_py()
        word = nanoseconds & M64
        return "interval", add((word, word), extra(1, (days & 0xFFFFFFFF) << 32 | months & 0xFFFFFFFF))
    if is_.is_string(t) or is_.is_large_string(t) or is_.is_string_view(t):
        return "text", data(s.as_buffer().to_pybytes())
    if is_.is_binary(t) or is_.is_large_binary(t) or is_.is_binary_view(t) or is_.is_fixed_size_binary(t):
        return "bytes", data(s.as_py())
    if is_.is_struct(t):
        return "struct", fields([(t.field(k).name, s[k]) for k in range(t.num_fields)])
    if is_.is_map(t):
        entries = s.values
        total = (len(entries) * P2 & M64, len(entries) * P3 & M64)
        for k in range(len(entries)):
            total = add(total, seal(fields([("key", entries.field(0)[k]), ("value", entries.field(1)[k])])))
        return "map", total
    elements = s.values
    total = (len(elements) * P2 & M64, len(elements) * P3 & M64)
    for position, element in enumerate(elements, 1):
        if element.is_valid and not null_inside(element):
            kind, words = value(element)
            placed = place(words, seed(f"f1|element|{kind}|"))
        else:
            placed = seed("f1|element|null|")
        hi, lo = add(placed, (position * P1 & M64, position * P4 & M64))
        total = add(total, (mix_hi(hi), mix_lo(lo)))
    return "list", total


def rows_of(table: pa.Table, *, count_nulls: bool = False) -> list[tuple[int, int]]:
    """(hi, lo) of every row over all columns."""
    columns = [(name, table.column(name).combine_chunks()) for name in table.column_names]
    if any(pa.types.is_run_end_encoded(c.type) for _, c in columns):
        raise ValueError("decode run-end encoding first")
    return [seal(fields([(n, c[k]) for n, c in columns], count_nulls=count_nulls)) for k in range(table.num_rows)]
