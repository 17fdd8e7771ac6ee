"""Which rows still go to the partition they belong to: not those that are older than the row keeps (`target.retention_days`), and
not late ones where the row says so (`target.late: reject`). Both are counted; late ones become dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pyarrow as pa

from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.errors import InventoryError, RangeError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.offset import CursorRange, OffsetRange, Scalar
from airflow_dataops.core.partition import period_value
from airflow_dataops.core.partition_age import PartitionAge, partition_age, refuse_ageless, retention_floor
from airflow_dataops.core.period import Period
from airflow_dataops.core.row_json import rows_to_json
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.steps.overlap import read_range

Values = Sequence[str | None]


def refuse_expired(table: TableSpec, period: Period, now: float) -> None:
    """RangeError when the partition of this period would be dropped as soon as it is loaded. Asked before anything is read."""
    floor = retention_floor(now, table.target.retention_days)
    by = table.target.partition_by
    values = [period_value(p, period) if p.column is None else None for p in by]
    if _age_of(table, TableSchema(()), period).is_over(values, floor):
        raise RangeError(
            f"Cannot load period {period.key} of {table.name}: it was over {period.end.isoformat()} -> within the last "
            f"{table.target.retention_days} days (`target.retention_days`). Its partition would be dropped at once. Raise "
            "`retention_days`, or leave the period out."
        )


def _age_of(table: TableSpec, schema: TableSchema, period: Period | None) -> PartitionAge:
    def end(key: str) -> float | None:
        return period.end.timestamp() if period is not None and key == period.key else None

    return partition_age(table.target.partition_by, schema, table.timezone, end)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What one batch may bring. `expired_before`, `closed_before`: partitions that were over by then are expired, or closed."""

    age: PartitionAge
    expired_before: float | None = None
    closed_before: float | None = None

    @classmethod
    def of(cls, table: TableSpec, schema: TableSchema, claimed: OffsetRange, period: Period | None, now: float) -> Arrivals:
        """`schema`: the data columns as they are stored. `period` None: nobody knows it any more. InventoryError when the row asks
        for one of both, and no partition column tells the time, or the cursor does not."""
        age = _age_of(table, schema, period)
        target = table.target
        asked = {"target.retention_days": target.retention_days is not None, "target.late": target.late == "reject"}
        for field, is_asked in asked.items():
            if is_asked:
                refuse_ageless(table.name, field, target.partition_by, schema, age)
        closed = _closed_before(table, claimed) if target.late == "reject" else None
        return cls(age, retention_floor(now, target.retention_days), closed)

    def is_expired(self, values: Values) -> bool:
        return self.age.is_over(values, self.expired_before)

    def is_late(self, values: Values) -> bool:
        return self.age.is_over(values, self.closed_before)


def _closed_before(table: TableSpec, claimed: OffsetRange) -> float | None:
    """Where the batch begins to read: what was over before that is closed. None for a first load: it reads all."""
    low = read_range(table, claimed).low if isinstance(claimed, CursorRange) else None
    return None if low is None else _seconds(table, low)


def _seconds(table: TableSpec, low: Scalar) -> float:
    if isinstance(low, date):  # a datetime is one, too
        moment = low if isinstance(low, datetime) else datetime.combine(low, time())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(table.timezone))).timestamp()
    raise InventoryError(
        f"Cannot tell late rows of {table.name}: cursor {table.read.cursor!r} is of type {type(low).__name__} -> a date or "
        "timestamp. A partition is closed when the reading has gone past it. Use such a cursor, or `target.late: merge`."
    )


def late_letters(rows: pa.RecordBatch, names: Mapping[str, str], hidden: Mapping[str, str]) -> tuple[DeadLetter, ...]:
    """Dead letters of rows as they would have been stored. `names`: source name → lake name; `hidden`: lake name → how the column
    is hidden (`core.comparison.hiding`)."""
    source = {lake: name for name, lake in names.items()}
    data = [i for i, name in enumerate(rows.schema.names) if name not in STANDARD_COLUMNS]
    plain = rows.select(data).rename_columns([source.get(rows.schema.names[i], rows.schema.names[i]) for i in data])
    why = (
        "Cannot store the row: its partition was over before the range that was read -> one that is still open. `target.late` is "
        "`reject`. Replay it, or let late rows in (`target.late: merge`)."
    )
    marks = {source.get(name, name): mark for name, mark in hidden.items() if source.get(name, name) in plain.schema.names}
    form = replace(LetterForm.of_row(plain.schema), hidden=marks)
    return tuple(DeadLetter("late", why, raw, stage="conform", form=form) for raw in rows_to_json(plain))
