"""Which range a run reads from a table, and the claim it makes for it (DESIGN §5.1, INVENTORY "What goes with what")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyarrow import types as pt

from airflow_dataops.core.batch_id import batch_id, origin_of
from airflow_dataops.core.errors import BusyError, InventoryError, RangeError
from airflow_dataops.core.offset import CursorRange, Everything, FileIdentity, FileSet, OffsetRange, Scalar, is_cut
from airflow_dataops.core.partition import partition_name, period_value
from airflow_dataops.core.period import Period
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import WHOLE_TABLE, ClaimRequest
from airflow_dataops.sources.base import SourceTable
from airflow_dataops.steps.run import Edges, Run
from airflow_dataops.steps.target import current_table, table_root


def scope_of(table: TableSpec, period: Period) -> str:
    """The partition a batch will write when that is known before reading, else the whole table.

    Incremental reads always claim the whole table: their ranges are ordered, whatever partition they land in."""
    by = table.target.partition_by
    if table.read.mode in ("watermark", "new_files", "cdc"):
        return WHOLE_TABLE
    if not by:
        return ""
    if all(p.column is None for p in by) and table.write.mode != "merge":
        return _period_partition(table, period)
    return WHOLE_TABLE


def _period_partition(table: TableSpec, period: Period) -> str:
    """The partition that the period alone names; `""` when data columns have a say in it."""
    by = table.target.partition_by
    if any(p.column is not None for p in by):
        return ""
    return partition_name([p.name for p in by], [period_value(p, period) for p in by])


def _is_of_period(table: TableSpec) -> bool:
    """Whether a batch is made for its run's period. Incremental ranges are what they are, whatever run brings them."""
    return table.read.mode in ("full", "window")


def requests_of(table: TableSpec, declared: SourceTable, run: Run, edges: Edges) -> Iterable[ClaimRequest]:
    """The claims of the batches this run has to do for the table, in order; empty when there is nothing new. Each has to be
    done before the next is asked for: that one may begin at the watermark which the first has moved."""
    _refuse_snapshot(table, edges)
    match table.read.mode:
        case "full":
            return (_full(table, run, edges),)
        case "window":
            return (_window(table, declared, run, edges),)
        case "watermark":
            if run.period.backfill:
                return (_backfilled(table, declared, run, edges),)
            return _following(table, declared, run, edges)
        case "new_files":
            return _new_files(table, run, edges)
    raise InventoryError(f"Cannot read {table.key}: read.mode {table.read.mode!r} -> full, window, watermark or new_files.")


def _refuse_snapshot(table: TableSpec, edges: Edges) -> None:
    """InventoryError when rows are to be appended to those of a full snapshot: the row was another mode's before, and what
    it reads now from the beginning is there already."""
    if table.write.mode != "append":
        return
    for decision in edges.ledger.decisions.current(table.key).values():
        snapshots = {batch_id(table.key, Everything(), part) for part in ("", decision.name)}
        if decision.rows and origin_of(decision.batch_id) in snapshots:
            raise InventoryError(
                f"Cannot append to {table.name}: {decision.name or 'the table'} holds {decision.rows} rows of a full snapshot "
                "-> rows of ranges. The row's modes were changed, and its rows would be there twice. Use `write.mode: merge`, or "
                "give the row another `target.table`."
            )


def _request(
    table: TableSpec, run: Run, edges: Edges, read: OffsetRange, *, scope: str, exclusive: bool = False, follows: bool = False
) -> ClaimRequest:
    return ClaimRequest(
        table_key=table.key,
        source_id=table.source_id,
        source_table=table.source_table,
        target=table.name,
        batch_id=batch_id(table.key, read, _period_partition(table, run.period) if _is_of_period(table) else ""),
        scope=scope,
        range=read,
        period_key=run.period.key,
        run=run.token,
        writer=edges.writer,
        nonce=edges.nonce(),
        # A table never moves, so only a new one has to be looked for.
        root=edges.ledger.batches.root(table.key) or table_root(table, current_table(edges, table), edges),
        lease_seconds=edges.lease_seconds,
        exclusive=exclusive,
        follows_watermark=follows,
        spec_fingerprint=table.spec_fingerprint,
    )


