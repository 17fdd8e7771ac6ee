"""A record that could not go on, with the reason, and enough to replay it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`raw` is the record as the source gave it (bytes of the line, JSON of the row): only ever stored in the
    restricted dead-letter place, never logged. `reason` is a stable code (`ragged_row`, `bad_encoding`,
    `value_out_of_range`, `contract_types`, …). `rows` is > 1 only when a whole block could not be cut into records."""

    reason: str
    message: str
    raw: bytes
    source_file: str | None = None
    source_offset: int | None = None
    column: str | None = None
    rows: int = 1
