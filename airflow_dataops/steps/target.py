"""The lake table of a source table: where it is, which columns the catalog shows, and the DDL that gets it there."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.core.approval import Approval, columns_at_work, renames_of
from airflow_dataops.core.continued import Rename, privacy_under
from airflow_dataops.core.drift_events import is_retired, retired_comment, unretired_comment
from airflow_dataops.core.drift_plan import DriftPlan, plan_drift
from airflow_dataops.core.errors import ConflictError, DriftHeldError, InventoryError
from airflow_dataops.core.fingerprint import STANDARD_COLUMNS
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.partition import partition_columns
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.core.types_text import type_to_text
from airflow_dataops.steps.run import Edges

DDL_TRIES = 8

SPEC = "dataops.spec"
"""Parameter of a table: the fingerprint of the row whose run last created or altered it."""


def table_root(table: TableSpec, shown: CatalogTable | None, edges: Edges) -> str:
    """The table's place in the lake: where the catalog shows it; for a new one `<database>/<table>`, or what the row says.
    InventoryError when it stands where this row may not write."""
    wanted = (table.target.location or f"{table.database}/{table.table}").rstrip("/")
    if shown is None:
        return wanted
    place = edges.lake.path_of(shown.location)
    if place is not None and place.rstrip("/") == wanted:
        return wanted
    if table.target.location is not None:
        raise InventoryError(
            f"Cannot load table {table.name}: it stands at {shown.location} -> {edges.lake.uri(wanted)} as the row says. A table "
            "never moves: its old partitions would stay behind. Remove `target.location`, or give the row another `target.table`."
        )
    if not place:
        raise InventoryError(
            f"Cannot load table {table.name}: it stands at {shown.location} -> below {edges.lake.uri('')}, the lake of this row. "
            "Readers would look for its files in two places. Name the lake that holds it in `target.lake`, or give the row "
            "another `target.table`."
        )
    return place.rstrip("/")


def current_table(edges: Edges, table: TableSpec) -> CatalogTable | None:
    """The catalog's table now; InventoryError when its partition columns, its owner or its place are not those of the row."""
    _check_partition_names(table)
    found = edges.catalog.get_table(table.database, table.table)
    if found is not None:
        have = tuple(c.name for c in found.partition_columns)
        want = tuple(p.name for p in table.target.partition_by)
        if have != want:
            raise InventoryError(
                f"Cannot load table {table.name}: it is partitioned by {have or 'nothing'} -> {want or 'nothing'} as the row says. "
                "A table's partition columns never change. Give the row another `target.table`, or its old `partition_by`."
            )
        by = found.parameters.get("dataops.partition_by")
        if by is not None and by != _partition_text(table):
            raise InventoryError(
                f"Cannot load table {table.name}: its partitions are made by {by} -> {_partition_text(table)} as the row says. "
                "Rows of two rules would stand side by side. Give the row another `target.table`, or its old `partition_by`."
            )
        owner = found.parameters.get("dataops.source")
        if owner is not None and owner != table.key:
            raise InventoryError(
                f"Cannot load table {table.name}: it belongs to {owner} -> {table.key}. Two sources never share a table. "
                "Give one of them another `target.database` or `target.table`."
            )
        table_root(table, found, edges)
    return found


def _check_partition_names(table: TableSpec) -> None:
    names = [p.name for p in table.target.partition_by]
    taken = sorted(STANDARD_COLUMNS & set(names)) or sorted({n for n in names if names.count(n) > 1})
    if taken:
        raise InventoryError(
            f"Cannot load table {table.name}: partition column {taken[0]!r} -> a name that no other column has. Standard columns "
            "and other partitions have theirs. Rename it in `target.partition_by`."
        )


def _partition_text(table: TableSpec) -> str:
    """How rows find their partition, in one line: `dt from period_start, city from column:city`."""
    by = {p.name: p.from_ if p.transform == "identity" else f"{p.from_} by {p.transform}" for p in table.target.partition_by}
    parts = [f"{name} from {source}" for name, source in by.items()]
    return ", ".join(parts) or "nothing"


def data_schema(table: CatalogTable | None) -> TableSchema | None:
    """The data columns: what drift is about (no standard columns, no partition columns)."""
    if table is None:
        return None
    return TableSchema(tuple(c for c in table.columns if c.name not in STANDARD_COLUMNS))


def expected_schema(
    have: TableSchema | None, last: TableSchema | None, table: TableSpec, renames: Sequence[Rename] = ()
) -> TableSchema | None:
    """What a text format should try first, in source names: the lake's types, and for columns whose stored form is not
    the source's (masked, hashed) the source type of last time. A column that goes on under a new name is expected under both."""
    if have is None:
        return last
    by_origin = {c.origin: c for c in have}
    by_origin |= {r.after_origin: kept for r in renames if (kept := have.get(r.before)) is not None}
    actions = privacy_under([*by_origin, *(last.names if last else ())], table.privacy, renames)
    columns = [Column(origin, c.type) for origin, c in by_origin.items() if actions.get(origin, "keep") == "keep"]
    columns += [c for c in last or () if actions.get(c.name, "keep") != "keep"]
    return TableSchema(tuple(columns))


