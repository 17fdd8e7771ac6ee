"""Values, names and queries by themselves: what holds for all of them (laws), without a server."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.sources.prefetch import Prefetch
from airflow_dataops.sources.sql.database import SqlColumn
from airflow_dataops.sources.sql.decode import decode, to_arrow
from airflow_dataops.sources.sql.failures import first_line
from airflow_dataops.sources.sql.names import TableName, parse_name
from airflow_dataops.sources.sql.query import check_query

TARGETS = [
    pa.bool_(), pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32(), pa.time64("us"),
    pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.decimal128(10, 2), pa.decimal128(38, 18), pa.decimal256(60, 0),
]  # fmt: skip
SPELLINGS = ["0000-00-00", "12", "1.50", "2024-02-29", "2024-01-01 10:00", "infinity", "NaN", "true", "24:00:00", "", "\ud800"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3),
    st.floats(),
    st.floats(-100, 100).map(lambda f: round(f, 2)),
    st.text(),
    st.binary(max_size=5),
    st.decimals(allow_nan=True),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.times(),
    st.sampled_from(SPELLINGS),
)  # fmt: skip


def column(target: pa.DataType, any_as_text: bool = False) -> SqlColumn:
    return SqlColumn("v", "declared", target, "q.v", "q.v", any_as_text=any_as_text)


def same(given_value: Any, held: Any) -> bool:
    """Whether the stored value means exactly the given one."""
    if isinstance(given_value, float) and isinstance(held, float) and math.isnan(given_value):
        return math.isnan(held)
    if isinstance(given_value, str) and not isinstance(held, str):
        return True  # parsed text: the cases of the databases tell what from what
    if isinstance(given_value, float) and isinstance(held, Decimal):
        return held == Decimal(repr(given_value))
    if isinstance(held, str) and not isinstance(given_value, str):
        return float(held) == given_value if isinstance(given_value, float) else bool(held)
    return bool(given_value == held)


@given(st.lists(VALUES, max_size=30), st.sampled_from(TARGETS), st.booleans())
def test_every_value_is_held_exactly_or_costs_its_row(values: list[Any], target: pa.DataType, any_as_text: bool) -> None:
    array, misfits = to_arrow(values, column(target, any_as_text))
    array.validate(full=True)
    assert array.type == target
    assert len(array) == len(values)
    for row, value in enumerate(values):
        if row in misfits:
            assert not array[row].is_valid
            assert misfits[row].reason in ("value_out_of_range", "value_unreadable", "bad_encoding")
        elif value is None:
            assert not array[row].is_valid
        else:
            assert array[row].is_valid
            if pa.types.is_floating(target) and target.bit_width == 32:
                continue
            assert same(value, array[row].as_py()), (value, array[row])


@given(st.lists(VALUES, max_size=20), st.sampled_from(TARGETS))
def test_rows_read_are_records_and_dead_letters(values: list[Any], target: pa.DataType) -> None:
    numbers = list(range(len(values)))
    columns = (SqlColumn("n", "int", pa.int64(), "q.n", "q.n"), column(target))
    schema = pa.schema([("n", pa.int64()), ("v", target)])
    batch = decode("orders", columns, [numbers, values], schema)
    told = [json.loads(letter.raw)["n"] for letter in batch.dead_letters]
    assert sorted(batch.records.column("n").to_pylist() + told) == numbers
    assert batch.records.schema.equals(schema)


@given(st.lists(st.one_of(st.none(), st.text(alphabet="0123456789.-eE naif", max_size=12)), max_size=200))
def test_arrow_text_is_cast_as_a_whole_or_value_by_value_with_the_same_result(texts: list[str | None]) -> None:
    target = column(pa.decimal128(6, 2))
    array, misfits = to_arrow(pa.array(texts, pa.string()), target)
    for row, text in enumerate(texts):
        single, bad = to_arrow(pa.array([text], pa.string()), target)
        assert (row in misfits) == bool(bad)
        assert array[row].as_py() == single[0].as_py()


@given(
    st.one_of(st.none(), st.text(min_size=0, max_size=20)),
    st.text(min_size=0, max_size=20),
    st.one_of(st.none(), st.text(max_size=20)),
    st.text(max_size=20),
)
def test_table_names_read_back_and_are_never_shared(s1: str | None, t1: str, s2: str | None, t2: str) -> None:
    first, second = TableName(s1, t1), TableName(s2, t2)
    assert parse_name(str(first)) == first
    assert (str(first) == str(second)) == (first == second)


@given(st.text(alphabet='a."'))
def test_any_text_is_a_table_name_or_refused(text: str) -> None:
    try:
        assert parse_name(str(parse_name(text))) == parse_name(text)
    except InventoryError:
        assert not text or text.startswith((".", '"')) or text.endswith((".", '"')) or text.count(".") > 1 or '"' in text


def test_ordinary_names_stay_plain() -> None:
    assert str(TableName("public", "orders")) == "public.orders"
    assert str(TableName(None, "order lines")) == "order lines"
    assert str(TableName("public", "a.b")) == 'public."a.b"'


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT 1;", "SELECT 1"),
        (" SELECT ';' ; ; ", "SELECT ';'"),
        ("SELECT ';;', \"a;b\", `c;d` -- e;f", "SELECT ';;', \"a;b\", `c;d` -- e;f"),
        ("SELECT 1 /* ; */ + $$;$$ + $x$;$x$", "SELECT 1 /* ; */ + $$;$$ + $x$;$x$"),
        ("SELECT 'it''s; so'", "SELECT 'it''s; so'"),
    ],
)
def test_a_semicolon_inside_quotes_or_comments_ends_nothing(query: str, text: str) -> None:
    assert check_query(query) == text


TWO_STATEMENTS = ["SELECT 1; SELECT 2", "SELECT ''; DROP TABLE a; --'", "SELECT 1 /* */; DROP TABLE a", ";", "a\0"]


@pytest.mark.parametrize("query", TWO_STATEMENTS)
def test_a_second_statement_is_refused(query: str) -> None:
    with pytest.raises(InventoryError, match=r"read\.query"):
        check_query(query)


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_secrets_are_taken_out_of_what_a_driver_says(secret: str, around: str) -> None:
    from urllib.parse import quote

    told = first_line(ValueError(f"{around} password={secret} uri=db://me:{quote(secret, safe='')}@host {around}"), (secret, None))
    if len(secret) > 3 and secret not in "***" and " " not in secret and secret.isalnum() and secret.isascii():
        assert secret not in told
        assert quote(secret, safe="") not in told


def test_reading_ahead_keeps_order_and_stays_bounded() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(50):
            made.append(n)
            yield n

    ahead = Prefetch(numbers(), lambda: None, ahead=2)
    taken = []
    for n in ahead:
        taken.append(n)
        assert len(made) <= len(taken) + 4  # two in the queue, one in hand, one taken
    ahead.close()
    assert taken == list(range(50))


def test_an_error_while_reading_ahead_arrives_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise UnavailableError("gone")

    ahead = Prefetch(failing(), lambda: None)
    taken = []
    with pytest.raises(UnavailableError, match="gone"):
        taken += [taken.append(n) for n in ahead]  # type: ignore[func-returns-value]
    assert taken[:2] == [1, 2]
    ahead.close()


def test_closing_cancels_a_fetch_that_waits() -> None:
    waiting, released = threading.Event(), threading.Event()

    def hanging() -> Iterator[int]:
        yield 1
        waiting.set()
        released.wait(30)
        raise UnavailableError("cancelled")

    ahead = Prefetch(hanging(), released.set)
    assert next(iter(ahead)) == 1
    assert waiting.wait(10)
    before = threading.active_count()
    ahead.close()
    assert released.is_set()
    assert threading.active_count() == before - 1
    assert list(ahead) == []
