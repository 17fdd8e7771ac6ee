"""What becomes of dead letters in the ledger: replayed once, failed again, discarded, superseded, expired."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.batch_id import batch_id
from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.errors import StaleError, StopError
from airflow_dataops.core.offset import Letters
from airflow_dataops.ledger.base import WHOLE_TABLE, Claim, ClaimRequest, Ledger, LetterFile
from airflow_dataops.ledger.tables import MIGRATIONS
from tests.ledger.actors import MONDAY, ORDERS, Clock, asking, commit, decide, load, staged

FORM = LetterForm("row", {"id": "int64"})
PLACE = "sales/orders/b1/dead-000.parquet"


def letters(count: int) -> list[DeadLetter]:
    return [DeadLetter("bad", f"number {n}", b'{"id":%d}' % n, form=FORM) for n in range(count)]


def lost(ledger: Ledger, count: int = 3, *, batch: str = "b1", run: str = "r1", more: int = 0) -> Claim:
    """A committed batch of two rows, with dead letters; `more` of them have no entry of their own."""
    claim = ledger.batches.claim(asking(batch, run))
    ledger.dead_letters.begin_file(ORDERS, "sales.shop", PLACE)
    content = staged(claim, accounting=Accounting(rows_read=2 + count + more, rows_written=2, rows_dead_lettered=count + more))
    claim = ledger.batches.freeze(claim, content, letters(count), letter_file=LetterFile(PLACE, "s1:x", more, more))
    commit(ledger, claim, decide(ledger, claim))
    return claim


def again(*pairs: tuple[int, int], run: str = "replay/ann/1", generation: int = 1) -> ClaimRequest:
    read = Letters("b1", generation, pairs)
    return replace(asking(batch_id(ORDERS, read), run, read=read, scope=WHOLE_TABLE), period_key="2024-05-06")


def states(ledger: Ledger) -> list[tuple[str, int]]:
    return [(letter.state, letter.attempts) for letter in reversed(ledger.dead_letters.find())]


def test_a_replay_is_frozen_then_committed(ledger: Ledger, clock: Clock) -> None:
    """Letter 2 fails again: it is the same letter, with one attempt more."""
    lost(ledger)
    first, second, third = reversed(ledger.dead_letters.find("sales.shop"))
    assert [(e.file, e.place, e.can_replay, e.schema_fingerprint) for e in (first, third)] == [
        (PLACE, 0, True, "s1:x"), (PLACE, 2, True, "s1:x"),
    ]  # fmt: skip
    clock.wait(60)
    claim = ledger.batches.claim(again((first.id, 1), (second.id, 1)))
    assert claim.batch_id.startswith("b1-g1-r")
    failed = DeadLetter("worse", "still no number", b"", column="id", letter=second.id)
    content = staged(claim, {MONDAY: 1}, accounting=Accounting(rows_read=2, rows_written=1, rows_dead_lettered=1))
    claim = ledger.batches.freeze(claim, content, [failed])
    assert states(ledger) == [("replaying", 1), ("open", 2), ("open", 1)]
    commit(ledger, claim, decide(ledger, claim))
    assert states(ledger) == [("replayed", 1), ("open", 2), ("open", 1)]
    first, second, third = reversed(ledger.dead_letters.find())
    assert (first.changed_by, first.changed_at, first.replay_batch_id) == ("replay/ann/1", clock.now, claim.batch_id)
    assert (second.reason, second.column, second.first_seen_at, second.last_seen_at) == ("worse", "id", clock.now - 60, clock.now)
    assert {(c.state, c.letters, c.rows) for c in ledger.dead_letters.counts("sales.shop")} == {("open", 2, 2), ("replayed", 1, 1)}
    assert ledger.batches.of_period(ORDERS, "2024-05-06")[0].batch_id == "b1"
    assert len(ledger.batches.of_period(ORDERS, "2024-05-06")) == 1


def test_a_letter_is_in_one_replay_only(ledger: Ledger) -> None:
    lost(ledger)
    one, two, _ = sorted(e.id for e in ledger.dead_letters.find())
    claim = ledger.batches.claim(again((one, 1), (two, 1)))
    claim = ledger.batches.freeze(claim, staged(claim, {MONDAY: 2}), [])
    commit(ledger, claim, decide(ledger, claim))
    with pytest.raises(StaleError, match="1 of 1 were replayed"):
        ledger.batches.claim(again((two, 1), run="replay/bob/2"))
    with pytest.raises(StaleError):
        ledger.batches.claim(again((one, 2), run="replay/bob/3"))


def test_a_letter_that_is_discarded_under_way_is_not_stored(ledger: Ledger) -> None:
    lost(ledger)
    one, two, three = sorted(e.id for e in ledger.dead_letters.find())
    claim = ledger.batches.claim(again((one, 1), (two, 1)))
    assert ledger.dead_letters.discard([one, three, 999], "bob", "nonsense") == (one, three)
    with pytest.raises(StaleError):
        ledger.batches.freeze(claim, staged(claim, {MONDAY: 2}), [])
    assert states(ledger) == [("discarded", 1), ("open", 1), ("discarded", 1)]
    ledger.batches.abandon(claim)
    claim = ledger.batches.claim(again((two, 1)))
    claim = ledger.batches.freeze(claim, staged(claim, {MONDAY: 1}), [])
    assert ledger.dead_letters.discard([two], "bob", "too late") == ()


def test_strange_letters_never_fail_in_a_replay(ledger: Ledger) -> None:
    lost(ledger)
    one, two, _ = sorted(e.id for e in ledger.dead_letters.find())
    claim = ledger.batches.claim(again((one, 1)))
    with pytest.raises(StopError, match="not in it"):
        ledger.batches.freeze(claim, staged(claim, {MONDAY: 1}), [DeadLetter("r", "m", b"", letter=two)])


def test_a_batch_that_is_run_again_supersedes_its_open_letters(ledger: Ledger) -> None:
    lost(ledger)
    one = min(e.id for e in ledger.dead_letters.find())
    ledger.dead_letters.discard([one], "ann", "no order")
    load(ledger, asking("b1", "r2"), {MONDAY: 5})
    assert states(ledger) == [("discarded", 1), ("superseded", 1), ("superseded", 1)]


def rejected_replay(ledger: Ledger, one: int, attempts: int) -> None:
    """A replay that had to wait behind others, came to a drift of its own, and was rejected."""
    held_replay(ledger, one, attempts, "replay/ann/1")
    release = ledger.holds.take(ORDERS, "w", "n0nce3")
    assert release is not None
    hold_id = ledger.holds.ask(release.claim, {"why": "drift", "changes": [{"change": "column_added"}]})
    ledger.holds.decide(hold_id, "reject", "ann")
    answered = ledger.holds.take(ORDERS, "w", "n0nce4")
    assert answered is not None
    ledger.holds.reject(answered.claim, Accounting(rows_read=1, rows_dead_lettered=1), [])


def held_replay(ledger: Ledger, one: int, attempts: int, run: str) -> None:
    claim = ledger.batches.claim(again((one, attempts), run=run))
    counts = Accounting(rows_read=1, rows_held=1)
    frozen = ledger.batches.freeze(claim, staged(claim, {MONDAY: 1}, accounting=counts), [])
    ledger.batches.hold(frozen, {"why": "queue"})


def test_the_letters_of_a_rejected_replay_are_open_until_they_are_replayed_again(ledger: Ledger) -> None:
    lost(ledger, 1)
    (one,) = (e.id for e in ledger.dead_letters.find())
    rejected_replay(ledger, one, 1)
    assert states(ledger) == [("open", 2)]
    assert [e.id for e in ledger.dead_letters.find(states=["open"])] == [one]
    held_replay(ledger, one, 2, "replay/bob/1")
    assert states(ledger) == [("replaying", 2)], "the second replay waits: nobody else may have its letter"
    assert ledger.dead_letters.discard([one], "eve", "no order") == ()
    with pytest.raises(StaleError):
        ledger.batches.claim(again((one, 2), run="replay/eve/1"))


def test_an_entry_that_stands_for_many_is_unfolded_once(ledger: Ledger) -> None:
    lost(ledger, 2, more=1501)
    entry = next(e for e in ledger.dead_letters.find() if e.letters > 1)
    assert (entry.place, entry.letters, entry.rows, entry.can_replay, entry.reason) == (2, 1501, 1501, False, "not_listed")
    for _ in range(2):
        ledger.dead_letters.unfold(entry, letters(1000))
    entry = next(e for e in ledger.dead_letters.find() if e.reason == "not_listed")
    assert (entry.place, entry.letters, entry.rows) == (1002, 501, 501)
    assert sum(c.letters for c in ledger.dead_letters.counts()) == 1503
    ledger.dead_letters.unfold(entry, letters(501))
    found = ledger.dead_letters.find()
    assert sorted(e.place for e in found) == list(range(1503))
    assert all(e.can_replay for e in found)


def test_letters_expire_with_their_file(ledger: Ledger, clock: Clock) -> None:
    lost(ledger)
    one, two, _ = sorted(e.id for e in ledger.dead_letters.find())
    ledger.dead_letters.discard([one], "ann", "no order")
    assert ledger.dead_letters.expire("sales.shop", clock.now).files == ()
    clock.wait(10)
    claim = ledger.batches.claim(again((two, 1)))
    claim = ledger.batches.freeze(claim, staged(claim, {MONDAY: 1}), [])
    assert ledger.dead_letters.expire("sales.shop", clock.now).files == ()
    commit(ledger, claim, decide(ledger, claim))
    assert ledger.dead_letters.expire("sales.other", clock.now).files == ()
    expiry = ledger.dead_letters.expire("sales.shop", clock.now)
    assert (expiry.files, expiry.unheeded) == ((PLACE,), 1)
    assert [state for state, _ in states(ledger)] == ["discarded", "replayed", "expired"]
    expiry = ledger.dead_letters.expire("sales.shop", clock.now)
    assert (expiry.files, expiry.unheeded) == ((PLACE,), 0)
    ledger.dead_letters.forget(expiry.files)
    assert ledger.dead_letters.expire("sales.shop", clock.now).files == ()


def test_letters_of_before_know_their_file_and_their_place(ledger: Ledger) -> None:
    """What the migration does with letters of version 1: they are the first ones in the folder of their attempt."""
    claim = lost(ledger)
    module = next((MIGRATIONS.folder / "versions").glob("*_dead_letters.py"))
    spec = importlib.util.spec_from_file_location("migration", module)
    assert spec is not None
    assert spec.loader is not None
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    with ledger._database.write() as connection:
        connection.execute(sa.text("DELETE FROM dataops_letter_file"))
        connection.execute(sa.text("UPDATE dataops_dead_letter SET file = NULL, place = 0"))
        with Operations.context(MigrationContext.configure(connection)):
            migration._find_the_old_ones()
    found = list(reversed(ledger.dead_letters.find()))
    assert [(e.file, e.place, e.can_replay) for e in found] == [(f"{claim.directory}/", n, True) for n in range(3)]
    assert ledger.dead_letters.expire("sales.shop", 2e9).files == (f"{claim.directory}/",)
