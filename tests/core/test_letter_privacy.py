"""Rows in dead letters without the values that privacy hides; and JSON of rows read back exactly."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.letter_privacy import hide_row
from airflow_dataops.core.privacy import digest_text
from airflow_dataops.core.row_json import json_values, rows_to_json
from airflow_dataops.core.row_json_read import UnreadableError, array_of_json, record_of_json
from airflow_dataops.core.types_text import type_from_text, type_to_text
from tests.core.arrow_values import batches

KEY = b"k" * 16
SCHEMA = pa.schema({"id": pa.int64(), "name": pa.string(), "n": pa.int32()})
ROW = pa.RecordBatch.from_pylist([{"id": 1, "name": "Secret", "n": 5}], SCHEMA)
TYPES = {**{f.name: f.type for f in ROW.schema}, "at": pa.timestamp("us")}


def letter(*unread: str) -> DeadLetter:
    raw = json.loads(rows_to_json(ROW)[0]) | dict.fromkeys(unread, "infinity")
    return DeadLetter("r", "m", json.dumps(raw).encode(), form=LetterForm.of_row(ROW.schema, unread))


def test_each_hidden_value_is_replaced_as_it_is_stored() -> None:
    hidden = hide_row(letter("at"), {"id": "drop", "name": "hash", "n": "mask", "at": "keep"}, TYPES, KEY)
    assert json.loads(hidden.raw) == {"name": digest_text("Secret", KEY), "n": None, "at": "infinity"}
    assert hidden.form is not None
    assert hidden.form.types == {"name": "string", "n": "int32"}
    assert (set(hidden.form.hidden), hidden.form.unread) == ({"name", "n"}, ("at",))
    assert b"Secret" not in hidden.form.text.encode()


def test_a_column_that_nobody_has_classified_is_masked() -> None:
    hidden = hide_row(letter(), {"id": "keep", "n": "keep"}, TYPES, KEY)
    assert json.loads(hidden.raw) == {"id": 1, "name": "***", "n": 5}


def test_a_value_without_a_digest_withholds_its_row() -> None:
    actions = {"id": "keep", "name": "keep", "n": "keep", "at": "hash"}
    assert hide_row(letter("at"), actions, TYPES, KEY).withheld
    masked = hide_row(letter("at"), {**actions, "at": "mask"}, TYPES, KEY)
    assert json.loads(masked.raw)["at"] is None
    assert masked.can_replay


@given(batches(depth=2))
def test_what_is_read_back_is_what_was_written(records: pa.RecordBatch) -> None:
    """Every value, of every type that the ledger can name; durations and intervals are refused, never guessed."""
    for field, column in zip(records.schema, records.columns, strict=True):
        t = type_from_text(type_to_text(field.type))
        values = json_values(column)
        try:
            found = array_of_json(values, t)
        except UnreadableError:
            assert any(word in str(t) for word in ("duration", "interval", "halffloat", "decimal256")), t
            continue
        assert json_values(found) == values
        assert found.type == t


@pytest.mark.parametrize(
    ("value", "t"),
    [
        ("1.555", pa.decimal128(10, 2)), (1.5, pa.int64()), (True, pa.int64()), ("x", pa.int64()), (2**40, pa.int32()),
        ("2024-02-30", pa.date32()), (1, pa.string()), ("zz", pa.binary()), ({"a": 1}, pa.struct({"b": pa.int64()})),
    ],
)  # fmt: skip
def test_what_the_type_does_not_hold_is_refused(value: object, t: pa.DataType) -> None:
    with pytest.raises(UnreadableError):
        array_of_json([value], t)


def test_only_an_object_is_a_row() -> None:
    for raw in (b"[]", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(UnreadableError):
            record_of_json(raw)
