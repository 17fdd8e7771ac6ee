"""Those who work with a ledger in these tests, and what they bring: a clock to turn, claims, contents, whole loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from airflow_dataops.core.accounting import Accounting
from airflow_dataops.core.offset import CursorRange, OffsetRange, Scalar
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.types_text import type_from_text
from airflow_dataops.ledger.base import (
    BatchContent,
    Claim,
    ClaimRequest,
    Decision,
    DecisionPlan,
    Ledger,
    Observation,
    StagedPartition,
)

ORDERS = "sales.shop:orders"
SCHEMA = TableSchema((Column("id", pa.int64(), False, "the key"), Column("total", pa.decimal128(12, 2))), ("id",))
MONDAY, TUESDAY = "dt=2024-05-06", "dt=2024-05-07"


class Clock:
    """POSIX seconds that only move when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def span(low: Scalar | None, high: Scalar | None) -> CursorRange:
    """A watermark range (low, high]."""
    return CursorRange("id", low, high)


def asking(
    batch_id: str = "b1", run: str = "r1", *, read: OffsetRange | None = None, scope: str = MONDAY, writer: str | None = None,
    **more: Any,
) -> ClaimRequest:  # fmt: skip
    """A claim of `orders`; `writer` is a process of that run."""
    return ClaimRequest(
        **{
            "table_key": ORDERS, "source_id": "sales.shop", "source_table": "orders", "target": "sales.orders",
            "batch_id": batch_id, "scope": scope, "range": read or span(0, 2), "period_key": scope.removeprefix("dt="),
            "run": run, "writer": writer or f"w-{run}", "nonce": "n0nce", "root": "sales/orders", **more,
        }
    )  # fmt: skip


def staged(claim: Claim, rows: Mapping[str, int] | None = None, **more: Any) -> BatchContent:
    """Content of as many rows per partition as told, in the claim's directory. Equal rows have equal fingerprints."""
    rows = {MONDAY: 2} if rows is None else rows
    total = sum(rows.values())
    return BatchContent(
        **{
            "partitions": tuple(
                StagedPartition(name, (name.partition("=")[2],), place(claim, name), _files(claim, name), n, f"f{n}")
                for name, n in rows.items()
            ),
            "schema": SCHEMA, "accounting": Accounting(rows_read=total, rows_written=total), "fingerprint": f"f{total}",
            "source_fingerprint": f"s{total}", **more,
        }
    )  # fmt: skip


def _files(claim: Claim, partition: str) -> tuple[dict[str, Any], ...]:
    return ({"path": f"{place(claim, partition)}/0.parquet"},)


def place(claim: Claim, partition: str = MONDAY) -> str:
    return f"{claim.directory}/{partition}"


def plans_of(ledger: Ledger, claim: Claim, location: str | None = None) -> list[DecisionPlan]:
    """What an overwrite of the frozen content wants, built on the decisions as they are now."""
    now = ledger.decisions.current(ORDERS)
    return [
        DecisionPlan(
            part.name, part.values, now[part.name].epoch if part.name in now else 0, location or part.directory, part.rows,
            part.rows * 10, part.fingerprint, SCHEMA,
        )
        for part in (claim.content.partitions if claim.content else ())
    ]  # fmt: skip


def freeze(ledger: Ledger, claim: Claim, rows: Mapping[str, int] | None = None, **more: Any) -> Claim:
    return ledger.batches.freeze(claim, staged(claim, rows, **more), ())


def decide(ledger: Ledger, claim: Claim, location: str | None = None) -> tuple[Decision, ...]:
    return ledger.batches.decide(claim, plans_of(ledger, claim, location))


def commit(ledger: Ledger, claim: Claim, decisions: Sequence[Decision], watermark: Any = None, **more: Any) -> None:
    ledger.batches.commit(claim, {d.name: d.epoch for d in decisions}, watermark, **more)


def load(ledger: Ledger, request: ClaimRequest, rows: Mapping[str, int] | None = None, watermark: Any = None) -> Claim:
    """A whole undisturbed load, from claim to commit."""
    claim = freeze(ledger, ledger.batches.claim(request), rows)
    commit(ledger, claim, decide(ledger, claim), watermark)
    return replace(claim, state="committed")


def seen(columns: str | None, sequence: int | None, **more: Any) -> Observation:
    """A batch (None: a declaration) that shows these columns: `id int64, city string`."""
    pairs = [column.split(" ", 1) for column in columns.split(", ")] if columns else []
    schema = None if columns is None else TableSchema(tuple(Column(n, type_from_text(t)) for n, t in pairs))
    batch_id = None if sequence is None else f"b{sequence}"
    return Observation(
        **{
            "table_key": ORDERS, "source_id": "sales.shop", "source_table": "orders", "target": "sales.orders",
            "schema": schema, "batch_id": batch_id, "sequence": sequence, "rows": 7, **more,
        }
    )  # fmt: skip
