"""Who works on what (DESIGN §5.1): claims, attempts, leases. Each function runs inside one write transaction.

A batch is claimed as long as it is open, frozen or decided. One table's transactions are serialised by its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.errors import BusyError, FencedError, RangeError, StaleError, StopError
from airflow_dataops.core.offset import CursorRange, FileSet, Letters, OffsetRange, range_of_json, range_to_json, scalar_of_json
from airflow_dataops.ledger.base import WHOLE_TABLE, Claim, ClaimRequest
from airflow_dataops.ledger.cursors import may_meet, overlap, range_columns
from airflow_dataops.ledger.encoding import RECORD_COLUMNS, check_path, chunks, claim_of_row, content_id, stat_id
from airflow_dataops.ledger.replaying import check_open
from airflow_dataops.ledger.tables import batch, directory, loaded_table, source_file
from airflow_dataops.storage.sql_database import SqlDatabase

UNFINISHED = ("open", "frozen", "decided")
TERMINAL = ("committed", "abandoned", "rejected")


def claim(database: SqlDatabase, connection: sa.Connection, now: float, request: ClaimRequest) -> Claim:
    """The rules of `Batches.claim`."""
    _check_names(request)
    lock_table(database, connection, request.table_key, request)
    same = sa.select(*RECORD_COLUMNS).where(batch.c.table_key == request.table_key, batch.c.batch_id == request.batch_id)
    generations = connection.execute(same.order_by(batch.c.generation.desc())).all()
    for row in generations:
        if row.run == request.run and row.scope == request.scope and row.state in ("committed", "held", "rejected"):
            return claim_of_row(connection.execute(sa.select(batch).where(is_batch(row))).one(), request.writer)
    in_the_way = _in_the_way(connection, request)
    for row in in_the_way:
        if row.state != "open":  # frozen or decided: whoever comes finishes it, its own run or not
            return _take_over(connection, now, row, request, asked=_is_asked(row, request) and row.run == request.run)
    for row in in_the_way:
        over = row.lease_until <= now
        if _is_asked(row, request) and (over or row.run == request.run):
            return _take_over(connection, now, row, request, asked=True)
        if not over:
            raise BusyError(
                f"Cannot claim {request.table_key} {request.scope!r}: batch {row.batch_id} of run {row.run} reads it, its lease "
                f"runs for {row.lease_until - now:.0f} s more -> nobody. Try again then."
            )
        end(connection, now, row, "abandoned")
    return _open(connection, now, request, generations)


def adopt(
    database: SqlDatabase,
    connection: sa.Connection,
    now: float,
    lease_seconds: float,
    key: tuple[str, str, int],
    writer: str,
    nonce: str,
    *,
    leave_live: bool,
) -> Claim | None:
    """The rules of `Batches.adopt`. `key`: table, batch, generation."""
    lock_table(database, connection, key[0])
    row = connection.execute(sa.select(batch).where(_is(*key))).one_or_none()
    if row is None or row.state not in ("frozen", "decided") or (leave_live and row.lease_until > now):
        return None
    return take(connection, now, row, writer, nonce, lease_seconds)


def reclaim(
    database: SqlDatabase,
    connection: sa.Connection,
    now: float,
    lease_seconds: float,
    table_key: str,
    run: str,
    writer: str,
    nonce: str,
) -> Claim | None:
    """The rules of `Batches.reclaim`: the range stays as first claimed, even if the source has moved on (A7)."""
    lock_table(database, connection, table_key)
    of_run = sa.select(*RECORD_COLUMNS).where(batch.c.table_key == table_key, batch.c.run == run)
    row = next((row for row in in_sequence(connection.execute(of_run)) if row.state == "open"), None)
    return None if row is None else take(connection, now, row, writer, nonce, lease_seconds)


def renew(database: SqlDatabase, connection: sa.Connection, now: float, held: Claim, lease_seconds: float) -> None:
    row = own_row(database, connection, held, "renew", (*UNFINISHED, "held"))
    connection.execute(batch.update().where(is_batch(row)).values(lease_until=now + lease_seconds))


def abandon(database: SqlDatabase, connection: sa.Connection, now: float, held: Claim) -> None:
    """Nothing when the batch went on without this attempt."""
    lock_table(database, connection, held.table_key)
    row = connection.execute(sa.select(batch).where(is_batch(held))).one_or_none()
    if row is not None and row.attempt == held.attempt and row.state == "open":
        end(connection, now, row, "abandoned")


def lock_table(
    database: SqlDatabase, connection: sa.Connection, table_key: str, request: ClaimRequest | None = None
) -> sa.Row[Any]:
    """Makes this transaction the only one that changes the table, and returns its row."""
    source_id, _, source_table = table_key.partition(":")
    known = {"table_key": table_key, "source_id": source_id, "source_table": source_table, "target": ""}
    query = sa.select(loaded_table).where(loaded_table.c.table_key == table_key).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        database.insert_missing(connection, loaded_table, [known | {"attempts": 0, "sequences": 0}])
        row = connection.execute(query).one()
    if request is not None and (row.source_id, row.source_table, row.target) != (
        request.source_id, request.source_table, request.target,
    ):  # fmt: skip
        told = {"source_id": request.source_id, "source_table": request.source_table, "target": request.target}
        connection.execute(loaded_table.update().where(loaded_table.c.table_key == table_key).values(told))
    return row


def own_row(database: SqlDatabase, connection: sa.Connection, held: Claim, doing: str, states: tuple[str, ...]) -> sa.Row[Any]:
    """The batch's row, table locked. FencedError unless this attempt still owns it and it is in one of the states."""
    lock_table(database, connection, held.table_key)
    row = connection.execute(sa.select(batch).where(is_batch(held))).one_or_none()
    if row is None or row.attempt != held.attempt:
        found = f"attempt {held.attempt} of {row.attempt if row is not None else 'none'}"
        raise FencedError(
            f"Cannot {doing} batch {held.object_name} of {held.table_key}: {found} -> the last attempt. A later one took over, "
            "because this one was thought dead. Nothing is to be done here."
        )
    if row.state not in states:
        raise FencedError(
            f"Cannot {doing} batch {held.object_name} of {held.table_key}: its state is {row.state} -> {' or '.join(states)}. "
            "It went on without this attempt, or this step was done already. Claim again and look."
        )
    return row


