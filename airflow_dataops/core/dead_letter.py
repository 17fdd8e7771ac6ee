"""A record that could not go on, with the reason, and enough to replay it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from airflow_dataops.core.types_text import type_to_text

ENVELOPE = 2
"""Version of the envelope: what a file of dead letters says of each record. Files of version 1 had no stage and no form."""

RAW_BYTES = 1 << 20
"""Most bytes of a record that are kept. What is longer is cut, and cannot be replayed from here."""

Stage = Literal["read", "conform"]
"""Where a record stopped: its source could not make a row of it, or the row did not fit the table by its contract."""


@dataclass(frozen=True)
class LetterForm:
    """How the raw bytes of a letter are read back.

    `row`: JSON of a row by column (`core.row_json`). `types` has their types as text; the columns of `unread` hold what the
    source gave, which is not of the type it declares. `csv`, `json`: a record of a text file, as it stood there; `told` says
    how that file was read (columns, delimiter, quote, encoding). `hidden` are columns whose values privacy has replaced, and
    how (`core.comparison.hiding`): those are never hidden again.
    """

    kind: Literal["row", "csv", "json"]
    types: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """As it is kept. Many letters share one form."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of_text(cls, text: str) -> LetterForm:
        """The inverse of `text`."""
        data = json.loads(text)
        return cls(data["kind"], data["types"], tuple(data["unread"]), data["told"], data["hidden"])

    @classmethod
    def of_row(cls, schema: pa.Schema, unread: tuple[str, ...] = ()) -> LetterForm:
        """The form of rows of this schema."""
        types: dict[str, str] = {}
        for column in schema:
            try:
                types[column.name] = type_to_text(column.type)
            except ValueError:  # a union or the like: its JSON is for people
                unread = (*unread, column.name)
        return cls("row", types, unread)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`raw` is the record as the source gave it (bytes of the line, JSON of the row): only ever stored in the
    restricted dead-letter place, never logged. `reason` is a stable code (`ragged_row`, `bad_encoding`,
    `value_out_of_range`, `contract_types`, …). `rows` is > 1 only when a whole block could not be cut into records, and 0 for
    values that were left out of rows which are stored.

    `form` is None where nothing can make a row of the bytes again. `withheld`: privacy hides something in the record that could
    not be told from the rest, so nothing of it is kept but where it stood. `letter` is the number, in the ledger's index, of the
    letter that failed again in a replay.
    """

    reason: str
    message: str
    raw: bytes
    source_file: str | None = None
    source_offset: int | None = None
    column: str | None = None
    rows: int = 1
    stage: Stage = "read"
    form: LetterForm | None = None
    withheld: bool = False
    letter: int | None = None

    @property
    def can_replay(self) -> bool:
        """Whether the letter holds one whole record that can be read back."""
        return self.form is not None and self.rows == 1 and not self.withheld and len(self.raw) <= RAW_BYTES

    def without_raw(self) -> DeadLetter:
        """Where the record stood, and nothing of what it held."""
        return replace(self, raw=b"", form=None, withheld=True)