def _full(table: TableSpec, run: Run, edges: Edges) -> ClaimRequest:
    if run.period.backfill and table.read.backfill == "refuse":
        raise RangeError(
            f"Cannot backfill {table.key} for {run.period.key}: read.mode is full -> a mode with history. The source only knows "
            "today's state. Set `read.backfill: snapshot` to store today's state under that period, or use `window`."
        )
    return _request(table, run, edges, Everything(), scope=scope_of(table, run.period))


def _window(table: TableSpec, declared: SourceTable, run: Run, edges: Edges) -> ClaimRequest:
    period, cursor = run.period, _cursor(table, declared)
    _refuse_unfinished(table, period, edges)
    # Refuses rows with NULL in the cursor: no period would ever have them.
    edges.source.high_cursor(table.source_table, cursor[0], table.read.query)
    low, high = (_as_cursor(at, cursor[1], table) for at in (period.start, period.end))
    read = CursorRange(cursor[0], low, high, low_inclusive=True, high_inclusive=False)
    return _request(table, run, edges, read, scope=scope_of(table, period), exclusive=table.write.mode == "append")


def _refuse_unfinished(table: TableSpec, period: Period, edges: Edges) -> None:
    """BusyError when rows of the period could still arrive: its range would be closed without them, and never read again."""
    now = edges.source.now() or edges.clock()
    if now < period.end.timestamp() + table.read.lag_seconds:
        raise BusyError(
            f"Cannot read {table.key} for {period.key}: the period ends {period.end.isoformat()} (+{table.read.lag_seconds} s) "
            "-> over, by the source's clock. Rows could still arrive. It is tried again."
        )


def _backfilled(table: TableSpec, declared: SourceTable, run: Run, edges: Edges) -> ClaimRequest:
    """The cursor range of the period. It leaves the watermark alone."""
    name, kind = _cursor(table, declared)
    _refuse_unfinished(table, run.period, edges)
    edges.source.high_cursor(table.source_table, name, table.read.query)  # refuses rows that no range would ever have
    low, high = (_as_cursor(at, kind, table) for at in (run.period.start, run.period.end))
    read = CursorRange(name, low, high, low_inclusive=True, high_inclusive=False)
    return _request(table, run, edges, read, scope=WHOLE_TABLE, exclusive=True)


def _following(table: TableSpec, declared: SourceTable, run: Run, edges: Edges) -> Iterator[ClaimRequest]:
    """From the watermark up to the highest value, around what was backfilled there: as many ranges as that leaves."""
    name, kind = _cursor(table, declared)
    top = _guarded(edges.source.high_cursor(table.source_table, name, table.read.query), kind, table, edges)
    while top is not None and not _is_read(top, edges.ledger.offsets.watermark(table.key), table):
        low, before = edges.ledger.offsets.free_from(table.key, name, top)
        if _is_read(top, low, table):
            return
        read = CursorRange(name, low, top)
        if before is not None and not _is_read(top, before, table):
            read = CursorRange(name, low, before, high_inclusive=False)
        yield _request(table, run, edges, read, scope=WHOLE_TABLE, exclusive=True, follows=True)
        if not is_cut(read):
            return


def _is_read(top: Scalar, mark: Scalar | None, table: TableSpec) -> bool:
    """Whether nothing is left at or above the mark. RangeError when the two have no order: the column changed its type."""
    if mark is None:
        return False
    try:
        return bool(top < mark)  # type: ignore[operator]
    except TypeError:
        found, known = type(top).__name__, type(mark).__name__
        raise RangeError(
            f"Cannot read {table.key} on from its watermark: cursor {table.read.cursor!r} is now a {found} -> a {known}, as the "
            "position that is stored. What is new cannot be told. Convert the column in `read.query`, or load into a new "
            "target table."
        ) from None


