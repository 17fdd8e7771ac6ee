"""Dead letters of text files: read again one by one, and hidden where they can be cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.core.privacy import digest_text
from airflow_dataops.formats.letter_text import LetterText

CSV = LetterForm("csv", told={"columns": ["id", "name", "n"], "delimiter": ";", "quote": '"', "encoding": "cp1252"})
JSON = LetterForm("json", told={"encoding": "utf-8"})
TYPES = {"id": pa.int64(), "name": pa.string(), "n": pa.float64()}
KEY = b"k" * 16


def letter(raw: bytes, form: LetterForm = CSV) -> DeadLetter:
    return DeadLetter("old", "it failed", raw, "in/a.csv", 7, form=form, letter=3)


def text(**options: Any) -> LetterText:
    return LetterText(FilesOptions(path="in", **options))


@pytest.mark.parametrize(
    ("raw", "form", "row"),
    [
        (b'1;"a;b";2.5', CSV, {"id": 1, "name": "a;b", "n": 2.5}),
        ("2;Müller;".encode("cp1252"), CSV, {"id": 2, "name": "Müller", "n": None}),
        (b'3;"two\nlines";1', CSV, {"id": 3, "name": "two\nlines", "n": 1.0}),
        (b'{"id": 4, "name": "x", "n": 1e2}', JSON, {"id": 4, "name": "x", "n": 100.0}),
        (b'{\n "ID": 5\n}', JSON, {"id": 5, "name": None, "n": None}),
    ],
)
def test_a_good_record_is_a_row(raw: bytes, form: LetterForm, row: dict[str, Any]) -> None:
    rows = text().read(letter(raw, form), TYPES)
    assert rows.dead_letters == ()
    assert rows.records.to_pylist() == [row]


@pytest.mark.parametrize(
    ("raw", "form", "reason"),
    [
        (b"1;2", CSV, "ragged_row"), (b'1;"open;2', CSV, "unbalanced_quote"), (b"x;a;2", CSV, "value_does_not_fit"),
        (b"1;a\0;2", CSV, "nul_byte"), (b'{"id": 1', JSON, "bad_json"), (b"[1]", JSON, "not_an_object"),
        (b'{"id": "x"}', JSON, "value_does_not_fit"), (b'{\n"id": 1,\n', JSON, "bad_json"),
    ],
)  # fmt: skip
def test_a_bad_record_fails_again(raw: bytes, form: LetterForm, reason: str) -> None:
    rows = text().read(letter(raw, form), TYPES)
    assert rows.records.num_rows == 0
    assert [d.reason for d in rows.dead_letters] == [reason]


def test_the_options_of_now_go_first() -> None:
    """The file was read with the wrong delimiter and encoding; the row says the right ones by now."""
    wrong = replace(CSV, told={**CSV.told, "delimiter": ",", "encoding": "utf-8"})
    assert text().read(letter(b"1;M\xfcller;2", wrong), TYPES).dead_letters
    rows = text(delimiter=";", encoding="cp1252").read(letter(b"1;M\xfcller;2", wrong), TYPES)
    assert rows.records.to_pylist() == [{"id": 1, "name": "Müller", "n": 2.0}]


def test_one_record_does_not_change_a_type_but_may_widen_it() -> None:
    assert text().read(letter(b"1;a;many"), TYPES).dead_letters
    rows = text().read(letter(b"1.5;a;1"), TYPES)
    assert rows.records.schema.field("id").type == pa.decimal128(20, 1) or rows.dead_letters


@pytest.mark.parametrize(
    ("raw", "form", "found"),
    [
        (b"5;Secret;x", CSV, b'"5";"***";"x"'), (b"5;;x", CSV, b'"5";;"x"'), (b'5;"Sec""ret";1', CSV, b'"5";"***";"1"'),
        (b'{"id": 1.50, "name": "Secret", "n": "x"}', JSON, b'{"id":1.50,"name":"***","n":"x"}'),
        (b'{"NAME": "Secret", "n": null}', JSON, b'{"name":"***","n":null}'),
    ],
)  # fmt: skip
def test_a_record_that_can_be_cut_is_hidden_by_column(raw: bytes, form: LetterForm, found: bytes) -> None:
    hidden = text().hide(letter(raw, form), {"id": "keep", "name": "mask", "n": "keep"}, TYPES, KEY)
    assert hidden.raw == found
    assert (hidden.form.hidden, hidden.withheld, hidden.can_replay) == ({"name": "mask"}, False, True)
    assert hidden.source_offset == 7


def test_digests_are_those_of_stored_values() -> None:
    actions = {"id": "drop", "name": "hash", "n": "hash"}
    hidden = text().hide(letter(b"5;Secret;1.5"), actions, TYPES, KEY)
    assert hidden.raw.startswith(f'"{digest_text("Secret", KEY)}";"'.encode())
    assert hidden.form.told["columns"] == ["name", "n"]
    as_json = text().hide(letter(b'{"name":"Secret","n":1.5}', JSON), actions, TYPES, KEY)
    assert digest_text("Secret", KEY).encode() in as_json.raw
    assert hidden.raw.split(b'"')[3] in as_json.raw


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (b"5;Secret", CSV), (b'5;"Secret;1', CSV), (b"5;Secret;x;1", CSV), (b'{"name": "Secret"', JSON), (b'["Secret"]', JSON),
        (b'{"other": "Secret"}', JSON), (b"5;Secret;none", CSV), (b'{"name": "Secret", "n": "none"}', JSON),
        (b'{"name": "\xff"}', JSON), (b"5;Secret;1", None),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_or_digested_is_withheld(raw: bytes, form: LetterForm | None) -> None:
    """`n` is to be hashed, and `none` is no number."""
    hidden = text().hide(replace(letter(raw), form=form), {"id": "keep", "name": "mask", "n": "hash"}, TYPES, KEY)
    assert (hidden.raw, hidden.withheld, hidden.can_replay, hidden.source_offset) == (b"", True, False, 7)
