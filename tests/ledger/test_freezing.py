"""What was read becomes the batch's content for ever (DESIGN §5.3)."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import ProofError, StopError
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.ledger.base import BatchContent, Ledger, StagedPartition
from tests.ledger.actors import MONDAY, ORDERS, SCHEMA, TUESDAY, asking, freeze, place, staged


def test_content_comes_back_as_it_was_frozen(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    content = BatchContent(
        partitions=(
            StagedPartition(
                'dt=2024-05-06/who=O%27Br"ien', ("2024-05-06", "O'Br\"ien\n{{ x }}"), place(claim),
                ({"path": f"{place(claim)}/é 0.parquet", "rows": 2, "bytes": 9, "fingerprint": "f1:00"},), 2, "f1:ab",
            ),
            StagedPartition("dt=__HIVE_DEFAULT_PARTITION__", (None,), place(claim, "null"), (), 0, "f1:00", unchanged=True),
        ),
        schema=TableSchema(
            (
                Column("id", pa.int64(), False, "the 'key'", "ID"),
                Column("at", pa.timestamp("us", "UTC")),
                Column("lines", pa.list_(pa.struct([("sku", pa.string()), ("n", pa.decimal128(20, 4))]))),
                Column("untyped", pa.null()),
            ),
            ("id",),
        ),
        accounting=Accounting(rows_read=9, rows_written=2, rows_filtered=3, rows_deduplicated=4, values_discarded=7),
        fingerprint="f1:ab", source_fingerprint="f1:cd", source_schema=SCHEMA, complete=True, traits={"encoding": "utf-8"},
    )  # fmt: skip
    frozen = ledger.batches.freeze(claim, content, ())
    assert frozen == replace(claim, state="frozen", content=content)
    assert ledger.batches.claim(asking()).content == content
    record = ledger.batches.unfinished(ORDERS)[0]
    assert (record.accounting, record.fingerprint, record.frozen_at) == (content.accounting, "f1:ab", 1_700_000_000.0)


def test_rows_that_are_not_accounted_for_are_never_frozen(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    with pytest.raises(ProofError, match="3 rows read -> 2 rows accounted for"):
        freeze(ledger, claim, accounting=Accounting(rows_read=3, rows_written=2))
    assert ledger.batches.history()[0].state == "open"


@pytest.mark.parametrize(
    "where", ["sales/orders/elsewhere", "sales/orders/b1.g1.a1.n0nce-more", "sales/orders", "sales/orders/b1.g1.a1.n0nce/../x"]
)
def test_what_was_staged_outside_the_attempts_directories_is_refused(ledger: Ledger, where: str) -> None:
    """Nothing could ever tell who may delete it."""
    claim = ledger.batches.claim(asking())
    part = replace(staged(claim).partitions[0], directory=where)
    with pytest.raises(StopError, match=r"staged in|a path below"):
        freeze(ledger, claim, partitions=(part,))


def test_a_further_directory_of_the_attempt_counts_once_it_is_registered(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    ledger.directories.register(claim, "sales/orders/extra")
    ledger.directories.register(claim, "sales/orders/extra")
    part = replace(staged(claim).partitions[0], directory="sales/orders/extra/dt=1")
    assert freeze(ledger, claim, partitions=(part,)).state == "frozen"
    assert "sales/orders/extra" in ledger.decisions.locations(ORDERS)


def test_dead_letters_are_indexed_with_the_batch_and_show_no_values(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    letters = [
        DeadLetter("ragged_row", "5 fields -> 4", b'4711;"M\xc3\xbcller";0\x00;\xff\xfe', "in/\udcff.csv", 12, "na\x00me"),
        DeadLetter("too_long", "x" * 9000, b"a" * 100_000, rows=3),
    ]
    ledger.batches.freeze(claim, staged(claim), letters)
    long, ragged = ledger.dead_letters.find("sales.shop")
    assert ragged.preview == '9999;"xxxxxx";9.;..'
    assert (ragged.source_file, ragged.source_offset, ragged.column) == ("in/\udcff.csv", 12, "na\x00me")
    assert (ragged.reason, ragged.message, ragged.batch_state, ragged.state, ragged.attempts) == (
        "ragged_row", "5 fields -> 4", "frozen", "open", 1,
    )  # fmt: skip
    assert (len(long.preview), len(long.message), long.raw_bytes, long.rows) == (201, 500, 100_000, 3)
    assert ledger.dead_letters.find("sales.other") == ()


def test_no_dead_letter_is_dropped_at_the_edge_of_a_statement(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    ledger.batches.freeze(claim, staged(claim), [DeadLetter("r", str(i), b"1") for i in range(1101)])
    assert {d.message for d in ledger.dead_letters.find()} == {str(i) for i in range(1101)}


def test_a_failed_freeze_leaves_nothing(ledger: Ledger) -> None:
    claim = ledger.batches.claim(asking())
    with pytest.raises(ProofError):
        ledger.batches.freeze(claim, staged(claim, accounting=Accounting(rows_read=1)), [DeadLetter("r", "m", b"1")])
    assert ledger.dead_letters.find() == ()
    assert freeze(ledger, claim, {MONDAY: 1, TUESDAY: 1}).state == "frozen"
