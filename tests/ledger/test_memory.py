"""What the ledger remembers beside batches: shapes, drift, DDL, events to tell, results of runs, lists."""

from __future__ import annotations

from typing import Any

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.ledger.base import Ledger
from tests.ledger.actors import MONDAY, ORDERS, SCHEMA, TUESDAY, Clock, asking, freeze, load, span

CUSTOMERS = "sales.shop:customers"


def test_ddl_is_audited(ledger: Ledger, clock: Clock) -> None:
    for table_key in (ORDERS, CUSTOMERS):
        ledger.drift.record_ddl(
            {"table_key": table_key, "statement": "alter_table", "who": "w", "why": "b", "before": None, "after": ["x int64"]}
        )
    (entry,) = ledger.drift.ddl(ORDERS)
    assert (entry["statement"], entry["after"], entry["at"]) == ("alter_table", ["x int64"], clock())
    assert [e["table_key"] for e in ledger.drift.ddl()] == [CUSTOMERS, ORDERS] and len(ledger.drift.ddl(limit=1)) == 1


def test_asset_events_are_told_at_least_once(ledger: Ledger) -> None:
    load(ledger, asking("b1", "r1"))
    claim = freeze(ledger, ledger.batches.claim(asking("b2", "r2")))
    ledger.batches.commit(claim, {d.name: d.epoch for d in ledger.batches.decide(claim, _plans(ledger, claim))}, None, (), {"n": 1})
    other = ledger.batches.claim(asking("b1", "r1", table_key="sales.crm:people", source_id="sales.crm"))
    ledger.batches.commit_unchanged(ledger.batches.freeze(other, _empty(), ()), asset={"n": 2})
    ((number, told),) = ledger.outbox.pending_assets("sales.shop")
    assert told == {"n": 1} and [e for _, e in ledger.outbox.pending_assets("sales.crm")] == [{"n": 2}]
    for _ in range(2):
        ledger.outbox.assets_told([number, 999])
        assert ledger.outbox.pending_assets("sales.shop") == ()
    ledger.outbox.assets_told([])


def _plans(ledger: Ledger, claim: Any) -> Any:
    from tests.ledger.actors import plans_of

    return plans_of(ledger, claim)


def _empty() -> Any:
    from airflow_dataops.ledger.base import BatchContent

    return BatchContent((), SCHEMA, Accounting(rows_read=1, rows_filtered=1), "f0", "s1")


def test_results_of_runs_are_kept_per_table(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.record("r1", "sales.shop", ORDERS, {"outcome": "failed", "error": "x'\n{{ y }}"})
    clock.wait(1)
    ledger.runs.record("r1", "sales.shop", ORDERS, {"outcome": "loaded", "rows_read": 2})
    ledger.runs.record("r1", "sales.shop", CUSTOMERS, {"outcome": "held"})
    clock.wait(1)
    ledger.runs.record("r2", "sales.crm", "sales.crm:people", {"outcome": "unchanged"})
    assert ledger.runs.of("r1") == {CUSTOMERS: {"outcome": "held"}, ORDERS: {"outcome": "loaded", "rows_read": 2}}
    assert ledger.runs.of("r9") == {}
    assert [(r["run"], r["table_key"]) for r in ledger.runs.latest()] == [
        ("r2", "sales.crm:people"),
        ("r1", CUSTOMERS),
        ("r1", ORDERS),
    ]
    assert ledger.runs.latest("sales.shop", limit=1)[0] == {
        "run": "r1", "source_id": "sales.shop", "table_key": CUSTOMERS, "at": clock() - 1, "result": {"outcome": "held"},
    }  # fmt: skip


def test_history_is_newest_first_and_of_period_has_the_newest_generation(ledger: Ledger, clock: Clock) -> None:
    load(ledger, asking("b1", "r1", scope=MONDAY))
    clock.wait(1)
    load(ledger, asking("b2", "r2", scope=TUESDAY))
    clock.wait(1)
    load(ledger, asking("b1", "r3", scope=MONDAY))
    open_one = ledger.batches.claim(asking("b1", "r4", scope=MONDAY))
    assert [(r.batch_id, r.generation, r.state) for r in ledger.batches.history(table_key=ORDERS)] == [
        ("b1", 3, "open"), ("b1", 2, "committed"), ("b2", 1, "committed"), ("b1", 1, "committed"),
    ]  # fmt: skip
    assert [r.generation for r in ledger.batches.history("sales.shop", limit=1)] == [3]
    assert ledger.batches.history("sales.other") == ()
    assert [(r.batch_id, r.generation) for r in ledger.batches.of_period(ORDERS, "2024-05-06")] == [("b1", 2)]
    record = ledger.batches.committed_by("r1", ORDERS)
    assert record is not None and (record.generation, record.accounting, record.range) == (1, Accounting(2, 2), span(0, 2))
    assert ledger.batches.committed_by("r4", ORDERS) is None
    assert ledger.batches.root(CUSTOMERS) is None and ledger.batches.root(ORDERS) == "sales/orders"
    ledger.batches.claim(asking("b9", "r9", scope="dt=2024-05-08", root="sales/elsewhere"))
    assert ledger.batches.root(ORDERS) == "sales/elsewhere"
    assert ledger.batches.committed_by("r1", CUSTOMERS) is None
    freeze(ledger, open_one)
    assert [r.generation for r in ledger.batches.unfinished()] == [3] and ledger.batches.unfinished(CUSTOMERS) == ()


def test_hostile_names_are_data(ledger: Ledger) -> None:
    table_key = "sales.shop:Robert'); DROP TABLE dataops_batch;--\n{{ x }}/..\\%s:é"
    name = "dt='\"; DROP TABLE dataops_batch; --"
    load(ledger, asking(table_key=table_key, scope=name, source_table="x'y", target="a.b"), {MONDAY: 1})
    claim = freeze(ledger, ledger.batches.claim(asking("b2", table_key=table_key, scope=name)), {})
    assert claim.scope == name
    assert [r.table_key for r in ledger.batches.history(table_key=table_key)] == [table_key] * 2
