"""What the maintenance asks of the ledger: which tables are not at rest, whose batches may be taken, what is late."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import KnownTable, Ledger
from airflow_dataops.ledger.tables import MIGRATIONS
from tests.ledger.actors import MONDAY, ORDERS, Clock, asking, commit, decide, freeze, load

GRACE, DEAD, LEASE = 100.0, 1000.0, 300.0
SHOP = "sales.shop"


def busy(ledger: Ledger) -> list[str]:
    return [t.table_key for t in ledger.tables.with_work()]


def look(ledger: Ledger) -> int:
    """What a sweep does for the table at last: deletes what is due. Returns how much that was."""
    due = ledger.directories.expirable(ORDERS, GRACE, DEAD)
    for directory in due:
        ledger.directories.forget(ORDERS, directory)
    return len(due)


def test_tables_are_known_with_their_last_commit(ledger: Ledger, clock: Clock) -> None:
    assert ledger.tables.of_source(SHOP) == ()
    claim = ledger.batches.claim(asking())
    assert ledger.tables.of_source(SHOP) == (KnownTable(ORDERS, SHOP, "orders", "sales.orders", None),)
    clock.wait(5)
    frozen = freeze(ledger, claim)
    commit(ledger, frozen, decide(ledger, frozen))
    assert [t.committed_at for t in ledger.tables.of_source(SHOP)] == [clock()]
    clock.wait(5)
    same = ledger.batches.claim(asking(run="r2"))
    ledger.batches.commit_unchanged(freeze(ledger, same, {}))
    assert [t.committed_at for t in ledger.tables.of_source(SHOP)] == [clock()]
    assert ledger.tables.of_source("sales.crm") == ()


def test_a_table_has_work_from_freeze_to_commit_and_until_nothing_is_left_to_delete(ledger: Ledger, clock: Clock) -> None:
    claim = ledger.batches.claim(asking())
    assert busy(ledger) == []  # open: nobody but its own run can go on
    frozen = freeze(ledger, claim)
    assert busy(ledger) == [ORDERS]
    decisions = decide(ledger, frozen)
    assert busy(ledger) == [ORDERS]
    commit(ledger, frozen, decisions)
    assert busy(ledger) == [ORDERS]  # a batch has ended: somebody has to see what that left
    assert (look(ledger), busy(ledger)) == (0, [])
    load(ledger, asking(run="r2"), {MONDAY: 3})
    look(ledger)
    clock.wait(GRACE - 1)
    assert busy(ledger) == []
    clock.wait(1)
    assert busy(ledger) == [ORDERS]
    assert (look(ledger), look(ledger), busy(ledger)) == (1, 0, [])


def test_a_mark_is_work(ledger: Ledger, clock: Clock) -> None:
    load(ledger, asking())
    look(ledger)
    ledger.decisions.mark(ORDERS, [MONDAY], "zombie")
    assert busy(ledger) == [ORDERS]
    ledger.decisions.clear_marks(ORDERS, "zombie", {MONDAY: 1})
    look(ledger)
    assert busy(ledger) == []


def test_what_a_mark_protected_is_due_its_grace_after_the_mark(ledger: Ledger, clock: Clock) -> None:
    """Its owner clears it, and no batch comes after that: still somebody has to look again."""
    load(ledger, asking())
    ledger.decisions.mark(ORDERS, [MONDAY], "zombie")
    load(ledger, asking(run="r2"), {MONDAY: 3})
    clock.wait(10 * DEAD)
    assert look(ledger) == 0
    ledger.decisions.clear_marks(ORDERS, "zombie", {MONDAY: 2})
    clock.wait(GRACE)
    assert busy(ledger) == [ORDERS] and look(ledger) == 1


def test_what_an_attempt_lost_is_due_when_nobody_can_be_alive(ledger: Ledger, clock: Clock) -> None:
    ledger.batches.abandon(ledger.batches.claim(asking()))
    look(ledger)
    clock.wait(DEAD - 1)
    assert busy(ledger) == []
    clock.wait(1)
    assert busy(ledger) == [ORDERS] and look(ledger) == 1


def test_a_batch_is_left_to_the_attempt_whose_lease_runs(ledger: Ledger, clock: Clock) -> None:
    claim = freeze(ledger, ledger.batches.claim(asking(lease_seconds=10.0)))  # freezing gives a whole lease of 300
    for seconds in (10, LEASE - 11):
        clock.wait(seconds)
        assert ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n", leave_live=True) is None
    ledger.batches.renew(claim, 2.0)
    clock.wait(1)
    assert ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n", leave_live=True) is None
    clock.wait(1)
    taken = ledger.batches.adopt(ORDERS, "b1", 1, "sweep", "n", 50.0, leave_live=True)
    assert taken is not None and taken.attempt > claim.attempt
    clock.wait(49)
    assert ledger.batches.adopt(ORDERS, "b1", 1, "other", "n", leave_live=True) is None
    assert ledger.batches.adopt(ORDERS, "b1", 1, "run", "n") is not None  # who has to pass may always


def test_a_batch_knows_what_it_decided_even_after_a_later_decision(ledger: Ledger) -> None:
    first = freeze(ledger, ledger.batches.claim(asking()))
    assert ledger.decisions.names_of(first) == ()
    decide(ledger, first)
    assert ledger.decisions.names_of(first) == (MONDAY,)
    commit(ledger, first, tuple(ledger.decisions.current(ORDERS).values()))
    load(ledger, asking("b2", "r2"))
    assert ledger.decisions.names_of(first) == (MONDAY,)


def test_late_is_told_once_per_transition(ledger: Ledger, clock: Clock) -> None:
    fresh = ledger.freshness
    assert fresh.expect(SHOP, ["a", "b"]) == {"a": clock(), "b": clock()}
    assert fresh.late(SHOP, ["a"], 60) == ("a",)
    fresh.told(SHOP, ["a"])
    for _ in range(3):
        clock.wait(1000)
        assert fresh.late(SHOP, ["a"], 60) == ()
    assert fresh.late(SHOP, ["a", "b"], 60) == ("b",)
    fresh.told(SHOP, ["b"])
    assert fresh.late(SHOP, ["b"], 60) == ()  # a is fresh again
    assert fresh.late(SHOP, ["a", "b"], 60) == ("a",)
    assert fresh.late("sales.crm", ["a"], 60) == ()  # nobody expects it


def test_what_nobody_was_told_of_is_tried_again_but_not_by_two_at_once(ledger: Ledger, clock: Clock) -> None:
    fresh = ledger.freshness
    fresh.expect(SHOP, ["a"])
    assert [fresh.late(SHOP, ["a"], 60) for _ in range(2)] == [("a",), ()]
    clock.wait(60)
    assert fresh.late(SHOP, ["a"], 60) == ("a",)
    fresh.told(SHOP, ["a"])
    clock.wait(60)
    assert fresh.late(SHOP, ["a"], 60) == ()


def test_what_is_expected_is_known_since_it_was_first_seen(ledger: Ledger, clock: Clock) -> None:
    fresh, began = ledger.freshness, clock()
    fresh.expect(SHOP, [""])
    clock.wait(10)
    assert fresh.expect(SHOP, ["a"]) == {"a": clock()}
    clock.wait(10)
    assert fresh.expect(SHOP, ["", "a"]) == {"": clock(), "a": began + 10}
    assert fresh.expect("sales.crm", ["a"]) == {"a": clock()}


def test_a_ledger_of_the_first_version_is_taken_forward_with_what_it_knows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = sa.create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS.folder))
    with engine.begin() as connection:
        config.attributes.update(connection=connection, version_table=MIGRATIONS.version_table)
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO dataops_table VALUES ('s:t -> d.t', 's', 't', 'd.t', 1, 1, NULL)")
        columns = [c["name"] for c in sa.inspect(connection).get_columns("dataops_batch")]
        for number, committed in enumerate((5.0, 9.0, None)):
            values = dict.fromkeys(columns, 0) | {"table_key": "s:t -> d.t", "batch_id": str(number), "state": "committed"}
            values |= {"committed_at": committed, "scope": str(number), "range": "{}"}
            names = ", ".join(f'"{c}"' for c in columns)
            connection.exec_driver_sql(
                f"INSERT INTO dataops_batch ({names}) VALUES ({', '.join('?' * len(columns))})", tuple(values.values())
            )
    engine.dispose()
    ledger = open_ledger(url)
    assert [(t.target, t.committed_at) for t in ledger.tables.of_source("s")] == [("d.t", 9.0)]
    assert [t.target for t in ledger.tables.with_work()] == ["d.t"]  # the first sweep looks at everything
    ledger.close()
