"""How far a table was read: its watermark, and the files that were taken."""

from __future__ import annotations

import sqlalchemy as sa

from airflow_dataops.core.offset import (
    CursorRange,
    FileIdentity,
    FileSet,
    Scalar,
    free_from,
    range_of_json,
    scalar_kind,
    scalar_of_json,
)
from airflow_dataops.ledger.claims import lock_table
from airflow_dataops.ledger.cursors import of_series, same
from airflow_dataops.ledger.freezing import move_watermark
from airflow_dataops.ledger.tables import batch, loaded_table, source_file
from airflow_dataops.storage.sql_database import SqlDatabase


class SqlOffsets:
    """`Offsets` in SQL."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def watermark(self, table_key: str) -> Scalar | None:
        query = sa.select(loaded_table.c.watermark).where(loaded_table.c.table_key == table_key)
        with self._database.read() as connection:
            return scalar_of_json(connection.execute(query).scalar())

    def free_from(self, table_key: str, cursor: str, top: Scalar) -> tuple[Scalar | None, Scalar | None]:
        stands = self.watermark(table_key)
        known = sa.select(batch.c.range).where(batch.c.table_key == table_key, batch.c.state.in_(("committed", "held")))
        asked = [known.where(of) for of in of_series(batch.c, cursor, top, stands)]
        with self._database.read() as connection:
            ranges = [range_of_json(data) for query in asked for data in connection.execute(query).scalars()]
        low, before = free_from(stands, [r for r in ranges if isinstance(r, CursorRange) and _is_over(r, cursor, top)])
        if low is not None and not same(stands, low):  # what is committed stays so: only the watermark itself can have moved since
            with self._database.write() as connection:
                lock_table(self._database, connection, table_key)
                move_watermark(connection, table_key, (stands, low))
        return low, before

    def seen_files(self, table_key: str) -> dict[str, tuple[FileIdentity, ...]]:
        query = sa.select(source_file.c.file).where(source_file.c.table_key == table_key)
        with self._database.read() as connection:
            files = sorted({FileIdentity(*file) for file in connection.execute(query).scalars()})
        found: dict[str, tuple[FileIdentity, ...]] = {}
        for file in files:
            found[file.path] = (*found.get(file.path, ()), file)
        return found

    def files_of(self, table_key: str, batch_id: str) -> FileSet | None:
        recorded = sa.select(source_file.c.file).where(source_file.c.table_key == table_key, source_file.c.batch_id == batch_id)
        claimed = sa.select(batch.c.range).where(
            batch.c.table_key == table_key, batch.c.batch_id == batch_id, batch.c.range_kind == "files"
        )
        with self._database.read() as connection:
            files = [FileIdentity(*file) for file in connection.execute(recorded).scalars()]
            if files:
                return FileSet(tuple(sorted(files)))
            data = connection.execute(claimed.order_by(batch.c.generation.desc()).limit(1)).scalar()
        read = range_of_json(data) if data is not None else None
        return read if isinstance(read, FileSet) else None


def _is_over(r: CursorRange, cursor: str, top: Scalar) -> bool:
    return r.cursor == cursor and all(scalar_kind(at) == scalar_kind(top) for at in (r.low, r.high) if at is not None)