def is_batch(of: Any) -> sa.ColumnElement[bool]:
    """`of`: anything with table_key, batch_id and generation."""
    return _is(of.table_key, of.batch_id, of.generation)


def lose_directories(connection: sa.Connection, now: float, of: Any, but_attempts: tuple[int, ...] = ()) -> None:
    """From now on nobody can publish from the batch's directories, those of `but_attempts` excepted."""
    lost = connection.execute(
        directory.update()
        .where(
            directory.c.table_key == of.table_key,
            directory.c.batch_id == of.batch_id,
            directory.c.generation == of.generation,
            directory.c.lost_at.is_(None),
            directory.c.attempt.not_in(but_attempts),
        )
        .values(lost_at=now)
    )
    if lost.rowcount:
        reconsider_expiry(connection, now, of.table_key)


def reconsider_expiry(connection: sa.Connection, now: float, table_key: str) -> None:
    """Something of the (locked) table has changed that its next expiry depends on: the sweep shall look again."""
    due = loaded_table.c.expiry_due_at
    where = (loaded_table.c.table_key == table_key) & (due.is_(None) | (due > now))
    connection.execute(loaded_table.update().where(where).values(expiry_due_at=now))


def in_sequence(rows: Iterable[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """A few of a table's batches, first claimed first. Asked for in this order, SQLite would rather walk through all of the
    table's than sort them."""
    return sorted(rows, key=lambda row: int(row.sequence))


def scopes_meet(one: str, other: str) -> bool:
    return one == other or WHOLE_TABLE in (one, other)


def _is(table_key: str, batch_id: str, generation: int) -> sa.ColumnElement[bool]:
    return (batch.c.table_key == table_key) & (batch.c.batch_id == batch_id) & (batch.c.generation == generation)


def _is_asked(row: sa.Row[Any], request: ClaimRequest) -> bool:
    return bool(row.batch_id == request.batch_id and row.scope == request.scope)


def _in_the_way(connection: sa.Connection, request: ClaimRequest) -> list[sa.Row[Any]]:
    """Unfinished batches of the same partitions, or (exclusive) with rows in common, in order of sequence."""
    unfinished = sa.select(batch).where(batch.c.table_key == request.table_key, batch.c.state.in_(UNFINISHED))
    return [
        row
        for row in in_sequence(connection.execute(unfinished))
        if scopes_meet(row.scope, request.scope)
        or (request.exclusive and row.batch_id != request.batch_id and _ranges_meet(request, row))
    ]


def _ranges_meet(request: ClaimRequest, row: Any) -> bool:
    if row.range_kind != "cursor" or not isinstance(request.range, CursorRange):
        return False
    other = range_of_json(row.range)
    return isinstance(other, CursorRange) and overlap(request.range, other, request.table_key)


def _check_watermark(connection: sa.Connection, request: ClaimRequest) -> None:
    if not request.follows_watermark or not isinstance(request.range, CursorRange):
        return
    query = sa.select(loaded_table.c.watermark).where(loaded_table.c.table_key == request.table_key)
    if scalar_of_json(connection.execute(query).scalar_one()) != request.range.low:
        raise StaleError(
            f"Cannot claim {_text(request.range)} of {request.table_key}: the watermark has moved since it was planned -> a range "
            "that begins at the watermark. Another run was faster. It is planned again."
        )


def _check_disjoint(connection: sa.Connection, request: ClaimRequest) -> None:
    """A11: a range is run again exactly, or not at all."""
    if not request.exclusive or not isinstance(request.range, CursorRange):
        return
    columns = (batch.c.batch_id, batch.c.state, batch.c.range_kind, batch.c.range)
    others = sa.select(*columns).where(
        batch.c.table_key == request.table_key,
        batch.c.batch_id != request.batch_id,
        batch.c.state.in_(("committed", "held")),
    )
    same_series, *other_series, unknown = may_meet(batch.c, request.range)
    asked = [others.where(same_series), *(others.where(series).limit(1) for series in other_series), others.where(unknown)]
    for row in (row for query in asked for row in connection.execute(query)):
        if not _ranges_meet(request, row):
            continue
        found = (
            f"Cannot claim a range of {request.table_key}: {_text(request.range)} -> no row in common with the {row.state} "
            f"{_text(range_of_json(row.range))} (batch {row.batch_id}). Its rows would be there twice."
        )
        if request.follows_watermark:
            raise StaleError(f"{found} It was committed since this was planned; it is planned again, around it.")
        raise RangeError(f"{found} Run exactly that range again, or one that only touches it.")


def _check_files(connection: sa.Connection, request: ClaimRequest) -> None:
    """A file is taken once. Whoever listed before another run committed lists again."""
    if not isinstance(request.range, FileSet):
        return
    by_stat = {stat_id(file) for file in request.range.files}
    by_content = {known for file in request.range.files if (known := content_id(file)) is not None}
    taken = sa.select(source_file.c.batch_id).where(source_file.c.table_key == request.table_key).limit(1)
    if not request.follows_watermark:  # the batch is to run again: its files are its own
        taken = taken.where(source_file.c.batch_id != request.batch_id)
    for column, ids in ((source_file.c.file_id, by_stat), (source_file.c.content_id, by_content)):
        for chunk in chunks(ids):
            by = connection.execute(taken.where(column.in_(chunk))).scalar()
            if by is not None:
                raise StaleError(
                    f"Cannot claim files of {request.table_key}: some of {len(request.range.files)} are in batch {by} already "
                    "-> none. Their rows would be there twice. They are listed again, and those that are new are taken."
                )


def _text(read: OffsetRange) -> str:
    """Positions are data, but bounds of a range are what a person needs to see; long ones are cut."""
    if not isinstance(read, CursorRange):
        return type(read).__name__
    low, high = (repr(v)[:60] if v is not None else "…" for v in (read.low, read.high))
    return f"{read.cursor} {'[' if read.low_inclusive else '('}{low}, {high}{']' if read.high_inclusive else ')'}"


def _open(connection: sa.Connection, now: float, request: ClaimRequest, generations: Sequence[sa.Row[Any]]) -> Claim:
    """Nothing is in the way: reopened, or a new generation. `generations`: those of the batch before this claim, newest first."""
    _check_watermark(connection, request)
    _check_disjoint(connection, request)
    _check_files(connection, request)
    if isinstance(request.range, Letters):
        check_open(connection, request.table_key, request.range)
    newest = generations[0] if generations else None
    if newest is not None and newest.scope == request.scope and newest.state == "abandoned":
        return take(
            connection, now, newest, request.writer, request.nonce, request.lease_seconds,
            state="open", ended_at=None, run=request.run, period_key=request.period_key, claimed_at=now, root=request.root,
            spec_fingerprint=request.spec_fingerprint, sequence=_next(connection, request.table_key, "sequences"),
        )  # fmt: skip
    generation = newest.generation + 1 if newest is not None else 1
    connection.execute(
        batch.insert().values(
            table_key=request.table_key, batch_id=request.batch_id, generation=generation, source_id=request.source_id,
            source_table=request.source_table, target=request.target, scope=request.scope, state="open", attempt=0,
            sequence=_next(connection, request.table_key, "sequences"), run=request.run, period_key=request.period_key,
            writer=request.writer, lease_until=now, root=request.root, directory="", exclusive=request.exclusive,
            spec_fingerprint=request.spec_fingerprint, range=(read := range_to_json(request.range)), range_kind=read["kind"],
            claimed_at=now, **range_columns(request.range),
        )
    )  # fmt: skip
    row = connection.execute(sa.select(batch).where(_is(request.table_key, request.batch_id, generation))).one()
    return take(connection, now, row, request.writer, request.nonce, request.lease_seconds)


def _take_over(connection: sa.Connection, now: float, row: sa.Row[Any], request: ClaimRequest, *, asked: bool) -> Claim:
    run = {"run": request.run} if row.state == "open" else {}  # what is frozen stays the work of the run that read it
    return take(connection, now, row, request.writer, request.nonce, request.lease_seconds, asked=asked, **run)


def take(
    connection: sa.Connection, now: float, row: sa.Row[Any], writer: str, nonce: str, lease_seconds: float,
    *, asked: bool = True, **changes: Any,
) -> Claim:  # fmt: skip
    """A new attempt at the batch, with a directory of its own. Earlier attempts are fenced from here on."""
    attempt = _next(connection, row.table_key, "attempts")
    root = changes.get("root", row.root)
    name = f"{row.batch_id}.g{row.generation}.a{attempt}.{nonce}"
    place = f"{root}/{name}" if root else name
    check_path(place, "directory")
    lose_directories(connection, now, row, but_attempts=(row.frozen_attempt,) if row.frozen_attempt is not None else ())
    changes |= {"attempt": attempt, "writer": writer, "directory": place, "lease_until": now + lease_seconds}
    connection.execute(batch.update().where(is_batch(row)).values(changes))
    connection.execute(
        directory.insert().values(
            table_key=row.table_key, directory=place, batch_id=row.batch_id, generation=row.generation, attempt=attempt,
            registered_at=now,
        )
    )  # fmt: skip
    taken = connection.execute(sa.select(batch).where(is_batch(row))).one()
    return claim_of_row(taken, writer, asked=asked)


def end(connection: sa.Connection, now: float, row: sa.Row[Any], state: str) -> None:
    connection.execute(batch.update().where(is_batch(row)).values(state=state, ended_at=now))
    lose_directories(connection, now, row)


def _next(connection: sa.Connection, table_key: str, counter: str) -> int:
    """The next number of a counter of the (locked) table."""
    column = loaded_table.c[counter]
    where = loaded_table.c.table_key == table_key
    connection.execute(loaded_table.update().where(where).values({counter: column + 1}))
    return int(connection.execute(sa.select(column).where(where)).scalar_one())


def _check_names(request: ClaimRequest) -> None:
    for what, name in (("batch", request.batch_id), ("nonce", request.nonce)):
        if not name or "/" in name or name in (".", ".."):
            raise StopError(
                f"Cannot claim {request.table_key}: {what} {name[:80]!r} -> letters and digits. It becomes the name of a "
                "directory. Report this as a defect."
            )