def required_columns(table: TableSpec) -> tuple[str, ...]:
    """Source columns without which the row cannot work: their absence is breaking drift."""
    named = [*table.write.keys, table.read.cursor, table.write.order_by, *(p.column for p in table.target.partition_by)]
    return tuple(dict.fromkeys(name for name in named if name))


def at_work(table: TableSpec) -> dict[str, str]:
    """Lake column → what the row does with it, of those whose drift nobody can approve. Keys are only names outside a merge."""
    merges = table.write.mode == "merge"
    return columns_at_work(
        keys=table.write.keys if merges else (),
        order=table.write.order_by if merges else None,
        cursor=table.read.cursor if table.read.mode not in ("full", "new_files") else None,
        partitions=[p.column for p in table.target.partition_by if p.column],
    )


def fixed_columns(table: TableSpec) -> dict[str, str]:
    """Of these, the columns that the source is asked by or rows are placed by: their names are the source's."""
    cursor = table.read.cursor if table.read.mode not in ("full", "new_files") else None
    return columns_at_work((), None, cursor, [p.column for p in table.target.partition_by if p.column])


def keys_fix_partition(table: TableSpec) -> bool:
    """Whether a merge's key tells its row's partition. If not (a period, or a column beside the keys), the row may have been in
    another one before, and leaves it (INVENTORY; A21)."""
    return {p.column for p in table.target.partition_by} <= set(table.write.keys)


def refuse_hidden(table: TableSpec, actions: Mapping[str, str]) -> None:
    """InventoryError when privacy takes away what the row works with: masked keys are all the same key, and hashed or masked
    values have no order."""
    ordering = [table.write.order_by] if table.write.mode == "merge" else []
    if table.read.mode in ("watermark", "cdc") or (table.write.mode == "merge" and table.write.order_by is None):
        ordering.append(table.read.cursor)
    keys = table.write.keys if table.write.mode == "merge" else ()
    for what, names, refused in (("key", keys, ("mask",)), ("order", ordering, ("mask", "hash"))):
        for name in names:
            action = actions.get(name, "keep") if name else "keep"
            if action in refused:
                raise InventoryError(
                    f"Cannot load table {table.name}: `privacy.columns` makes {name!r} {action} -> keep"
                    f"{' or hash' if what == 'key' else ''}. It is a {what} column of this row: rows could no longer be told apart "
                    f"or put in order. Choose another column, or keep this one."
                )


def plan_table(
    table: TableSpec, current: CatalogTable | None, observed: TableSchema, approved: Collection[Approval] = ()
) -> DriftPlan:
    """What the observed schema (source names, after privacy) means for the table, by its contract and what was approved of it.
    InventoryError for what no contract can settle: two names that meet, a column that collides with a partition or standard
    column."""
    _refuse_new_names(table, renames_of(approved))
    plan = plan_drift(
        data_schema(current),
        observed,
        table.contract,
        required=required_columns(table),
        reserved=reserved_names(table),
        approved=approved,
    )
    if plan.refuse:
        what = "; ".join(str(change) for change in plan.refuse)
        raise InventoryError(
            f"Cannot load table {table.name}: {what}. Rename the column with `read.query`, or `privacy.columns: drop`."
        )
    return plan


def _refuse_new_names(table: TableSpec, renames: Sequence[Rename]) -> None:
    """InventoryError when the row calls a column by a name under which another one goes on: the table does not know it."""
    named = {sanitise(name): name for name in required_columns(table)}
    for one in renames:
        if one.after in named:
            raise InventoryError(
                f"Cannot load table {table.name}: the row works with column {named[one.after]!r} -> {one.before_origin!r}, which "
                "it is in the table, by an approved rename. Name it so in the row, or give it that name in `read.query`, or take "
                "the rename back (`dataops drift revoke`)."
            )


def staging_plan(
    table: TableSpec, current: CatalogTable | None, observed: TableSchema, approved: Collection[Approval]
) -> tuple[DriftPlan, DriftPlan]:
    """`plan_table`, and the plan by which rows are shaped now: the same, or the source's own shape while the drift is held."""
    drift = plan_table(table, current, observed, approved)
    if not drift.hold:
        return drift, drift
    return drift, plan_drift(None, observed, table.contract.model_copy(update=EVERYTHING_EVOLVES))


def reserved_names(table: TableSpec) -> frozenset[str]:
    return STANDARD_COLUMNS | {p.name for p in table.target.partition_by}


