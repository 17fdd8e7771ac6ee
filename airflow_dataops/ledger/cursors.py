"""Cursor values compared for the ledger's decisions: only values of one kind have an order."""

from __future__ import annotations

from airflow_dataops.core.errors import RangeError
from airflow_dataops.core.offset import CursorRange, Scalar, overlaps, scalar_kind

NOT_A_NUMBER = "not a number"


def overlap(asked: CursorRange, other: CursorRange, table_key: str) -> bool:
    """Whether the two ranges share a possible value. RangeError when that cannot be told: another cursor, or values
    without a common order."""
    if asked.cursor != other.cursor:
        raise RangeError(
            f"Cannot claim a range of {table_key}: it is over cursor {asked.cursor!r} -> {other.cursor!r}, as the ranges before. "
            "Whether rows would come twice cannot be told. Keep the cursor, or load into a new target table."
        )
    kinds = {scalar_kind(v) or NOT_A_NUMBER for v in (asked.low, asked.high, other.low, other.high) if v is not None}
    if len(kinds) > 1 or NOT_A_NUMBER in kinds:
        raise RangeError(
            f"Cannot claim a range of {table_key}: values of cursor {asked.cursor!r} are {' and '.join(sorted(kinds))} -> one "
            "kind. Whether rows would come twice cannot be told. Keep the column's type, or load into a new target table."
        )
    return overlaps(asked, other)


def same(one: Scalar | None, other: Scalar | None) -> bool:
    """Equal values of one kind: 1, 1.0 and Decimal("1.00") are, True and 1 are not, two spellings of a moment are."""
    if one is None or other is None:
        return one is None and other is None
    return scalar_kind(one) == scalar_kind(other) and one == other