def _guarded(top: Scalar | None, kind: pa.DataType, table: TableSpec, edges: Edges) -> Scalar | None:
    """`high` stays `lag_seconds` below the source's clock: rows still in flight there are for a later run (A10)."""
    if not table.read.lag_seconds or top is None:
        return top
    if not (pt.is_timestamp(kind) or pt.is_date(kind)):
        raise InventoryError(
            f"Cannot guard {table.key}: read.lag_seconds with cursor type {kind} -> a timestamp or date. Seconds of another type "
            "mean nothing. Remove `lag_seconds`."
        )
    now = datetime.fromtimestamp((edges.source.now() or edges.clock()) - table.read.lag_seconds, UTC)
    return min(top, _as_cursor(now, kind, table))


def _new_files(table: TableSpec, run: Run, edges: Edges) -> tuple[ClaimRequest, ...]:
    if run.period.backfill:
        return tuple(
            replace(_request(table, run, edges, record.range, scope=record.scope), batch_id=record.batch_id)
            for record in edges.ledger.batches.of_period(table.key, run.period.key)
        )
    fresh = unseen(edges.source.files(table.source_table), edges.ledger.offsets.seen_files(table.key), edges)
    if not fresh:
        return ()
    return (_request(table, run, edges, FileSet(fresh), scope=WHOLE_TABLE, follows=True),)


def unseen(listed: tuple[FileIdentity, ...], seen: dict[str, tuple[FileIdentity, ...]], edges: Edges) -> tuple[FileIdentity, ...]:
    """The files whose path and content no committed batch has. A touched file with the same bytes is not new; the bytes
    are only read where size and etag do not settle it."""
    fresh = []
    for file in listed:
        known = seen.get(file.path, ())
        if any((k.size, k.etag) == (file.size, file.etag) for k in known):
            continue
        identified = edges.source.identify(file)
        if not any(k.content == identified.content for k in known if k.content):
            fresh.append(identified)
    return tuple(fresh)


def _cursor(table: TableSpec, declared: SourceTable) -> tuple[str, pa.DataType]:
    name = table.read.cursor
    column = declared.schema.get(name) if name else None
    if name is None or column is None:
        known = ", ".join(declared.schema.names[:20])
        raise InventoryError(
            f"Cannot read {table.key}: cursor {name!r} is not a column -> one of {known}. Fix `read.cursor`, or the column went "
            "away at the source (breaking drift)."
        )
    return name, column.type


def _as_cursor(at: datetime, kind: pa.DataType, table: TableSpec) -> Scalar:
    """A moment in the cursor's own type. A naive timestamp is read as wall clock of the row's `timezone`: the row says
    it, nothing is guessed."""
    if pt.is_timestamp(kind):
        if kind.tz is not None:
            return at.astimezone(UTC)
        return at.astimezone(ZoneInfo(table.timezone)).replace(tzinfo=None)
    if pt.is_date(kind):
        local = at.astimezone(ZoneInfo(table.timezone))
        if (local.hour, local.minute, local.second) != (0, 0, 0) and table.read.mode == "window":
            raise InventoryError(
                f"Cannot read {table.key}: the period bound {local.isoformat()} falls inside a day -> midnight. The cursor is a "
                "date. Use a daily or coarser schedule."
            )
        return date(local.year, local.month, local.day)
    raise InventoryError(
        f"Cannot read {table.key}: cursor {table.read.cursor!r} has type {kind} -> timestamp or date, to cut it by period. "
        "Use `read.query` with a CAST, or `watermark`."
    )


def overlap_low(read: CursorRange, table: TableSpec) -> Scalar | None:
    """Where a watermark read really begins: at the watermark itself (rows tied with it may have come later), or
    `overlap_seconds` before it."""
    low = read.low
    if low is None or not table.read.overlap_seconds:
        return low
    if isinstance(low, date):  # datetime included
        return low - timedelta(seconds=table.read.overlap_seconds)
    raise InventoryError(
        f"Cannot overlap {table.key}: read.overlap_seconds with cursor value of type {type(low).__name__} -> a timestamp. "
        "Remove `overlap_seconds`; ties on the watermark are always read again."
    )