def ensure_table(
    edges: Edges,
    table: TableSpec,
    wanted: TableSchema,
    *,
    why: str,
    comment: str = "",
    batch_id: str | None = None,
    retired: Collection[str] | None = None,
) -> CatalogTable:
    """Creates the table or appends/widens columns until it holds `wanted` (target names; data and standard columns), with
    their comments, by compare-and-swap; on conflict re-plans from what is there. DriftHeldError when the catalog moved so
    that `wanted` no longer fits. Untyped columns wait for their first value. `batch_id`: whose drift it is, for the audit.
    `retired` columns, and no others, say so in their comment; None: as they are."""
    typed = tuple(c for c in wanted if not pa.types.is_null(c.type))
    for _ in range(DDL_TRIES):
        current = current_table(edges, table)
        try:
            if current is None:
                before, after = None, _create(edges, table, typed, comment)
            else:
                before, after = current, _evolve(edges, table, current, typed, retired)
        except ConflictError:
            continue
        if before is None or before.version != after.version:
            drift = edges.ledger.drift.event_of(table.key, batch_id)
            record_ddl(edges, table, "alter_table" if before else "create_table", why, before, after, drift)
        return after
    raise ConflictError(
        f"Cannot alter table {table.name}: {DDL_TRIES} tries met another writer's change -> a quiet moment. Try again later."
    )


def _create(edges: Edges, table: TableSpec, typed: tuple[Column, ...], comment: str) -> CatalogTable:
    if not table.target.create:
        raise InventoryError(
            f"Cannot load table {table.name}: it does not exist -> present, as `target.create` is false. "
            "Create it, or let the row create it (`target.create: true`)."
        )
    root = table_root(table, None, edges)
    edges.catalog.ensure_database(table.database, edges.lake.uri(table.database))
    created = CatalogTable(
        database=table.database,
        name=table.table,
        columns=typed,
        partition_columns=partition_columns(table.target.partition_by, TableSchema(typed)),
        location=edges.lake.uri(root),
        format=table.target.format,
        comment=comment[:256],
        owner=table.owner,
        parameters={"dataops.source": table.key, "dataops.partition_by": _partition_text(table), SPEC: table.spec_fingerprint},
    )
    return edges.catalog.create_table(created)


def _evolve(
    edges: Edges, table: TableSpec, current: CatalogTable, typed: tuple[Column, ...], retired: Collection[str] | None
) -> CatalogTable:
    wanted = TableSchema(tuple(c for c in typed if c.name not in STANDARD_COLUMNS))
    contract = table.contract.model_copy(update=EVERYTHING_EVOLVES)
    plan = plan_drift(data_schema(current), wanted, contract)
    if plan.hold:  # an approved retype is asked for in this rare case only
        plan = plan_drift(data_schema(current), wanted, contract, approved=edges.ledger.holds.approvals(table.key))
    if plan.hold or plan.refuse:
        what = "; ".join(str(c) for c in (*plan.hold, *plan.refuse))
        raise DriftHeldError(
            f"Cannot alter table {table.name}: {what} -> a change that only adds or widens. The table changed since the "
            "batch was planned. Run again to plan from what is there now."
        )
    planned = {c.name: c for c in plan.schema if not pa.types.is_null(c.type)}
    columns = [
        replace(c, type=planned[c.name].type, comment=_comment(c, planned[c.name], retired, edges)) if c.name in planned else c
        for c in current.columns
    ]
    have = {c.name for c in columns}
    columns += [c for c in planned.values() if c.name not in have]
    columns += [c for c in typed if c.name in STANDARD_COLUMNS and c.name not in have]
    if tuple(columns) == tuple(current.columns):
        return current
    told = {**current.parameters, SPEC: table.spec_fingerprint}
    return edges.catalog.alter_table(current, replace(current, columns=tuple(columns), parameters=told))


def _comment(have: Column, planned: Column, retired: Collection[str] | None, edges: Edges) -> str:
    """What the source says of the column, behind the mark of a retired one, which keeps the day it was set."""
    if retired is None:
        return planned.comment
    if have.name in retired:
        day = time.strftime("%Y-%m-%d", time.gmtime(edges.clock()))
        return have.comment if is_retired(have.comment) else retired_comment(have.comment, day)
    return unretired_comment(planned.comment)


EVERYTHING_EVOLVES = {"tables": "evolve", "columns": "evolve", "types": "evolve"}
"""The contract spoke when the batch was planned; where this is used, only safety is asked again."""


def record_ddl(
    edges: Edges, table: TableSpec, statement: str, why: str, before: CatalogTable | None, after: CatalogTable,
    drift: int | None = None,
) -> None:  # fmt: skip
    """One row of the audit. `drift`: the event that it follows, if any."""
    edges.ledger.drift.record_ddl(
        {
            "table_key": table.key, "source_id": table.source_id, "target": table.name, "statement": statement,
            "who": edges.writer, "why": why, "drift": drift, "before": None if before is None else _told_table(before),
            "after": _told_table(after),
        }
    )  # fmt: skip


def _told_table(table: CatalogTable) -> list[str]:
    return [_told(column) for column in table.columns]


def _told(column: Column) -> str:
    return f"{column.name} {type_to_text(column.type)}" + (f" -- {column.comment}" if column.comment else "")
