"""What PostgreSQL says about its tables: a fixed number of queries, however many tables there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from airflow_dataops.sources.sql.database import SqlColumn, SqlTable
from airflow_dataops.sources.sql.names import TableName
from airflow_dataops.sources.sql.postgres_types import PgType, column_of

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a query with %s parameters and gives all rows."""

VISIBLE = """
    c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND has_schema_privilege(n.oid, 'USAGE')
"""
"""Tables, partitioned parents, views, materialised views and foreign tables of schemas the user may use."""

LISTED = """
    AND NOT c.relispartition
    AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
"""Left out of lists, readable by name: partitions (their parent has their rows), and what belongs to an extension."""

NAMES = f"""
    SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {VISIBLE} {LISTED} AND (%s::text[] IS NULL OR n.nspname = ANY (%s::text[]))
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""

TABLES = """
    SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, size.rows, size.bytes,
           coalesce(obj_description(c.oid, 'pg_class'), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT sum(nullif(p.reltuples, -1))::int8 AS rows,
               sum(p.relpages)::int8 * current_setting('block_size')::int8 AS bytes
        FROM pg_class p
        WHERE (c.relkind <> 'p' AND p.oid = c.oid)
           OR (c.relkind = 'p' AND p.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf))
    ) size
    WHERE {where}
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""

DEFAULT_BY_CODE_POINT = """
    (SELECT CASE coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
            WHEN 'b' THEN true WHEN 'c' THEN d.datcollate IN ('C', 'POSIX') ELSE false END
     FROM pg_database d WHERE d.datname = current_database())
"""
"""Whether the database's default collation sorts by bytes. The providers' column is there since PostgreSQL 15; all collations
of the built-in one (since 17) sort so."""

COLUMNS = f"""
    SELECT a.attrelid::int8, a.attname::text, a.atttypid::int8, a.atttypmod, format_type(a.atttypid, a.atttypmod),
           format_type(a.atttypid, -1),
           a.attnotnull AND NOT EXISTS (  -- since 18 it may be NOT VALID, with NULLs in older rows
               SELECT FROM pg_constraint k
               WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)),
           coalesce(d.description, ''),
           CASE WHEN l.collprovider = 'd' THEN {DEFAULT_BY_CODE_POINT}
                ELSE coalesce(l.collprovider = 'b' OR (l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX')), false) END
    FROM pg_attribute a
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = a.attrelid AND d.objsubid = a.attnum
    WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
"""

KEYS = """
    SELECT i.indrelid::int8, i.indisprimary, array_agg(a.attname::text ORDER BY k.place), bool_and(a.attnotnull)
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = ANY (%s::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND k.place <= i.indnkeyatts
    GROUP BY i.indexrelid, i.indrelid, i.indisprimary
"""

TYPES = """
    SELECT t.oid::int8, t.typname::text, n.nspname::text, t.typtype::text, t.typcategory::text, t.typelem::int8,
           t.typbasetype::int8, t.typtypmod
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = ANY (%s::oid[])
"""


def read_names(ask: Ask, schemas: Sequence[str]) -> tuple[TableName, ...]:
    wanted = list(schemas) or None
    return tuple(TableName(schema, table) for schema, table in ask(NAMES, (wanted, wanted)))


def read_tables(ask: Ask, schemas: Sequence[str], only: TableName | None, encoding: str) -> tuple[SqlTable, ...]:
    """All listed tables, or the one asked for."""
    if only is None:
        where, values = VISIBLE + LISTED + " AND (%s::text[] IS NULL OR n.nspname = ANY (%s::text[]))", [list(schemas) or None] * 2
    else:
        where, values = VISIBLE + " AND n.nspname = %s AND c.relname = %s", [only.schema, only.table]  # type: ignore[list-item]
    tables = ask(TABLES.replace("{where}", where), values)
    oids = [t[0] for t in tables]
    columns = ask(COLUMNS, (oids,))
    types = read_types(ask, {row[2] for row in columns})
    by_table: dict[int, list[SqlColumn]] = {}
    for oid, name, kind, modifier, declared, bare, not_null, comment, plain in columns:
        by_table.setdefault(oid, []).append(
            column_of(
                name, declared, bare, kind, modifier, types,
                not_null=not_null, comment=comment, encoding=encoding, collate="" if plain else "C",
            )
        )  # fmt: skip
    keys = _keys(ask(KEYS, (oids,)))
    return tuple(
        SqlTable(
            name=TableName(schema, table),
            columns=tuple(by_table.get(oid, ())),
            keys=keys.get(oid, ()),
            rows_estimate=rows if kind in "rpm" else None,
            bytes_estimate=size if kind in "rpm" else None,
            comment=comment,
        )
        for oid, schema, table, kind, rows, size, comment in tables
    )


def read_types(ask: Ask, wanted: Iterable[int]) -> dict[int, PgType]:
    """The types and whatever they are made of (items of arrays, bases of domains)."""
    known: dict[int, PgType] = {}
    missing = set(wanted)
    while missing:
        for row in ask(TYPES, (sorted(missing),)):
            known[row[0]] = PgType(*row)
        missing = {oid for t in known.values() for oid in (t.item, t.base) if oid} - known.keys()
    return known


def _keys(found: list[tuple[Any, ...]]) -> dict[int, tuple[str, ...]]:
    """Primary key per table; without one the shortest unique key whose columns are all NOT NULL."""
    best: dict[int, tuple[Any, ...]] = {}
    for oid, primary, columns, required in found:
        if primary or required:
            rank = (not primary, len(columns), columns)
            best[oid] = min(best.get(oid, rank), rank)
    return {oid: tuple(rank[2]) for oid, rank in best.items()}
