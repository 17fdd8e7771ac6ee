"""What readers shall see, and when it is done (DESIGN §5.5, §5.8). Each function runs inside one write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.errors import BusyError, ConflictError, FencedError, HoldError, StopError
from airflow_dataops.core.offset import FileIdentity, Scalar
from airflow_dataops.ledger import replaying
from airflow_dataops.ledger.base import BatchContent, Claim, Decision, DecisionPlan
from airflow_dataops.ledger.claims import UNFINISHED, in_sequence, is_batch, lock_table, lose_directories, own_row, scopes_meet
from airflow_dataops.ledger.dead_letters_base import LetterFile
from airflow_dataops.ledger.encoding import (
    check_path,
    chunks,
    content_of_json,
    current_decisions,
    is_current,
    keep_facts,
    keep_schemas,
    lies_in,
)
from airflow_dataops.ledger.freezing import move_watermark, own_directories, record_files
from airflow_dataops.ledger.holding import reshape
from airflow_dataops.ledger.projection import epochs, put_marks, settle
from airflow_dataops.ledger.tables import asset_event, batch, decision, loaded_table, partition
from airflow_dataops.storage.sql_database import SqlDatabase


def decide(
    database: SqlDatabase, connection: sa.Connection, now: float, held: Claim, plans: Sequence[DecisionPlan],
    letters: tuple[Sequence[DeadLetter], LetterFile | None] = ((), None),
) -> tuple[Decision, ...]:  # fmt: skip
    """The rules of `Batches.decide`."""
    row = own_row(database, connection, held, "decide", ("held",) if held.state == "held" else ("frozen", "decided"))
    if row.state == "decided":
        decided = decided_names(connection, held)
        put_marks(database, connection, now, held.table_key, decided, held.writer)
        return tuple(current_decisions(connection, held.table_key, decided, with_dropped=True).values())
    _check_queue(connection, row)
    names = [plan.name for plan in plans]
    if len(set(names)) != len(names) or not names:
        raise StopError(
            f"Cannot decide batch {held.object_name} of {held.table_key}: {len(names)} plans for {len(set(names))} partitions -> "
            "one plan for each of at least one. Nothing was published; report this as a defect."
        )
    content = _content(connection, now, row, held, letters)
    last = epochs(connection, held.table_key, names)
    standing = {row.name for row in _current(connection, held.table_key, names)}
    for plan in plans:
        epoch = last[plan.name] if plan.name in standing else 0  # a dropped one is built on nothing
        if plan.built_on != epoch:
            raise ConflictError(
                f"Cannot decide partition {plan.name!r} of {held.table_key}: built on epoch {plan.built_on} -> {epoch}. Another "
                "batch was decided meanwhile. Build it again from the frozen content."
            )
    _check_others(connection, held, content, set(names))
    places = _places(connection, held, plans)
    schemas = keep_schemas(database, connection, (plan.schema for plan in plans))
    facts = keep_facts(database, connection, (plan.files for plan in plans))
    database.put(
        connection,
        partition,
        [
            {
                "table_key": held.table_key,
                "name": plan.name,
                "epoch": last.get(plan.name, 0) + 1,
                "profile": plan.profile.to_json() if plan.profile is not None else None,
                **facts[plan.files],
            }
            for plan in plans
        ],
    )
    connection.execute(
        decision.insert(),
        [
            {
                "table_key": held.table_key, "name": plan.name, "epoch": last.get(plan.name, 0) + 1,
                "partition_values": list(plan.values), "location": plan.location, "directory": places[plan.name],
                "rows": plan.rows, "bytes": plan.bytes, "fingerprint": plan.fingerprint,
                "schema_id": schemas[plan.schema], "batch_id": held.batch_id, "generation": held.generation,
                "attempt": held.attempt, "decided_at": now,
            }
            for plan in plans
        ],
    )  # fmt: skip
    put_marks(database, connection, now, held.table_key, names, held.writer)
    connection.execute(batch.update().where(is_batch(row)).values(state="decided", decided_at=now))
    found = current_decisions(connection, held.table_key, names)
    return tuple(found[name] for name in names)


def commit(
    database: SqlDatabase, connection: sa.Connection, now: float, held: Claim, verified: Mapping[str, int],
    watermark: tuple[Scalar | None, Scalar] | None, files: Sequence[FileIdentity], asset: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """The rules of `Batches.commit`. Any attempt may commit what was decided: it changes nothing any more."""
    lock_table(database, connection, held.table_key)
    row = connection.execute(sa.select(batch).where(is_batch(held))).one_or_none()
    if row is None or row.state not in ("decided", "committed"):
        found = row.state if row is not None else "unknown"
        raise FencedError(
            f"Cannot commit batch {held.object_name} of {held.table_key}: its state is {found} -> decided. "
            "It went on without this attempt, or was never decided. Claim again and look."
        )
    if row.state == "decided":
        names = decided_names(connection, held)
        standing = epochs(connection, held.table_key, names)
        for name in names:
            if verified.get(name) != standing[name]:
                raise ConflictError(
                    f"Cannot commit batch {held.object_name} of {held.table_key}: partition {name!r} was verified at epoch "
                    f"{verified.get(name)} -> {standing[name]}. It was overtaken. Project the decision that stands, verify again."
                )
        _finish(database, connection, now, row, watermark, files, asset)
    settle(connection, now, held.table_key, verified, held.writer)


def commit_unchanged(
    database: SqlDatabase, connection: sa.Connection, now: float, held: Claim,
    watermark: tuple[Scalar | None, Scalar] | None, files: Sequence[FileIdentity], asset: Mapping[str, Any] | None,
    letters: tuple[Sequence[DeadLetter], LetterFile | None] = ((), None),
) -> None:  # fmt: skip
    """The rules of `Batches.commit_unchanged`."""
    row = own_row(database, connection, held, "commit", ("held" if held.state == "held" else "frozen",))
    _check_queue(connection, row)
    content = _content(connection, now, row, held, letters)
    _check_others(connection, held, content, set())
    changed = [p.name for p in content.partitions if not p.unchanged]
    if changed:
        raise StopError(
            f"Cannot commit batch {held.object_name} of {held.table_key} as unchanged: {len(changed)} of its partitions have new "
            f"rows, e.g. {changed[0]!r} -> none. They have to be decided first. Report this as a defect."
        )
    _finish(database, connection, now, row, watermark, files, asset)


def _content(
    connection: sa.Connection, now: float, row: sa.Row[Any], held: Claim, letters: tuple[Sequence[DeadLetter], LetterFile | None]
) -> BatchContent:
    """What was frozen; of a held batch what it was shaped to, which replaces it."""
    return reshape(connection, now, row, held, *letters) if held.state == "held" else content_of_json(row.content)


def decided_names(connection: sa.Connection, of: Claim) -> tuple[str, ...]:
    """The partitions for which this batch has decided something."""
    query = sa.select(decision.c.name).where(
        decision.c.table_key == of.table_key, decision.c.batch_id == of.batch_id, decision.c.generation == of.generation
    )
    return tuple(sorted(set(connection.execute(query).scalars())))


def _check_queue(connection: sa.Connection, row: sa.Row[Any]) -> None:
    """Batches of a partition are decided in order of sequence; held ones keep their place (C1)."""
    waiting = sa.select(batch.c.batch_id, batch.c.generation, batch.c.sequence, batch.c.state, batch.c.scope).where(
        batch.c.table_key == row.table_key, batch.c.state.in_((*UNFINISHED, "held"))
    )
    earlier = [b for b in in_sequence(connection.execute(waiting)) if b.sequence < row.sequence]
    found = [b for b in earlier if scopes_meet(b.scope, row.scope)]
    for ahead in sorted(found, key=lambda b: b.state != "held"):
        subject = (
            f"Cannot decide batch {row.batch_id}-g{row.generation} of {row.table_key}: batch {ahead.batch_id}-g{ahead.generation} "
            f"before it is {ahead.state} -> done."
        )
        if ahead.state == "held":
            raise HoldError(f"{subject} A person has to decide about it. Hold this one, too: it is published after it.")
        raise BusyError(f"{subject} Older rows would replace newer ones. Finish it first.")


def _check_others(connection: sa.Connection, held: Claim, content: BatchContent, planned: set[str]) -> None:
    """What the batch leaves alone must still be what it was staged against: unchanged partitions equal to the *current*
    decision (A5), and for a complete snapshot nothing with rows that it does not know (A20)."""
    alone = {p.name: p.fingerprint for p in content.partitions if p.unchanged and p.name not in planned}
    standing = {row.name: row.fingerprint for row in _current(connection, held.table_key, alone)}
    for name, fingerprint in alone.items():
        if standing.get(name) != fingerprint:
            raise ConflictError(
                f"Cannot leave partition {name!r} of {held.table_key} unchanged: the current decision is another -> the one it was "
                "compared with. It moved meanwhile. Build it again from the frozen content."
            )
    if not content.complete:
        return
    absent = [r.name for r in _current(connection, held.table_key) if r.rows and r.name not in planned and r.name not in alone]
    if absent:
        raise ConflictError(
            f"Cannot decide batch {held.object_name} of {held.table_key}: {len(absent)} partitions with rows are not in this full "
            f"snapshot, e.g. {absent[0]!r} -> decided as empty with it. Rows that moved would be there twice. Plan it again."
        )


def _places(connection: sa.Connection, held: Claim, plans: Sequence[DecisionPlan]) -> dict[str, str]:
    """The registered directory each planned location lies in: what expiry will later judge as a whole."""
    own = own_directories(connection, held)
    live = {row.name: row for row in _current(connection, held.table_key, [plan.name for plan in plans])}
    found: dict[str, str] = {}
    for plan in plans:
        check_path(plan.location, "location")
        place = max((d for d in own if lies_in(plan.location, d)), key=len, default=None)
        if place is None and plan.name in live and live[plan.name].location == plan.location:
            place = live[plan.name].directory
        if place is None:
            raise StopError(
                f"Cannot decide partition {plan.name!r} of {held.table_key}: location {plan.location!r} -> in a directory "
                "that this batch has registered, or where the partition is now. Nothing was published; report this as a defect."
            )
        found[plan.name] = place
    return found


def _current(connection: sa.Connection, table_key: str, names: Iterable[str] | None = None) -> list[Any]:
    """Rows of name, rows, fingerprint, location and directory of what stands, without the schemas."""
    query = (
        sa.select(decision.c.name, decision.c.rows, decision.c.fingerprint, decision.c.location, decision.c.directory)
        .join(partition, is_current())
        .where(partition.c.table_key == table_key, partition.c.name >= "", decision.c.dropped.is_(None))  # as `current_decisions`
    )
    parts = [query] if names is None else [query.where(partition.c.name.in_(chunk)) for chunk in chunks(names)]
    return sorted((row for part in parts for row in connection.execute(part)), key=lambda row: str(row.name))


def _finish(
    database: SqlDatabase, connection: sa.Connection, now: float, row: sa.Row[Any],
    watermark: tuple[Scalar | None, Scalar] | None, files: Sequence[FileIdentity], asset: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    connection.execute(batch.update().where(is_batch(row)).values(state="committed", committed_at=now, ended_at=now))
    lose_directories(connection, now, row)
    replaying.committed(connection, now, row)
    where = loaded_table.c.table_key == row.table_key
    connection.execute(loaded_table.update().where(where).values(committed_at=now))
    if watermark is not None:
        move_watermark(connection, row.table_key, watermark)
    record_files(database, connection, now, row, files)
    if asset is not None:
        connection.execute(
            asset_event.insert().values(
                table_key=row.table_key, source_id=row.source_id, batch_id=row.batch_id, generation=row.generation,
                event=dict(asset), queued_at=now,
            )
        )  # fmt: skip
