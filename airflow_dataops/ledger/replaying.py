"""What becomes of dead letters when a batch is claimed, frozen or committed. Each function runs inside one write transaction,
with the table locked: no letter is ever in two replays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import StaleError, StopError
from airflow_dataops.core.offset import Letters
from airflow_dataops.ledger.dead_letters_base import NOT_LISTED, LetterFile
from airflow_dataops.ledger.encoding import chunks_of
from airflow_dataops.ledger.tables import dead_letter
from airflow_dataops.storage.sql_database import ROWS_PER_STATEMENT

PREVIEW_CHARACTERS = 200
MESSAGE_CHARACTERS = 500

def check_open(connection: sa.Connection, table_key: str, read: Letters) -> None:
    """StaleError unless all letters of the range are open, with as many attempts as it says."""
    wanted, found = dict(read.letters), {}
    for ids in chunks_of(wanted):
        query = sa.select(dead_letter.c.id, dead_letter.c.attempts).where(
            dead_letter.c.table_key == table_key, dead_letter.c.id.in_(ids), dead_letter.c.state == "open"
        )
        found.update({row.id: row.attempts for row in connection.execute(query)})
    if found != wanted:
        gone = sum(found.get(number) != times for number, times in wanted.items())
        raise StaleError(
            f"Cannot replay dead letters of {table_key}: {gone} of {len(wanted)} were replayed, discarded or have expired since "
            "they were chosen -> all open. Nothing was done to the others; they are chosen anew."
        )


def index(connection: sa.Connection, now: float, row: sa.Row[Any], letters: Sequence[DeadLetter], file: LetterFile | None) -> None:
    """A batch is frozen: its letters get their entries. `row`: the batch."""
    fresh = [letter for letter in letters if letter.letter is None]
    rows = letter_rows(row, now, fresh, file.file if file else None, file.schema_fingerprint if file else None)
    while chunk := list(islice(rows, ROWS_PER_STATEMENT)):
        connection.execute(dead_letter.insert(), chunk)
    if file is not None and file.more_letters:
        message = f"{file.more_letters} more records, without entries of their own yet"
        rest = DeadLetter(NOT_LISTED, message, b"", rows=file.more_rows)
        (entry,) = letter_rows(row, now, [rest], file.file, file.schema_fingerprint, first=len(fresh))
        connection.execute(dead_letter.insert(), [entry | {"letters": file.more_letters, "preview": ""}])


def letter_rows(
    row: Any, now: float, letters: Sequence[DeadLetter], file: str | None, schema: str | None, first: int = 0
) -> Iterator[dict[str, Any]]:
    """Entries of letters that stand in the file from record number `first` on."""
    for place, letter in enumerate(letters, first):
        yield {
            "table_key": row.table_key, "source_id": row.source_id, "batch_id": row.batch_id, "generation": row.generation,
            "attempt": row.attempt, "state": "open", "preview": masked(letter.raw), "raw_bytes": len(letter.raw),
            "source_file": letter.source_file, "source_offset": letter.source_offset, "rows": letter.rows, "recorded_at": now,
            "stage": letter.stage, "file": file, "place": place, "letters": 1, "withheld": letter.withheld,
            "can_replay": letter.can_replay and file is not None, "schema_fingerprint": schema, "attempts": 1, "last_seen_at": now,
            **_told(letter),
        }  # fmt: skip


def _told(letter: DeadLetter) -> dict[str, Any]:
    return {"reason": letter.reason, "message": letter.message[:MESSAGE_CHARACTERS], "column_name": letter.column}


def froze(connection: sa.Connection, now: float, row: sa.Row[Any], read: Letters, again: Sequence[DeadLetter]) -> None:
    """A replay is frozen: what failed again is open with one attempt more, the others wait for its commit."""
    check_open(connection, row.table_key, read)
    failed = {letter.letter: letter for letter in again}
    strange = set(failed) - set(read.ids)
    if strange:
        raise StopError(
            f"Cannot freeze replay {row.batch_id} of {row.table_key}: {len(strange)} letters failed that are not in it -> its own. "
            "Nothing was published; report this as a defect."
        )
    for ids in chunks_of(set(read.ids) - set(failed)):
        values = {"state": "replaying", "replay_batch_id": row.batch_id}
        connection.execute(dead_letter.update().where(dead_letter.c.id.in_(ids)).values(values))
    for number, letter in failed.items():
        seen = {"attempts": dead_letter.c.attempts + 1, "last_seen_at": now, "state": "open", "replay_batch_id": row.batch_id}
        connection.execute(dead_letter.update().where(dead_letter.c.id == number).values(seen | _told(letter)))


def committed(connection: sa.Connection, now: float, row: sa.Row[Any]) -> None:
    """A batch is committed. A replay's letters are replayed; a batch that was run again has read its letters' records again, so
    those of its earlier generations must never be replayed beside them."""
    of_table = dead_letter.c.table_key == row.table_key
    if row.range_kind == "letters":
        mine = of_table & (dead_letter.c.replay_batch_id == row.batch_id) & (dead_letter.c.state == "replaying")
        done = {"state": "replayed", "changed_by": row.run, "changed_at": now}
        connection.execute(dead_letter.update().where(mine).values(done))
    elif row.generation > 1:
        earlier = of_table & (dead_letter.c.batch_id == row.batch_id) & (dead_letter.c.generation < row.generation)
        why = {"changed_by": row.run, "changed_at": now, "why": f"batch {row.batch_id} was run again (generation {row.generation})"}
        connection.execute(dead_letter.update().where(earlier, dead_letter.c.state == "open").values(state="superseded", **why))


def rejected(connection: sa.Connection, row: sa.Row[Any]) -> None:
    """A replay that had to wait is rejected: nothing of it was published. Its letters are open, with one attempt more, so that the
    next replay of them is another batch."""
    mine = (dead_letter.c.table_key == row.table_key) & (dead_letter.c.replay_batch_id == row.batch_id)
    again = {"state": "open", "attempts": dead_letter.c.attempts + 1}
    connection.execute(dead_letter.update().where(mine, dead_letter.c.state == "replaying").values(again))


def masked(raw: bytes) -> str:
    """The shape of a record without its values: letters become x, digits 9, what cannot be shown a dot; capped.

    Delimiters and quotes stay, because they are what is mostly wrong."""
    text = raw[: 4 * PREVIEW_CHARACTERS].decode("utf-8", "replace")[:PREVIEW_CHARACTERS]
    shown = ("9" if c.isnumeric() else "x" if c.isalpha() else c if c.isascii() and c.isprintable() else "." for c in text)
    return "".join(shown) + ("…" if len(raw) > len(text.encode()) else "")
