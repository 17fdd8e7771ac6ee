"""Rows of two times compared: by which columns, hidden how, under which types."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.comparison import ABSENT, MIXED, Comparison, compare, hiding
from airflow_dataops.core.privacy import Action, apply_privacy, key_mark
from airflow_dataops.core.spec import ContractSpec

KEY, OTHER = b"a secret of 16 b", b"another of 16 by"
ROWS = pa.RecordBatch.from_pydict({"id": [1, 2], "name": ["a", None]})


def comparing(was: dict[str, Action], now: dict[str, Action], key: bytes | None = KEY, old_key: bytes = KEY) -> Comparison:
    stored = apply_privacy(ROWS, {"id": "keep", "name": "keep"} | was, old_key)
    read = apply_privacy(ROWS, {"id": "keep", "name": "keep"} | now, key)
    hidden = hiding(stored.schema.names, {"id": "keep", "name": "keep"} | was, old_key)
    found = compare(stored.schema, hidden, read.schema, {"id": "keep", "name": "keep"} | now, key, ContractSpec())
    lifted = stored.select(found.columns).cast(found.schema)
    agree = (found.of_stored(lifted, key) == found.of_read(read, key)).all()
    assert agree, "one row, stored and read again, is not recognised"
    return found


@pytest.mark.parametrize(
    ("was", "now", "columns", "whole"),
    [
        ({}, {}, ("id", "name"), True),
        ({"name": "mask"}, {"name": "mask"}, ("id", "name"), True),
        ({"name": "hash"}, {"name": "hash"}, ("id", "name"), True),
        ({}, {"name": "mask"}, ("id", "name"), True),
        ({}, {"name": "hash"}, ("id", "name"), True),
        ({"name": "mask"}, {}, ("id", "name"), False),  # two that are read may look the same once masked
        ({"name": "hash"}, {}, ("id", "name"), False),
        ({"name": "mask"}, {"name": "hash"}, ("id",), False),
        ({"name": "hash"}, {"name": "mask"}, ("id",), False),
        ({"name": "drop"}, {}, ("id",), False),
        ({}, {"name": "drop"}, ("id",), True),
    ],
)
def test_each_side_is_hidden_as_the_other_is(was: Any, now: Any, columns: tuple[str, ...], whole: bool) -> None:
    found = comparing(was, now)
    assert (found.columns, found.is_whole) == (columns, whole)


@pytest.mark.parametrize(("now", "key"), [({"name": "hash"}, OTHER), ({}, OTHER), ({}, None)])
def test_digests_of_another_key_say_nothing(now: Any, key: bytes | None) -> None:
    found = comparing({"name": "hash"}, now, key)
    assert (found.columns, found.beyond) == (("id",), ("name",))


@pytest.mark.parametrize("way", [ABSENT, MIXED])
def test_values_that_were_not_given_or_come_from_files_that_do_not_agree_say_nothing(way: str) -> None:
    for now in ("keep", "mask", "hash"):
        actions: dict[str, Action] = {"id": "keep", "name": now}
        assert compare(ROWS.schema, {"name": way}, ROWS.schema, actions, KEY, ContractSpec()).columns == ("id",)


def test_a_mark_tells_keys_apart_and_gives_none_away() -> None:
    assert key_mark(KEY) == key_mark(KEY) != key_mark(OTHER)
    assert len(key_mark(KEY)) == 8 and KEY.hex() not in key_mark(KEY)
    told = hiding("abcde", {"a": "keep", "b": "drop", "c": "mask", "d": "hash"}, KEY)
    assert told == {"b": ABSENT, "c": "mask", "d": f"hash:{key_mark(KEY)}", "e": ABSENT}


@pytest.mark.parametrize(
    ("stored", "read", "under"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.int32(), pa.int64()),
        (pa.decimal128(5, 2), pa.int64(), pa.decimal128(5, 2)),
        (pa.int64(), pa.string(), None),
        (pa.string(), pa.int64(), None),
        (pa.float64(), pa.int64(), None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.list_(pa.int32()), pa.list_(pa.int64()), pa.list_(pa.int64())),
    ],
)
def test_types_with_a_common_one_are_compared_under_it(stored: pa.DataType, read: pa.DataType, under: pa.DataType | None) -> None:
    found = compare(pa.schema([("x", stored)]), {}, pa.schema([("x", read)]), {"x": "keep"}, None, ContractSpec())
    assert found.types == (() if under is None else (under,))
    assert found.beyond == (("x",) if under is None else ())


def test_columns_of_one_side_only() -> None:
    stored, read = pa.schema([("id", pa.int64()), ("old", pa.string())]), pa.schema([("id", pa.int64()), ("new", pa.string())])
    found = compare(stored, {}, read, {"id": "keep", "new": "keep"}, None, ContractSpec())
    assert (found.columns, found.beyond, found.is_whole) == (("id",), ("new",), False)
    rows = pa.RecordBatch.from_pydict({"id": [1, 2], "new": [None, "x"], "_row_fingerprint": [b"", b""]})
    assert found.says_more(rows).to_pylist() == [False, True]
