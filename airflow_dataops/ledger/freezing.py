"""What an attempt read becomes the batch's content for ever (DESIGN §5.3).

Each function runs inside one write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import StopError
from airflow_dataops.core.offset import (
    FileIdentity,
    FileSet,
    Letters,
    Scalar,
    range_of_json,
    scalar_of_json,
    scalar_to_json,
)
from airflow_dataops.ledger import replaying
from airflow_dataops.ledger.base import BatchContent, Claim
from airflow_dataops.ledger.claims import is_batch, own_row
from airflow_dataops.ledger.cursors import same
from airflow_dataops.ledger.dead_letters_base import LetterFile
from airflow_dataops.ledger.encoding import check_path, claim_of_row, content_id, content_to_json, lies_in, stat_id
from airflow_dataops.ledger.tables import batch, directory, loaded_table, source_file
from airflow_dataops.storage.sql_database import SqlDatabase


def freeze(
    database: SqlDatabase, connection: sa.Connection, now: float, held: Claim, content: BatchContent,
    letters: Sequence[DeadLetter], lease_seconds: float, letter_file: LetterFile | None = None,
) -> Claim:  # fmt: skip
    """The rules of `Batches.freeze`. ProofError when the accounting does not add up, StopError when something was staged
    outside this attempt's directories (then nothing could ever tell who may delete it), StaleError when a letter of a replay is
    not open any more."""
    row = own_row(database, connection, held, "freeze", ("open",))
    content.accounting.prove(held.object_name)
    check_staged(connection, held, content)
    connection.execute(
        batch.update()
        .where(is_batch(row))
        .values(
            state="frozen", frozen_at=now, frozen_attempt=held.attempt, content=content_to_json(content),
            accounting=content.accounting.to_json(), fingerprint=content.fingerprint,
            source_fingerprint=content.source_fingerprint, lease_until=now + lease_seconds,
        )
    )  # fmt: skip
    replaying.index(connection, now, row, letters, letter_file)
    if isinstance(held.range, Letters):
        replaying.froze(connection, now, row, held.range, [letter for letter in letters if letter.letter is not None])
    return claim_of_row(connection.execute(sa.select(batch).where(is_batch(row))).one(), held.writer, asked=held.asked)


def check_staged(connection: sa.Connection, held: Claim, content: BatchContent) -> None:
    """StopError when something was staged outside this attempt's directories."""
    own = own_directories(connection, held, held.attempt)
    for part in content.partitions:
        check_path(part.directory, "directory")
        if not any(lies_in(part.directory, place) for place in own):
            raise StopError(
                f"Cannot freeze batch {held.object_name} of {held.table_key}: partition {part.name!r} was staged in "
                f"{part.directory!r} -> in {held.directory}, this attempt's own. Nothing was published; report this as a defect."
            )


def move_watermark(connection: sa.Connection, table_key: str, moved: tuple[Scalar | None, Scalar]) -> None:
    """Low → high, only if it is at low: a late commit of an earlier range never takes it back (A9)."""
    where = loaded_table.c.table_key == table_key
    stands = scalar_of_json(connection.execute(sa.select(loaded_table.c.watermark).where(where)).scalar_one())
    if same(stands, moved[0]):
        connection.execute(loaded_table.update().where(where).values(watermark=scalar_to_json(moved[1])))


def record_files(
    database: SqlDatabase, connection: sa.Connection, now: float, row: sa.Row[Any], files: Sequence[FileIdentity] = ()
) -> None:
    """The given files, else those of the batch's range, as accounted for by the batch."""
    read = range_of_json(row.range)
    known = files or (read.files if isinstance(read, FileSet) else ())
    common = {
        "table_key": row.table_key, "batch_id": row.batch_id, "generation": row.generation,
        "period_key": row.period_key, "recorded_at": now,
    }  # fmt: skip
    found = {
        stat_id(file): common
        | {
            "file_id": stat_id(file), "content_id": content_id(file),
            "file": [file.path, file.size, file.etag, file.content],
        }
        for file in known
    }  # fmt: skip
    database.put(connection, source_file, list(found.values()))


def own_directories(connection: sa.Connection, held: Claim, attempt: int | None = None) -> tuple[str, ...]:
    """Directories that attempts of this batch have registered: of one attempt, or of all."""
    query = sa.select(directory.c.directory).where(
        directory.c.table_key == held.table_key,
        directory.c.batch_id == held.batch_id,
        directory.c.generation == held.generation,
    )
    return tuple(connection.execute(query if attempt is None else query.where(directory.c.attempt == attempt)).scalars())
