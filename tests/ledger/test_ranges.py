"""A table's ranges as the database can order them: the same answers as by their values, and no walk through all of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_dataops.core.errors import RangeError
from airflow_dataops.core.offset import CursorRange, Everything, Scalar, ends_below, free_from, overlaps, range_to_json
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import WHOLE_TABLE, Ledger
from airflow_dataops.ledger.cursors import ABOVE_ALL, BELOW_ALL, KEY_BYTES, key_of, range_columns
from airflow_dataops.ledger.tables import MIGRATIONS, batch
from tests.ledger.actors import MONDAY, ORDERS, TUESDAY, asking, load, span

BEFORE, AFTER = "0006", "0007"
"""The revisions without and with the columns."""

EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False), st.integers(-(10**300), 10**300), st.integers(-3, 3)
)
KINDS: list[st.SearchStrategy[Any]] = [
    NUMBERS,
    st.text(),
    st.text("ab\0\U0010ffff\ud800", max_size=3),
    st.integers(0, 3).map(lambda n: "x" * (KEY_BYTES + n)),
    st.binary(),
    st.booleans(),
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from([UTC, EAST, WEST])),
    st.dates(),
    st.times(),
]


@given(st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(kind, kind)))
@example((-0.0, 0))
@example((Decimal("-1.20"), -1.2000000000000001))
@example((float("-inf"), -(10**400)))
@example((float("inf"), Decimal("1e6000")))
@example((datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST)))
@example(("é", "z"))
def test_keys_have_the_order_of_the_values(pair: tuple[Any, Any]) -> None:
    low, high = sorted(pair)
    assert BELOW_ALL < key_of(low) <= key_of(high) < ABOVE_ALL
    assert len(key_of(high)) <= KEY_BYTES
    if low == high:
        assert key_of(low) == key_of(high)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1, 2), (-2, -1), (-1, 1), (9, 10), (Decimal("0.1"), 0.11), (-10, -9.99), (1e-9, 1e-8), ("a", "b"), ("a", "aa"),
        (b"\0", b"\0\0"), (date(2024, 5, 1), date(2024, 5, 2)), (datetime(2024, 5, 1, 1), datetime(2024, 5, 1, 1, 0, 0, 1)),
        (False, True), (time(1), time(1, 0, 0, 1)), (datetime(2024, 5, 1, 12, tzinfo=EAST), datetime(2024, 5, 1, 12, tzinfo=WEST)),
    ],
)  # fmt: skip
def test_values_that_differ_early_have_keys_that_differ(low: Scalar, high: Scalar) -> None:
    assert key_of(low) < key_of(high)


ENDS: list[Scalar | None] = [None, -1, 0, 2.5, 3, Decimal("10")]
ASKED = [
    CursorRange("id", low, high, *flags)
    for low in ENDS
    for high in ENDS
    for flags in ((False, True), (True, False), (True, True), (False, False))
    if low is None or high is None or low <= high  # type: ignore[operator]
]
THERE = [span(0, 2.5), CursorRange("id", 3, 10, True, False), span(-(10**30), -5)]


@pytest.fixture
def loaded(ledger: Ledger) -> Ledger:
    for n, read in enumerate(THERE):
        load(ledger, asking(f"b{n}", f"r{n}", read=read, exclusive=True, scope=f"dt=2024-05-0{n}"))
    return ledger


def test_a_claim_is_refused_for_every_range_that_it_meets_and_no_other(loaded: Ledger) -> None:
    for n, asked in enumerate(ASKED):
        request = asking(f"new{n}", "new", read=asked, exclusive=True, scope="dt=2024-06-01")
        if any(overlaps(asked, there) for there in THERE):
            with pytest.raises(RangeError, match="twice"):
                loaded.batches.claim(request)
        else:
            loaded.batches.abandon(loaded.batches.claim(request))


def test_what_is_free_is_what_the_ranges_leave(loaded: Ledger) -> None:
    other = CursorRange("updated_at", 2.5, 2.75)
    load(loaded, asking("other", "r9", read=other, scope="dt=2024-05-09"))
    assert loaded.offsets.free_from(ORDERS, "id", 50) == free_from(None, THERE) == (None, -(10**30))
    load(loaded, asking("first", "r8", read=span(None, -(10**30)), scope="dt=2024-05-08"), watermark=(None, -(10**30)))
    assert loaded.offsets.free_from(ORDERS, "id", 50) == (-5, 0)
    load(loaded, asking("second", "r7", read=span(-5, 0), scope="dt=2024-05-07"), watermark=(-5, 0))
    assert loaded.offsets.free_from(ORDERS, "id", 50) == (2.5, 3)
    assert loaded.offsets.watermark(ORDERS) == 2.5
    assert loaded.offsets.free_from(ORDERS, "id", "a text") == (2.5, None)  # of another kind: `claim` has the word


def test_what_ended_below_is_told_exactly(loaded: Ledger) -> None:
    for low in (-(10**31), -5, -4, 2.5, Decimal("2.6"), 10, 11, "text", 10**40):
        told = {f"b{n}" for n, there in enumerate(THERE) if ends_below(there.high, low)}
        assert loaded.batches.ended_below(ORDERS, "id", low) == told
    assert not loaded.batches.ended_below(ORDERS, "updated_at", 11)
    open_end = asking("open", "r5", read=span(100, None), scope="dt=2024-05-05")
    load(loaded, open_end)
    assert "open" not in loaded.batches.ended_below(ORDERS, "id", 10**40)


def test_a_range_of_which_nothing_is_known_is_compared_by_its_values(loaded: Ledger) -> None:
    """Claimed by a release that did not write the columns, while the ledger was migrated under it."""
    with loaded._database.write() as connection:
        connection.execute(batch.update().values(range_series=None, range_low=None, range_high=None))
    with pytest.raises(RangeError, match="twice"):
        loaded.batches.claim(asking("new", "r9", read=span(4, 5), exclusive=True, scope="dt=2024-06-01"))
    assert loaded.offsets.free_from(ORDERS, "id", 50) == (None, -(10**30))
    assert loaded.batches.ended_below(ORDERS, "id", 10**40) == frozenset()  # so their files are looked at


def test_a_full_snapshot_is_in_nobodys_way(ledger: Ledger) -> None:
    load(ledger, asking("all", "r1", read=Everything()))
    assert ledger.batches.claim(asking("some", "r2", read=span(1, 2), exclusive=True)).state == "open"


def test_ranges_of_an_older_ledger_are_put_in_order(tmp_path: Path, migrated_file: Path) -> None:
    """More of them than the migration takes at a time."""
    file, count = tmp_path / "ledger.db", 2100
    shutil.copy(migrated_file, file)
    ledger = open_ledger(f"sqlite:///{file}")
    load(ledger, asking("all", "r0", read=Everything(), scope=TUESDAY))
    load(ledger, asking("b0", "r1", read=span(0, 1)))
    columns = sa.select(batch.c.batch_id, batch.c.range_series, batch.c.range_low, batch.c.range_high).order_by(batch.c.batch_id)
    with ledger._database.write() as connection:
        one = dict(connection.execute(sa.select(batch).where(batch.c.batch_id == "b0")).mappings().one())
        reads = {f"b{n}": span(n, n + 1) for n in range(1, count)}
        connection.execute(
            batch.insert(),
            [one | {"batch_id": name, "range": range_to_json(read), **range_columns(read)} for name, read in reads.items()],
        )
        as_written = connection.execute(columns).all()
        connection.execute(sa.text("DROP INDEX ix_dataops_batch_range"))
        for name in ("range_series", "range_low", "range_high"):
            connection.execute(sa.text(f"ALTER TABLE dataops_batch DROP COLUMN {name}"))
        connection.execute(sa.text(f"UPDATE {MIGRATIONS.version_table} SET version_num = '{BEFORE}'"))
    ledger._database.migrate(replace(MIGRATIONS, head=AFTER))
    with ledger._database.read() as connection:
        assert connection.execute(columns).all() == as_written
    ledger.close()


@pytest.fixture
def questions() -> Iterator[list[tuple[str, str]]]:
    """(statement with its values, one step of SQLite's plan for it), of all that is asked of any SQLite ledger meanwhile."""
    seen: list[tuple[str, str]] = []

    def explain(connection: Any, _: Any, statement: str, values: Any, __: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")) and not many:
            plan = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            seen.extend((f"{statement} {values}", step) for *_, step in plan)

    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", explain)


WALK = re.compile(r"(SCAN|SEARCH) dataops_(batch|decision)\b(?!.*(\(table_key=\? AND | AND table_key=\?))")


def test_a_run_walks_through_none_of_a_tables_history(questions: list[tuple[str, str]]) -> None:
    """Plans, not seconds: SQLite knows nothing of how much there is, and takes the same way with a hundred thousand batches."""
    ledger = open_ledger("sqlite://")
    questions.clear()  # those of the migrations
    for n in range(3):
        run = f"r{n}"
        assert ledger.batches.committed_by(run, ORDERS) is None
        assert ledger.batches.reclaim(ORDERS, run, "w", "n0nce") is None
        assert not ledger.batches.unfinished(ORDERS) and not ledger.batches.held(ORDERS)
        assert ledger.offsets.free_from(ORDERS, "id", n + 1) == (n or None, None)
        read = span(n or None, n + 1)
        request = asking(f"b{n}", run, read=read, scope=WHOLE_TABLE, exclusive=True, follows_watermark=True)
        load(ledger, replace(request, nonce=f"n{n}"), {MONDAY: 2}, watermark=(n or None, n + 1))
        ledger.batches.ended_below(ORDERS, "id", n + 1)
        ledger.decisions.current(ORDERS)
    ledger.close()
    assert len({statement for statement, _ in questions}) > 20
    assert [(step, statement) for statement, step in questions if WALK.match(step)] == []
    of_finished = [step for statement, step in questions if "dataops_batch_state" in step and "'committed'" in statement]
    assert of_finished == []  # nearly all are
